//! Services and endpoints of the cluster → rules, names and localhost ports of this
//! node. The shell around `carrack_network`.
//!
//! What always holds: only projections are kept, never whole objects; the first sync
//! comes at once, later ones take whatever has come meanwhile; `drained` answers by
//! what the kernel holds, not by what was asked of it.

pub mod project;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_client::{Scope, Source, Update, resource};
use carrack_network::apply::{Proxy, ProxyConfig};
use carrack_network::dns::{DnsConfig, DnsServer, Zone, resolv_conf};
use carrack_network::forward::LocalForwarder;
use carrack_network::plan::{self, HostPort, NodeInput, Prefix, ServiceWithEndpoints};
use carrack_network::pod::{PodNetwork, PodNetworkConfig};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::shared::PodNet;
use crate::spec::ServiceEnv;
use project::Slice;

/// Changes that come this soon after the first go into the same sync.
const GATHER: Duration = Duration::from_millis(2);
/// What was on its way to an endpoint when the rules let it go has arrived after this.
const SETTLE: Duration = Duration::from_millis(100);
/// A kernel that refuses is asked again after this.
const RETRY: Duration = Duration::from_secs(2);

/// The network of a node and its cluster.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// `<data-dir>/network`.
    pub state_dir: PathBuf,
    /// From which pods of this node get addresses.
    pub pod_cidrs: Vec<Prefix>,
    /// Of all nodes.
    pub cluster_cidrs: Vec<Prefix>,
    /// Of Services.
    pub service_cidrs: Vec<Prefix>,
    /// Where the cluster's DNS answers.
    pub cluster_dns: Vec<IpAddr>,
    /// `cluster.local`.
    pub domain: String,
    /// Addresses of this node on which node ports answer.
    pub node_ips: Vec<IpAddr>,
    /// Name of this node.
    pub node_name: String,
}

/// Why the node has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Bridge, routes, addresses.
    #[error("pod network: {0}")]
    Pods(#[from] carrack_network::pod::PodNetworkError),
    /// Rules.
    #[error("service rules: {0}")]
    Rules(#[from] carrack_network::apply::ApplyError),
    /// DNS.
    #[error("cluster DNS on {addresses:?}: {source}")]
    Dns {
        /// Where it was to listen.
        addresses: Vec<SocketAddr>,
        /// The answer.
        source: std::io::Error,
    },
}

#[derive(Default)]
struct State {
    services: BTreeMap<(String, String), ServiceWithEndpoints>,
    slices: BTreeMap<String, Slice>,
    namespaces: BTreeSet<String>,
    host_ports: BTreeMap<String, Vec<HostPort>>,
    /// Resources whose first reset has come.
    seen: [bool; 3],
}

/// The running network of a node.
pub struct Network {
    pods: PodNetwork,
    state: Arc<Mutex<State>>,
    dirty: Arc<Notify>,
    /// Addresses that the kernel's rules send new connections to.
    serving: watch::Receiver<Arc<HashSet<IpAddr>>>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy)]
enum Part {
    Services,
    Slices,
    Namespaces,
}

// === impl Network ===

impl Network {
    /// Makes the bridge, starts DNS and the watches. The first sync follows as soon as
    /// Services and slices are known.
    pub async fn start(
        config: NetworkConfig,
        source: Arc<dyn Source>,
        host_resolv: &str,
    ) -> Result<Self, NetworkError> {
        let pod_config = PodNetworkConfig {
            state_dir: config.state_dir.clone(),
            pod_cidrs: config.pod_cidrs.clone(),
            service_cidrs: config.service_cidrs.clone(),
            host_addresses: config.cluster_dns.clone(),
            mtu: None,
        };
        let pods = PodNetwork::open(pod_config)?;
        let proxy = Proxy::new(ProxyConfig::default())?;
        let listen: Vec<_> = config.cluster_dns.iter().map(|ip| SocketAddr::new(*ip, 53)).collect();
        let dns_config = DnsConfig {
            listen: listen.clone(),
            upstreams: resolv_conf::upstreams(host_resolv, &config.cluster_dns),
            domain: config.domain.clone(),
        };
        let dns = DnsServer::start(dns_config)
            .await
            .map_err(|source| NetworkError::Dns { addresses: listen, source })?;
        let (state, dirty) = (Arc::new(Mutex::new(State::default())), Arc::new(Notify::new()));
        let (sender, serving) = watch::channel(Arc::default());
        let mut tasks = JoinSet::new();
        for part in [Part::Services, Part::Slices, Part::Namespaces] {
            tasks.spawn(feed(source.clone(), part, state.clone(), dirty.clone()));
        }
        let node = node_input(&config);
        let syncer = Syncer {
            node,
            domain: config.domain,
            proxy,
            dns,
            forwarder: LocalForwarder::new(),
            state: state.clone(),
            serving: sender,
            notes: Vec::new(),
        };
        tasks.spawn(syncer.run(dirty.clone()));
        Ok(Self { pods, state, dirty, serving, _tasks: tasks })
    }

