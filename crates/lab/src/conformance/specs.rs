//! Which of upstream's conformance specs are run against an API server with simulated
//! nodes, and why each other one waits. Pure.

use super::Group;

/// Areas of which every spec is listed.
pub const AREAS: [&str; 5] =
    ["sig-api-machinery", "sig-architecture", "sig-auth", "sig-cli", "sig-instrumentation"];

/// Specs run side by side, each group against a control plane of its own.
pub const GROUPS: [Group; 3] = [
    Group { name: "machinery", focus: r"\[sig-api-machinery\].*\[Conformance\]" },
    Group { name: "areas", focus: r"\[sig-(architecture|auth|cli|instrumentation)\].*\[Conformance\]" },
    Group { name: "others", focus: OTHERS },
];

/// Specs of other areas that only talk to the API: of nodes they want no more than
/// that pods seem to run.
const OTHERS: &str = concat!(
    r"\[sig-apps\] (ControllerRevision|CronJob should support CronJob API|.*(DisruptionController|scale subresource",
    r"|Status endpoints|status endpoints|lifecycle of a|collection of)|Deployment|ReplicaSet|ReplicationController",
    r"|Job should (apply changes|delete a job|manage the lifecycle|adopt matching)).*\[Conformance\]",
    r"|\[sig-network\] (API Server|EndpointSlice|Endpoints|Ingress|ServiceCIDR",
    r"|Services should (be able to change|complete a service|delete a collection|find a service|provide",
    r"|serve a basic endpoint|serve multiport|serve endpoints|test the lifecycle)).*\[Conformance\]",
    r"|\[sig-node\] (Lease|PodTemplates|RuntimeClass should support|\[DRA\] CRUD|Node Lifecycle|Pods Extended",
    r"|Pods should (be submitted|be updated|delete a collection|patch a pod|run through|get a host IP|allow active)",
    r"|ConfigMap should (fail|run through)|Secrets should (fail|patch)|RuntimeClass should reject",
    r"|Ephemeral Containers.*should update).*\[Conformance\]",
    r"|\[sig-scheduling\].*(LimitRange|PriorityClass endpoints|preemption|NodeSelector|resource limits).*\[Conformance\]",
    r"|\[sig-storage\] (CSI.*(API|lifecycle)|.*immutable|PersistentVolumes.*(lifecycle|status)",
    r"|StorageClasses|VolumeAttributesClass).*\[Conformance\]",
);

/// Parts of names of specs that wait, and for what.
pub const WAITING: &[(&str, &str)] = &[
    ("AdmissionWebhook", "admission webhooks; and a webhook needs a pod that really runs"),
    ("CustomResourceConversionWebhook", "conversion webhooks"),
    ("CustomResourceFieldSelectors", "conversion webhooks"),
    ("AdmissionPolicy", "admission policies (CEL)"),
    ("Aggregator Should", "the aggregation layer"),
    ("Guestbook application", "pods that really run"),
    ("Update Demo", "pods that really run"),
    ("Kubectl logs logs", "pods that really run"),
    ("should create services for rc", "pods that really run"),
    ("should mount an API token into pods", "pods that really run"),
    ("should mount projected service account token", "pods that really run"),
    ("ServiceAccountIssuerDiscovery", "pods that really run"),
];

/// Regular expression of what is left out.
pub fn skip() -> String {
    let parts: Vec<String> = WAITING.iter().map(|(part, _)| part.replace('.', r"\.")).collect();
    parts.join("|")
}

/// For what a spec waits.
pub fn waits_for(name: &str) -> Option<&'static str> {
    WAITING.iter().find(|(part, _)| name.contains(part)).map(|(_, reason)| *reason)
}

/// The area of a spec.
pub fn area(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("[sig-")?;
    Some(&name[1..rest.find(']')? + 5])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_told_apart() {
        let name = "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout";
        assert_eq!(area(name), Some("sig-api-machinery"));
        assert!(waits_for(name).is_some_and(|reason| reason.contains("webhooks")));
        assert_eq!(waits_for("[sig-api-machinery] Watchers should observe"), None);
        assert!(skip().contains("AdmissionWebhook|"));
    }
}
