//! Getting, listing and watching, with every parameter and form of answer.

use serde_json::{Value, json};

use super::super::case::{Case, PROTOBUF, Target, YAML, ask, json, raw};
use super::super::objects::named;
use super::removed;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const TABLE_BETA: &str = "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const PARTIAL_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// Selects what this file makes.
const OURS: &str = "labelSelector=reads";

/// The cases of a kind.
pub fn cases(target: &Target<'_>, templates: &[Value], cases: &mut Vec<Case>) {
    let Some(small) = templates.first() else {
        // Served, but nobody can create one.
        cases.push(target.case("list", "all").then(ask("GET", target.collection())).reading());
        cases.push(target.case("get", "absent").then(ask("GET", target.object("absent"))).reading());
        return;
    };
    let objects: Vec<Value> = (0..3)
        .map(|at| {
            let template = templates.get(at).unwrap_or(small);
            let mut object = named(template, &format!("read-{at}"), &target.namespace);
            if at == 2 && object["kind"] == "CustomResourceDefinition" {
                object = named(small, "other-2", "");
            } else if at == 2 && object["kind"] == "APIService" {
                object = serde_json::from_str(&object.to_string().replace("v9", "v7")).unwrap_or_default();
            }
            let label = ["one", "two", "two"][at];
            object["metadata"]["labels"]["reads"] = json!(label);
            object["metadata"]["annotations"]["at"] = json!(at.to_string());
            object
        })
        .collect();
    let name = |at: usize| objects[at]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let listing = ask("GET", target.collection()).query("limit=1");
    let mut population = target.case("create", "three to read").prepared(listing).saved("before");
    for object in &objects {
        population = population.then(json("POST", target.collection(), object));
    }
    let settle = ask("GET", target.object(&name(0)));
    cases.push(population.prepared(settle).saved("read").needed());
    gets(target, &name(0), cases);
    lists(target, &name(1), cases);
    watches(target, cases);
    changes(target, &objects[0], cases);
    let mut end = target.case("delete", "the three that were read");
    for (at, object) in objects.iter().enumerate() {
        end = removed(end, &target.object(&name(at)), object);
    }
    // Cleaning runs only where something was made; these were made by the first case.
    end.steps.iter_mut().for_each(|step| step.cleans = false);
    cases.push(end.needed());
}

fn gets(target: &Target<'_>, name: &str, cases: &mut Vec<Case>) {
    let path = target.object(name);
    let mut get = |title: &str, request| cases.push(target.case("get", title).then(request).reading());
    for (title, accept) in [
        ("as JSON", "application/json"),
        ("as YAML", YAML),
        ("as protobuf", PROTOBUF),
        ("as protobuf or JSON", "application/vnd.kubernetes.protobuf,application/json"),
        ("as anything", "*/*"),
        ("as any application", "application/*"),
        ("as text", "text/plain"),
        ("as HTML or anything", "text/html,application/xhtml+xml,*/*;q=0.8"),
        ("as table", TABLE),
        ("as table, of two versions", TABLE_BETA),
        ("as table of an unknown version", "application/json;as=Table;v=v7;g=meta.k8s.io"),
        ("as table in YAML", "application/yaml;as=Table;v=v1;g=meta.k8s.io"),
        ("as table in protobuf", "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io"),
        ("as metadata", PARTIAL),
        ("as metadata in protobuf", PARTIAL_PROTOBUF),
        ("as metadata list", PARTIAL_LIST),
        ("as something unknown", "application/json;as=Unknown;v=v1;g=meta.k8s.io"),
        ("as JSON of no profile", "application/json;profile=x"),
        ("as nothing", ""),
    ] {
        get(title, ask("GET", &path).header("Accept", accept));
    }
    for parameter in [
        "pretty=true",
        "pretty=false",
        "pretty=1",
        "resourceVersion=0",
        "resourceVersion=1",
        "resourceVersion=x",
        "resourceVersion=-1",
        "resourceVersion=99999999999",
        "unknown=1",
        "includeObject=None",
    ] {
        get(&format!("with {parameter}"), ask("GET", &path).query(parameter));
    }
    for include in ["None", "Metadata", "Object", "Bogus"] {
        let request = ask("GET", &path).header("Accept", TABLE).query(&format!("includeObject={include}"));
        get(&format!("table with {include}"), request);
    }
    get("absent", ask("GET", target.object("absent")));
    get("absent as table", ask("GET", target.object("absent")).header("Accept", TABLE));
    get("absent as YAML", ask("GET", target.object("absent")).header("Accept", YAML));
    get("absent as protobuf", ask("GET", target.object("absent")).header("Accept", PROTOBUF));
    get("a name that cannot be", ask("GET", target.object("Not_A%20Name")));
    get("a name with a slash", ask("GET", target.object("a%2Fb")));
    get("an unknown subresource", ask("GET", format!("{path}/unknown")));
    get("with a body", raw("GET", &path, "application/json", "{}"));
    get("HEAD", ask("HEAD", &path));
    get("OPTIONS", ask("OPTIONS", &path));
    get("a slash after the name", ask("GET", format!("{path}/")));
    if !target.namespace.is_empty() {
        get("in another namespace", ask("GET", format!("{}/{name}", target.collection_in("default"))));
        get("in no namespace", ask("GET", format!("{}/{name}", target.collection_in(""))));
    }
}