    /// Forgets pods that are not there any more.
    pub fn reconcile(&self, live: &BTreeSet<String>) {
        match self.pods.reconcile(live) {
            Ok(gone) if gone.addresses + gone.links > 0 => {
                tracing::info!(
                    addresses = gone.addresses,
                    links = gone.links,
                    "network of former pods removed"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "network of former pods not removed"),
        }
    }
}

fn node_input(config: &NetworkConfig) -> NodeInput {
    NodeInput {
        name: config.node_name.clone(),
        addresses: config.node_ips.clone(),
        pod_cidrs: config.pod_cidrs.clone(),
        cluster_cidrs: config.cluster_cidrs.clone(),
        service_cidrs: config.service_cidrs.clone(),
        local_service_ips: config.cluster_dns.clone(),
    }
}

impl PodNet for Network {
    fn attach(&self, netns: &Path, uid: &str) -> Result<Vec<IpAddr>, String> {
        let addresses = self.pods.attach(netns, uid).map_err(|error| error.to_string())?;
        Ok(list(addresses))
    }

    fn addresses(&self, uid: &str) -> Option<Vec<IpAddr>> {
        self.pods.addresses(uid).map(list)
    }

    fn detach(&self, uid: &str) -> Result<(), String> {
        self.pods.detach(uid).map_err(|error| error.to_string())
    }

    fn drained(&self, ips: Vec<IpAddr>) -> BoxFuture<'static, ()> {
        let mut serving = self.serving.clone();
        Box::pin(async move {
            let free = |serving: &Arc<HashSet<IpAddr>>| ips.iter().all(|ip| !serving.contains(ip));
            if free(&serving.borrow()) {
                return;
            }
            let _ = serving.wait_for(free).await;
            // Connections that were let in just before are still to be accepted.
            tokio::time::sleep(SETTLE).await;
        })
    }

    fn services(&self, namespace: &str, links: bool) -> Vec<ServiceEnv> {
        let state = self.state.lock().expect("nobody panics with the state locked");
        let of = |name: (String, String)| state.services.get(&name).and_then(project::service_env);
        let kubernetes = ("default".to_owned(), "kubernetes".to_owned());
        let mut all: Vec<_> = of(kubernetes.clone()).into_iter().collect();
        if links {
            let from = (namespace.to_owned(), String::new());
            let own = state.services.range(from..).take_while(|((ns, _), _)| ns == namespace);
            all.extend(
                own.filter(|(name, _)| **name != kubernetes).filter_map(|(_, s)| project::service_env(s)),
            );
        }
        all
    }

    fn host_ports(&self, uid: &str, ports: Vec<HostPort>) {
        let mut state = self.state.lock().expect("nobody panics with the state locked");
        let changed = if ports.is_empty() {
            state.host_ports.remove(uid).is_some()
        } else {
            state.host_ports.insert(uid.to_owned(), ports.clone()) != Some(ports)
        };
        drop(state);
        if changed {
            self.dirty.notify_one();
        }
    }
}

fn list(addresses: carrack_network::pod::PodAddresses) -> Vec<IpAddr> {
    let v6 = addresses.v6.map(IpAddr::V6);
    std::iter::once(IpAddr::V4(addresses.v4)).chain(v6).collect()
}

/// Keeps one resource's projections as the source tells them.
async fn feed(source: Arc<dyn Source>, part: Part, state: Arc<Mutex<State>>, dirty: Arc<Notify>) {
    let resource = match part {
        Part::Services => &resource::SERVICES,
        Part::Slices => &resource::ENDPOINT_SLICES,
        Part::Namespaces => &resource::NAMESPACES,
    };
    let mut updates = source.subscribe(resource, Scope::default());
    while let Some(update) = updates.next().await {
        let mut state = state.lock().expect("nobody panics with the state locked");
        let changed = match update {
            Update::Reset { records, .. } => {
                state.forget(part, records.iter().map(|r| r.key.as_str()).collect());
                records.iter().for_each(|record| state.keep(part, record));
                state.seen[part as usize] = true;
                true
            }
            Update::Changed { record, .. } => {
                state.keep(part, &record);
                true
            }
            Update::Deleted { record, .. } => {
                state.drop_one(part, &record.key);
                true
            }
            Update::Progress(_) => false,
        };
        let ready = state.seen == [true; 3];
        drop(state);
        if changed && ready {
            dirty.notify_one();
        }
    }
}

// === impl State ===

