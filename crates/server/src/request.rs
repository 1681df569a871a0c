//! What a request is about: who asks ([`User`]), for what ([`Attributes`]), and the
//! reading of both from a path and a query ([`RequestInfo`]).
//!
//! Follows apiserver's `endpoints/request.RequestInfoFactory`: authorization and
//! routing see the same reading, so that none can be tricked into a different one.
//! Nothing here looks at bodies or decides anything.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use http::Method;
use rustls::pki_types::CertificateDer;

/// An authenticated identity. Cheap to clone. A `User` among a request's extensions
/// is trusted as it stands: only components in this process can put it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// `system:admin`, `system:serviceaccount:ns:name`, `system:node:n1`, …
    pub name: Arc<str>,
    /// Uid; empty when there is none.
    pub uid: Arc<str>,
    /// Groups, `system:authenticated` or `system:unauthenticated` among them.
    pub groups: Arc<[Box<str>]>,
    /// Anything else the authenticator knows.
    pub extra: Arc<BTreeMap<Box<str>, Vec<Box<str>>>>,
}

impl User {
    /// An identity of a name and groups.
    pub fn new<G: AsRef<str>>(name: &str, groups: impl IntoIterator<Item = G>) -> Self {
        Self {
            name: name.into(),
            uid: "".into(),
            groups: groups.into_iter().map(|group| group.as_ref().into()).collect(),
            extra: Arc::default(),
        }
    }

    /// The all-powerful identity of machinery that ships inside the server (group
    /// `system:masters`).
    pub fn loopback() -> Self {
        Self::new("system:apiserver", ["system:masters", "system:authenticated"])
    }

    /// The identity of requests without credentials, where those are let in.
    pub fn anonymous() -> Self {
        Self::new("system:anonymous", ["system:unauthenticated"])
    }

    /// Whether the user is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| &**g == group)
    }
}

/// The chain of certificates that the peer of a TLS connection proved to own, leaf
/// first, already verified against the client CA. One per connection, shared by its
/// requests.
#[derive(Debug, Clone)]
pub struct PeerCertificates {
    /// DER, leaf first.
    pub chain: Arc<[CertificateDer<'static>]>,
    /// Who the leaf says it is: filled in by the authenticator on the first request,
    /// so that a connection's certificate is parsed once.
    pub user: Arc<OnceLock<User>>,
}

impl PeerCertificates {
    /// Wraps the chain of a connection.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain: chain.into(), user: Arc::default() }
    }
}

/// What is asked for, as authorizers and admission see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`,
    /// `deletecollection`; for non-resource paths the lower-case method.
    pub verb: Box<str>,
    /// Whether it is about a resource; otherwise only `verb` and `path` count.
    pub is_resource: bool,
    /// API group; empty for the core group.
    pub group: Box<str>,
    /// API version, such as `v1`.
    pub version: Box<str>,
    /// Plural, such as `pods`.
    pub resource: Box<str>,
    /// `status`, `scale`, `log`, …; empty when there is none.
    pub subresource: Box<str>,
    /// Namespace; empty for cluster-scoped resources and lists of all namespaces.
    pub namespace: Box<str>,
    /// Name; empty for collections.
    pub name: Box<str>,
    /// The whole path, as it came.
    pub path: Box<str>,
    /// The field selector of a list, watch or deletecollection, as it came; nodes may
    /// read only what is selected for them.
    pub field_selector: Box<str>,
}

impl Attributes {
    /// Attributes of a resource request; `resource` may hold a `/subresource`.
    pub fn resource(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Self {
            verb: verb.into(),
            is_resource: true,
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Self::default()
        }
    }

    /// Attributes of a non-resource path.
    pub fn path(verb: &str, path: &str) -> Self {
        Self { verb: verb.into(), path: path.into(), ..Self::default() }
    }

