//! The seams between the pipeline and what plugs into it: who someone is, what they
//! may do, what admission says, where a kind differs, how a node is reached.
//!
//! A request passes, in this order: [`Authenticator`] → [`Audit`] →
//! [`Impersonator`] → [`Authorizer`] → [`Admission`] → registry (with the kind's
//! [`Strategy`]). A server without an authenticator lets nobody in from outside; one
//! without an authorizer allows nothing.

use std::io;
use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Value, field};
use futures::future::BoxFuture;
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::registry::{Call, Registry};
use crate::request::{Attributes, PeerCertificates, User};

/// Says who is asking.
pub trait Authenticator: Send + Sync + 'static {
    /// `Ok(None)`: no credentials that this authenticator knows; the next is asked,
    /// and after the last the request is answered 401.
    ///
    /// # Errors
    /// Credentials that are wrong end the request with 401 (or the given status).
    fn authenticate<'a>(
        &'a self,
        parts: &'a Parts,
        peer: Option<&'a PeerCertificates>,
    ) -> BoxFuture<'a, Result<Option<User>, Status>>;
}

/// Replaces the user of a request that carries `Impersonate-*` headers; `attributes` say
/// what the request is about.
pub trait Impersonator: Send + Sync + 'static {
    /// `Ok(None)`: the request does not impersonate.
    ///
    /// # Errors
    /// The caller may not act as the user it names.
    fn impersonate<'a>(
        &'a self,
        parts: &'a Parts,
        user: &'a User,
        attributes: &'a Attributes,
    ) -> BoxFuture<'a, Result<Option<User>, Status>>;
}

/// What an authorizer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed; nobody else is asked. The reason is for SubjectAccessReviews.
    Allow(String),
    /// Forbidden; nobody else is asked.
    Deny(String),
    /// Not this authorizer's business; the next is asked, and after the last the
    /// request is forbidden. The reason may be empty.
    NoOpinion(String),
}

/// Says what a user may do.
pub trait Authorizer: Send + Sync + 'static {
    /// Decides on one request.
    fn authorize<'a>(&'a self, user: &'a User, attributes: &'a Attributes) -> BoxFuture<'a, Decision>;
}

/// What admission is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a POST to a subresource such as `binding` or `eviction`.
    Create,
    /// An update or patch of an object or a subresource.
    Update,
    /// A deletion.
    Delete,
    /// exec, attach, port-forward, proxy.
    Connect,
}

/// One request before admission.
pub struct AdmissionRequest<'a> {
    /// What is about to happen.
    pub operation: Operation,
    /// Kind, namespace, name, subresource, user, dry-run, warnings, time.
    pub call: &'a Call,
    /// The object as it is stored; absent on create.
    pub old: Option<&'a Value>,
    /// The registry, for admission that must look at other objects.
    pub registry: &'a Registry,
}

impl AdmissionRequest<'_> {
    /// Whether it is about `resource` (`pods`, `deployments.apps`) and `subresource`.
    pub fn is(&self, resource: &str, subresource: &str) -> bool {
        &*self.call.kind.resource == resource && &*self.call.subresource == subresource
    }
}

/// One admission plugin. All of them mutate, in order, then all validate.
pub trait Admission: Send + Sync + 'static {
    /// A cheap filter: whether the plugin wants to see the request at all.
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool;

    /// Changes the object that is about to be written (in the requested version,
    /// defaults filled in). Not called for deletions.
    ///
    /// # Errors
    /// Refuses the request.
    fn mutate<'a>(
        &'a self,
        _request: &'a AdmissionRequest<'a>,
        _object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Looks at the final object; `None` for deletions and connections.
    ///
    /// # Errors
    /// Refuses the request.
    fn validate<'a>(
        &'a self,
        _request: &'a AdmissionRequest<'a>,
        _object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Takes what the write uses up (quota). Runs last, when nothing else refuses any
    /// more, for creations and updates; on dry runs it must take nothing.
    ///
    /// # Errors
    /// Refuses the request.
    fn reserve<'a>(
        &'a self,
        _request: &'a AdmissionRequest<'a>,
        _object: &'a Value,
    ) -> BoxFuture<'a, Result<Finish, Status>> {
        Box::pin(std::future::ready(Ok(Finish::NOTHING)))
    }
}

