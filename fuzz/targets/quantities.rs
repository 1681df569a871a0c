//! Quantities: reading, arithmetic, and writing what can be read again.
#![no_main]

use carrack_api::quantity::{self, Quantity};
use carrack_fuzz::within_bounds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let text = String::from_utf8_lossy(input);
    if let Ok(canonical) = quantity::canonical(&text) {
        let again = quantity::canonical(&canonical).expect("a canonical text is a quantity");
        assert_eq!(again, canonical);
    }
    let (one, other) = text.split_once(' ').unwrap_or((&text, "1.5Gi"));
    let (Ok(one), Ok(other)) = (Quantity::parse(one), Quantity::parse(other)) else { return };
    for quantity in [one, one.plus(other), one.minus(other), one.times(-3), one.times(i64::MAX)] {
        let _ = (
            quantity.value(),
            quantity.milli_value(),
            quantity.scaled(-9),
            quantity.sign(),
            quantity.is_zero(),
        );
        let _ = quantity.cmp(&other);
        let _ = quantity.to_string();
    }
}));
