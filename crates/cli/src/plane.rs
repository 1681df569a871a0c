//! The control plane of one process: store, server, controllers, scheduler, wired
//! together. Each component has an identity of its own and passes the server's
//! pipeline; only reads are shared.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use carrack_api::{Kinds, kinds};
use carrack_client::{Client, Clients, Identity, Informers, Resource, Source};
use carrack_server::allocate::{self, AddressRange, Ranges, Services};
use carrack_server::auth::impersonate::Impersonation;
use carrack_server::auth::token::{TokenConfig, Tokens};
use carrack_server::auth::{self, Anonymous, Authorizers, CertificateAuthenticator};
use carrack_server::bootstrap::{self, BootstrapConfig, Progress};
use carrack_server::encryption::Encryption;
use carrack_server::http::listen::serve;
use carrack_server::maintenance::Keeper;
use carrack_server::pki::{Names, Pki};
use carrack_server::quota::{self, Ledger};
use carrack_server::{Registry, Server, ServerBuilder, SystemClock, admission};
use carrack_store::{Limits, Local, Store};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::{Part, StoreKind};
use crate::components::components;
use crate::config::Config;
use crate::dialer::Dialer;
use crate::dirs::Dirs;
use crate::source::{self, InProcess};

/// What runs and where objects are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The store's backend.
    pub store: StoreKind,
    /// Parts to leave out.
    pub disable: Vec<Part>,
}

impl Default for Options {
    fn default() -> Self {
        Self { store: StoreKind::Sqlite, disable: Vec::new() }
    }
}