fn lists(target: &Target<'_>, second: &str, cases: &mut Vec<Case>) {
    let collection = target.collection();
    let mut list = |title: &str, request| cases.push(target.case("list", title).then(request).reading());
    let ours = || ask("GET", &collection).query(OURS);
    list("all of ours", ours());
    for (title, accept) in [
        ("as YAML", YAML),
        ("as protobuf", PROTOBUF),
        ("as table", TABLE),
        ("as metadata", PARTIAL),
        ("as metadata list", PARTIAL_LIST),
        ("as metadata in protobuf", PARTIAL_PROTOBUF),
        ("as metadata list in protobuf", PARTIAL_LIST_PROTOBUF),
        ("as text", "text/plain"),
    ] {
        list(title, ours().header("Accept", accept));
    }
    list("as table with objects", ours().header("Accept", TABLE).query("includeObject=Object"));
    list("as table with nothing", ours().header("Accept", TABLE).query("includeObject=None"));
    let (name, namespace) = (second, &target.namespace);
    for parameter in [
        "limit=1",
        "limit=2",
        "limit=0",
        "limit=-1",
        "limit=x",
        "continue=bogus",
        "continue=bogus&limit=1",
        "limit=1&resourceVersion=0",
        "limit=1&resourceVersionMatch=Exact&resourceVersion=@rv:read@",
        "limit=1&resourceVersionMatch=NotOlderThan&resourceVersion=0",
        "resourceVersion=0",
        "resourceVersion=@rv:read@",
        "resourceVersion=@rv:read@&resourceVersionMatch=Exact",
        "resourceVersion=@rv:read@&resourceVersionMatch=NotOlderThan",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersionMatch=Bogus",
        "resourceVersion=0&resourceVersionMatch=Bogus",
        "resourceVersion=x",
        "resourceVersion=99999999999",
        "resourceVersion=99999999999&resourceVersionMatch=Exact",
        "sendInitialEvents=true",
        "sendInitialEvents=x",
        "timeoutSeconds=5",
        "timeoutSeconds=x",
        "allowWatchBookmarks=true",
        "allowWatchBookmarks=x",
        "watch=false",
        "watch=x&timeoutSeconds=1",
        "pretty=true",
        "unknown=1",
        "fieldSelector=metadata.name=@name@",
        "fieldSelector=metadata.name==@name@",
        "fieldSelector=metadata.name!=@name@",
        "fieldSelector=metadata.namespace=@namespace@",
        "fieldSelector=metadata.name=@name@,metadata.namespace=other",
        "fieldSelector=spec.unknown=x",
        "fieldSelector=metadata.labels=x",
        "fieldSelector=bogus",
        "fieldSelector==",
        "fieldSelector=a%20in%20(b)",
        "fieldSelector=metadata.name=a%5C,b",
    ] {
        let filled = parameter.replace("@name@", name).replace("@namespace@", namespace);
        list(&format!("with {parameter}"), ours().query(&filled));
    }
    for field in &target.kind.selectable {
        for value in ["", "x", "true"] {
            list(&format!("by {field}={value}"), ours().query(&format!("fieldSelector={field}={value}")));
            list(&format!("by {field}!={value}"), ours().query(&format!("fieldSelector={field}!={value}")));
        }
    }
    for selector in [
        "reads=one",
        "reads=two",
        "reads==two",
        "reads!=one,reads",
        "reads%20in%20(one,two)",
        "reads%20notin%20(one),reads",
        "reads,!absent",
        "reads,absent",
        "reads%20in%20()",
        "reads%20in%20(one",
        "reads%3E1",
        "reads%20gt%20x",
        "a%20b",
        "=x",
        "reads=a%20b",
        "reads=a,b=",
        "/x=1",
        "UPPER/x=1,reads",
        ",",
        "reads,",
        "reads=%C3%A9",
        "reads=(one)",
        "!reads!=x",
    ] {
        let request = ask("GET", &collection).query(&format!("labelSelector={selector}"));
        list(&format!("labels {selector}"), request);
    }
    let page = |limit: &str| ours().query(limit);
    let pages = target.case("list", "page by page").then(page("limit=1"));
    let pages = pages.then(page("limit=1&continue=@continue@")).then(page("limit=5&continue=@continue@"));
    cases.push(pages.reading());
    let changed = target.case("list", "pages with another revision").then(page("limit=1"));
    cases.push(changed.then(page("limit=1&continue=@continue@&resourceVersion=5")).reading());
    let tables = target.case("list", "pages as tables").then(page("limit=2").header("Accept", TABLE));
    cases.push(tables.then(page("continue=@continue@").header("Accept", TABLE)).reading());
    if !target.namespace.is_empty() {
        let all = ask("GET", target.collection_in("")).query(OURS);
        cases.push(target.case("list", "of all namespaces").then(all.clone()).reading());
        let paged = target.case("list", "of all namespaces, paged").then(all.clone().query("limit=1"));
        cases.push(paged.then(all.query("continue=@continue@")).reading());
        let empty = ask("GET", target.collection_in("not-there"));
        cases.push(target.case("list", "of a namespace that is not there").then(empty).reading());
    }
    let head = ask("HEAD", &collection).query(OURS);
    cases.push(target.case("list", "HEAD").then(head).reading());
}

