//! JSON bodies: `decode::object`, then all that a write and a read do with what it gives.
#![no_main]

use carrack_api::decode;
use carrack_fuzz::{mutate_json, row, use_object, within_bounds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let Some((kind, version, body)) = row(input) else { return };
    let _ = decode::type_meta(body);
    if let Ok(decoded) = decode::object(kind, version, body) {
        let _ = decoded.strict_error();
        if decoded.value.is_object() {
            use_object(kind, version, decoded.value);
        }
    }
}));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_json(data, size, max_size, seed, 1)
});
