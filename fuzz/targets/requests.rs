//! Whole requests to a server that holds objects of many kinds: the method, what is asked
//! for, the query and the body are the input's.
#![no_main]

use carrack_fuzz::{mutate_json, object, server, within_bounds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

const WAYS: &[(&str, &str)] = &[
    ("GET", "application/json"),
    ("POST", "application/json"),
    ("POST", "application/yaml"),
    ("POST", "application/vnd.kubernetes.protobuf"),
    ("PUT", "application/json"),
    ("PATCH", "application/json-patch+json"),
    ("PATCH", "application/merge-patch+json"),
    ("PATCH", "application/strategic-merge-patch+json"),
    ("PATCH", "application/apply-patch+yaml"),
    ("DELETE", "application/json"),
];

const SUBRESOURCES: &[&str] =
    &["", "", "", "/status", "/scale", "/binding", "/eviction", "/token", "/resize"];

fuzz_target!(|input: &[u8]| {
    server::prepare();
    within_bounds(input, |input| {
        let Some((kind, version, object, rest)) = object(input) else { return };
        let [way, place, rest @ ..] = rest else { return };
        let (query, body) = parts(rest);
        let (method, content_type) = WAYS[usize::from(*way) % WAYS.len()];
        let meta = &object["metadata"];
        let name = if place % 4 == 0 { "" } else { meta["name"].as_str().unwrap_or_default() };
        let path = server::path(kind, version, meta["namespace"].as_str(), name);
        let subresource = SUBRESOURCES[usize::from(place / 4) % SUBRESOURCES.len()];
        let query = server::escaped(&String::from_utf8_lossy(query));
        server::send(method, &format!("{path}{subresource}?{query}"), content_type, body);
    });
});

/// The query, up to the first end of a line, and what comes after it.
fn parts(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, &[]),
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let header = 3 + parts(data.get(3..size).unwrap_or_default()).0.len() + 1;
    mutate_json(data, size, max_size, seed, header)
});