/// What a hook has begun and must end: told `true` once the write is committed,
/// `false` when it failed (or was a dry run), so that what was allocated is given back.
#[derive(Default)]
pub struct Finish(Option<Box<dyn FnOnce(bool) -> BoxFuture<'static, ()> + Send>>);

impl Finish {
    /// Nothing to end.
    pub const NOTHING: Self = Self(None);

    /// Calls `end` with whether the write was committed.
    pub fn with(end: impl FnOnce(bool) -> BoxFuture<'static, ()> + Send + 'static) -> Self {
        Self(Some(Box::new(end)))
    }

    /// Ends it.
    pub(crate) async fn end(self, committed: bool) {
        if let Some(end) = self.0 {
            end(committed).await;
        }
    }
}

/// How an object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// At once.
    Now,
    /// It is marked, and whoever runs it deletes it for good within so many seconds; 0
    /// is at once.
    Graceful(i64),
    /// It is marked and stays until something in it is emptied (a namespace's
    /// `spec.finalizers`).
    Held,
}

/// Where a kind differs from all others. Every hook has a default that does nothing;
/// status isolation, generation and metadata rules apply to every kind without one.
pub trait Strategy: Send + Sync + 'static {
    /// Clears what a creator may not set, sets what it need not. Pure.
    fn prepare_create(&self, _call: &Call, _object: &mut Value) {}

    /// As for create; `object` already has the old status (or, for the status
    /// subresource, the old spec). Pure.
    fn prepare_update(&self, _call: &Call, _object: &mut Value, _old: &Value) {}

    /// What the caller may not ask for, which is said before the rules are looked at.
    fn authorize(
        &self,
        _registry: &Registry,
        _call: &Call,
        _object: &Value,
        _old: Option<&Value>,
    ) -> field::Errors {
        Vec::new()
    }

    /// Checks beyond those of `carrack_api`'s validation.
    fn validate(&self, _call: &Call, _object: &Value, _old: Option<&Value>) -> field::Errors {
        Vec::new()
    }

    /// Allocates what a new object needs (ClusterIPs, node ports) and writes it into
    /// the object; runs after mutating admission and before validation, which sees what
    /// was allocated; also on dry runs, when it must allocate nothing for good.
    fn begin_create<'a>(
        &'a self,
        _call: &'a Call,
        _registry: &'a Registry,
        _object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Finish, Status>> {
        Box::pin(std::future::ready(Ok(Finish::NOTHING)))
    }

    /// As `begin_create`, for an update of the object itself.
    fn begin_update<'a>(
        &'a self,
        _call: &'a Call,
        _registry: &'a Registry,
        _object: &'a mut Value,
        _old: &'a Value,
    ) -> BoxFuture<'a, Result<Finish, Status>> {
        Box::pin(std::future::ready(Ok(Finish::NOTHING)))
    }

    /// Runs once the object is gone: gives back what it held.
    fn after_delete<'a>(
        &'a self,
        _call: &'a Call,
        _registry: &'a Registry,
        _object: &'a Value,
    ) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    /// How the object goes when its deletion is asked for with `asked`
    /// (`gracePeriodSeconds`; never negative). May change what is stored if it stays
    /// for a while. Finalizers hold it in any case.
    fn removal(&self, _call: &Call, _object: &mut Value, _asked: Option<i64>) -> Removal {
        Removal::Now
    }
}

/// What a POST does to a resource that is not stored (reviews), or to a subresource
/// that acts instead of storing (`serviceaccounts/token`).
pub trait Action: Send + Sync + 'static {
    /// Answers the decoded, defaulted and validated body with an object of the same
    /// kind (201).
    ///
    /// # Errors
    /// Refuses the request.
    fn act<'a>(
        &'a self,
        call: &'a Call,
        registry: &'a Registry,
        body: Value,
    ) -> BoxFuture<'a, Result<Value, Status>>;
}

/// One answered request, for the audit log.
#[derive(Debug, Clone)]
pub struct AuditEvent<'a> {
    /// Who asked.
    pub user: &'a User,
    /// Whom they acted as, if someone else.
    pub impersonated: Option<&'a User>,
    /// For what.
    pub attributes: &'a Attributes,
    /// The answer's HTTP status.
    pub code: u16,
}

/// Told of every answered request.
pub trait Audit: Send + Sync + 'static {
    /// Must not block.
    fn record(&self, event: &AuditEvent<'_>);
}

/// A two-way stream of bytes to a node.
pub trait NodeStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> NodeStream for T {}

/// Opens connections to nodes' HTTPS endpoints: dials today, may go through a tunnel
/// that the node keeps open tomorrow.
pub trait NodeDialer: Send + Sync + 'static {
    /// Connects to `node` (its Node object, to learn address and port), authenticates
    /// as the server and verifies the node. HTTP/1.1 is spoken on the stream.
    fn dial<'a>(&'a self, node: &'a Value) -> BoxFuture<'a, io::Result<Box<dyn NodeStream>>>;
}

/// A named condition of `/readyz` and `/livez`.
pub struct Check {
    /// As shown by `?verbose`, such as `poststarthook/rbac/bootstrap-roles`.
    pub name: Box<str>,
    /// `Err` says what is missing.
    pub probe: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Whether `/livez` asks it too.
    pub live: bool,
}
