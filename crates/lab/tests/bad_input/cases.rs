//! The requests, in the order in which they are sent. Only those under "objects" and
//! "conflicts" store anything; all others are dry runs or refused.

use serde_json::{Value, json};

/// A body over the limit of 3 MiB.
const TOO_MUCH: usize = 3 * 1024 * 1024 + 1;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const CORE: &str = "/api/v1/namespaces/default";

/// A request.
pub struct Case {
    /// What is wrong; unique.
    pub name: String,
    /// HTTP method.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The raw body.
    pub body: Vec<u8>,
}

fn case(
    name: impl Into<String>,
    method: &'static str,
    path: impl Into<String>,
    content_type: &'static str,
    body: impl Into<Vec<u8>>,
) -> Case {
    Case { name: name.into(), method, path: path.into(), content_type, body: body.into() }
}

/// A Deployment in which these things are set: JSON pointer (of which the last step may
/// be new) and value; the value null removes.
fn deployment(changes: &[(&str, Value)]) -> String {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx:1", "ports": [{"containerPort": 80}]}]},
            },
        },
    });
    change(&mut object, changes);
    object.to_string()
}

fn service(changes: &[(&str, Value)]) -> String {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    });
    change(&mut object, changes);
    object.to_string()
}

fn config_map(data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data})
        .to_string()
}

fn change(object: &mut Value, changes: &[(&str, Value)]) {
    for (pointer, value) in changes {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        match object.pointer_mut(parent).unwrap() {
            Value::Object(fields) if value.is_null() => drop(fields.remove(last)),
            Value::Object(fields) => drop(fields.insert(last.into(), value.clone())),
            other => other[last.parse::<usize>().unwrap()] = value.clone(),
        }
    }
}

/// All of them.
pub fn all() -> Vec<Case> {
    let mut cases = objects();
    cases.extend(fields());
    cases.extend(limits());
    cases.extend(syntax());
    cases.extend(types());
    cases.extend(rules());
    cases.extend(conflicts());
    cases
}

/// What later requests change.
fn objects() -> Vec<Case> {
    let account = r#"{"metadata":{"name":"default"}}"#;
    vec![
        case("objects: account", "POST", format!("{CORE}/serviceaccounts"), JSON, account),
        case("objects: deployment", "POST", DEPLOYMENTS, JSON, deployment(&[])),
        case("objects: service", "POST", format!("{CORE}/services"), JSON, service(&[])),
        case(
            "objects: config map",
            "POST",
            format!("{CORE}/configmaps"),
            JSON,
            config_map(&json!({"a": "b"})),
        ),
    ]
}

