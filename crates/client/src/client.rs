//! Writes: small verbs over a `kube::Client`, each answering what was written.
//!
//! A [`Written`] carries key, uid and revision, so that whoever wrote can wait until
//! a cache has seen it. Requests are bounded in number, not in rate. Nothing is
//! retried here: callers are level-triggered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carrack_api::{Key, Revision, Value};
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::Resource;

/// Requests that one client has under way at once; the next ones wait.
pub const MAX_IN_FLIGHT: usize = 128;

/// Largest answer that is read.
const MAX_RESPONSE: usize = 256 << 20;

/// Who a component is towards the API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// User name, such as `system:serviceaccount:kube-system:deployment-controller`.
    pub user: String,
    /// Groups, such as `system:nodes`.
    pub groups: Vec<String>,
}

/// Makes a client for an identity; `cli` decides whether in process or over HTTPS.
pub type Clients = Arc<dyn Fn(&Identity) -> Client + Send + Sync>;

/// Writes and single reads as one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    kube: kube::Client,
    manager: Arc<str>,
    permits: Arc<Semaphore>,
}

/// What the server stored (or last knew of a deleted object).
#[derive(Debug, Clone)]
pub struct Written {
    /// Where it is stored.
    pub key: Key,
    /// `metadata.uid`, empty if the answer has none.
    pub uid: String,
    /// `metadata.resourceVersion`; 0 if the answer has none.
    pub revision: Revision,
    /// The whole answer.
    pub body: Bytes,
}

/// A patch of one of the three kinds that components write.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' strategic merge patch.
    Strategic(Value),
}

/// How to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Only the object with this uid.
    pub uid: Option<String>,
    /// Only at this revision.
    pub revision: Option<Revision>,
    /// `Background`, `Foreground` or `Orphan`.
    pub propagation: Option<&'static str>,
    /// Seconds of grace.
    pub grace_seconds: Option<i64>,
}

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a `Status`.
    #[error("{message}")]
    Api {
        /// HTTP code.
        code: u16,
        /// Machine-readable reason, such as `NotFound`.
        reason: String,
        /// The sentence for a person.
        message: String,
        /// `details.retryAfterSeconds`.
        retry_after: Option<Duration>,
        /// `details`, or null.
        details: Value,
    },
    /// No answer came.
    #[error("no answer from the API server: {0}")]
    Transport(String),
    /// The answer could not be read.
    #[error("unreadable answer from the API server: {0}")]
    Decode(String),
    /// The request could not be built.
    #[error("request cannot be built: {0}")]
    Request(String),
}

// === impl Identity ===

impl Identity {
    /// A service account, with the groups that its tokens carry.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
        }
    }

    /// A user with groups; `system:authenticated` is added.
    pub fn user(user: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().copied().chain(["system:authenticated"]).map(String::from).collect();
        Self { user: user.into(), groups }
    }
}

// === impl Error ===

impl Error {
    /// HTTP code of the server's answer, 0 without one.
    pub fn code(&self) -> u16 {
        match self {
            Self::Api { code, .. } => *code,
            _ => 0,
        }
    }

    /// `reason` of the server's answer, empty without one.
    pub fn reason(&self) -> &str {
        match self {
            Self::Api { reason, .. } => reason,
            _ => "",
        }
    }

    /// 404.
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// 409 with reason `Conflict`.
    pub fn is_conflict(&self) -> bool {
        self.code() == 409 && self.reason() == "Conflict"
    }

    /// 409 with reason `AlreadyExists`.
    pub fn is_already_exists(&self) -> bool {
        self.code() == 409 && self.reason() == "AlreadyExists"
    }

    /// Whether the namespace is being deleted, so that creating in it is futile.
    pub fn is_namespace_terminating(&self) -> bool {
        let Self::Api { code: 403, details, .. } = self else { return false };
        let causes = details["causes"].as_array();
        causes.into_iter().flatten().any(|cause| cause["reason"] == "NamespaceTerminating")
    }

