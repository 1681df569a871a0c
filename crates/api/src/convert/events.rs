//! Events: the two groups differ in names only. The core group's is the stored form.

use serde_json::Value;

/// Names in the core group and in events.k8s.io.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Renames the fields of an event towards events.k8s.io, or back.
pub(super) fn rename(event: &mut Value, forth: bool) {
    let Some(event) = event.as_object_mut() else { return };
    for (core, events) in NAMES {
        let (from, to) = if forth { (core, events) } else { (events, core) };
        if let Some(value) = event.remove(from) {
            event.insert(to.into(), value);
        }
    }
}
