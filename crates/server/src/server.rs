//! The server: its parts put together, and the service that answers requests.
//!
//! Built once by `cli` (or a test) and cheap to clone. It is a [`tower::Service`]
//! that the TLS listener serves to the outside and that components of the same
//! process call directly, with their [`User`](crate::User) among the request's extensions.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use carrack_api::Kinds;
use carrack_store::Store;
use futures::future::BoxFuture;
use http::{Request, Response};

use crate::auth::token::Tokens;
use crate::bootstrap::Progress;
use crate::clock::{Clock, SystemClock};
use crate::crd;
use crate::http::{self as edge, Body};
use crate::maintenance::Keeper;
use crate::registry::{Component, Parts, Registry, strategies};
use crate::seams::{
    Action, Admission, Audit, Authenticator, Authorizer, Check, Impersonator, NodeDialer, Strategy,
};

/// Limits and names; the defaults are what production runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bytes of a request body at most; more is answered 413.
    pub body_limit: usize,
    /// How long a request that is neither a watch nor a stream may take.
    pub request_timeout: Duration,
    /// Least time that a watch stays open when the client names none; up to twice as
    /// long, so that clients do not come back all at once.
    pub watch_timeout: Duration,
    /// Time between two bookmarks of a watch.
    pub bookmark_interval: Duration,
    /// Snapshots kept for the next pages of lists; the least recently used goes first.
    pub page_snapshots: usize,
    /// `gitVersion` of `/version`.
    pub git_version: String,
    /// Address and port at which clients reach the server, as discovery tells them; empty
    /// when it shall tell none.
    pub advertised: String,
    /// What the server was started with, as `/flagz` tells it.
    pub flags: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body_limit: 3 << 20,
            request_timeout: Duration::from_secs(60),
            watch_timeout: Duration::from_secs(1800),
            bookmark_interval: Duration::from_secs(60),
            page_snapshots: 16,
            git_version: concat!("v1.36.3+carrack", env!("CARGO_PKG_VERSION")).to_owned(),
            advertised: String::new(),
            flags: BTreeMap::new(),
        }
    }
}

/// Puts a [`Server`] together.
pub struct ServerBuilder {
    parts: Parts,
    edge: edge::Parts,
}

/// The API server. Clones share everything.
#[derive(Clone)]
pub struct Server {
    state: Arc<edge::State>,
}

// === impl ServerBuilder ===

impl ServerBuilder {
    /// Limits and names.
    pub fn config(mut self, config: Config) -> Self {
        self.edge.config = config;
        self
    }

    /// The clock; the system's unless set.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.parts.clock = clock;
        self
    }

    /// Adds an authenticator; they are asked in the order in which they were added.
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.edge.authenticators.push(authenticator);
        self
    }

    /// Adds an authorizer; they are asked in the order in which they were added.
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.edge.authorizers.push(authorizer);
        self
    }

    /// Adds an admission plugin.
    pub fn admission(mut self, admission: Arc<dyn Admission>) -> Self {
        self.parts.admission.push(admission);
        self
    }

    /// Sets where a kind differs; `resource` is `services`, `deployments.apps`. Replaces
    /// the server's own strategy for the kind.
    pub fn strategy(mut self, resource: &str, strategy: Arc<dyn Strategy>) -> Self {
        self.parts.strategies.insert(resource.into(), strategy);
        self
    }

    /// Sets what a POST to a resource that is not stored does
    /// (`subjectaccessreviews.authorization.k8s.io`), or to an acting subresource
    /// (`serviceaccounts/token`).
    pub fn action(mut self, resource: &str, action: Arc<dyn Action>) -> Self {
        self.parts.actions.insert(resource.into(), action);
        self
    }

    /// Sets who may act as whom.
    pub fn impersonator(mut self, impersonator: Arc<dyn Impersonator>) -> Self {
        self.edge.impersonator = Some(impersonator);
        self
    }

    /// Sets the audit log.
    pub fn audit(mut self, audit: Arc<dyn Audit>) -> Self {
        self.edge.audit = Some(audit);
        self
    }

    /// Sets how nodes are reached for log, exec, attach, port-forward and proxy.
    pub fn node_dialer(mut self, dialer: Arc<dyn NodeDialer>) -> Self {
        self.edge.dialer = Some(dialer);
        self
    }

    /// Publishes how tokens are verified: `/.well-known/openid-configuration` and
    /// `/openid/v1/jwks`, for whom RBAC lets read them.
    pub fn issuer(mut self, tokens: &Tokens) -> Self {
        let document = |path, content_type, body: carrack_api::Value| edge::Document {
            path,
            content_type,
            body: body.to_string(),
        };
        self.edge.documents = vec![
            document("/.well-known/openid-configuration", "application/json", tokens.discovery()),
            document("/openid/v1/jwks", "application/jwk-set+json", tokens.jwks()),
        ];
        self
    }

    /// Opens the store as a whole to administrators, under `/carrack/v1/`.
    pub fn maintenance(mut self, keeper: Keeper) -> Self {
        self.edge.keeper = Some(keeper);
        self
    }

    /// Adds a part of the control plane whose state is told.
    pub fn component(mut self, component: Component) -> Self {
        self.parts.components.push(component);
        self
    }

    /// Adds a condition of `/readyz`.
    pub fn check(mut self, check: Check) -> Self {
        self.edge.checks.push(check);
        self
    }

    /// Waits to be ready until all stages of the start are done.
    pub fn starting(mut self, progress: &Progress) -> Self {
        self.edge.checks.extend(progress.checks());
        self
    }

    /// The server.
    pub fn build(self) -> Server {
        let registry = Arc::new(Registry::new(self.parts, self.edge.config.page_snapshots));
        crd::load(&registry);
        Server { state: Arc::new(edge::State::new(self.edge, registry)) }
    }
}

// === impl Server ===

impl Server {
    /// Starts to build a server over a store that serves `kinds`.
    pub fn builder(store: Arc<dyn Store>, kinds: Kinds) -> ServerBuilder {
        ServerBuilder {
            parts: Parts {
                store,
                clock: Arc::new(SystemClock),
                kinds: Arc::new(kinds),
                strategies: strategies::builtin(),
                actions: HashMap::new(),
                admission: Vec::new(),
                components: Vec::new(),
            },
            edge: edge::Parts::default(),
        }
    }

    /// Ends all watches, so that connections can be closed. Watches that start later
    /// end at once.
    pub fn close(&self) {
        self.state.closing.send_replace(true);
    }

    /// The registry, for machinery inside the server and for the in-process `Source`.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.state.registry
    }
}

impl<B> tower_service::Service<Request<B>> for Server
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = self.state.clone();
        Box::pin(async move { Ok(edge::answer(&state, request).await) })
    }
}
