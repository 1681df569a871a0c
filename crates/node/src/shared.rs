//! What the workers of all pods share: ways to the API, the runtime, the network and
//! the disk. Nothing here decides.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use carrack_client::{Client, Clock, EventRecorder, Reference};
use carrack_runtime::{Runtime, SandboxId};
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::objects::Watched;
use crate::spec::files::Resolver;
use crate::spec::{PodFacts, ServiceEnv};
use crate::status::NodeAddresses;
use crate::volumes::Paths;

/// How pods get their interfaces, and how it is known that traffic has left one.
pub trait PodNet: Send + Sync + 'static {
    /// Puts an interface into the namespace; blocks for about a millisecond. Errors in words.
    fn attach(&self, netns: &Path, uid: &str) -> Result<Vec<IpAddr>, String>;
    /// The addresses that a pod holds, from before a restart.
    fn addresses(&self, uid: &str) -> Option<Vec<IpAddr>>;
    /// Takes the interface and the addresses back.
    fn detach(&self, uid: &str) -> Result<(), String>;
    /// Waits until the node's rules send nothing new to these addresses.
    fn drained(&self, ips: Vec<IpAddr>) -> BoxFuture<'static, ()>;
    /// The services whose variables a pod of this namespace gets; `links` asks for the
    /// namespace's own besides `kubernetes`.
    fn services(&self, namespace: &str, links: bool) -> Vec<ServiceEnv>;
    /// A pod with these host ports (host address, port, protocol, container port) has
    /// addresses, or has ended (then none).
    fn host_ports(&self, uid: &str, ports: Vec<carrack_network::plan::HostPort>);
}

/// Shared by all workers.
pub struct Shared {
    /// Writes.
    pub client: Client,
    /// Containers and images.
    pub runtime: Arc<dyn Runtime>,
    /// Interfaces and rules.
    pub net: Arc<dyn PodNet>,
    /// Events about pods.
    pub recorder: EventRecorder,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// ConfigMaps and Secrets.
    pub watched: Watched,
    /// Directories.
    pub paths: Paths,
    /// Addresses for statuses.
    pub addresses: NodeAddresses,
    /// Capacity, for downward API and OOM scores.
    pub facts: PodFacts,
    /// The node's own resolver.
    pub host_resolver: Resolver,
    /// Text of the node's hosts file.
    pub host_hosts: String,
    /// The cluster's DNS addresses.
    pub cluster_dns: Vec<IpAddr>,
    /// `cluster.local`.
    pub domain: String,
    /// Whose pod a sandbox is.
    pub owners: Mutex<HashMap<SandboxId, String>>,
    /// Pulls under way at a time.
    pub pulls: tokio::sync::Semaphore,
}

impl Shared {
    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Notes whose a sandbox is, so that its events find the worker.
    pub fn own(&self, sandbox: &SandboxId, uid: &str) {
        let mut owners = self.owners.lock().expect("nobody panics with the owners locked");
        owners.insert(sandbox.clone(), uid.to_owned());
    }

    /// Forgets a removed sandbox.
    pub fn disown(&self, sandbox: &SandboxId) {
        self.owners.lock().expect("nobody panics with the owners locked").remove(sandbox);
    }

    /// The uid of the pod that a sandbox belongs to.
    pub fn owner(&self, sandbox: &SandboxId) -> Option<String> {
        self.owners.lock().expect("nobody panics with the owners locked").get(sandbox).cloned()
    }
}

/// The pod as the object of an event; `container` sets the field path.
pub fn reference(pod: &Pod, container: Option<&str>) -> Reference {
    let meta = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let inits = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let field_path = match container {
        Some(name) if inits.clone().any(|c| c.name == name) => format!("spec.initContainers{{{name}}}"),
        Some(name) => format!("spec.containers{{{name}}}"),
        None => String::new(),
    };
    Reference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: text(&meta.namespace),
        name: text(&meta.name),
        uid: text(&meta.uid),
        resource_version: text(&meta.resource_version),
        field_path,
    }
}
