//! Compares what this crate says to objects with what a kube-apiserver v1.36.3 said,
//! as `cargo xtask answers` recorded it: decoding, defaults and rules together.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use carrack_api::{Kind, Kinds, Value, columns, decode, defaults, kinds, prepare, validation};

/// What new objects have for a uid.
const UID: &str = "5e0b7e8a-0000-4000-8000-000000000000";

/// The kind and version that a case names.
fn resource<'a>(kinds: &'a Kinds, case: &Value) -> (&'a Arc<Kind>, usize) {
    let resource: Vec<&str> = case["resource"].as_str().unwrap().split('/').collect();
    let (group, version, plural) = match resource[..] {
        [version, plural] => ("", version, plural),
        [group, version, plural] => (group, version, plural),
        _ => panic!("{case}"),
    };
    kinds.resource(group, version, plural).unwrap()
}

/// The object as the server makes it ready for its rules.
fn prepared(kind: &Kind, object: &mut Value) {
    object["metadata"]["uid"] = UID.into();
    let user = serde_json::json!({"username": "admin", "groups": ["system:masters"]});
    let request =
        prepare::Request { now: "2026-01-01T00:00:00Z", subresource: "", user: user.as_object().unwrap() };
    prepare::create(kind, &request, object);
    // What the server's allocation does first.
    if &*kind.kind == "Service" && object["spec"].get("clusterIPs").is_none() {
        let given = object["spec"].get("clusterIP").cloned();
        given.into_iter().for_each(|ip| object["spec"]["clusterIPs"] = serde_json::json!([ip]));
    }
}

/// A case: its line, the kind and version, the object after decoding and defaulting.
fn cases() -> Vec<(usize, Arc<Kind>, Value, Value)> {
    let kinds = kinds::builtin();
    let read = |(at, line): (usize, &str)| {
        let case: Value = serde_json::from_str(line).unwrap();
        let (kind, index) = resource(&kinds, &case);
        let root = &kind.versions[index];
        let mut object = decode::value(&root.schema, root.root, case["object"].clone()).unwrap().value;
        defaults::default_object(kind, index, &mut object);
        defaults::drop_gated(kind, index, &mut object);
        prepared(kind, &mut object);
        (at + 1, kind.clone(), object, case)
    };
    include_str!("answers/create.jsonl").lines().enumerate().map(read).collect()
}

/// What admission and allocation add, which this crate does not.
fn forget(kind: &str, object: &mut Value) {
    let mut drop = |path: &[&str]| {
        let (last, parents) = path.split_last().unwrap();
        let parent = parents.iter().try_fold(&mut *object, |at, field| at.get_mut(*field));
        parent.and_then(Value::as_object_mut).map(|fields| fields.remove(*last));
    };
    drop(&["metadata"]);
    drop(&["status"]);
    let paths: &[&[&str]] = match kind {
        "Pod" => &[&["spec", "tolerations"], &["spec", "priority"], &["spec", "preemptionPolicy"]],
        "Service" => &[
            &["spec", "clusterIP"],
            &["spec", "clusterIPs"],
            &["spec", "ipFamilies"],
            &["spec", "ipFamilyPolicy"],
        ],
        "Job" => &[&["spec", "selector"], &["spec", "template", "metadata"]],
        "Namespace" => &[&["spec", "finalizers"]],
        "Node" => &[&["spec", "taints"]],
        _ => return,
    };
    paths.iter().for_each(|path| drop(path));
    if kind != "Service" {
        return;
    }
    for port in object["spec"]["ports"].as_array_mut().into_iter().flatten() {
        port.as_object_mut().map(|fields| fields.remove("nodePort"));
    }
}

