//! YAML bodies: `decode::object_yaml`.
#![no_main]

use carrack_api::decode;
use carrack_fuzz::{row, use_object, within_bounds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let Some((kind, version, body)) = row(input) else { return };
    if let Ok(decoded) = decode::object_yaml(kind, version, body)
        && decoded.value.is_object()
    {
        use_object(kind, version, decoded.value);
    }
}));
