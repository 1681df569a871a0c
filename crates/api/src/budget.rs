//! What a PodDisruptionBudget's status says of itself (`policy/v1`).

use serde_json::{Value, json};

use crate::tree::text;

/// The condition that says whether a disruption is allowed.
pub const CONDITION: &str = "DisruptionAllowed";

/// Brings the condition in line with `disruptionsAllowed`; its time changes only with
/// its status.
pub fn set_condition(status: &mut Value, now: &str) {
    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0) > 0;
    let (word, reason) = if allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    put(status, word, reason, "", now);
}

/// Says that the budget could not be worked out; nothing is allowed then.
pub fn set_failed(status: &mut Value, message: &str, now: &str) {
    status["disruptionsAllowed"] = 0.into();
    put(status, "False", "SyncFailed", message, now);
}

/// Whether the condition is what [`set_condition`] would make of it.
pub fn is_current(status: &Value) -> bool {
    let mut fresh = status.clone();
    set_condition(&mut fresh, "");
    fresh == *status
}

/// The condition, if it is there.
pub fn condition(status: &Value) -> Option<&Value> {
    status["conditions"].as_array()?.iter().find(|one| one["type"] == CONDITION)
}

fn put(status: &mut Value, word: &str, reason: &str, message: &str, now: &str) {
    let mut fresh = json!({"type": CONDITION, "status": word, "reason": reason, "message": message,
        "lastTransitionTime": now});
    if let Some(generation) = status["observedGeneration"].as_i64().filter(|one| *one != 0) {
        fresh["observedGeneration"] = generation.into();
    }
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|one| one["type"] == CONDITION) {
        Some(old) => {
            if text(old, "status") == word {
                fresh["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = fresh;
        }
        None => conditions.push(fresh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_keeps_its_time_with_its_status() {
        let mut status = json!({"disruptionsAllowed": 1, "observedGeneration": 2});
        set_condition(&mut status, "T1");
        let first = condition(&status).cloned().unwrap_or_default();
        assert_eq!((&first["status"], &first["reason"]), (&json!("True"), &json!("SufficientPods")));
        assert!(is_current(&status));
        set_condition(&mut status, "T2");
        assert_eq!(condition(&status), Some(&first));
        status["disruptionsAllowed"] = 0.into();
        assert!(!is_current(&status));
        set_condition(&mut status, "T3");
        assert_eq!(condition(&status).map(|one| one["lastTransitionTime"].clone()), Some(json!("T3")));
        set_failed(&mut status, "found no controllers", "T4");
        let failed = condition(&status).cloned().unwrap_or_default();
        assert_eq!((&failed["reason"], &failed["lastTransitionTime"]), (&json!("SyncFailed"), &json!("T3")));
    }
}