#[test]
fn defaults_are_upstreams() {
    let mut wrong = Vec::new();
    for (line, kind, mut object, mut case) in cases() {
        let stored = &mut case["stored"];
        if stored.is_object() {
            forget(&kind.kind, &mut object);
            forget(&kind.kind, stored);
            if object != *stored {
                wrong.push(format!("line {line} {}\n  upstream: {stored}\n  here:     {object}", kind.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rules_say_what_upstream_says() {
    let mut wrong = Vec::new();
    let cases = cases();
    for (line, kind, object, case) in &cases {
        let mut said: Vec<String> =
            validation::validate_create(kind, object).iter().map(ToString::to_string).collect();
        said.sort();
        said.dedup();
        let expect: Vec<&str> = case["answer"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        if said != expect {
            let missing: Vec<_> = expect.iter().filter(|e| !said.iter().any(|s| s == *e)).collect();
            let extra: Vec<_> = said.iter().filter(|s| !expect.contains(&s.as_str())).collect();
            wrong.push(format!("line {line}\n  upstream: {missing:#?}\n  here: {extra:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn rows_show_what_upstream_shows() {
    let mut wrong = Vec::new();
    let kinds = kinds::builtin();
    for (line, kind, _, case) in cases() {
        let index = resource(&kinds, &case).1;
        let (stored, expect) = (&case["stored"], &case["cells"]);
        let created = stored["metadata"]["creationTimestamp"].as_str();
        // Upstream, an IPAddress has one more cell than columns.
        if let Some(now) = created.filter(|_| &*kind.kind != "IPAddress") {
            // The row is of another dry run, a moment later: another uid, address and time.
            let cells = columns::cells(&kind, index, stored, now.parse().unwrap());
            let told = |cells: &[Value]| {
                let random = |cell: &Value| {
                    cell.as_str().is_some_and(|text| {
                        text.starts_with("10.96.")
                            || text.contains("-uid=")
                            || text.parse::<jiff::Timestamp>().is_ok()
                    })
                };
                cells.iter().filter(|cell| !random(cell)).map(Value::to_string).collect::<Vec<_>>()
            };
            let (cells, expect) = (told(&cells), told(expect.as_array().unwrap()));
            if cells != expect {
                wrong.push(format!(
                    "line {line} {}\n  upstream: {expect:?}\n  here:     {cells:?}",
                    kind.kind
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// The sentence's first line: the difference that follows some is shown in Go's names.
fn head(sentence: &str) -> &str {
    sentence.lines().next().unwrap_or_default()
}

#[test]
fn updates_are_judged_as_upstream_does() {
    let kinds = kinds::builtin();
    let mut wrong = Vec::new();
    for (at, line) in include_str!("answers/update.jsonl").lines().enumerate() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (kind, index) = resource(&kinds, &case);
        let root = &kind.versions[index];
        let old = case["old"].clone();
        let mut new = old.clone();
        json_patch::merge(&mut new, &case["changes"]);
        let mut new = decode::value(&root.schema, root.root, new).unwrap().value;
        defaults::default_object(kind, index, &mut new);
        defaults::drop_gated(kind, index, &mut new);
        let said = match case["subresource"].as_str() {
            Some(_) => validation::validate_status_update(kind, &new, &old),
            None => validation::validate_update(kind, &new, &old),
        };
        let mut said: Vec<String> = said.iter().map(|error| head(&error.to_string()).to_owned()).collect();
        said.sort();
        said.dedup();
        let mut expect: Vec<&str> =
            case["answer"].as_array().unwrap().iter().filter_map(Value::as_str).map(head).collect();
        expect.sort();
        if said != expect {
            wrong.push(format!("line {}\n  upstream: {expect:#?}\n  here: {said:#?}", at + 1));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// JSON pointers of everything in a tree.
fn pointers(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{at}/{name}"), out);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, format!("{at}/{index}"), out);
            }
        }
        _ => {}
    }
    out.push(at);
}

/// Whatever decoding lets through must not break what comes after it.
#[test]
fn nothing_panics_on_what_is_missing_or_odd() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let odd = [Value::Null, "".into(), (-1).into(), serde_json::json!({}), serde_json::json!([])];
    let mut runs = 0;
    for (_, kind, object, case) in cases() {
        let index = resource(&kinds::builtin(), &case).1;
        let root = &kind.versions[index];
        let mut all = Vec::new();
        pointers(&case["object"], String::new(), &mut all);
        for (pointer, odd) in all.iter().flat_map(|pointer| odd.iter().map(move |odd| (pointer, odd))) {
            let mut changed = case["object"].clone();
            *changed.pointer_mut(pointer).unwrap() = odd.clone();
            let Ok(decoded) = decode::value(&root.schema, root.root, changed) else { continue };
            let mut changed = decoded.value;
            if changed.is_object() {
                defaults::default_object(&kind, index, &mut changed);
                validation::validate_create(&kind, &changed);
                validation::validate_update(&kind, &changed, &object);
                validation::validate_update(&kind, &object, &changed);
                validation::validate_status_update(&kind, &changed, &object);
                columns::cells(&kind, index, &changed, now);
                runs += 1;
            }
        }
    }
    assert!(runs > 5000, "{runs}");
}
