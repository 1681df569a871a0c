//! Rules of a resize: the amounts of CPU and memory may change, nothing else, and nothing
//! that was asked for may be taken back (`ValidatePodResize`).

use serde_json::{Map, Value};

use crate::field::{Error, Errors, Path};
use crate::prepare::pods::qos;
use crate::tree::{entries, get, items, same, text};
use crate::validation::rules::full;

const LISTS: [&str; 2] = ["initContainers", "containers"];
const IMMUTABLE: &str = "only cpu and memory resources are mutable";

/// Rules of a pod that replaces another with other resources.
pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let before = errors.len();
    super::metadata_and_spec(new, errors);
    let kept_out = if get(&old["metadata"]["annotations"], "kubernetes.io/config.mirror").is_some() {
        Some("static pods cannot be resized")
    } else if text(&old["spec"]["os"], "name") == "windows" {
        Some("windows pods cannot be resized")
    } else {
        None
    };
    if let Some(detail) = kept_out {
        errors.truncate(before);
        errors.push(Error::forbidden(&Path::ROOT, detail));
        return;
    }
    let path = Path::ROOT.child("spec");
    let class = match text(&old["status"], "qosClass") {
        "" => qos(&old["spec"]),
        class => class,
    };
    if class != qos(&new["spec"]) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(Error::invalid(&path, text(&new["status"], "qosClass"), detail));
    }
    let mut statuses = items(&old["status"], "containerStatuses").iter();
    let running = statuses.find(|status| get(&status["state"], "running").is_some());
    if running.is_some_and(|status| get(status, "resources").is_none()) {
        errors.push(Error::forbidden(&path, "Pod running on node without support for resize"));
    }
    let mut kept = new["spec"].clone();
    of_pod(new, old, &mut kept, &path, errors);
    if !same_containers(new, old, &path, errors) {
        return;
    }
    of_containers(new, old, &mut kept, &path, errors);
    if errors.len() == before && !same(Some(&kept), old.get("spec")) {
        errors.push(Error::forbidden(&path, IMMUTABLE));
    }
}

/// The pod's own resources; in `kept` they become those of before.
fn of_pod(new: &Value, old: &Value, kept: &mut Value, path: &Path<'_>, errors: &mut Errors) {
    let own = |pod: &Value| get(&pod["spec"], "resources").cloned();
    let is_set = |resources: &Option<Value>| {
        resources.as_ref().is_some_and(|resources| {
            ["requests", "limits"].iter().any(|list| entries(resources, list).next().is_some())
        })
    };
    let (now, before) = (own(new), own(old));
    if !is_set(&now) && !is_set(&before) {
        return;
    }
    let resources = path.child("resources");
    if let Some(before) = &before {
        let Some(now) = &now else {
            return errors.push(Error::forbidden(&resources, "pod-level resources cannot be removed"));
        };
        for (list, what) in [("requests", "requests"), ("limits", "limits")] {
            if removed(now, before, list) {
                let detail = format!("pod-level resource {what} cannot be removed");
                errors.push(Error::forbidden(&resources.child(list), &detail));
            }
        }
    }
    if let Some(now) = now {
        kept["resources"] = without_changes(&now, before.as_ref().unwrap_or(&Value::Null));
    }
    if !same(kept.get("resources"), before.as_ref()) {
        errors.push(Error::forbidden(path, "only cpu and memory resources are mutable at pod-level"));
    }
}

fn same_containers(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    let before = errors.len();
    for list in ["containers", "initContainers"] {
        let (now, then) = (items(&new["spec"], list), items(&old["spec"], list));
        let path = path.child(list);
        if now.len() != then.len() {
            let detail = format!("{list} may not be added or removed on resize");
            errors.push(Error::forbidden(&path, &detail));
            continue;
        }
        for (at, (now, then)) in now.iter().zip(then).enumerate() {
            if text(now, "name") != text(then, "name") {
                let detail = format!("{list} may not be renamed or reordered on resize");
                errors.push(Error::forbidden(&path.index(at).child("name"), &detail));
            }
        }
    }
    errors.len() == before
}

/// The resources of containers; in `kept` they become those of before.
fn of_containers(new: &Value, old: &Value, kept: &mut Value, path: &Path<'_>, errors: &mut Errors) {
    for list in LISTS {
        let list_path = path.child(list);
        for (at, (now, then)) in items(&new["spec"], list).iter().zip(items(&old["spec"], list)).enumerate() {
            if full(errors) {
                return;
            }
            let path = list_path.index(at);
            let path = path.child("resources");
            for field in ["requests", "limits"] {
                if removed(&now["resources"], &then["resources"], field) {
                    let detail = format!("resource {field} cannot be removed");
                    errors.push(Error::forbidden(&path.child(field), &detail));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        let list_path = path.child(list);
        for (at, then) in items(&old["spec"], list).iter().enumerate() {
            let now = &mut kept[list][at];
            let changed = !same(Some(now), Some(then));
            now["resources"] = without_changes(&now["resources"], &then["resources"]);
            if !same(Some(now), Some(then)) {
                if list == "containers" {
                    errors.push(Error::forbidden(path, IMMUTABLE));
                } else {
                    let detail = "only cpu and memory resources for init or sidecar containers are mutable";
                    errors.push(Error::forbidden(&list_path.index(at), detail));
                }
            }
            if changed && list == "initContainers" && text(now, "restartPolicy") != "Always" {
                let again = |policy: &&Value| text(policy, "restartPolicy") == "RestartContainer";
                for _ in items(now, "resizePolicy").iter().filter(again) {
                    let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                    errors.push(Error::forbidden(&list_path.index(at), detail));
                }
            }
        }
    }
}

fn removed(now: &Value, before: &Value, list: &str) -> bool {
    entries(before, list).any(|(name, _)| get(&now[list], name).is_none())
}

/// Requests and limits with CPU and memory as they were.
fn without_changes(now: &Value, before: &Value) -> Value {
    let mut kept = Map::new();
    for list in ["limits", "requests"] {
        let mut amounts = now[list].as_object().cloned().unwrap_or_default();
        for name in ["cpu", "memory"] {
            match get(&before[list], name) {
                Some(amount) => amounts.insert(name.into(), amount.clone()),
                None => amounts.remove(name),
            };
        }
        if !amounts.is_empty() {
            kept.insert(list.into(), amounts.into());
        }
    }
    if let Some(claims) = get(now, "claims").filter(|_| before.is_null()) {
        kept.insert("claims".into(), claims.clone());
    }
    kept.into()
}
