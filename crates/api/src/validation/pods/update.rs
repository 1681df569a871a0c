//! What an update of a Pod may change: images, deadlines, added tolerations, removed
//! gates, and metadata.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::tree::{entries, get, int, items, same, text};
use crate::validation::names;
use crate::validation::rules::{full, invalid_json};

/// Says that a pod is the picture of one that a kubelet runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Rules of a Pod that replaces another, beyond metadata.
pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    super::metadata_and_spec(new, errors);
    annotations(new, old, errors);
    let path = Path::ROOT.child("spec");
    let (spec, before) = (&new["spec"], &old["spec"]);
    for list in ["containers", "initContainers"] {
        if items(spec, list).len() != items(before, list).len() {
            errors.push(Error::forbidden(&path.child(list), "pod updates may not add or remove containers"));
            return;
        }
        images(items(spec, list), &path.child(list), errors);
    }
    if deadline(spec, before, &path.child("activeDeadlineSeconds"), errors) {
        return;
    }
    tolerations(spec, before, &path.child("tolerations"), errors);
    gates(spec, before, &path.child("schedulingGates"), errors);
    let munged = munged(spec, before, &path, errors);
    if !same(Some(&munged), Some(before)) {
        let detail = format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}",
            difference("core.PodSpec", before, &munged)
        );
        errors.push(Error::forbidden(&path, &detail));
    }
}

/// Images, which alone of a container may change; what is said of a new pod is said again.
fn images(containers: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (at, container) in containers.iter().enumerate() {
        if full(errors) {
            break;
        }
        let (path, image) = (path.index(at), text(container, "image"));
        if image.is_empty() {
            errors.push(Error::required(&path.child("image"), ""));
        } else if image.trim() != image {
            let detail = "must not have leading or trailing whitespace";
            errors.push(Error::invalid(&path.child("image"), image, detail));
        }
    }
}

/// Rules of an update of ephemeral containers: some may come, none may change or go.
pub fn ephemeral_containers(new: &Value, old: &Value, errors: &mut Errors) {
    if get(&old["metadata"]["annotations"], MIRROR).is_some() {
        errors.clear();
        return errors.push(Error::forbidden(&Path::ROOT, "static pods do not support ephemeral containers"));
    }
    super::metadata_and_spec(new, errors);
    annotations(new, old, errors);
    let path = Path::ROOT.child("spec");
    let path = path.child("ephemeralContainers");
    let now = items(&new["spec"], "ephemeralContainers");
    for before in items(&old["spec"], "ephemeralContainers") {
        let name = text(before, "name");
        let what = match now.iter().find(|container| text(container, "name") == name) {
            None => "removed\n".to_owned(),
            Some(now) if !same(Some(now), Some(before)) => {
                format!("changed\n{}", difference("core.EphemeralContainer", before, now))
            }
            Some(_) => continue,
        };
        let detail = format!("existing ephemeral containers {name:?} may not be {what}");
        errors.push(Error::forbidden(&path, &detail));
    }
}

/// Annotations that may not come or go, and what holds of those of every pod.
pub fn annotations(new: &Value, old: &Value, errors: &mut Errors) {
    let meta = Path::ROOT.child("metadata");
    let path = meta.child("annotations");
    let of = |pod: &Value| get(&pod["metadata"]["annotations"], MIRROR).cloned();
    match (of(new), of(old)) {
        (Some(_), None) => {
            errors.push(Error::forbidden(&path.key(MIRROR), "may not add mirror pod annotation"))
        }
        (new, Some(old)) if new.as_ref() != Some(&old) => {
            errors
                .push(Error::forbidden(&path.key(MIRROR), "may not remove or update mirror pod annotation"));
        }
        _ => {}
    }
    super::annotations(&new["metadata"]["annotations"], &new["spec"], &path, errors);
}

/// Whether the update is refused here and now.
fn deadline(spec: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) -> bool {
    match (int(spec, "activeDeadlineSeconds"), int(before, "activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.push(Error::invalid(path, new, &names::range_error(0, i32::MAX.into())));
            true
        }
        (Some(new), Some(old)) if old < new => {
            errors.push(Error::invalid(path, new, "must be less than or equal to previous value"));
            true
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(Error::invalid(path, Value::Null, detail));
            false
        }
        _ => false,
    }
}

