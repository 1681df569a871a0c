//! Compares what this crate says to objects with what a kube-apiserver v1.36.3 said,
//! as `cargo xtask answers` recorded it: decoding, defaults and rules together.

#![allow(clippy::unwrap_used)]

use carrack_api::{Value, decode, defaults, kinds, validation};

#[test]
fn rules_say_what_upstream_says() {
    let kinds = kinds::builtin();
    let mut wrong = Vec::new();
    let cases = include_str!("answers/create.jsonl");
    for (at, line) in cases.lines().enumerate() {
        let case: Value = serde_json::from_str(line).unwrap();
        let resource: Vec<&str> = case["resource"].as_str().unwrap().split('/').collect();
        let (group, version, plural) = match resource[..] {
            [version, plural] => ("", version, plural),
            [group, version, plural] => (group, version, plural),
            _ => panic!("{line}"),
        };
        let (kind, index) = kinds.resource(group, version, plural).unwrap();
        let root = &kind.versions[index];
        let mut object = decode::value(&root.schema, root.root, case["object"].clone()).unwrap().value;
        defaults::default_object(kind, index, &mut object);
        let mut said: Vec<String> =
            validation::validate_create(kind, &object).iter().map(ToString::to_string).collect();
        said.sort();
        said.dedup();
        let expect: Vec<&str> = case["answer"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        if said != expect {
            let missing: Vec<_> = expect.iter().filter(|e| !said.iter().any(|s| s == *e)).collect();
            let extra: Vec<_> = said.iter().filter(|s| !expect.contains(&s.as_str())).collect();
            wrong.push(format!("line {}\n  upstream: {missing:#?}\n  here: {extra:#?}", at + 1));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), cases.lines().count(), wrong.join("\n"));
}
