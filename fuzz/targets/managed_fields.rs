//! `metadata.managedFields` as clients send it: decoded, worked on by an update and by an
//! apply.
#![no_main]

use carrack_api::decode;
use carrack_api::managed::{self, Types, Write};
use carrack_fuzz::{mutate_json, object, within_bounds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use serde_json::{Value, json};

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let Some((kind, version, old, body)) = object(input) else { return };
    let Ok(entries) = serde_json::from_slice::<Value>(body) else { return };
    let mut given = old.clone();
    given["metadata"]["managedFields"] = entries;
    let Ok(decoded) = decode::object_value(kind, version, given) else { return };
    let given = decoded.value;
    let api_version = kind.api_version(version);
    let types = Types::of(kind, version, &api_version, "");
    let write =
        Write { manager: "fuzz", api_version: &api_version, time: "2026-01-01T00:00:00Z", subresource: "" };
    let mut new = given.clone();
    new["metadata"]["labels"] = json!({"fuzz": "yes"});
    managed::update(&types, &write, Some(old), &mut new);
    let config = json!({"apiVersion": api_version, "kind": kind.kind, "metadata": {"name": "a", "labels": {"a": "b"}}});
    let _ = managed::apply(&types, &write, Some(&given), &config, body.len() % 2 == 0);
}));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_json(data, size, max_size, seed, 1)
});