fn watches(target: &Target<'_>, cases: &mut Vec<Case>) {
    let collection = target.collection();
    let ours = || ask("GET", &collection).query("watch=true&timeoutSeconds=1").query(OURS);
    let mut watch = |title: &str, request| cases.push(target.case("watch", title).then(request).reading());
    watch("from the start", ours().query("resourceVersion=@rv:before@"));
    watch("of what is", ours());
    watch("of any revision", ours().query("resourceVersion=0"));
    watch("as table", ours().header("Accept", TABLE));
    watch("as metadata", ours().header("Accept", PARTIAL));
    watch("as protobuf", ours().header("Accept", "application/vnd.kubernetes.protobuf;stream=watch"));
    watch("as metadata in protobuf", ours().header("Accept", PARTIAL_PROTOBUF));
    watch("as YAML", ours().header("Accept", YAML));
    watch("as text", ours().header("Accept", "text/plain"));
    for parameter in [
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0&allowWatchBookmarks=true",
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=true",
        "sendInitialEvents=false",
        "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=@rv:read@",
        "sendInitialEvents=true&resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersion=99999999999",
        "resourceVersion=x",
        "resourceVersion=1",
        "limit=1",
        "continue=x",
        "fieldSelector=metadata.name=read-1&resourceVersion=@rv:before@",
        "fieldSelector=spec.unknown=x",
        "allowWatchBookmarks=true",
        "pretty=true",
    ] {
        watch(&format!("with {parameter}"), ours().query(parameter));
    }
    let path = format!("{}/watch/{}", target.root(), target.kind.plural);
    watch("by the old path", ask("GET", path).query("timeoutSeconds=1").query(OURS));
}

/// A history of one object, watched from before it.
fn changes(target: &Target<'_>, like: &Value, cases: &mut Vec<Case>) {
    if matches!(&*target.kind.plural, "customresourcedefinitions" | "apiservices") {
        return; // Controllers write to them too, at times of their own.
    }
    let mut object = like.clone();
    object["metadata"]["name"] = match &*target.kind.plural {
        "ipaddresses" => "192.168.99.1".into(),
        _ => "changing".into(),
    };
    object["metadata"]["labels"]["reads"] = json!("history");
    let path = target.object(object["metadata"]["name"].as_str().unwrap_or_default());
    let patch = |text: Value| raw("PATCH", &path, super::super::case::MERGE, text.to_string());
    let case = target
        .case("watch", "a history")
        .prepared(ask("GET", target.collection()).query("limit=1"))
        .prepared(json("POST", target.collection(), &object))
        .prepared(patch(json!({"metadata": {"annotations": {"a": "1"}}})))
        .prepared(patch(json!({"metadata": {"labels": {"reads": "other"}}})))
        .prepared(patch(json!({"metadata": {"labels": {"reads": "history"}}})));
    let case = removed(case, &path, &object);
    let watch = |more: &str| {
        let request = ask("GET", target.collection()).query("watch=true&timeoutSeconds=1");
        request.query("resourceVersion=@rv0@").query(more)
    };
    cases.push(
        case.then(watch("fieldSelector=metadata.name!=x"))
            .then(watch("labelSelector=reads=history"))
            .then(watch("labelSelector=reads=history").header("Accept", TABLE)),
    );
}
