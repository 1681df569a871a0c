//! Checks decoding and protobuf against upstream's own golden files, which hold every
//! kind with every field set: JSON, YAML and protobuf of the same object must give
//! the same tree, that tree must be the JSON, and its message as long as upstream's.

use std::path::Path;

use anyhow::{Result, ensure};
use carrack_api::{decode, facts, proto};
use serde_json::Value;

use crate::upstream;

/// Runs the task.
pub fn run() -> Result<()> {
    let dir = upstream::module("k8s.io/api")?.join("testdata/HEAD");
    let schema = facts::schema();
    let (mut checked, mut differ) = (0, 0);
    for (id, object) in schema.objects() {
        for (group, version, kind) in &object.group_version_kinds {
            let group = if group.is_empty() { "core" } else { group };
            let base = dir.join(format!("{group}.{version}.{kind}"));
            let Ok(json) = std::fs::read(path(&base, "json")) else { continue };
            // Frames have an envelope of their own kind.
            if &**kind == "WatchEvent" {
                continue;
            }
            checked += 1;
            let expected: Value = serde_json::from_slice(&json)?;
            let message = std::fs::read(path(&base, "pb"))?;
            let envelope = proto::open(&message)?;
            let from_json = decode::json(&schema, id, &json)?;
            let from_yaml = decode::yaml(&schema, id, &std::fs::read(path(&base, "yaml"))?)?;
            let mut from_proto = proto::decode(&schema, id, envelope.raw)?;
            from_proto["apiVersion"] = envelope.api_version.into();
            from_proto["kind"] = envelope.kind.into();
            let length = proto::encode(&schema, id, &from_json.value)?.len();
            let findings = [
                (from_json.strict.is_empty(), "strictness"),
                (from_json.value == expected, "JSON"),
                (from_yaml.value == expected, "YAML"),
                (from_proto == expected, "protobuf"),
                (length == envelope.raw.len(), "length of protobuf"),
            ];
            for (_, what) in findings.iter().filter(|(same, _)| !same) {
                differ += 1;
                println!("{group}/{version} {kind}: {what} differs");
            }
        }
    }
    println!("{checked} kinds checked, {differ} differences");
    ensure!(checked > 50 && differ == 0, "upstream's golden files are not met");
    Ok(())
}

fn path(base: &Path, extension: &str) -> std::path::PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(format!(".{extension}"));
    name.into()
}
