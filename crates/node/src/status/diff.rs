//! What to write of a new status, and which events a change of state gives. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use serde_json::{Map, Value, json};

use super::conditions::is_ours;

/// An event that follows from a change of status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Name of the container that it is about.
    pub container: String,
    /// Event reason.
    pub reason: &'static str,
    /// Whether it is a warning.
    pub warning: bool,
    /// Event message.
    pub message: String,
}

/// The strategic merge patch of the status from `before` to `after`; `None` when
/// nothing of ours differs. Its uid keeps it from hitting a later pod of that name.
pub fn patch(uid: &str, before: &PodStatus, after: &PodStatus) -> Option<Value> {
    let tree = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (old, new) = (tree(before), tree(after));
    let mut status = Map::new();
    for (field, value) in &new {
        if old.get(field) == Some(value) {
            continue;
        }
        match field.as_str() {
            // By type: what others write beside us stays theirs.
            "conditions" => {
                let ours = ours(value, old.get(field));
                if !ours.is_empty() {
                    status.insert(field.clone(), ours.into());
                }
            }
            // Merged by ip in a strategic patch: the list as a whole is meant.
            "podIPs" | "hostIPs" => {
                let mut list = value.as_array().cloned().unwrap_or_default();
                if old.get(field).is_some() {
                    list.insert(0, json!({"$patch": "replace"}));
                }
                status.insert(field.clone(), list.into());
            }
            _ => {
                status.insert(field.clone(), value.clone());
            }
        }
    }
    for field in ["message", "reason", "podIP", "podIPs", "initContainerStatuses"] {
        if old.contains_key(field) && !new.contains_key(field) {
            status.insert(field.to_owned(), Value::Null);
        }
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
}

/// Our conditions that differ from what was written before.
fn ours(new: &Value, old: Option<&Value>) -> Vec<Value> {
    let old = old.and_then(Value::as_array).cloned().unwrap_or_default();
    let all = new.as_array().into_iter().flatten();
    let changed = all.filter(|c| c["type"].as_str().is_some_and(is_ours) && !old.contains(c));
    changed
        .map(|condition| {
            // Absent fields must be said to be absent, or the merge keeps the old ones.
            let mut condition = condition.clone();
            for field in ["reason", "message"] {
                if condition.get(field).is_none()
                    && old.iter().any(|c| c["type"] == condition["type"] && c.get(field).is_some())
                {
                    condition[field] = Value::Null;
                }
            }
            condition
        })
        .collect()
}

/// Events for containers that began to back off.
pub fn transitions(before: &PodStatus, after: &PodStatus, formatted_pod: &str) -> Vec<Transition> {
    let lists = |status: &'_ PodStatus| -> Vec<ContainerStatus> {
        let lists = [&status.init_container_statuses, &status.container_statuses];
        lists.into_iter().flatten().flatten().cloned().collect()
    };
    let reason = |status: &ContainerStatus| -> Option<String> {
        status.state.as_ref()?.waiting.as_ref()?.reason.clone()
    };
    let old = lists(before);
    let mut transitions = Vec::new();
    for status in lists(after) {
        let now = reason(&status);
        let then = old.iter().find(|s| s.name == status.name).and_then(&reason);
        if now == then {
            continue;
        }
        let container = status.name.clone();
        match now.as_deref() {
            Some("CrashLoopBackOff") => transitions.push(Transition {
                message: format!("Back-off restarting failed container {container} in pod {formatted_pod}"),
                container,
                reason: "BackOff",
                warning: true,
            }),
            Some("ImagePullBackOff") => {
                let image = &status.image;
                let backing_off = format!("Back-off pulling image \"{image}\"");
                let error = Transition {
                    container: container.clone(),
                    reason: "Failed",
                    warning: true,
                    message: "Error: ImagePullBackOff".into(),
                };
                let normal =
                    Transition { container, reason: "BackOff", warning: false, message: backing_off };
                transitions.extend([normal, error]);
            }
            _ => {}
        }
    }
    transitions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).expect("a status")
    }

    #[test]
    fn only_what_changed_is_written() {
        let before = status(json!({"phase": "Pending", "podIPs": [{"ip": "10.42.0.2"}], "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "x"},
            {"type": "example.com/gate", "status": "True"}]}));
        let after = status(json!({"phase": "Running", "podIPs": [{"ip": "10.42.0.3"}], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "example.com/gate", "status": "False"}]}));
        assert_eq!(
            patch("u", &before, &after),
            Some(json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running",
                "podIPs": [{"$patch": "replace"}, {"ip": "10.42.0.3"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]}}))
        );
        assert_eq!(patch("u", &after, &after), None);
        let gate_only = status(json!({"phase": "Running", "podIPs": [{"ip": "10.42.0.3"}], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "example.com/gate", "status": "True"}]}));
        assert_eq!(patch("u", &after, &gate_only), None, "others' conditions are theirs");
    }

    #[test]
    fn backing_off_makes_an_event_once() {
        let waiting = |reason: &str| {
            status(json!({"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false,
                "restartCount": 1, "state": {"waiting": {"reason": reason}}}]}))
        };
        let (creating, backing_off) = (waiting("ContainerCreating"), waiting("CrashLoopBackOff"));
        let events = transitions(&creating, &backing_off, "p_d(u)");
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].message, "Back-off restarting failed container c in pod p_d(u)");
        assert!(transitions(&backing_off, &backing_off, "p_d(u)").is_empty());
        let pull = transitions(&creating, &waiting("ImagePullBackOff"), "p_d(u)");
        assert_eq!(pull[0].message, "Back-off pulling image \"i\"");
        assert_eq!(pull[1].message, "Error: ImagePullBackOff");
    }
}
