//! What is asked: a case is a short run of requests about one resource, the same for both
//! servers. Names, not positions, tie a case to its seed.
//!
//! Requests may refer to what the same server answered before: `@rv@`, `@uid@` and
//! `@continue@` are taken from the last answer of the case that had them, `@rv0@` from the
//! first, and `@rv:NAME@`, `@uid:NAME@` from the step that was saved under the name.

use carrack_api::kind::{Kind, api_version};
use serde_json::Value;

use crate::https::Request;

/// A few requests about one resource.
#[derive(Debug, Clone)]
pub struct Case {
    /// `apps/v1 deployments` or `apps/v1 deployments/status`; empty for documents.
    pub row: String,
    /// Discovery's verb, for the coverage.
    pub verb: String,
    /// What is special about it.
    pub title: String,
    /// The requests, in order.
    pub steps: Vec<Step>,
    /// It only reads, and may run beside others of its kind.
    pub reads_only: bool,
    /// Others build on what it does, so that none leaves it out.
    pub needed: bool,
}

/// One request of a case.
#[derive(Debug, Clone)]
pub struct Step {
    /// What is sent.
    pub request: Request,
    /// Whether answers are compared; preparation and cleaning are not.
    pub compared: bool,
    /// Whether it is sent only to a server on which the case made something.
    pub cleans: bool,
    /// Under which name revision and uid of the answer are kept.
    pub saved: Option<String>,
}

/// One served resource in one version, and where its cases live.
#[derive(Debug, Clone)]
pub struct Target<'k> {
    /// Its row in the table of kinds.
    pub kind: &'k Kind,
    /// Which of its versions.
    pub version: usize,
    /// Namespace of its cases; empty for cluster-scoped kinds.
    pub namespace: String,
}

// === impl Case ===

impl Case {
    /// A case without requests.
    pub fn new(row: &str, verb: &str, title: impl Into<String>) -> Self {
        Self {
            row: row.to_owned(),
            verb: verb.to_owned(),
            title: title.into(),
            steps: Vec::new(),
            reads_only: false,
            needed: false,
        }
    }

    /// With one more request, whose answers are compared.
    pub fn then(mut self, request: Request) -> Self {
        self.steps.push(Step { request, compared: true, cleans: false, saved: None });
        self
    }

    /// With one more request, whose answers are not compared.
    pub fn prepared(mut self, request: Request) -> Self {
        self.steps.push(Step { request, compared: false, cleans: false, saved: None });
        self
    }

    /// With a request that is sent only to a server on which the case made something.
    pub fn cleaned(mut self, request: Request) -> Self {
        self.steps.push(Step { request, compared: false, cleans: true, saved: None });
        self
    }

    /// Keeps what the last step answers under a name.
    pub fn saved(mut self, name: &str) -> Self {
        if let Some(step) = self.steps.last_mut() {
            step.saved = Some(name.to_owned());
        }
        self
    }

    /// Marks it as one that changes nothing.
    pub fn reading(mut self) -> Self {
        self.reads_only = true;
        self
    }

    /// Marks it as one that others build on.
    pub fn needed(mut self) -> Self {
        self.needed = true;
        self
    }

    /// How reports call it.
    pub fn name(&self) -> String {
        format!("{} {}: {}", self.row, self.verb, self.title)
    }
}

// === impl Target ===

impl Target<'_> {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.kind.group, &self.kind.versions[self.version].name)
    }

    /// The row of the coverage.
    pub fn row(&self) -> String {
        format!("{} {}", self.api_version(), self.kind.plural)
    }

    /// `/apis/apps/v1`.
    pub fn root(&self) -> String {
        let version = &self.kind.versions[self.version].name;
        match &*self.kind.group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        }
    }

    /// The collection's path.
    pub fn collection(&self) -> String {
        self.collection_in(&self.namespace)
    }

    /// The collection's path in a namespace; empty for all.
    pub fn collection_in(&self, namespace: &str) -> String {
        match namespace {
            "" => format!("{}/{}", self.root(), self.kind.plural),
            namespace => format!("{}/namespaces/{namespace}/{}", self.root(), self.kind.plural),
        }
    }

    /// An object's path.
    pub fn object(&self, name: &str) -> String {
        format!("{}/{name}", self.collection())
    }

    /// A case about it.
    pub fn case(&self, verb: &str, title: impl Into<String>) -> Case {
        Case::new(&self.row(), verb, title)
    }

    /// Whether it has a verb.
    pub fn has(&self, verb: &str) -> bool {
        self.kind.verbs.iter().any(|known| &**known == verb)
    }
}

// === requests ===

/// A request without a body.
pub fn ask(method: &str, path: impl Into<String>) -> Request {
    Request { method: method.into(), path: path.into(), ..Request::default() }.header("Accept", JSON)
}

/// A request with a body of a content type.
pub fn raw(method: &str, path: impl Into<String>, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
    Request { body: body.into(), ..ask(method, path) }.header("Content-Type", content_type)
}

/// A request with a JSON body.
pub fn json(method: &str, path: impl Into<String>, body: &Value) -> Request {
    raw(method, path, JSON, body.to_string())
}

/// JSON's content type.
pub const JSON: &str = "application/json";
/// YAML's content type.
pub const YAML: &str = "application/yaml";
/// Protobuf's content type.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// A JSON merge patch.
pub const MERGE: &str = "application/merge-patch+json";
/// A JSON patch.
pub const PATCH: &str = "application/json-patch+json";
/// A strategic merge patch.
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// Server-side apply.
pub const APPLY: &str = "application/apply-patch+yaml";

impl Request {
    /// With a header, in place of one of the same name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// With one more query parameter, already escaped: `dryRun=All`.
    pub fn query(mut self, parameter: &str) -> Self {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(parameter);
        self
    }

    /// As another user.
    pub fn acting_as(self, user: &str) -> Self {
        self.header("Impersonate-User", user)
    }
}
