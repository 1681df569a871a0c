//! The controllers: one file or folder each, with a pure `decide(&View, now) -> Plan`
//! and a thin shell that gathers the view and carries the plan out.
//!
//! They read shared caches and write as service accounts of their own; none knows
//! the server, the store or another controller.

pub mod accounts;
mod all_kinds;
pub mod bootstrap_tokens;
pub mod certificates;
pub mod common;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod garbage;
pub mod namespace;
pub mod node_lifecycle;
pub mod pod_gc;
pub mod replicaset;
pub mod service_cidr;
mod shell;
pub mod taint_eviction;
pub mod ttl_after_finished;
pub mod volume_protection;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

pub use certificates::CertificateSigner;

use carrack_client::{Clients, Clock, Informers, Resource};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Names of all controllers, as `disabled` takes them.
pub const NAMES: &[&str] = &[
    "certificates",
    "deployment",
    "disruption",
    "endpoints",
    "endpointslice",
    "garbage",
    "namespace",
    "nodelifecycle",
    "pod-gc",
    "replicaset",
    "replicationcontroller",
    "root-ca",
    "service-cidr",
    "serviceaccount",
    "taint-eviction",
    "tokencleaner",
    "ttl-after-finished",
    "volume-protection",
];

/// What the controllers need.
#[derive(Clone)]
pub struct Context {
    /// Shared caches over one source.
    pub informers: Arc<Informers>,
    /// Makes the client of each controller's service account.
    pub clients: Clients,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Every listable and deletable resource that is served, one version each; for
    /// the garbage collector and the namespace controller.
    pub resources: watch::Receiver<Arc<[Resource]>>,
    /// PEM of the CA that signs the API server's certificate, for `kube-root-ca.crt`.
    pub root_ca_pem: String,
    /// Signs approved certificate requests; without one they wait.
    pub signer: Option<Arc<dyn CertificateSigner>>,
    /// Names (of [`NAMES`]) of controllers that shall not run.
    pub disabled: BTreeSet<String>,
}

/// Running controllers; dropping it stops them.
pub struct Controllers {
    tasks: JoinSet<()>,
}

impl Controllers {
    /// Waits until the controllers end, which they do only when stopped or broken.
    pub async fn wait(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Starts every controller that is not disabled. Must be called within a tokio
/// runtime; returns at once.
pub fn start(context: Context) -> Controllers {
    let shared = shell::Shared {
        informers: context.informers.clone(),
        clients: context.clients.clone(),
        clock: context.clock.clone(),
        tasks: Mutex::default(),
    };
    let enabled = |name: &str| !context.disabled.contains(name);
    if enabled("deployment") {
        deployment::start(&shared);
    }
    if enabled("disruption") {
        disruption::start(&shared);
    }
    if enabled("replicaset") {
        replicaset::start(&shared);
    }
    if enabled("replicationcontroller") {
        replicaset::start_replication_controllers(&shared);
    }
    if enabled("certificates") {
        certificates::start(&shared, context.signer.clone());
    }
    if enabled("ttl-after-finished") {
        ttl_after_finished::start(&shared);
    }
    if enabled("service-cidr") {
        service_cidr::start(&shared);
    }
    if enabled("tokencleaner") {
        bootstrap_tokens::start(&shared);
    }
    if enabled("volume-protection") {
        volume_protection::start(&shared);
    }
    if enabled("endpointslice") {
        endpoints::start_slices(&shared);
    }
    if enabled("endpoints") {
        endpoints::start_legacy(&shared);
    }
    if enabled("serviceaccount") {
        accounts::start_service_accounts(&shared);
    }
    if enabled("root-ca") {
        accounts::start_root_ca(&shared, &context.root_ca_pem);
    }
    if enabled("namespace") {
        namespace::start(&shared, &context);
    }
    if enabled("garbage") {
        garbage::start(&shared, &context);
    }
    if enabled("nodelifecycle") {
        node_lifecycle::start(&shared);
    }
    if enabled("taint-eviction") {
        taint_eviction::start(&shared);
    }
    if enabled("pod-gc") {
        pod_gc::start(&shared);
    }
    Controllers { tasks: shared.tasks.into_inner().expect("nobody panics while spawning") }
}