    pub(crate) fn from_status(code: u16, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or_default();
        let message = match status["message"].as_str() {
            Some(message) if !message.is_empty() => message.to_owned(),
            _ => String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned(),
        };
        Self::Api {
            code,
            reason: status["reason"].as_str().unwrap_or_default().to_owned(),
            message,
            retry_after: status["details"]["retryAfterSeconds"].as_u64().map(Duration::from_secs),
            details: status["details"].clone(),
        }
    }
}

// === impl Written ===

impl Written {
    /// Decodes the answer.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Decode(error.to_string()))
    }

    /// Reads an answer; `resource` names the key.
    fn read(resource: &Resource, body: Bytes) -> Self {
        #[derive(serde::Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Meta {
            name: String,
            namespace: String,
            uid: String,
            resource_version: String,
        }
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Object {
            metadata: Meta,
        }
        let meta = serde_json::from_slice::<Object>(&body).unwrap_or_default().metadata;
        Self {
            key: resource.key(&meta.namespace, &meta.name),
            uid: meta.uid,
            revision: meta.resource_version.parse().unwrap_or(0),
            body,
        }
    }
}

// === impl Patch ===

impl Patch {
    fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json-patch+json",
            Self::Merge(_) => "application/merge-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
        }
    }

    /// The patch itself.
    pub fn body(&self) -> &Value {
        match self {
            Self::Json(body) | Self::Merge(body) | Self::Strategic(body) => body,
        }
    }
}

// === impl Client ===

