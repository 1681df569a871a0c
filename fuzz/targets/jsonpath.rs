//! JSONPath of printer columns, looked up in real objects.
#![no_main]

use carrack_api::jsonpath::Path;
use carrack_fuzz::{object, within_bounds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let Some((_, _, object, text)) = object(input) else { return };
    if let Ok(path) = Path::parse(&String::from_utf8_lossy(text)) {
        let _ = path.find(object);
    }
}));