fn tolerations(spec: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        toleration.as_object_mut().map(|fields| fields.remove("tolerationSeconds"));
        toleration
    };
    let present: BTreeSet<String> =
        items(spec, "tolerations").iter().map(|new| without_seconds(new).to_string()).collect();
    if !items(before, "tolerations").iter().all(|old| present.contains(&without_seconds(old).to_string())) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        return errors.push(Error::forbidden(path, detail));
    }
    // (What is said of a new pod is said again.)
    super::tolerations(items(spec, "tolerations"), path, errors);
}

fn gates(spec: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) {
    let known: BTreeSet<&str> =
        items(before, "schedulingGates").iter().map(|old| text(old, "name")).collect();
    for (at, gate) in items(spec, "schedulingGates").iter().enumerate() {
        if full(errors) {
            break;
        }
        let name = text(gate, "name");
        if !known.contains(name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(Error::forbidden(&path.index(at).child("name"), &detail));
        }
    }
}

/// The new spec with everything that may change as it was before.
fn munged(spec: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) -> Value {
    let mut munged = spec.clone();
    for list in ["containers", "initContainers"] {
        for (container, old) in crate::tree::items_mut(&mut munged, list).iter_mut().zip(items(before, list))
        {
            container["image"] = old["image"].clone();
        }
    }
    let mut keep = vec!["activeDeadlineSeconds", "schedulingGates", "tolerations"];
    let grace = |spec: &Value| int(spec, "terminationGracePeriodSeconds");
    if grace(before).is_some_and(|old| old < 0) && grace(spec) == Some(1) {
        keep.push("terminationGracePeriodSeconds");
    }
    if !items(before, "schedulingGates").is_empty() {
        let kept = |(key, value): (&str, &Value)| get(&spec["nodeSelector"], key) == Some(value);
        if !entries(before, "nodeSelector").all(kept) {
            let path = path.child("nodeSelector");
            let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.push(Error::invalid(&path, spec["nodeSelector"].clone(), detail));
        }
        keep.push("nodeSelector");
        node_affinity(&mut munged, before, path, errors);
    }
    for field in keep {
        match get(before, field) {
            Some(value) => munged[field] = value.clone(),
            None => {
                munged.as_object_mut().map(|fields| fields.remove(field));
            }
        }
    }
    munged
}

/// Where a pod may go can still be narrowed while gates keep it from being placed; what is
/// allowed of that becomes what it was before in `munged`.
fn node_affinity(munged: &mut Value, before: &Value, path: &Path<'_>, errors: &mut Errors) {
    let of = |spec: &Value| spec["affinity"]["nodeAffinity"].clone();
    let (now, then) = (of(munged), of(before));
    if same(Some(&now), Some(&then)) {
        return;
    }
    let path = path.child("affinity");
    required_terms(&now, &then, &path.child("nodeAffinity"), errors);
    let others = |spec: &Value| {
        ["podAffinity", "podAntiAffinity"].iter().any(|field| get(&spec["affinity"], field).is_some())
    };
    if get(before, "affinity").is_none() && !others(munged) {
        munged.as_object_mut().map(|fields| fields.remove("affinity"));
    } else {
        munged["affinity"]["nodeAffinity"] = then;
    }
}

/// Terms that a pod has to have may only get more demands.
fn required_terms(now: &Value, then: &Value, path: &Path<'_>, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let (now, then) = (&now[REQUIRED], &then[REQUIRED]);
    let (news, olds) = (items(now, "nodeSelectorTerms"), items(then, "nodeSelectorTerms"));
    let path = path.child(REQUIRED);
    let path = path.child("nodeSelectorTerms");
    if !olds.is_empty() && olds.len() != news.len() {
        let shown = internal::json("[]core.NodeSelectorTerm", &now["nodeSelectorTerms"]);
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return errors.push(invalid_json(&path, &shown, detail));
    }
    for (at, (new, old)) in news.iter().zip(olds).enumerate() {
        let lists = ["matchExpressions", "matchFields"];
        let empty = |term: &Value| lists.iter().all(|list| items(term, list).is_empty());
        let only_more = lists.iter().all(|list| {
            let (new, old) = (items(new, list), items(old, list));
            let kept = new.len() >= old.len();
            kept && new.iter().zip(old).all(|(new, old)| same(Some(new), Some(old)))
        });
        if !only_more || (empty(old) && !empty(new)) {
            let shown = internal::json("core.NodeSelectorTerm", new);
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(invalid_json(&path.index(at), &shown, detail));
        }
    }
}

/// The lines of two values of an internal type that differ, and those around them.
pub fn difference(ty: &str, old: &Value, new: &Value) -> String {
    crate::unified::diff(&internal::pretty(ty, old), &internal::pretty(ty, new))
}