/// A running control plane.
pub struct Plane {
    source: Arc<dyn Source>,
    clients: Clients,
    pki: Arc<Pki>,
    url: String,
    resources: watch::Sender<Arc<[Resource]>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Plane {
    /// Starts everything; the API answers when this returns.
    ///
    /// # Errors
    /// A port is taken, the database or the keys cannot be opened.
    pub async fn start(dirs: &Dirs, config: &Config, options: &Options) -> Result<Self> {
        let url = format!("https://{}", config.listen[0]);
        let pki = Arc::new(Pki::open_or_create(dirs.root(), names(config, &url), Timestamp::now())?);
        let encryption = Arc::new(Encryption::open_or_create(&dirs.keys())?);
        let local = Arc::new(match options.store {
            StoreKind::Memory => Local::memory(Limits::default()),
            StoreKind::Sqlite => Local::sqlite_with(&dirs.database(), Limits::default(), encryption.clone())?,
        });
        let keeper = Keeper::new(local.clone(), encryption, dirs.root());
        let store: Arc<dyn Store> = local;
        let quotas = Ledger::new(store.clone());
        let progress = Progress::default();
        let server = build(&store, keeper, &pki, &quotas, config, options)?.starting(&progress).build();
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        listen(&server, &pki, config, &stopping, &mut tasks).await?;

        let source = InProcess::over(&server);
        let clients = source::clients(&server);
        let bootstrap = bootstrap_config(&pki, config)?;
        bootstrap::bootstrap(server.registry(), &bootstrap, &progress)
            .await
            .context("cannot make the cluster's first objects")?;
        // Before the components, which could do nothing without their rights.
        bootstrap::bootstrap_roles(server.registry(), &progress)
            .await
            .context("cannot make the default roles")?;
        tasks.spawn(bootstrap::availability::keep(server.registry().clone(), progress.clone()));
        tasks.spawn(carrack_server::flow::conditions::run(server.registry().clone(), progress.clone()));
        let (host, address) = (config.node_name.clone(), advertised(config));
        tasks.spawn(bootstrap::identity::keep(server.registry().clone(), host, address, progress.clone()));
        tasks.spawn(bootstrap::keep(server.registry().clone(), bootstrap, progress));
        tasks.spawn(allocate::repair::run(server.registry().clone()));
        let fresh = pki.clone();
        tasks.spawn(async move { fresh.keep_fresh(Arc::new(SystemClock)).await });
        tasks.spawn(carrack_server::registry::expire_events(server.registry().clone()));
        if !options.disable.contains(&Part::Controllers) {
            tasks.spawn(quota::keep(server.registry().clone(), quotas));
            tasks.spawn(bootstrap::keep_gathered(server.registry().clone()));
        }
        tasks.spawn(carrack_server::crd::run(server.registry().clone()));
        tasks.spawn(bootstrap::api_services::keep(server.registry().clone()));
        let resources = watch::channel(listable(&server.registry().kinds())).0;
        tasks.spawn(follow_kinds(server.registry().clone(), resources.clone()));
        let plane = Self { source, clients, pki, url, resources, stop, tasks };
        Ok(plane.with_components(options))
    }

    fn with_components(mut self, options: &Options) -> Self {
        let clock = Arc::new(carrack_client::SystemClock);
        let informers = Arc::new(Informers::new(self.source.clone()));
        if !options.disable.contains(&Part::Controllers) {
            let context = carrack_controllers::Context {
                informers,
                clients: self.clients.clone(),
                clock: clock.clone(),
                resources: self.resources.subscribe(),
                root_ca_pem: self.pki.ca_pem().to_owned(),
                signer: Some(Arc::new(Signer(self.pki.clone()))),
                disabled: Default::default(),
            };
            let controllers = carrack_controllers::start(context);
            self.tasks.spawn(controllers.wait());
        }
        if !options.disable.contains(&Part::Scheduler) {
            let context = carrack_scheduler::Context {
                source: self.source.clone(),
                clients: self.clients.clone(),
                clock,
                seed: Timestamp::now().as_nanosecond() as u64,
                profiles: vec![carrack_scheduler::decide::Profile::default()],
            };
            self.tasks.spawn(carrack_scheduler::run(context));
        }
        self
    }

    /// Where the API is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads that share the server's records.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// A client of this process under an identity.
    pub fn client(&self, identity: &Identity) -> Client {
        (self.clients)(identity)
    }

    /// The cluster's keys.
    pub fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    /// Ends requests, then everything else; what was acknowledged is on disk.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Signs certificate requests with the cluster's CA.
struct Signer(Arc<Pki>);

impl carrack_controllers::CertificateSigner for Signer {
    fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        seconds: Option<i64>,
        now: Timestamp,
    ) -> Result<String, String> {
        self.0.sign(request, usages, seconds, now).map_err(|error| error.to_string())
    }
}

fn names(config: &Config, url: &str) -> Names {
    let mut addresses: Vec<IpAddr> = config.listen.iter().map(|address| address.ip()).collect();
    addresses.extend([config.node_address, config.api_service]);
    Names {
        url: url.to_owned(),
        hosts: vec![config.node_name.clone()],
        addresses,
        domain: config.domain.clone(),
    }
}

fn build(
    store: &Arc<dyn Store>,
    keeper: Keeper,
    pki: &Arc<Pki>,
    quotas: &Arc<Ledger>,
    config: &Config,
    options: &Options,
) -> Result<ServerBuilder> {
    let clock = Arc::new(SystemClock);
    let issuer = format!("https://kubernetes.default.svc.{}", config.domain);
    let tokens = TokenConfig { audiences: vec![issuer.clone()], issuer };
    let tokens = Arc::new(Tokens::new(tokens, pki.token_keys(), store.clone(), clock.clone())?);
    let authorizers = Arc::new(Authorizers::new(store.clone()));
    let advertised = advertised(config);
    let mut builder = Server::builder(store.clone(), kinds::builtin())
        .config(carrack_server::Config { advertised, flags: flags(config, options), ..Default::default() })
        .clock(clock.clone())
        .authenticator(Arc::new(CertificateAuthenticator))
        .authenticator(Arc::new(tokens.bootstrap_tokens()))
        .authenticator(tokens.clone())
        .authenticator(Arc::new(Anonymous))
        .impersonator(Arc::new(Impersonation::new(authorizers.clone())))
        .authorizer(authorizers.clone())
        .maintenance(keeper)
        .node_dialer(Dialer::new(pki.clone(), clock)?)
        .issuer(&tokens);
    for plugin in admission::plugins(store, &authorizers, quotas) {
        builder = builder.admission(plugin);
    }
    builder = builder.strategy("services", Arc::new(Services::new(store.clone(), ranges(config)?)));
    for component in components(&options.disable) {
        builder = builder.component(component);
    }
    for (resource, action) in auth::reviews::actions(&authorizers, &tokens) {
        builder = builder.action(resource, action);
    }
    Ok(builder)
}

/// Where others reach the server.
fn advertised(config: &Config) -> String {
    SocketAddr::new(config.node_address, config.api_port).to_string()
}

/// The settings that the process was started with.
fn flags(config: &Config, options: &Options) -> BTreeMap<String, String> {
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    let disable: Vec<String> =
        options.disable.iter().map(|part| format!("{part:?}").to_lowercase()).collect();
    [
        ("listen", listen.join(",")),
        ("node-name", config.node_name.clone()),
        ("node-address", config.node_address.to_string()),
        ("service-cidr", config.service_cidr.to_string()),
        ("domain", config.domain.clone()),
        ("store", format!("{:?}", options.store).to_lowercase()),
        ("disable", disable.join(",")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

async fn listen(
    server: &Server,
    pki: &Pki,
    config: &Config,
    stopping: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let tls = Arc::new(pki.server_config(Arc::new(SystemClock))?);
    for address in &config.listen {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}; is another cluster running? --listen takes another address")
        })?;
        let (server, tls, mut stopping) = (server.clone(), tls.clone(), stopping.clone());
        tasks.spawn(async move {
            let stopped = async move {
                // A sender that is gone means the same.
                let _ = stopping.wait_for(|stop| *stop).await;
            };
            if let Err(error) = serve(server, listener, tls, Default::default(), stopped).await {
                tracing::error!(%error, "the API's listener ended");
            }
        });
    }
    Ok(())
}

/// What the garbage collector and the namespace controller look through: every kind
/// that can be listed and deleted, in its preferred version.
fn listable(kinds: &Kinds) -> Arc<[Resource]> {
    let can = |kind: &carrack_api::Kind, verb: &str| kind.verbs.iter().any(|v| &**v == verb);
    let named = |kind: &Arc<carrack_api::Kind>| Resource {
        group: kind.group.to_string().into(),
        version: kind.preferred().unwrap_or(&kind.versions[0]).name.to_string().into(),
        plural: kind.plural.to_string().into(),
        kind: kind.kind.to_string().into(),
        store: kind.resource.to_string().into(),
        namespaced: kind.namespaced,
    };
    kinds.iter().filter(|kind| can(kind, "list") && can(kind, "delete")).map(named).collect()
}

/// Tells the garbage collector and the namespace controller of custom kinds.
async fn follow_kinds(registry: Arc<Registry>, resources: watch::Sender<Arc<[Resource]>>) {
    let mut changed = registry.kinds_changed();
    loop {
        changed.borrow_and_update();
        resources.send_replace(listable(&registry.kinds()));
        if changed.changed().await.is_err() {
            return;
        }
    }
}

fn ranges(config: &Config) -> Result<Ranges> {
    let text = config.service_cidr.to_string();
    let range =
        AddressRange::parse(&text).with_context(|| format!("{text} cannot be the range of Services"))?;
    Ok(Ranges { addresses: vec![range], seed: Timestamp::now().as_nanosecond() as u64, ..Ranges::default() })
}

fn bootstrap_config(pki: &Pki, config: &Config) -> Result<BootstrapConfig> {
    // Pods reach the node's own address; the loopback is theirs, not ours.
    let advertise = if config.node_address.is_loopback() { Vec::new() } else { vec![config.node_address] };
    Ok(BootstrapConfig {
        ranges: ranges(config)?,
        advertise,
        port: config.api_port,
        client_ca: pki.ca_pem().to_owned(),
    })
}
