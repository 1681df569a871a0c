//! Patches of the kind `merge`, applied to real objects and decoded as the server does.
#![no_main]

use carrack_api::patch;
use carrack_fuzz::{mutate_json, object, use_object, within_bounds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let Some((kind, version, old, body)) = object(input) else { return };
    let patched = match patch::merge(old.clone(), body) {
        Ok(patched) => patched,
        Err(error) => {
            let _ = error.to_status();
            return;
        }
    };
    if let Ok(decoded) = patched.decode_as(kind, version, body.len() % 2 == 0)
        && decoded.value.is_object()
    {
        use_object(kind, version, decoded.value);
    }
}));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_json(data, size, max_size, seed, 1)
});