impl State {
    fn keep(&mut self, part: Part, record: &carrack_api::Record) {
        let key = &record.key;
        match part {
            Part::Services => match project::service(record) {
                Some(service) => {
                    let name = (key.namespace().to_owned(), key.name().to_owned());
                    self.services.entry(name.clone()).or_default().service = service;
                    self.join(&name);
                }
                None => tracing::warn!(service = %key, "Service cannot be read; its rules stay"),
            },
            Part::Slices => {
                let slice = project::slice(record);
                let before = match slice {
                    Some(slice) => {
                        let name = slice.service.clone();
                        let before = self.slices.insert(key.as_str().to_owned(), slice);
                        self.join(&name);
                        before.filter(|before| before.service != name)
                    }
                    None => self.slices.remove(key.as_str()),
                };
                if let Some(before) = before {
                    self.join(&before.service);
                }
            }
            Part::Namespaces => {
                self.namespaces.insert(key.name().to_owned());
            }
        }
    }

    fn drop_one(&mut self, part: Part, key: &carrack_api::Key) {
        match part {
            Part::Services => {
                self.services.remove(&(key.namespace().to_owned(), key.name().to_owned()));
            }
            Part::Slices => {
                if let Some(slice) = self.slices.remove(key.as_str()) {
                    self.join(&slice.service);
                }
            }
            Part::Namespaces => {
                self.namespaces.remove(key.name());
            }
        }
    }

    /// Drops what a reset does not name.
    fn forget(&mut self, part: Part, named: HashSet<&str>) {
        match part {
            Part::Services => {
                let store = &resource::SERVICES.store;
                self.services.retain(|(ns, name), _| named.contains(format!("{store}/{ns}/{name}").as_str()));
            }
            Part::Slices => {
                let gone: Vec<_> =
                    self.slices.keys().filter(|k| !named.contains(k.as_str())).cloned().collect();
                for key in gone {
                    if let Some(slice) = self.slices.remove(&key) {
                        self.join(&slice.service);
                    }
                }
            }
            Part::Namespaces => {
                let store = &resource::NAMESPACES.store;
                self.namespaces.retain(|name| named.contains(format!("{store}//{name}").as_str()));
            }
        }
    }

    /// Gathers the endpoints of a Service from its slices.
    fn join(&mut self, name: &(String, String)) {
        let Some(entry) = self.services.get_mut(name) else { return };
        let prefix = format!("{}/{}/", resource::ENDPOINT_SLICES.store, name.0);
        let own = self.slices.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        let own = own.filter(|(_, slice)| slice.service == *name);
        entry.endpoints = own.flat_map(|(_, slice)| slice.endpoints.iter().cloned()).collect();
    }
}

/// Brings kernel, DNS and forwarder to what the state says.
struct Syncer {
    node: NodeInput,
    domain: String,
    proxy: Proxy,
    dns: DnsServer,
    forwarder: LocalForwarder,
    state: Arc<Mutex<State>>,
    serving: watch::Sender<Arc<HashSet<IpAddr>>>,
    notes: Vec<String>,
}

impl Syncer {
    async fn run(mut self, dirty: Arc<Notify>) {
        loop {
            dirty.notified().await;
            tokio::time::sleep(GATHER).await;
            while let Err(error) = self.sync().await {
                tracing::error!(%error, "service rules not updated; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn sync(&mut self) -> Result<(), carrack_network::apply::ApplyError> {
        let (ruleset, zone, ports, serving) = {
            let state = self.state.lock().expect("nobody panics with the state locked");
            let host_ports: Vec<_> = state.host_ports.values().flatten().cloned().collect();
            let services = || state.services.values();
            let ruleset = plan::plan(services(), &host_ports, &self.node);
            let zone = Zone::build(&self.domain, services(), state.namespaces.iter().map(String::as_str));
            let ports = plan::local_ports(services(), &self.node);
            let endpoints = services().flat_map(|s| &s.endpoints);
            let serving: HashSet<_> = endpoints.filter(|e| e.ready).map(|e| e.ip).collect();
            (ruleset, zone, ports, serving)
        };
        self.dns.publish(Arc::new(zone));
        let report = self.proxy.sync(&ruleset).await?;
        tracing::debug!(updates = report.updates, took = ?report.took, "service rules updated");
        let mut notes = Vec::new();
        for (protocol, port, error) in self.forwarder.update(ports).await {
            notes.push(format!("node port {port}/{} on localhost: {error}", protocol.name()));
        }
        // Only now neither rules nor forwarder send anything to the others.
        self.serving.send_replace(Arc::new(serving));
        if notes != self.notes {
            notes.iter().for_each(|note| tracing::warn!("{note}"));
            self.notes = notes;
        }
        Ok(())
    }
}
