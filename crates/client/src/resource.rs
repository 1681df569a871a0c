//! Names of a resource as a client needs them: its paths and its store keys.
//!
//! Nothing here knows what the server serves; a [`Resource`] is only names. The
//! constants are those that Carrack's own components use.

use std::borrow::Cow;

use carrack_api::Key;

/// A served resource in one version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// `v1`.
    pub version: Cow<'static, str>,
    /// `deployments`.
    pub plural: Cow<'static, str>,
    /// `Deployment`.
    pub kind: Cow<'static, str>,
    /// First part of store keys: `deployments.apps`, `pods`.
    pub store: Cow<'static, str>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
}

const fn core(plural: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    grouped("", plural, plural, kind, namespaced)
}

const fn grouped(
    group: &'static str,
    plural: &'static str,
    store: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Resource {
    Resource {
        group: Cow::Borrowed(group),
        version: Cow::Borrowed("v1"),
        plural: Cow::Borrowed(plural),
        kind: Cow::Borrowed(kind),
        store: Cow::Borrowed(store),
        namespaced,
    }
}

/// `v1` pods.
pub static PODS: Resource = core("pods", "Pod", true);
/// `v1` nodes.
pub static NODES: Resource = core("nodes", "Node", false);
/// `v1` namespaces.
pub static NAMESPACES: Resource = core("namespaces", "Namespace", false);
/// `v1` services.
pub static SERVICES: Resource = core("services", "Service", true);
/// `v1` endpoints.
pub static ENDPOINTS: Resource = core("endpoints", "Endpoints", true);
/// `v1` configmaps.
pub static CONFIG_MAPS: Resource = core("configmaps", "ConfigMap", true);
/// `v1` secrets.
pub static SECRETS: Resource = core("secrets", "Secret", true);
/// `v1` serviceaccounts.
pub static SERVICE_ACCOUNTS: Resource = core("serviceaccounts", "ServiceAccount", true);
/// `v1` events.
pub static EVENTS: Resource = core("events", "Event", true);
/// `v1` replicationcontrollers.
pub static REPLICATION_CONTROLLERS: Resource = core("replicationcontrollers", "ReplicationController", true);
/// `v1` persistentvolumes.
pub static PERSISTENT_VOLUMES: Resource = core("persistentvolumes", "PersistentVolume", false);
/// `v1` persistentvolumeclaims.
pub static PERSISTENT_VOLUME_CLAIMS: Resource = core("persistentvolumeclaims", "PersistentVolumeClaim", true);
/// `apps/v1` deployments.
pub static DEPLOYMENTS: Resource = grouped("apps", "deployments", "deployments.apps", "Deployment", true);
/// `apps/v1` replicasets.
pub static REPLICA_SETS: Resource = grouped("apps", "replicasets", "replicasets.apps", "ReplicaSet", true);
/// `apps/v1` statefulsets.
pub static STATEFUL_SETS: Resource =
    grouped("apps", "statefulsets", "statefulsets.apps", "StatefulSet", true);
/// `apps/v1` daemonsets.
pub static DAEMON_SETS: Resource = grouped("apps", "daemonsets", "daemonsets.apps", "DaemonSet", true);
/// `apps/v1` controllerrevisions.
pub static CONTROLLER_REVISIONS: Resource =
    grouped("apps", "controllerrevisions", "controllerrevisions.apps", "ControllerRevision", true);
/// `batch/v1` jobs.
pub static JOBS: Resource = grouped("batch", "jobs", "jobs.batch", "Job", true);
/// `batch/v1` cronjobs.
pub static CRON_JOBS: Resource = grouped("batch", "cronjobs", "cronjobs.batch", "CronJob", true);
/// `storage.k8s.io/v1` volumeattributesclasses.
pub static VOLUME_ATTRIBUTES_CLASSES: Resource = grouped(
    "storage.k8s.io",
    "volumeattributesclasses",
    "volumeattributesclasses.storage.k8s.io",
    "VolumeAttributesClass",
    false,
);
/// `certificates.k8s.io/v1` certificatesigningrequests.
pub static CERTIFICATE_REQUESTS: Resource = grouped(
    "certificates.k8s.io",
    "certificatesigningrequests",
    "certificatesigningrequests.certificates.k8s.io",
    "CertificateSigningRequest",
    false,
);
/// `networking.k8s.io/v1` servicecidrs.
pub static SERVICE_CIDRS: Resource =
    grouped("networking.k8s.io", "servicecidrs", "servicecidrs.networking.k8s.io", "ServiceCIDR", false);
/// `networking.k8s.io/v1` ipaddresses.
pub static IP_ADDRESSES: Resource =
    grouped("networking.k8s.io", "ipaddresses", "ipaddresses.networking.k8s.io", "IPAddress", false);
/// `discovery.k8s.io/v1` endpointslices.
pub static ENDPOINT_SLICES: Resource =
    grouped("discovery.k8s.io", "endpointslices", "endpointslices.discovery.k8s.io", "EndpointSlice", true);
/// `coordination.k8s.io/v1` leases.
pub static LEASES: Resource =
    grouped("coordination.k8s.io", "leases", "leases.coordination.k8s.io", "Lease", true);

/// `policy/v1` poddisruptionbudgets.
pub static POD_DISRUPTION_BUDGETS: Resource =
    grouped("policy", "poddisruptionbudgets", "poddisruptionbudgets.policy", "PodDisruptionBudget", true);
/// `storage.k8s.io/v1` storageclasses.
pub static STORAGE_CLASSES: Resource =
    grouped("storage.k8s.io", "storageclasses", "storageclasses.storage.k8s.io", "StorageClass", false);
/// `storage.k8s.io/v1` csinodes.
pub static CSI_NODES: Resource =
    grouped("storage.k8s.io", "csinodes", "csinodes.storage.k8s.io", "CSINode", false);
/// `storage.k8s.io/v1` csidrivers.
pub static CSI_DRIVERS: Resource =
    grouped("storage.k8s.io", "csidrivers", "csidrivers.storage.k8s.io", "CSIDriver", false);
/// `storage.k8s.io/v1` csistoragecapacities.
pub static CSI_STORAGE_CAPACITIES: Resource = grouped(
    "storage.k8s.io",
    "csistoragecapacities",
    "csistoragecapacities.storage.k8s.io",
    "CSIStorageCapacity",
    true,
);
/// `storage.k8s.io/v1` volumeattachments.
pub static VOLUME_ATTACHMENTS: Resource = grouped(
    "storage.k8s.io",
    "volumeattachments",
    "volumeattachments.storage.k8s.io",
    "VolumeAttachment",
    false,
);

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        carrack_api::kind::api_version(&self.group, &self.version)
    }

    /// The store key of one object; `namespace` is empty when cluster-scoped.
    pub fn key(&self, namespace: &str, name: &str) -> Key {
        Key::new(&self.store, namespace, name)
    }

    /// URL path of the collection; in all namespaces when `namespace` is empty.
    pub fn collection_path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis/" };
        let (group, version, plural) = (&self.group, &self.version, &self.plural);
        match namespace {
            "" => format!("{root}{group}/{version}/{plural}"),
            _ => format!("{root}{group}/{version}/namespaces/{namespace}/{plural}"),
        }
    }

    /// URL path of one object.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.collection_path(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(PODS.collection_path(""), "/api/v1/pods");
        assert_eq!(PODS.path("default", "web"), "/api/v1/namespaces/default/pods/web");
        assert_eq!(NODES.path("", "n1"), "/api/v1/nodes/n1");
        assert_eq!(DEPLOYMENTS.path("a", "b"), "/apis/apps/v1/namespaces/a/deployments/b");
        assert_eq!(DEPLOYMENTS.key("a", "b").as_str(), "deployments.apps/a/b");
    }
}
