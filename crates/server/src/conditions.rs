//! Conditions that the server itself keeps in the status of objects. Pure.

use carrack_api::Value;

/// A condition without its time, unless an object holds one that says the same.
pub(crate) fn unless_held(object: &Value, wanted: Value) -> Option<Value> {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|one| one["type"] == wanted["type"]);
    let same = |field: &str| found.is_some_and(|found| found[field] == wanted[field]);
    (!["status", "reason", "message"].into_iter().all(same)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_condition_is_wanted_unless_one_says_the_same() {
        let wanted = json!({"type": "Available", "status": "True", "reason": "Local", "message": "m"});
        let held = |field: &str, value: &str| {
            let mut held = wanted.clone();
            held["lastTransitionTime"] = "2026-01-01T00:00:00Z".into();
            held[field] = value.into();
            json!({"status": {"conditions": [{"type": "Other"}, held]}})
        };
        assert_eq!(unless_held(&json!({}), wanted.clone()), Some(wanted.clone()));
        assert_eq!(unless_held(&held("type", "Available"), wanted.clone()), None);
        for field in ["type", "status", "reason", "message"] {
            assert_eq!(unless_held(&held(field, "x"), wanted.clone()), Some(wanted.clone()), "{field}");
        }
    }
}
