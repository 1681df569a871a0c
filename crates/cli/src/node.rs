//! The node of this process: runtime and agent, with the node's own identity.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use carrack_client::resource::NODES;
use carrack_client::{Identity, Scope, SystemClock, Update};
use carrack_node::tls::Tls;
use carrack_runtime::{Builtin, BuiltinConfig, Runtime};
use futures::StreamExt;
use jiff::Timestamp;

use crate::config::Config;
use crate::dialer;
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
        let (_, serving) = plane.pki().node(&name, &[config.node_address], Timestamp::now())?;
        let tls = Tls {
            certificates: vec![serving.certificate_der()?],
            key: serving.key_der()?,
            client_cas: vec![plane.pki().ca_der()],
        };
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
            endpoint_users: vec![dialer::USER.into()],
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

fn is_ready(node: &carrack_api::Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}
