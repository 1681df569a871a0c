//! What a write cannot change, and so nobody comes to own by it: status through the
//! object, spec through status, and the like. (After the `GetResetFields` of upstream's
//! strategies.)

use serde_json::Value;

use super::set::{self, Set};
use crate::kind::Kind;

/// A path of field names; `*` is any item.
type Path = &'static [&'static str];

/// Fields that a write leaves as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// All but these, with what is below them, can be written.
    AllBut(&'static [Path]),
    /// Only these, with what is below them, can be written.
    Only(&'static [Path]),
}

/// What a write to a `subresource` (empty: the object) of a kind's version leaves as it is.
pub(super) fn filter(kind: &Kind, version: usize, subresource: &str) -> Filter {
    let resource = &*kind.resource;
    let paths: &'static [Path] = match (subresource, resource) {
        ("", "certificatesigningrequests.certificates.k8s.io") => &[&["spec"], &["status"]],
        ("", _) if kind.subresource_of(version, "status").is_some() => &[&["status"]],
        ("status", "pods") => {
            &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]
        }
        ("status", "deployments.apps") => &[&["spec"], &["metadata", "labels"]],
        ("status", "certificatesigningrequests.certificates.k8s.io") => {
            &[&["spec"], &["status", "conditions"]]
        }
        ("approval", _) => &[&["spec"], &["status", "certificate"]],
        (
            "status",
            "servicecidrs.networking.k8s.io"
            | "storageversionmigrations.storagemigration.k8s.io"
            | "resourceclaims.resource.k8s.io"
            | "devicetaintrules.resource.k8s.io"
            | "volumeattachments.storage.k8s.io"
            | "flowschemas.flowcontrol.apiserver.k8s.io"
            | "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io"
            | "validatingadmissionpolicies.admissionregistration.k8s.io"
            | "apiservices.apiregistration.k8s.io",
        ) => &[&["metadata"], &["spec"]],
        ("status", _) if kind.custom => &[&["metadata"], &["spec"]],
        ("status", _) => &[&["spec"]],
        ("finalize", _) => &[&["status"]],
        ("ephemeralcontainers", _) => return Filter::Only(&[&["spec", "ephemeralContainers"]]),
        ("resize", _) => {
            return Filter::Only(&[
                &["spec", "containers", "*", "resources"],
                &["spec", "containers", "*", "resizePolicy"],
                &["spec", "initContainers", "*", "resources"],
                &["spec", "initContainers", "*", "resizePolicy"],
            ]);
        }
        _ => &[],
    };
    Filter::AllBut(paths)
}

impl Filter {
    /// Nothing is left out.
    pub const NONE: Self = Self::AllBut(&[]);

    /// Whether a whole top-level field is left out, so that nobody need look at it.
    pub fn leaves_out(self, key: &str) -> bool {
        match self {
            Self::AllBut(paths) => paths.contains(&[key].as_slice()),
            Self::Only(paths) => !paths.iter().any(|path| path[0] == key),
        }
    }

    /// Removes from a set what is left out.
    pub fn apply(self, fields: &mut Set) {
        match self {
            Self::AllBut(paths) => paths.iter().for_each(|path| set::subtract_whole(fields, &set::one(path))),
            Self::Only(paths) => retain(fields, paths),
        }
    }
}

/// Keeps what is on the way to one of the paths, or at or below its end.
fn retain(fields: &mut Set, paths: &[&[&'static str]]) {
    fields.retain(|element, node| {
        let matches = |name: &str| name == "*" || element.strip_prefix("f:") == Some(name);
        let rest: Vec<&[&str]> = paths
            .iter()
            .filter_map(|path| path.split_first())
            .filter(|(first, _)| matches(first))
            .map(|(_, rest)| rest)
            .collect();
        if rest.is_empty() {
            return false;
        }
        if rest.iter().any(|rest| rest.is_empty()) {
            return true;
        }
        // What is only on the way is a member if it was one: that is how upstream's matcher sees it.
        let Value::Object(node) = node else { return false };
        let member = set::is_member(node);
        node.remove(".");
        retain(node, &rest);
        if member && !node.is_empty() {
            node.insert(".".into(), Value::Object(Set::new()));
        }
        member || !node.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::json;

    #[test]
    fn each_subresource_has_its_own() {
        let kinds = kinds::builtin();
        let check = |resource: &str, subresource: &str, expect: Value| {
            let mut fields = json!({
                "f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:ownerReferences": {}},
                "f:spec": {"f:replicas": {}, "f:ephemeralContainers": {}, "f:containers": {
                    ".": {}, "k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {"f:limits": {}}}}},
                "f:status": {"f:phase": {}},
            });
            filter(kinds.stored(resource).unwrap(), 0, subresource).apply(fields.as_object_mut().unwrap());
            assert_eq!(fields, expect, "{resource} {subresource}");
        };
        let whole = json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:ownerReferences": {}},
            "f:spec": {"f:replicas": {}, "f:ephemeralContainers": {}, "f:containers": {
                ".": {}, "k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {"f:limits": {}}}}},
            "f:status": {"f:phase": {}},
        });
        let without = |fields: &[&str]| {
            let mut rest = whole.clone();
            rest.as_object_mut().unwrap().retain(|field, _| !fields.contains(&field.as_str()));
            rest
        };
        check("configmaps", "", whole.clone());
        check("pods", "", without(&["f:status"]));
        check("jobs.batch", "status", without(&["f:spec"]));
        check("flowschemas.flowcontrol.apiserver.k8s.io", "status", without(&["f:spec", "f:metadata"]));
        check(
            "pods",
            "status",
            json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:status": {"f:phase": {}}}),
        );
        check(
            "deployments.apps",
            "status",
            json!({"f:metadata": {"f:ownerReferences": {}}, "f:status": {"f:phase": {}}}),
        );
        check("pods", "ephemeralcontainers", json!({"f:spec": {"f:ephemeralContainers": {}}}));
        check(
            "pods",
            "resize",
            json!({"f:spec": {"f:containers": {".": {}, "k:{\"name\":\"c\"}": {
                ".": {}, "f:resources": {"f:limits": {}}}}}}),
        );
    }
}