/// Unknown, misplaced and duplicate fields, in creations, updates and patches.
fn fields() -> Vec<Case> {
    let container = "/spec/template/spec/containers/0";
    let new = ("/metadata/name", json!("new"));
    let duplicate = |text: String| text.replace("\"replicas\":1", "\"replicas\":1,\"replicas\":2");
    let misplaced = ("/spec/template/spec/livenessProbe", json!({"tcpSocket": {"port": 80}}));
    let bodies: Vec<(&str, &'static str, String)> = vec![
        ("misspelt", JSON, deployment(&[new.clone(), ("/spec/replica", json!(2)), ("/sepc", json!({}))])),
        ("letter case", JSON, deployment(&[new.clone(), ("/spec/minreadySeconds", json!(2))])),
        (
            "misspelt in a list",
            JSON,
            deployment(&[new.clone(), (&format!("{container}/imagePullPolice"), json!("Always"))]),
        ),
        ("misplaced", JSON, deployment(&[new.clone(), misplaced.clone()])),
        ("duplicate", JSON, duplicate(deployment(std::slice::from_ref(&new)))),
        (
            "all at once",
            JSON,
            duplicate(deployment(&[new.clone(), misplaced, ("/metadata/lables", json!({"a": "b"}))])),
        ),
        ("misspelt in YAML", YAML, "metadata: {name: new}\ndata: {a: b}\ndate: {a: b}\n".into()),
        ("duplicate in YAML", YAML, "metadata: {name: new}\ndata:\n  a: b\n  a: c\n".into()),
        ("duplicate key of a map", JSON, r#"{"metadata":{"name":"new"},"data":{"a":"b","a":"c"}}"#.into()),
    ];
    let patches: Vec<(&str, &'static str, String)> = vec![
        ("merge patch", MERGE_PATCH, r#"{"spec":{"replica":2,"paused":true}}"#.into()),
        (
            "strategic merge patch",
            STRATEGIC,
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","imag":"x"}]}}}}"#.into(),
        ),
        ("JSON patch", JSON_PATCH, r#"[{"op":"add","path":"/spec/replica","value":2}]"#.into()),
        ("duplicate in a merge patch", MERGE_PATCH, r#"{"spec":{"replicas":2,"replicas":3}}"#.into()),
        ("duplicate in a strategic merge patch", STRATEGIC, r#"{"spec":{"replicas":2,"replicas":3}}"#.into()),
        (
            "unknown in a JSON patch operation",
            JSON_PATCH,
            r#"[{"op":"add","path":"/spec/paused","value":true,"x":1}]"#.into(),
        ),
    ];
    let mut cases = Vec::new();
    for (level, query) in
        [("Strict", "&fieldValidation=Strict"), ("default", ""), ("Ignore", "&fieldValidation=Ignore")]
    {
        let query = format!("?dryRun=All{query}");
        for (name, content_type, body) in &bodies {
            let list =
                if body.contains("replicas") { DEPLOYMENTS.to_owned() } else { format!("{CORE}/configmaps") };
            cases.push(case(format!("{level}: {name}"), "POST", list + &query, content_type, body.as_str()));
        }
        let update = deployment(&[("/spec/replica", json!(2))]);
        cases.push(case(
            format!("{level}: update"),
            "PUT",
            format!("{DEPLOYMENTS}/web{query}"),
            JSON,
            update,
        ));
        for (name, content_type, body) in &patches {
            let path = format!("{DEPLOYMENTS}/web{query}");
            cases.push(case(format!("{level}: {name}"), "PATCH", path, content_type, body.as_str()));
        }
    }
    let odd = format!("{DEPLOYMENTS}?dryRun=All&fieldValidation=Strickt");
    cases.push(case("unknown validation", "POST", odd, JSON, deployment(&[new])));
    cases
}

/// What is too large.
fn limits() -> Vec<Case> {
    let maps = format!("{CORE}/configmaps?dryRun=All");
    let map = format!("{CORE}/configmaps/settings?dryRun=All");
    let web = format!("{DEPLOYMENTS}/web?dryRun=All");
    let operations = |n: usize| {
        let one = r#"{"op":"test","path":"/spec/replicas","value":1}"#;
        format!("[{}]", vec![one; n].join(","))
    };
    let mut padded = config_map(&json!({"a": "b"})).into_bytes();
    padded.resize(TOO_MUCH - 1, b' ');
    let long = |n: usize| config_map(&json!({"a": "x".repeat(n)}));
    let yaml = format!("metadata: {{name: new}}\ndata: {{a: {}}}\n", "x".repeat(TOO_MUCH));
    let annotations = json!({"metadata": {"name": "new", "annotations": {"a": "x".repeat(300_000)}}});
    vec![
        case("limit: JSON", "POST", &*maps, JSON, long(TOO_MUCH)),
        case("limit: YAML", "POST", &*maps, YAML, yaml),
        case("limit: update", "PUT", &*map, JSON, long(TOO_MUCH)),
        case("limit: patch", "PATCH", &*map, MERGE_PATCH, long(TOO_MUCH)),
        case("limit: ten megabytes", "POST", &*maps, JSON, long(10_000_000)),
        case("limit: just within", "PUT", &*map, JSON, padded),
        case("limit: data", "POST", &*maps, JSON, long(1_100_000)),
        case("limit: annotations", "POST", &*maps, JSON, annotations.to_string()),
        case("limit: 10,000 operations", "PATCH", &*web, JSON_PATCH, operations(10_000)),
        case("limit: 10,001 operations", "PATCH", &*web, JSON_PATCH, operations(10_001)),
    ]
}

/// What cannot be read.
fn syntax() -> Vec<Case> {
    let maps = format!("{CORE}/configmaps?dryRun=All");
    let web = format!("{DEPLOYMENTS}/web?dryRun=All");
    let post = |name: &str, content_type, body: &[u8]| {
        case(format!("syntax: {name}"), "POST", &*maps, content_type, body)
    };
    let patch = |name: &str, kind, body: &[u8]| case(format!("syntax: {name}"), "PATCH", &*web, kind, body);
    let mut bomb =
        String::from("metadata: {name: bomb}\na0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..10 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let deep = |n: usize| format!("{{\"metadata\":{}1{}}}", "[".repeat(n), "]".repeat(n));
    let deep_yaml = format!("metadata: {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    vec![
        post("nothing", JSON, b""),
        post("a list", JSON, b"[]"),
        post("a string", JSON, b"\"x\""),
        post("null", JSON, b"null"),
        post("not JSON", JSON, b"hello"),
        post("cut off", JSON, br#"{"metadata":{"name":"new""#),
        post("more after the object", JSON, br#"{"metadata":{"name":"new"}} x"#),
        post("a comma too many", JSON, br#"{"metadata":{"name":"new",}}"#),
        post("single quotes", JSON, b"{'metadata':{}}"),
        post("a control character", JSON, b"{\"metadata\":{\"name\":\"a\x01\"}}"),
        post("not UTF-8", JSON, b"{\"metadata\":{\"name\":\"new\"},\"data\":{\"a\":\"\xff\xfe\"}}"),
        post("20,000 levels", JSON, deep(20_000).as_bytes()),
        post("YAML, alias bomb", YAML, bomb.as_bytes()),
        post("YAML, alias to itself", YAML, b"metadata: &a {name: new, labels: *a}\n"),
        post("YAML, unknown alias", YAML, b"metadata: *nothing\n"),
        post("YAML, 100,000 levels", YAML, deep_yaml.as_bytes()),
        post("YAML, a tab", YAML, b"metadata:\n\tname: new\n"),
        post("YAML, indentation", YAML, b"metadata:\n  name: new\n labels: {}\n"),
        post("YAML, a list", YAML, b"- a\n- b\n"),
        post("YAML, a word", YAML, b"hello\n"),
        post("unknown encoding", "text/plain", b"{}"),
        patch("merge patch", MERGE_PATCH, b"{"),
        patch("merge patch, a list", MERGE_PATCH, b"[]"),
        patch("strategic merge patch", STRATEGIC, b"{"),
        patch("JSON patch", JSON_PATCH, b"["),
        patch("JSON patch, an object", JSON_PATCH, b"{}"),
        patch(
            "JSON patch, unknown operation",
            JSON_PATCH,
            br#"[{"op":"frob","path":"/spec/paused","value":true}]"#,
        ),
        patch("unknown patch", JSON, b"{}"),
    ]
}

/// Values of the wrong type.
fn types() -> Vec<Case> {
    let container = "/spec/template/spec/containers/0";
    let at = |field: &str| format!("{container}/{field}");
    let bodies: Vec<(&str, String)> = vec![
        ("text for a number", deployment(&[("/spec/replicas", json!("three"))])),
        ("a fraction for a whole number", deployment(&[("/spec/replicas", json!(1.5))])),
        ("a number out of range", deployment(&[("/spec/replicas", json!(10_000_000_000_u64))])),
        ("a list for labels", deployment(&[("/metadata/labels", json!(["a"]))])),
        ("a number for a label", deployment(&[("/metadata/labels", json!({"a": 1}))])),
        ("an object for containers", deployment(&[("/spec/template/spec/containers", json!({"name": "c"}))])),
        ("text for a container", deployment(&[(container, json!("c"))])),
        ("text for metadata", deployment(&[("/metadata", json!("web"))])),
        ("a number for a name", deployment(&[("/metadata/name", json!(1))])),
        ("no spec", deployment(&[("/spec", Value::Null)])),
        ("text for a truth value", deployment(&[("/spec/paused", json!("yes"))])),
        ("a number for an argument", deployment(&[(&at("args"), json!([1]))])),
        ("a number for a variable", deployment(&[(&at("env"), json!([{"name": "A", "value": 1}]))])),
        ("no quantity", deployment(&[(&at("resources"), json!({"limits": {"cpu": "1x"}}))])),
        ("a truth value for a quantity", deployment(&[(&at("resources"), json!({"limits": {"cpu": true}}))])),
        (
            "a truth value for a port",
            deployment(&[(&at("readinessProbe"), json!({"tcpSocket": {"port": true}}))]),
        ),
        ("no time", deployment(&[("/metadata/creationTimestamp", json!("yesterday"))])),
        ("another kind", deployment(&[("/kind", json!("DaemonSet"))])),
        ("another version", deployment(&[("/apiVersion", json!("apps/v2"))])),
        ("a number for the kind", deployment(&[("/kind", json!(1))])),
    ];
    let mut cases: Vec<Case> = bodies
        .into_iter()
        .map(|(name, body)| {
            case(format!("type: {name}"), "POST", format!("{DEPLOYMENTS}?dryRun=All"), JSON, body)
        })
        .collect();
    let core = |list: &str| format!("{CORE}/{list}?dryRun=All");
    let secret = r#"{"metadata":{"name":"s"},"data":{"a":"no base64!"}}"#;
    let web = format!("{DEPLOYMENTS}/web?dryRun=All");
    cases.extend([
        case("type: a number for a setting", "POST", core("configmaps"), JSON, config_map(&json!({"a": 1}))),
        case(
            "type: a truth value for a setting in YAML",
            "POST",
            core("configmaps"),
            YAML,
            "metadata: {name: s}\ndata: {a: yes, b: 1}\n",
        ),
        case("type: no base64", "POST", core("secrets"), JSON, secret),
        case(
            "type: text for a port",
            "POST",
            core("services"),
            JSON,
            service(&[("/spec/ports/0/port", json!("http"))]),
        ),
        case("type: merge patch", "PATCH", &*web, MERGE_PATCH, r#"{"spec":{"replicas":"three"}}"#),
        case(
            "type: strategic merge patch",
            "PATCH",
            &*web,
            STRATEGIC,
            r#"{"spec":{"template":{"spec":{"containers":"c"}}}}"#,
        ),
        case(
            "type: JSON patch",
            "PATCH",
            &*web,
            JSON_PATCH,
            r#"[{"op":"replace","path":"/spec/replicas","value":"three"}]"#,
        ),
    ]);
    cases
}

/// What can be read and is refused.
fn rules() -> Vec<Case> {
    let at = |field: &str| format!("/spec/template/spec/containers/0/{field}");
    let name = |name: &str| ("/metadata/name", json!(name));
    let long = "n".repeat(254);
    let bodies: Vec<(&str, String)> = vec![
        ("label value", deployment(&[("/metadata/labels", json!({"app": "-web-"}))])),
        ("label key", deployment(&[("/metadata/labels", json!({"a b": "web"}))])),
        ("label too long", deployment(&[("/metadata/labels", json!({"app": "x".repeat(64)}))])),
        ("annotation key", deployment(&[("/metadata/annotations", json!({"/": "web"}))])),
        ("port out of range", deployment(&[(&at("ports"), json!([{"containerPort": 70_000}]))])),
        ("port below zero", deployment(&[(&at("ports"), json!([{"containerPort": -1}]))])),
        ("selector beside its template", deployment(&[("/spec/selector/matchLabels", json!({"app": "db"}))])),
        ("no selector", deployment(&[("/spec/selector", Value::Null)])),
        ("name too long", deployment(&[name(&long)])),
        ("name in capitals", deployment(&[name("Web")])),
        ("no name", deployment(&[("/metadata/name", Value::Null)])),
        ("replicas below zero", deployment(&[("/spec/replicas", json!(-1))])),
        ("no containers", deployment(&[("/spec/template/spec/containers", json!([]))])),
        ("no image", deployment(&[(&at("image"), Value::Null)])),
        ("container name", deployment(&[(&at("name"), json!("C_1"))])),
        ("restart policy", deployment(&[("/spec/template/spec/restartPolicy", json!("Never"))])),
        ("pull policy", deployment(&[(&at("imagePullPolicy"), json!("Sometimes"))])),
        (
            "mount without volume",
            deployment(&[(&at("volumeMounts"), json!([{"name": "v", "mountPath": "/v"}]))]),
        ),
        (
            "request above limit",
            deployment(&[(&at("resources"), json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}))]),
        ),
        ("probe without handler", deployment(&[(&at("livenessProbe"), json!({"periodSeconds": 5}))])),
        (
            "much at once",
            deployment(&[
                name("Web"),
                ("/spec/replicas", json!(-1)),
                (&at("image"), Value::Null),
                (&at("ports"), json!([{"containerPort": 0}])),
            ]),
        ),
    ];
    let post = |(name, body): (&str, String)| {
        case(format!("rule: {name}"), "POST", format!("{DEPLOYMENTS}?dryRun=All"), JSON, body)
    };
    let mut cases: Vec<Case> = bodies.into_iter().map(post).collect();
    let services: Vec<(&str, String)> = vec![
        ("service name too long", service(&[name(&"n".repeat(64))])),
        ("service port out of range", service(&[name("new"), ("/spec/ports/0/port", json!(70_000))])),
        (
            "node port out of range",
            service(&[name("new"), ("/spec/type", json!("NodePort")), ("/spec/ports/0/nodePort", json!(80))]),
        ),
        ("service without ports", service(&[name("new"), ("/spec/ports", json!([]))])),
    ];
    let post = |(name, body): (&str, String)| {
        case(format!("rule: {name}"), "POST", format!("{CORE}/services"), JSON, body)
    };
    cases.extend(services.into_iter().map(post));
    let nowhere = DEPLOYMENTS.replace("default", "nowhere");
    let elsewhere = deployment(&[("/metadata/namespace", json!("elsewhere"))]);
    let web = format!("{DEPLOYMENTS}/web?dryRun=All");
    let selector = deployment(&[
        ("/spec/selector/matchLabels", json!({"app": "db"})),
        ("/spec/template/metadata/labels", json!({"app": "db"})),
    ]);
    cases.extend([
        case("rule: no such namespace", "POST", nowhere, JSON, deployment(&[])),
        case("rule: another namespace", "POST", DEPLOYMENTS, JSON, elsewhere),
        case("rule: another name", "PUT", &*web, JSON, deployment(&[name("other")])),
        case("rule: selector changed", "PUT", &*web, JSON, selector),
        case("rule: patched out of range", "PATCH", &*web, MERGE_PATCH, r#"{"spec":{"replicas":-1}}"#),
    ]);
    cases
}

/// What another write, or another object, stands against.
fn conflicts() -> Vec<Case> {
    let old = ("/metadata/resourceVersion", json!("1"));
    let patch = r#"{"metadata":{"resourceVersion":"1"},"spec":{"replicas":2}}"#;
    let web = format!("{DEPLOYMENTS}/web");
    let precondition = r#"{"preconditions":{"uid":"0b7bb2a4-5d67-4b17-9c2a-6a1e6e5c0a01"}}"#;
    let uid = ("/metadata/uid", json!("0b7bb2a4-5d67-4b17-9c2a-6a1e6e5c0a01"));
    vec![
        case("conflict: update", "PUT", &*web, JSON, deployment(std::slice::from_ref(&old))),
        case("conflict: merge patch", "PATCH", &*web, MERGE_PATCH, patch),
        case("conflict: strategic merge patch", "PATCH", &*web, STRATEGIC, patch),
        case(
            "conflict: no revision",
            "PUT",
            &*web,
            JSON,
            deployment(&[("/metadata/resourceVersion", json!("x"))]),
        ),
        case("conflict: another uid", "PUT", &*web, JSON, deployment(&[uid])),
        case("conflict: delete", "DELETE", &*web, JSON, precondition),
        case("conflict: exists", "POST", DEPLOYMENTS, JSON, deployment(&[])),
        case(
            "conflict: created with a revision",
            "POST",
            DEPLOYMENTS,
            JSON,
            deployment(&[("/metadata/name", json!("new")), old]),
        ),
        case(
            "conflict: gone",
            "PUT",
            format!("{CORE}/services/gone"),
            JSON,
            service(&[("/metadata/name", json!("gone")), ("/metadata/resourceVersion", json!("1"))]),
        ),
    ]
}
