//! Which of upstream's conformance specs are run against an API server with simulated
//! nodes, and why each other one waits. Pure.

use super::Group;

/// Areas of which every spec is listed.
pub const AREAS: [&str; 5] =
    ["sig-api-machinery", "sig-architecture", "sig-auth", "sig-cli", "sig-instrumentation"];

/// Specs run side by side, each group against a control plane of its own.
pub const GROUPS: [Group; 4] = [
    Group { name: "custom", focus: r"\[sig-api-machinery\] [A-F].*\[Conformance\]" },
    Group { name: "machinery", focus: r"\[sig-api-machinery\] [^A-F].*\[Conformance\]" },
    Group { name: "areas", focus: r"\[sig-(architecture|auth|cli|instrumentation)\].*\[Conformance\]" },
    Group { name: "others", focus: OTHERS },
];

/// Specs of other areas that only talk to the API: of nodes they want no more than
/// that pods seem to run.
const OTHERS: &str = concat!(
    r"(\[sig-apps\] (CronJob should support CronJob API|DisruptionController|Deployment|ReplicaSet|ReplicationController)",
    r"|\[sig-network\] (API Server|EndpointSlice should (support creating|create)|Endpoints",
    r"|Ingress|ServiceCIDR|Services should (complete a service|delete a collection|find a service|provide))",
    r"|\[sig-node\] (Lease|PodTemplates|RuntimeClass|\[DRA\] CRUD|Node Lifecycle|Pods Extended",
    r"|Pods should (be submitted|be updated|delete a collection|patch a pod|run through|get a host IP|allow active)",
    r"|ConfigMap should (fail|run through|update)|Secrets should (fail|patch))",
    r"|\[sig-scheduling\].*(LimitRange|PriorityClass endpoints|NodeSelector)",
    r"|\[sig-storage\] (CSI|.*immutable|PersistentVolumes|StorageClasses|VolumeAttributesClass)",
    r").*\[Conformance\]",
);

const WEBHOOKS: &str = "admission webhooks (which need a pod that really runs)";

/// Parts of names of specs that wait, and for what.
pub const WAITING: &[(&str, &str)] = &[
    ("AdmissionPolicy", "admission policies (CEL)"),
    ("ClusterAdmin] listing", WEBHOOKS),
    ("ClusterAdmin] patching", WEBHOOKS),
    ("ClusterAdmin] should be able to deny", WEBHOOKS),
    ("ClusterAdmin] should deny crd", WEBHOOKS),
    ("ClusterAdmin] should honor timeout", WEBHOOKS),
    ("ClusterAdmin] should include webhook", WEBHOOKS),
    ("ClusterAdmin] should mutate", WEBHOOKS),
    ("ClusterAdmin] should not be able to mutate", WEBHOOKS),
    ("ClusterAdmin] should unconditionally", WEBHOOKS),
    ("CustomResourceConversionWebhook", "conversion webhooks"),
    ("CustomResourceFieldSelectors", "conversion webhooks"),
    ("Aggregator Should", "the aggregation layer"),
    ("Guestbook application", "pods that really run"),
    ("Update Demo", "pods that really run"),
    ("Kubectl logs logs", "pods that really run"),
    ("should create services for rc", "pods that really run"),
    ("should mount an API token into pods", "pods that really run"),
    ("should mount projected service account token", "pods that really run"),
    ("should serve a basic image on each replica", "pods that really run"),
    ("ServiceAccountIssuerDiscovery", "pods that really run"),
];

/// Regular expression of what is left out.
pub fn skip() -> String {
    let parts: Vec<String> = WAITING.iter().map(|(part, _)| escape(part)).collect();
    parts.join("|")
}

fn escape(part: &str) -> String {
    let special = |letter: char| matches!(letter, '.' | '[' | ']');
    part.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
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
        let only_api = "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create \
            and update validating webhook configurations with match conditions";
        assert_eq!(waits_for(only_api), None);
        assert_eq!(area(name), Some("sig-api-machinery"));
        assert!(waits_for(name).is_some_and(|reason| reason.contains("webhooks")));
        assert_eq!(waits_for("[sig-api-machinery] Watchers should observe"), None);
        assert!(skip().contains(r"ClusterAdmin\] listing|"), "{}", skip());
    }
}
