//! A pod as controllers see it: a projection of the few fields they decide on.

use std::ops::Deref;
use std::sync::Arc;

use carrack_api::Record;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::meta::nullable;
use super::{Condition, Meta};

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: Spec,
    /// `status`.
    pub status: Status,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Node that it is bound to; empty before.
    pub node_name: String,
    /// First part of its DNS name.
    pub hostname: String,
    /// Name of the headless Service of its DNS name.
    pub subdomain: String,
    /// Whether it shares the node's network.
    pub host_network: bool,
    /// Init containers; those that restart always are sidecars.
    #[serde(deserialize_with = "nullable")]
    pub init_containers: Vec<Container>,
    /// Containers.
    #[serde(deserialize_with = "nullable")]
    pub containers: Vec<Container>,
    /// What it tolerates.
    #[serde(deserialize_with = "nullable")]
    pub tolerations: Vec<Toleration>,
}

/// A container: its name and ports.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name.
    pub name: String,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: String,
    /// Ports.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<ContainerPort>,
}

/// A port of a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Name, or empty.
    pub name: String,
    /// Number.
    pub container_port: i32,
    /// `TCP`, `UDP` or `SCTP`; empty means TCP.
    pub protocol: String,
}

/// A toleration of taints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    /// Key; empty with `Exists` tolerates everything.
    pub key: String,
    /// `Equal` (default) or `Exists`.
    pub operator: String,
    /// Value.
    pub value: String,
    /// Effect; empty for all.
    pub effect: String,
    /// How long NoExecute is tolerated; forever when absent.
    pub toleration_seconds: Option<i64>,
}

/// `status`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// Such as `Evicted`.
    pub reason: String,
    /// Conditions.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
    /// Primary address.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// All addresses, at most one a family.
    #[serde(rename = "podIPs", deserialize_with = "nullable")]
    pub pod_ips: Vec<PodIp>,
    /// States of the containers.
    #[serde(deserialize_with = "nullable")]
    pub container_statuses: Vec<ContainerStatus>,
    /// States of the init containers.
    #[serde(deserialize_with = "nullable")]
    pub init_container_statuses: Vec<ContainerStatus>,
}

/// An address of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address in text.
    pub ip: String,
}

/// State of a container: how often it restarted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// Restarts.
    pub restart_count: i32,
}

/// A pod of a set, as who looks at all of them whenever one changes sees it: decoded once for
/// each state and shared. Of its conditions it has only Ready, and no tolerations.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedPod(Arc<Slim>);

/// A pod that stays in memory as long as its record: what nobody asks a set's pods for is
/// left out, and nothing is larger than it has to be.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(from = "Pod")]
struct Slim(Pod);

impl SharedPod {
    /// Reads a record, as [`Pod::read`] does.
    pub fn read(record: &Record) -> Option<Self> {
        match record.projection() {
            Ok(pod) => Some(Self(pod)),
            Err(_) => Pod::read(record).map(Self::from),
        }
    }
}

impl Deref for SharedPod {
    type Target = Pod;

    fn deref(&self) -> &Pod {
        &self.0.0
    }
}

impl From<Pod> for SharedPod {
    fn from(pod: Pod) -> Self {
        Self(Arc::new(pod.into()))
    }
}

impl From<Pod> for Slim {
    fn from(mut pod: Pod) -> Self {
        let Pod { metadata, spec, status } = &mut pod;
        spec.tolerations = Vec::new();
        spec.containers.shrink_to_fit();
        status.conditions.retain(|condition| condition.kind == "Ready");
        status.conditions.shrink_to_fit();
        status.pod_ips.shrink_to_fit();
        status.container_statuses.shrink_to_fit();
        metadata.owner_references.shrink_to_fit();
        Self(pod)
    }
}

impl Pod {
    /// Reads a record; a pod that cannot be read (which the server never stores) is
    /// skipped and logged.
    pub fn read(record: &Record) -> Option<Self> {
        match record.decode_as() {
            Ok(pod) => Some(pod),
            Err(error) => {
                tracing::error!(key = %record.key, %error, "unreadable pod");
                None
            }
        }
    }

    /// Whether it has run to its end.
    pub fn terminal(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Neither ended nor being deleted.
    pub fn active(&self) -> bool {
        !self.terminal() && !self.metadata.deleting()
    }

    /// Being deleted and not ended.
    pub fn terminating(&self) -> bool {
        !self.terminal() && self.metadata.deleting()
    }

    /// Whether its Ready condition is true.
    pub fn ready(&self) -> bool {
        self.ready_condition().is_some_and(|condition| condition.status == "True")
    }

    /// The Ready condition.
    pub fn ready_condition(&self) -> Option<&Condition> {
        Condition::find(&self.status.conditions, "Ready")
    }

    /// Whether it has been ready for `min_ready_seconds`.
    pub fn available(&self, min_ready_seconds: i32, now: Timestamp) -> bool {
        if !self.ready() {
            return false;
        }
        let since = self.ready_condition().and_then(|condition| condition.last_transition_time);
        min_ready_seconds == 0
            || since.is_some_and(|since| now.duration_since(since) >= wait(min_ready_seconds))
    }

    /// When it becomes available, if time alone will do it.
    pub fn available_after(&self, min_ready_seconds: i32, now: Timestamp) -> Option<SignedDuration> {
        if !self.ready() || min_ready_seconds <= 0 {
            return None;
        }
        let since = self.ready_condition()?.last_transition_time?;
        let left = wait(min_ready_seconds) - now.duration_since(since);
        left.is_positive().then_some(left)
    }

    /// Most restarts of any container, and of any sidecar.
    pub fn max_restarts(&self) -> (i32, i32) {
        let regular = self.status.container_statuses.iter().map(|status| status.restart_count).max();
        let sidecar = |name: &str| {
            self.spec.init_containers.iter().any(|c| c.name == name && c.restart_policy == "Always")
        };
        let statuses = self.status.init_container_statuses.iter().filter(|status| sidecar(&status.name));
        (regular.unwrap_or(0), statuses.map(|status| status.restart_count).max().unwrap_or(0))
    }
}

fn wait(min_ready_seconds: i32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(min_ready_seconds))
}
