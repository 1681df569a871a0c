//! The node of this process: runtime and agent, with the node's own identity.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use carrack_client::resource::NODES;
use carrack_client::{Identity, Scope, SystemClock, Update};
use carrack_node::tls::Tls;
use carrack_runtime::{Builtin, BuiltinConfig, Runtime};
use carrack_server::pki::{HotCertificate, Pki};
use futures::StreamExt;
use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Config;
use crate::dirs::Dirs;
use crate::plane::Plane;

/// How long a node may take to become Ready before `up` says that something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// kubelet's default.
const MAX_PODS: u32 = 110;

/// A running node.
pub struct Node {
    name: String,
    runtime: Builtin,
    agent: carrack_node::Node,
    scratch: std::path::PathBuf,
}

/// Opens the runtime of a data directory and takes over what runs there.
///
/// # Errors
/// Without root, or on a kernel without overlayfs.
pub async fn runtime(dirs: &Dirs) -> Result<Builtin> {
    Builtin::open(BuiltinConfig::new(dirs.root())).await.context("cannot open the container runtime")
}

impl Node {
    /// Starts runtime and agent.
    ///
    /// # Errors
    /// Network, ports or directories are not to be had.
    pub async fn start(dirs: &Dirs, config: &Config, plane: &Plane) -> Result<Self> {
        let runtime = runtime(dirs).await?;
        let name = config.node_name.clone();
        let identity = Identity::user(&format!("system:node:{name}"), &["system:nodes"]);
        let serving = NodeCertificate::new(plane.pki().clone(), &name, config.node_address)?;
        let tls = Tls { certificate: Arc::new(serving), client_cas: vec![plane.pki().ca_der()] };
        let options = carrack_node::Options {
            name: name.clone(),
            data_dir: dirs.root().to_owned(),
            addresses: vec![config.node_address],
            labels: Default::default(),
            pod_cidrs: vec![config.pod_cidr],
            cluster_cidrs: vec![config.pod_cidr],
            service_cidrs: vec![config.service_cidr],
            cluster_dns: vec![config.dns],
            domain: config.domain.clone(),
            listen: SocketAddr::new(config.node_address, config.node_port),
            max_pods: MAX_PODS,
            version: concat!("v1.36.3+carrack", env!("CARGO_PKG_VERSION")).into(),
        };
        let context = carrack_node::Context {
            client: plane.client(&identity).with_manager("kubelet"),
            source: plane.source().clone(),
            runtime: Arc::new(runtime.clone()),
            clock: Arc::new(SystemClock),
            tls: Some(tls),
            options,
        };
        let agent = carrack_node::start(context).await?;
        Ok(Self { name, runtime, agent, scratch: dirs.root().to_owned() })
    }

    /// Waits until the Node object says that it is Ready.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn ready(&self, plane: &Plane) -> Result<()> {
        let scope = Scope { fields: Some(format!("metadata.name={}", self.name)), ..Scope::default() };
        let mut updates = plane.source().subscribe(&NODES, scope);
        let ready = async {
            while let Some(update) = updates.next().await {
                let record = match update {
                    Update::Changed { record, .. } => Some(record),
                    Update::Reset { records, .. } => records.into_iter().next(),
                    Update::Deleted { .. } | Update::Progress(_) => None,
                };
                if record.is_some_and(|record| is_ready(&record.decode())) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .with_context(|| format!("node {} is not Ready after {PATIENCE:?}", self.name))
    }

    /// Its containers and images.
    pub fn runtime(&self) -> &dyn Runtime {
        &self.runtime
    }

    /// A directory for files that go again.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Stops the agent; containers go on.
    pub async fn stop(self) {
        self.agent.stop().await;
        self.runtime.close();
    }
}

/// The certificate of the node's endpoint, made anew in good time by the connection that
/// finds it old.
struct NodeCertificate {
    pki: Arc<Pki>,
    name: String,
    address: IpAddr,
    hot: HotCertificate,
    renew_at: Mutex<Timestamp>,
}

impl NodeCertificate {
    fn new(pki: Arc<Pki>, name: &str, address: IpAddr) -> Result<Self> {
        let (_, serving) = pki.node(name, &[address], Timestamp::now())?;
        let (hot, renew_at) = (HotCertificate::new(&serving)?, Mutex::new(serving.renew_at()));
        Ok(Self { pki, name: name.to_owned(), address, hot, renew_at })
    }

    fn renew(&self, now: Timestamp) {
        let mut due = self.renew_at.lock().unwrap_or_else(PoisonError::into_inner);
        if now < *due {
            return;
        }
        let new = self.pki.node(&self.name, &[self.address], now);
        match new.and_then(|(_, serving)| self.hot.replace(&serving).map(|()| serving.renew_at())) {
            Ok(next) => *due = next,
            Err(error) => tracing::warn!(%error, "the node's certificate is not renewed"),
        }
    }
}

impl std::fmt::Debug for NodeCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeCertificate").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for NodeCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.renew(Timestamp::now());
        self.hot.resolve(hello)
    }
}

fn is_ready(node: &carrack_api::Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}