    /// Whether the verb only reads.
    pub fn is_read_only(&self) -> bool {
        matches!(&*self.verb, "get" | "list" | "watch")
    }
}

/// The reading of a request's method, path and query.
#[derive(Debug, Clone, Default)]
pub struct RequestInfo {
    /// What authorizers see.
    pub attributes: Attributes,
    /// The path below a subresource (`/api/v1/nodes/n/proxy/metrics` → `metrics`).
    pub tail: Box<str>,
    /// The query's pairs, decoded.
    pub query: Query,
}

/// A decoded query string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(Box<str>, Box<str>)>);

/// Why a path or query cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// `/api/v1/watch` without a resource.
    #[error("unable to determine kind and namespace from url, {0}")]
    NoResource(Box<str>),
    /// A percent escape is broken or is not UTF-8.
    #[error("invalid URL escape in {0:?}")]
    Escape(Box<str>),
}

// === impl Query ===

impl Query {
    /// Reads `a=b&c=d`.
    ///
    /// # Errors
    /// [`BadRequest::Escape`].
    pub fn parse(text: &str) -> Result<Self, BadRequest> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((unescape(name, true)?, unescape(value, true)?));
        }
        Ok(Self(pairs))
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| &**n == name).map(|(_, value)| &**value)
    }

    /// The first value of a name; empty when absent.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| &**n == name).map(|(_, value)| &**value)
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether a boolean parameter is on, as Go's conversion reads it: present and
    /// neither `false` nor `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }
}

// === impl RequestInfo ===

