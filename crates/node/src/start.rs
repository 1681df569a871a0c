//! Starts the agent's parts in the order that makes the node ready soonest, and
//! removes what they leave behind.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use carrack_client::{Client, Clock, EventRecorder, Source};
use carrack_network::plan::Prefix;
use carrack_runtime::{ContainerState, Runtime};
use tokio::task::JoinSet;

use crate::agent::{Agent, Mailboxes, Pods, tell};
use crate::machine::object::NodeConfig;
use crate::machine::{Machine, facts};
use crate::network::{Network, NetworkConfig, NetworkError};
use crate::objects::Watched;
use crate::shared::Shared;
use crate::spec::PodFacts;
use crate::spec::files::Resolver;
use crate::status::NodeAddresses;
use crate::tls::{Tls, TlsError};
use crate::volumes::{Paths, VolumeError};

/// Image pulls at a time.
const PULLS: usize = 4;

/// How the node is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the Node object (see [`crate::default_name`]).
    pub name: String,
    /// Holds `node/`, `network/` and `logs/`.
    pub data_dir: PathBuf,
    /// Addresses of the node, the primary one first; not loopback.
    pub addresses: Vec<IpAddr>,
    /// Labels besides the well-known ones.
    pub labels: BTreeMap<String, String>,
    /// From which this node's pods get their addresses.
    pub pod_cidrs: Vec<Prefix>,
    /// Of all nodes' pods.
    pub cluster_cidrs: Vec<Prefix>,
    /// Of Services.
    pub service_cidrs: Vec<Prefix>,
    /// Where the cluster's DNS answers, such as 10.96.0.10.
    pub cluster_dns: Vec<IpAddr>,
    /// `cluster.local`.
    pub domain: String,
    /// Where the endpoint listens; usually port 10250.
    pub listen: SocketAddr,
    /// Users (common names of client certificates) that may use the endpoint, besides
    /// Pods that the node takes; kubelet's default is 110.
    pub max_pods: u32,
    /// Shown as `kubeletVersion`, such as `v1.36.3+carrack`.
    pub version: String,
}

/// Everything that the agent works with.
pub struct Context {
    /// Writes, as `system:node:<name>`.
    pub client: Client,
    /// Reads, as the same identity.
    pub source: Arc<dyn Source>,
    /// Containers and images.
    pub runtime: Arc<dyn Runtime>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Certificates of the endpoint; without them there is none.
    pub tls: Option<Tls>,
    /// The rest.
    pub options: Options,
}

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Directories and tmpfs.
    #[error(transparent)]
    Volumes(#[from] VolumeError),
    /// Bridge, rules, DNS.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The endpoint cannot listen.
    #[error("node endpoint on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The answer.
        source: std::io::Error,
    },
}

/// The running agent. Dropping it stops the agent; containers run on.
pub struct Node {
    tasks: JoinSet<()>,
    /// The pods of this node.
    pub pods: Pods,
}

// === impl Node ===

impl Node {
    /// Waits for the end of any part, which should not come.
    pub async fn wait(&mut self) {
        let _ = self.tasks.join_next().await;
    }

