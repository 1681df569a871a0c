//! Server-side apply: the configuration, its merge into what is there, and the outcome's
//! decoding. The second byte says whether there is an object, whether it has owners, and
//! whether conflicts are forced.
#![no_main]

use carrack_api::decode;
use carrack_api::managed::{self, Config, Types, Write};
use carrack_fuzz::{mutate_json, object, use_object, within_bounds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let Some((kind, version, old, rest)) = object(input) else { return };
    let Some((how, body)) = rest.split_first() else { return };
    let Ok(config) = Config::read(body) else { return };
    let api_version = kind.api_version(version);
    let subresource = if how & 8 == 0 { "" } else { "status" };
    let types = Types::of(kind, version, &api_version, subresource);
    let write =
        Write { manager: "fuzz", api_version: &api_version, time: "2026-01-01T00:00:00Z", subresource };
    let mut live = old.clone();
    if how & 1 == 0 {
        managed::update(&types, &Write { manager: "other", ..write }, None, &mut live);
    }
    let live = (how & 2 == 0).then_some(&live);
    let Ok(applied) = managed::apply(&types, &write, live, &config.object, how & 4 != 0) else { return };
    let Some(merged) = applied.object else { return };
    let Ok(decoded) = decode::object_value(kind, version, merged) else { return };
    let mut object = decoded.value;
    if let Some(text) = applied.last_applied {
        managed::set_last_applied(&mut object, text);
    }
    if object["metadata"].is_object() {
        object["metadata"]["managedFields"] = applied.managed.unwrap_or_default();
    }
    // Once more, over what it has become.
    let _ = managed::apply(&types, &write, Some(&object), &config.object, true);
    use_object(kind, version, object);
}));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_json(data, size, max_size, seed, 2)
});