impl Client {
    /// Over a ready-made `kube::Client`; `manager` is the field manager of its writes.
    pub fn new(kube: kube::Client, manager: &str) -> Self {
        Self { kube, manager: manager.into(), permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)) }
    }

    /// Over a tower service, such as the server's own with an identity put in front.
    pub fn over<S, B>(service: S, manager: &str) -> Self
    where
        S: tower::Service<Request<Body>, Response = http::Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<tower::BoxError>,
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tower::BoxError>,
    {
        Self::new(kube::Client::new(service, "default"), manager)
    }

    /// The same connection under another field manager.
    pub fn with_manager(&self, manager: &str) -> Self {
        Self { manager: manager.into(), ..self.clone() }
    }

    /// For typed `kube::Api` use.
    pub fn kube(&self) -> &kube::Client {
        &self.kube
    }

    /// Reads one object.
    pub async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Written, Error> {
        let body = self.send(Method::GET, &resource.path(namespace, name), "", Bytes::new()).await?;
        Ok(Written::read(resource, body))
    }

    /// Reads any path, such as `/apis` or a collection with a query.
    pub async fn get_path(&self, path: &str) -> Result<Bytes, Error> {
        self.send(Method::GET, path, "", Bytes::new()).await
    }

    /// Creates an object.
    pub async fn create(
        &self,
        resource: &Resource,
        namespace: &str,
        object: &impl Serialize,
    ) -> Result<Written, Error> {
        let path = self.managed(resource.collection_path(namespace));
        let body = self.send(Method::POST, &path, JSON, encode(object)?).await?;
        Ok(Written::read(resource, body))
    }

    /// Posts to a subresource, such as `binding`. The answer may be a `Status`, so
    /// key and revision may be empty.
    pub async fn create_sub(
        &self,
        resource: &Resource,
        (namespace, name): (&str, &str),
        subresource: &str,
        object: &impl Serialize,
    ) -> Result<Written, Error> {
        let path = self.managed(format!("{}/{subresource}", resource.path(namespace, name)));
        let body = self.send(Method::POST, &path, JSON, encode(object)?).await?;
        Ok(Written::read(resource, body))
    }

    /// Replaces an object, or one of its subresources when `subresource` is not empty.
    pub async fn replace(
        &self,
        resource: &Resource,
        (namespace, name): (&str, &str),
        subresource: &str,
        object: &impl Serialize,
    ) -> Result<Written, Error> {
        let path = self.managed(sub_path(resource, namespace, name, subresource));
        let body = self.send(Method::PUT, &path, JSON, encode(object)?).await?;
        Ok(Written::read(resource, body))
    }

    /// Patches an object, or one of its subresources when `subresource` is not empty.
    pub async fn patch(
        &self,
        resource: &Resource,
        (namespace, name): (&str, &str),
        subresource: &str,
        patch: &Patch,
    ) -> Result<Written, Error> {
        let path = self.managed(sub_path(resource, namespace, name, subresource));
        let body = self.send(Method::PATCH, &path, patch.content_type(), encode(patch.body())?).await?;
        Ok(Written::read(resource, body))
    }

    /// Patches the status with a merge patch of `{"status": status}`.
    pub async fn merge_status(
        &self,
        resource: &Resource,
        (namespace, name): (&str, &str),
        status: Value,
    ) -> Result<Written, Error> {
        let patch = Patch::Merge(serde_json::json!({ "status": status }));
        self.patch(resource, (namespace, name), "status", &patch).await
    }

    /// Deletes an object. The answer's revision is that of the last state, not of
    /// the deletion; wait for the key to go instead.
    pub async fn delete(
        &self,
        resource: &Resource,
        (namespace, name): (&str, &str),
        options: &DeleteOptions,
    ) -> Result<Written, Error> {
        let path = resource.path(namespace, name);
        let body = self.send(Method::DELETE, &path, JSON, encode(&options.to_value())?).await?;
        Ok(Written { key: resource.key(namespace, name), ..Written::read(resource, body) })
    }

    /// Deletes every object of a namespace (of the cluster when it is empty).
    pub async fn delete_collection(
        &self,
        resource: &Resource,
        namespace: &str,
        options: &DeleteOptions,
    ) -> Result<(), Error> {
        let path = resource.collection_path(namespace);
        self.send(Method::DELETE, &path, JSON, encode(&options.to_value())?).await.map(drop)
    }

    fn managed(&self, path: String) -> String {
        format!("{path}?fieldManager={}", self.manager)
    }

    /// Sends one request and reads its whole answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Bytes, Error> {
        let _permit = self.permits.acquire().await.map_err(|error| Error::Transport(error.to_string()))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(ACCEPT, JSON)
            .header(USER_AGENT, format!("carrack/{}", self.manager));
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let request = request.body(Body::from(body)).map_err(|error| Error::Request(error.to_string()))?;
        let response = self.kube.send(request).await.map_err(transport)?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_RESPONSE)
            .collect()
            .await
            .map_err(|error| Error::Transport(error.to_string()))?
            .to_bytes();
        if (200..300).contains(&code) { Ok(body) } else { Err(Error::from_status(code, &body)) }
    }
}

impl DeleteOptions {
    /// Only the object with this uid.
    pub fn of_uid(uid: &str) -> Self {
        Self { uid: Some(uid.into()), ..Self::default() }
    }

    fn to_value(&self) -> Value {
        let mut body = serde_json::json!({ "kind": "DeleteOptions", "apiVersion": "v1" });
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(revision) = self.revision {
            body["preconditions"]["resourceVersion"] = revision.to_string().into();
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = propagation.into();
        }
        if let Some(grace) = self.grace_seconds {
            body["gracePeriodSeconds"] = grace.into();
        }
        body
    }
}

const JSON: &str = "application/json";

fn sub_path(resource: &Resource, namespace: &str, name: &str, subresource: &str) -> String {
    let path = resource.path(namespace, name);
    if subresource.is_empty() { path } else { format!("{path}/{subresource}") }
}

fn encode(object: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(object).map(Bytes::from).map_err(|error| Error::Request(error.to_string()))
}

fn transport(error: kube::Error) -> Error {
    Error::Transport(error.to_string())
}
