//! What this crate says of objects of every kind, held to what a kube-apiserver v1.36.3
//! said, cause by cause and in its order (`answers/kinds-*.jsonl`, recorded by `cargo xtask
//! answers`): decoding, defaults, preparation and rules together.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use carrack_api::{Kind, Kinds, Value, convert, decode, defaults, kinds, prepare, validation};
use serde_json::json;

/// The uid that recorded answers name.
const UID: &str = "5e0b7e8a-0000-4000-8000-000000000000";

fn resource<'a>(kinds: &'a Kinds, case: &Value) -> (&'a Arc<Kind>, usize) {
    let (version, plural) = case["resource"].as_str().unwrap().rsplit_once('/').unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    kinds.resource(group, version, plural).unwrap()
}

fn canonical(kind: &Kind, version: usize, object: Value) -> Value {
    let root = &kind.versions[version];
    let mut object = decode::value(&root.schema, root.root, object).unwrap().value;
    defaults::default_object(kind, version, &mut object);
    object
}

/// The object in the version in which its kind is stored, which rules are about.
fn stored(kind: &Kind, object: Value) -> Value {
    let version = &kind.versions[kind.storage].name;
    let api_version =
        if kind.group.is_empty() { version.to_string() } else { format!("{}/{version}", kind.group) };
    convert::convert(&kind.kind, &api_version, object).unwrap()
}

fn check(file: &str, judge: impl Fn(&Kind, usize, &Value) -> Vec<String>) {
    let kinds = kinds::builtin();
    let mut wrong = Vec::new();
    let mut all = 0;
    for (at, line) in file.lines().enumerate() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (kind, version) = resource(&kinds, &case);
        let mut said = judge(kind, version, &case);
        let mut expect: Vec<String> = serde_json::from_value(case["answer"].clone()).unwrap();
        // Upstream walks maps in any order.
        if case["anyOrder"] == true {
            said.sort();
            expect.sort();
        }
        all += 1;
        if said != expect {
            let resource = &case["resource"];
            wrong.push(format!("line {} {resource}\n  upstream: {expect:#?}\n  here: {said:#?}", at + 1));
        }
    }
    assert!(wrong.is_empty(), "{} of {all} differ\n{}", wrong.len(), wrong.join("\n"));
}

fn request<'a>(user: &'a serde_json::Map<String, Value>, subresource: &'static str) -> prepare::Request<'a> {
    prepare::Request { now: "2026-01-01T00:00:00Z", subresource, user }
}

#[test]
fn new_objects() {
    check(include_str!("answers/kinds-create.jsonl"), |kind, version, case| {
        let mut object = canonical(kind, version, case["object"].clone());
        object["metadata"]["uid"] = UID.into();
        let user = json!({"username": "admin", "groups": ["system:masters"]});
        prepare::create(kind, &request(user.as_object().unwrap(), ""), &mut object);
        validation::validate_create(kind, &stored(kind, object)).iter().map(ToString::to_string).collect()
    });
}

#[test]
fn changed_objects() {
    check(include_str!("answers/kinds-update.jsonl"), |kind, version, case| {
        let status = case["subresource"] == "status";
        let old = canonical(kind, version, case["old"].clone());
        let mut new = case["old"].clone();
        json_patch::merge(&mut new, &case["changes"]);
        let mut new = canonical(kind, version, new);
        // As the registry keeps them apart.
        let mut kept = if status { old.clone() } else { new.clone() };
        let from = if status { &new } else { &old };
        if kind.subresource("status").is_some() {
            match from.get("status") {
                Some(status) => kept["status"] = status.clone(),
                None => drop(kept.as_object_mut().unwrap().remove("status")),
            }
            new = kept;
        }
        let user = json!({"username": "admin"});
        let request = request(user.as_object().unwrap(), if status { "status" } else { "" });
        prepare::update(kind, &request, &mut new, &old);
        let (new, old) = (stored(kind, new), stored(kind, old));
        let said = match status {
            true => validation::validate_status_update(kind, &new, &old),
            false => validation::validate_update(kind, &new, &old),
        };
        said.iter().map(ToString::to_string).collect()
    });
}
