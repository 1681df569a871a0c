//! Where built-in kinds differ in words that one table can say: who has a
//! generation and what raises it, who may be created by PUT, who demands a
//! resourceVersion, what is not worth a sync. (After upstream's `strategy.go` files.)

use carrack_api::{Kind, Value};

/// What raises `metadata.generation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The kind has none.
    None,
    /// Any field but apiVersion, kind, metadata and status.
    Spec,
    /// As `Spec`, and annotations.
    SpecAndAnnotations,
    /// As `Spec`, and labels.
    SpecAndLabels,
    /// Set to 1 on creation, never raised.
    Fixed,
    /// Not set on creation; as `Spec` from then on.
    Later,
}

/// Whether fields raise a kind's generation that are then dropped, being behind a gate.
pub(crate) fn counts_gated(kind: &Kind) -> bool {
    &*kind.resource == "resourceslices.resource.k8s.io"
}

/// What raises a kind's generation.
pub(crate) fn generation(kind: &Kind) -> Generation {
    if kind.custom {
        return Generation::Spec;
    }
    match &*kind.resource {
        "deployments.apps" => Generation::SpecAndAnnotations,
        "endpointslices.discovery.k8s.io" => Generation::SpecAndLabels,
        "priorityclasses.scheduling.k8s.io" => Generation::Fixed,
        "csidrivers.storage.k8s.io" => Generation::Later,
        "pods"
        | "podtemplates"
        | "replicationcontrollers"
        | "daemonsets.apps"
        | "statefulsets.apps"
        | "replicasets.apps"
        | "jobs.batch"
        | "cronjobs.batch"
        | "ingresses.networking.k8s.io"
        | "ingressclasses.networking.k8s.io"
        | "networkpolicies.networking.k8s.io"
        | "poddisruptionbudgets.policy"
        | "resourceslices.resource.k8s.io"
        | "deviceclasses.resource.k8s.io"
        | "devicetaintrules.resource.k8s.io"
        | "flowschemas.flowcontrol.apiserver.k8s.io"
        | "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io"
        | "validatingadmissionpolicies.admissionregistration.k8s.io"
        | "validatingadmissionpolicybindings.admissionregistration.k8s.io"
        | "mutatingadmissionpolicies.admissionregistration.k8s.io"
        | "mutatingadmissionpolicybindings.admissionregistration.k8s.io"
        | "mutatingwebhookconfigurations.admissionregistration.k8s.io"
        | "validatingwebhookconfigurations.admissionregistration.k8s.io"
        | "customresourcedefinitions.apiextensions.k8s.io" => Generation::Spec,
        _ => Generation::None,
    }
}

impl Generation {
    /// Whether `new` differs from `old` in what raises the generation.
    pub(crate) fn raised(self, new: &Value, old: &Value) -> bool {
        let meta = |field: &str| new["metadata"].get(field) != old["metadata"].get(field);
        match self {
            Self::None | Self::Fixed => false,
            Self::Spec | Self::Later => rest_differs(new, old),
            Self::SpecAndAnnotations => rest_differs(new, old) || meta("annotations"),
            Self::SpecAndLabels => rest_differs(new, old) || meta("labels"),
        }
    }
}

fn rest_differs(new: &Value, old: &Value) -> bool {
    fn rest(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        let skipped = ["apiVersion", "kind", "metadata", "status"];
        object.as_object().into_iter().flatten().filter(move |(name, _)| !skipped.contains(&name.as_str()))
    }
    !rest(new).eq(rest(old))
}

/// Whether PUT creates an object that is not there.
pub(crate) fn create_on_update(kind: &Kind) -> bool {
    matches!(
        &*kind.resource,
        "runtimeclasses.node.k8s.io"
            | "roles.rbac.authorization.k8s.io"
            | "rolebindings.rbac.authorization.k8s.io"
            | "clusterroles.rbac.authorization.k8s.io"
            | "clusterrolebindings.rbac.authorization.k8s.io"
            | "leases.coordination.k8s.io"
            | "leasecandidates.coordination.k8s.io"
            | "limitranges"
            | "events"
            | "services"
            | "endpoints"
    )
}

/// Whether an update without a resourceVersion overwrites whatever is there.
pub(crate) fn unconditional_update(kind: &Kind) -> bool {
    !kind.custom
        && !matches!(
            &*kind.resource,
            "clustertrustbundles.certificates.k8s.io"
                | "apiservices.apiregistration.k8s.io"
                | "customresourcedefinitions.apiextensions.k8s.io"
                | "podcertificaterequests.certificates.k8s.io"
                | "runtimeclasses.node.k8s.io"
                | "storageversionmigrations.storagemigration.k8s.io"
                | "poddisruptionbudgets.policy"
                | "csidrivers.storage.k8s.io"
                | "csistoragecapacities.storage.k8s.io"
                | "volumeattachments.storage.k8s.io"
                | "csinodes.storage.k8s.io"
                | "leases.coordination.k8s.io"
                | "leasecandidates.coordination.k8s.io"
        )
        && &*kind.group != "admissionregistration.k8s.io"
}

/// Whether a creator may set status, although it is a subresource.
pub(crate) fn keeps_status_on_create(kind: &Kind) -> bool {
    &*kind.resource == "nodes"
}

/// Whether a write may be lost in a power cut: Events, and the Leases that nodes
/// renew as heartbeats.
pub(crate) fn unsynced(kind: &Kind, namespace: &str) -> bool {
    match &*kind.resource {
        "events" => true,
        "leases.coordination.k8s.io" => namespace == "kube-node-lease",
        _ => false,
    }
}

/// Whether upstream reads a kind from its store and not from a cache, which words some
/// refusals otherwise and pages what any revision will do for.
pub(crate) fn uncached(kind: &Kind) -> bool {
    &*kind.resource == "events"
}

/// Whether dependents are orphaned when a deletion does not say (jobs and
/// replication controllers, for clients that are older than the garbage collector).
pub(crate) fn orphans_by_default(kind: &Kind) -> bool {
    matches!(&*kind.resource, "jobs.batch" | "replicationcontrollers")
}

/// Whether an object that is held (`Removal::Held`) is so without a word to the garbage
/// collector about its dependents.
pub(crate) fn held_without_collector(kind: &Kind) -> bool {
    &*kind.resource == carrack_api::crd::RESOURCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn generation_rises_with_what_counts() {
        let old =
            json!({"metadata": {"annotations": {"a": "1"}}, "spec": {"replicas": 1}, "status": {"x": 1}});
        let check = |change: &dyn Fn(&mut Value), expect: [bool; 4]| {
            let mut new = old.clone();
            change(&mut new);
            let seen = [
                Generation::None,
                Generation::Spec,
                Generation::SpecAndAnnotations,
                Generation::SpecAndLabels,
            ]
            .map(|g| g.raised(&new, &old));
            assert_eq!(seen, expect, "{new}");
        };
        check(&|_| {}, [false; 4]);
        check(&|new| new["status"]["x"] = 2.into(), [false; 4]);
        check(&|new| new["spec"]["replicas"] = 2.into(), [false, true, true, true]);
        check(&|new| new["metadata"]["annotations"]["a"] = "2".into(), [false, false, true, false]);
        check(&|new| new["metadata"]["labels"] = json!({"a": "2"}), [false, false, false, true]);
    }
}