impl RequestInfo {
    /// Reads method, path and query.
    ///
    /// # Errors
    /// [`BadRequest`] says what cannot be read.
    pub fn parse(method: &Method, uri: &http::Uri) -> Result<Self, BadRequest> {
        let query = Query::parse(uri.query().unwrap_or_default())?;
        let path = uri.path();
        let method_verb = || method.as_str().to_ascii_lowercase().into_boxed_str();
        let non_resource = |query| Self {
            attributes: Attributes { verb: method_verb(), path: path.into(), ..Attributes::default() },
            tail: "".into(),
            query,
        };
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match &parts[..] {
            ["api", rest @ ..] if rest.len() >= 2 => ("", rest),
            ["apis", group, rest @ ..] if rest.len() >= 2 => (*group, rest),
            _ => return Ok(non_resource(query)),
        };
        let mut at = Attributes {
            is_resource: true,
            group: group.into(),
            version: rest[0].into(),
            path: path.into(),
            verb: verb_of(method).into(),
            ..Attributes::default()
        };
        let mut rest = &rest[1..];
        if matches!(rest[0], "watch" | "proxy") {
            if rest.len() < 2 {
                return Err(BadRequest::NoResource(path.into()));
            }
            at.verb = rest[0].into();
            rest = &rest[1..];
        }
        if rest[0] == "namespaces" && rest.len() > 1 {
            at.namespace = unescape(rest[1], false)?;
            if rest.len() > 2 && !matches!(rest[2], "status" | "finalize") {
                rest = &rest[2..];
            }
        }
        at.resource = rest[0].into();
        at.name = unescape(rest.get(1).copied().unwrap_or_default(), false)?;
        at.subresource = rest.get(2).copied().unwrap_or_default().into();
        let tail = rest.get(3..).unwrap_or_default().join("/").into();
        settle_verb(&mut at, &query);
        Ok(Self { attributes: at, tail, query })
    }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// A get without a name is a list or a watch; a delete without one a deletecollection.
fn settle_verb(at: &mut Attributes, query: &Query) {
    let collection = at.name.is_empty();
    match (&*at.verb, collection) {
        ("get", true) => at.verb = if query.flag("watch") { "watch" } else { "list" }.into(),
        ("delete", true) => at.verb = "deletecollection".into(),
        _ => {}
    }
    if collection && matches!(&*at.verb, "list" | "watch" | "deletecollection") {
        at.field_selector = query.text("fieldSelector").into();
        // A selector for exactly one name is authorized as that name.
        let exact = |term: &str| {
            let value = term.strip_prefix("metadata.name")?.strip_prefix('=')?;
            Some(value.strip_prefix('=').unwrap_or(value).to_owned())
        };
        if let Some(name) = query.text("fieldSelector").split(',').find_map(exact)
            && !name.is_empty()
            && !name.contains(['/', '%'])
            && name != "."
            && name != ".."
            && &*at.verb != "deletecollection"
        {
            at.name = name.into();
        }
    }
}

/// Undoes percent escapes, and `+` for a space in queries.
fn unescape(text: &str, query: bool) -> Result<Box<str>, BadRequest> {
    let escaped = text.contains('%') || (query && text.contains('+'));
    if !escaped {
        return Ok(text.into());
    }
    let bad = || BadRequest::Escape(text.into());
    let hex = |byte: Option<&u8>| byte.and_then(|b| (*b as char).to_digit(16)).ok_or_else(bad);
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                out.push((hex(bytes.get(at + 1))? * 16 + hex(bytes.get(at + 2))?) as u8);
                at += 2;
            }
            b'+' if query => out.push(b' '),
            other => out.push(other),
        }
        at += 1;
    }
    String::from_utf8(out).map(Into::into).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, uri: &str, expect: &str) {
        let info = RequestInfo::parse(&method, &uri.parse().unwrap()).unwrap();
        let a = &info.attributes;
        let seen = if a.is_resource {
            format!(
                "{} {}/{} {}/{} {}/{} {}",
                a.verb, a.group, a.version, a.resource, a.subresource, a.namespace, a.name, info.tail
            )
        } else {
            format!("{} {}", a.verb, a.path)
        };
        assert_eq!(seen.trim_end(), expect, "{method} {uri}");
    }

    #[test]
    fn reads_paths_as_upstream_does() {
        use Method as M;
        check(M::GET, "/", "get /");
        check(M::GET, "/api", "get /api");
        check(M::GET, "/api/v1", "get /api/v1");
        check(M::GET, "/apis/apps/v1", "get /apis/apps/v1");
        check(M::GET, "/healthz/ping", "get /healthz/ping");
        check(M::GET, "/api/v1/pods", "list /v1 pods/ /");
        check(M::GET, "/api/v1/pods?watch=1", "watch /v1 pods/ /");
        check(M::GET, "/api/v1/pods?watch=false", "list /v1 pods/ /");
        check(M::GET, "/api/v1/watch/namespaces/a/pods", "watch /v1 pods/ a/");
        check(M::GET, "/api/v1/namespaces", "list /v1 namespaces/ /");
        check(M::GET, "/api/v1/namespaces/a", "get /v1 namespaces/ a/a");
        check(M::PUT, "/api/v1/namespaces/a/finalize", "update /v1 namespaces/finalize a/a");
        check(M::POST, "/apis/apps/v1/namespaces/a/deployments", "create apps/v1 deployments/ a/");
        check(
            M::PATCH,
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "patch apps/v1 deployments/scale a/d",
        );
        check(M::DELETE, "/api/v1/namespaces/a/pods", "deletecollection /v1 pods/ a/");
        check(M::GET, "/api/v1/nodes/n/proxy/stats/summary?x=y", "get /v1 nodes/proxy /n stats/summary");
        check(M::GET, "/api/v1/pods?fieldSelector=metadata.name%3Dp", "list /v1 pods/ /p");
    }

    #[test]
    fn reads_queries() {
        let query = Query::parse("a=b+c&d=%2F&a=e&command").unwrap();
        assert_eq!((query.text("a"), query.text("d"), query.get("command")), ("b c", "/", Some("")));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["b c", "e"]);
        assert!(Query::parse("a=%zz").is_err());
        assert!(Query::parse("a=%ff").is_err());
    }
}
