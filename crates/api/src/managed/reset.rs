//! What a write cannot change, and so nobody comes to own by it: status through the
//! object, spec through status, and the like. (After the `GetResetFields` of upstream's
//! strategies. Those of `ephemeralcontainers` and `resize` say that only few fields can be
//! written, but nobody asks them: who puts a pod there and leaves fields out takes them
//! from their managers.)

use super::set::{self, Set};
use crate::kind::Kind;

/// A path of field names.
type Path = &'static [&'static str];

/// Fields that a write leaves as they are, with what is below them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filter(&'static [Path]);

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
        _ => &[],
    };
    Filter(paths)
}

impl Filter {
    /// Nothing is left out.
    pub const NONE: Self = Self(&[]);

    /// Whether a whole top-level field is left out, so that nobody need look at it.
    pub fn leaves_out(self, key: &str) -> bool {
        self.0.contains(&[key].as_slice())
    }

    /// Removes from a set what is left out.
    pub fn apply(self, fields: &mut Set) {
        self.0.iter().for_each(|path| set::subtract_whole(fields, &set::one(path)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::{Value, json};

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
        check("pods", "ephemeralcontainers", whole.clone());
    }
}