    /// Stops the agent; containers, rules and addresses stay.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Starts the agent. Returns when its network and endpoint are up and the Node's
/// registration is under way.
pub async fn start(context: Context) -> Result<Node, NodeError> {
    let Context { client, source, runtime, clock, tls, options } = context;
    let paths = Paths { root: options.data_dir.join("node"), logs: options.data_dir.join("logs") };
    paths.prepare()?;
    let facts = facts::read(&options.data_dir);
    let machine = Machine {
        client: client.clone(),
        runtime: runtime.clone(),
        clock: clock.clone(),
        config: node_config(&options),
        facts: facts.clone(),
    };
    let host_resolv = host_resolv_conf();
    let network = Network::start(network_config(&options), source.clone(), &host_resolv).await?;
    let network = Arc::new(network);
    let mailboxes = Mailboxes::default();
    let notify = {
        let mailboxes = mailboxes.clone();
        Arc::new(move |uid: &str| tell(&mailboxes, uid, |inbox| inbox.objects_changed = true))
    };
    let shared = Arc::new(Shared {
        recorder: EventRecorder::new(client.clone(), "kubelet", &options.name, clock.clone()),
        client,
        runtime,
        net: network.clone(),
        clock,
        watched: Watched::new(source.clone(), notify),
        paths,
        addresses: NodeAddresses { host_ips: options.addresses.clone() },
        facts: PodFacts {
            host_ips: options.addresses.clone(),
            pod_ips: Vec::new(),
            node_memory: facts.memory,
            node_cpus: facts.cpus,
            node_storage: facts.storage,
        },
        host_resolver: Resolver::parse(&host_resolv),
        host_hosts: std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        cluster_dns: options.cluster_dns.clone(),
        domain: options.domain.clone(),
        owners: Default::default(),
        pulls: tokio::sync::Semaphore::new(PULLS),
    });
    let mut tasks = JoinSet::new();
    let pods = Pods::default();
    if let Some(tls) = tls {
        let endpoint = crate::stream::Endpoint {
            shared: shared.clone(),
            pods: pods.clone(),
            access: Arc::new(crate::stream::Access::new(
                shared.client.clone(),
                shared.clock.clone(),
                &options.name,
            )),
        };
        tasks.spawn(endpoint.serve(tls, options.listen).await?);
    }
    tasks.spawn(async move {
        let (uid, status) = machine.register().await;
        machine.run(uid, status).await;
    });
    let agent = Agent {
        shared,
        mailboxes,
        found: HashMap::new(),
        pods: pods.clone(),
        workers: JoinSet::new(),
        reconcile: Box::new(move |live| network.reconcile(live)),
    };
    tasks.spawn(agent.run(source, options.name));
    Ok(Node { tasks, pods })
}

fn node_config(options: &Options) -> NodeConfig {
    NodeConfig {
        name: options.name.clone(),
        addresses: options.addresses.clone(),
        labels: options.labels.clone(),
        pod_cidrs: options.pod_cidrs.iter().map(ToString::to_string).collect(),
        port: options.listen.port(),
        max_pods: options.max_pods,
        version: options.version.clone(),
        data_dir: options.data_dir.clone(),
    }
}

fn network_config(options: &Options) -> NetworkConfig {
    NetworkConfig {
        state_dir: options.data_dir.join("network"),
        pod_cidrs: options.pod_cidrs.clone(),
        cluster_cidrs: options.cluster_cidrs.clone(),
        service_cidrs: options.service_cidrs.clone(),
        cluster_dns: options.cluster_dns.clone(),
        domain: options.domain.clone(),
        node_ips: options.addresses.clone(),
        node_name: options.name.clone(),
    }
}

/// The node's resolv.conf; with a local stub resolver, the one that it forwards by.
fn host_resolv_conf() -> String {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let only_stub = Resolver::parse(&text).nameservers.iter().all(|server| server == "127.0.0.53");
    let real = only_stub.then(|| std::fs::read_to_string("/run/systemd/resolve/resolv.conf").ok());
    real.flatten().unwrap_or(text)
}

/// Ends every container (politely at first), takes the network down and removes the
/// agent's directories: `carrack down --purge`. With `keep_data` only containers and
/// network go. Goes on after an error, and gives them all.
pub async fn purge(runtime: &dyn Runtime, data_dir: &Path, grace: Duration, keep_data: bool) -> Vec<String> {
    let mut errors = Vec::new();
    let sandboxes = match runtime.list().await {
        Ok(sandboxes) => sandboxes,
        Err(error) => {
            errors.push(error.to_string());
            Vec::new()
        }
    };
    let running = sandboxes.iter().flat_map(|s| &s.containers);
    let running = running.filter(|c| matches!(c.state, ContainerState::Running { .. }));
    let stops = running.map(|c| runtime.stop_container(&c.id, grace, None));
    for result in futures::future::join_all(stops).await {
        errors.extend(result.err().map(|error| error.to_string()));
    }
    for sandbox in &sandboxes {
        let stopped = runtime.stop_sandbox(&sandbox.id).await;
        let removed = runtime.remove_sandbox(&sandbox.id).await;
        for result in [stopped, removed] {
            errors.extend(result.err().filter(|e| !e.is_not_found()).map(|error| error.to_string()));
        }
    }
    let cleaned = carrack_network::pod::PodNetwork::cleanup(&data_dir.join("network"));
    errors.extend(cleaned.err().map(|error| error.to_string()));
    match carrack_network::apply::Proxy::new(Default::default()) {
        Ok(mut proxy) => errors.extend(proxy.cleanup().err().map(|error| error.to_string())),
        Err(error) => errors.push(error.to_string()),
    }
    if !keep_data {
        let paths = Paths { root: data_dir.join("node"), logs: data_dir.join("logs") };
        errors.extend(paths.purge().err().map(|error| error.to_string()));
    }
    errors
}
