//! Label and field selectors: as text in a query, and as objects.
#![no_main]

use std::sync::LazyLock;

use carrack_api::field::Path;
use carrack_api::selector::{self, Fields, Labels};
use carrack_api::{Content, Key, Record, Value};
use carrack_fuzz::{OBJECTS, within_bounds};
use libfuzzer_sys::fuzz_target;

static RECORD: LazyLock<Record> = LazyLock::new(|| {
    let (kind, _, object) = &OBJECTS[0];
    let content = Content::encode(object, &kind.field_paths).expect("an object");
    Record { key: Key::new(&kind.resource, "default", "p"), revision: 1, content }
});

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let text = String::from_utf8_lossy(input);
    if let Ok(labels) = Labels::parse(&text) {
        labels.matches(RECORD.header());
        labels.matches_with(|key| (key.len() % 2 == 0).then_some("1"));
    }
    if let Ok(fields) = Fields::parse(&text) {
        let _ = fields.fields().count();
        fields.matches(&RECORD, &["spec.nodeName"]);
    }
    if let Ok(value) = serde_json::from_slice::<Value>(input) {
        let _ = selector::validate(&value, &Path::ROOT);
        if let Ok(labels) = Labels::from_value(&value) {
            labels.matches(RECORD.header());
        }
        Labels::from_map(&value).matches(RECORD.header());
    }
}));
