//! The node's HTTPS endpoint: logs, exec, attach, the list of pods.
//!
//! What always holds: whoever asks for more than `/healthz` shows a client certificate
//! of the cluster's CA whose user the API lets reach nodes; a command runs only over an
//! upgraded connection (a plain GET or POST on exec is refused, as CVE-free proxies
//! must); the number of connections is bounded. Port forwarding is not served yet.

mod access;
mod channels;
mod exec;
mod follow;
pub mod logs;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use carrack_api::status::Status;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

pub use access::Access;
use access::Caller;

use crate::agent::Pods;
use crate::shared::Shared;
use crate::start::NodeError;
use crate::tls::{Tls, server_config};

/// Connections at a time; the next ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1000;

/// Body of every answer.
pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// The endpoint.
#[derive(Clone)]
pub struct Endpoint {
    /// Runtime, directories.
    pub shared: Arc<Shared>,
    /// The pods of this node.
    pub pods: Pods,
    /// Says who may ask for what.
    pub access: Arc<Access>,
}

/// A request's query, decoded.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &http::Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Kubelet's flags are `1`, the API's are `true`.
    pub fn flag(&self, names: &[&str]) -> bool {
        names.iter().any(|name| matches!(self.get(name), Some("1" | "true")))
    }
}

/// Percent-decoding, with `+` as a space.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16));
        match byte {
            b'+' => out.push(b' '),
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => out.push(u8::try_from(high * 16 + low).unwrap_or(b'?')),
                _ => out.push(b'%'),
            },
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(crate) fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    let body = Full::new(Bytes::from(text.into())).map_err(|never: Infallible| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
}

pub(crate) fn refuse(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    text(code, status.message.clone())
}

// === impl Endpoint ===

impl Endpoint {
    /// Binds; the future it gives serves until it is dropped.
    pub async fn serve(self, tls: Tls, address: SocketAddr) -> Result<impl Future<Output = ()>, NodeError> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(tls)?));
        let listener =
            TcpListener::bind(address).await.map_err(|source| NodeError::Listen { address, source })?;
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Ok(async move {
            loop {
                let Ok(permit) = permits.clone().acquire_owned().await else { break };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let (endpoint, acceptor) = (self.clone(), acceptor.clone());
                        tokio::spawn(async move {
                            endpoint.connection(acceptor, stream).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "node endpoint cannot accept");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
        })
    }

    async fn connection(self, acceptor: TlsAcceptor, stream: TcpStream) {
        let limit = std::time::Duration::from_secs(10);
        let Ok(Ok(stream)) = tokio::time::timeout(limit, acceptor.accept(stream)).await else { return };
        let user = stream.get_ref().1.peer_certificates().and_then(|chain| identity(chain.first()?));
        let user = user.map(Arc::new);
        let service = service_fn(move |request| {
            let (endpoint, user) = (self.clone(), user.clone());
            async move { Ok::<_, Infallible>(endpoint.answer(request, user.as_deref()).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(hyper_util::rt::TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "node endpoint: connection ended");
        }
    }

    async fn answer(self, request: Request<Incoming>, user: Option<&Caller>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if path == "/healthz" {
            return text(StatusCode::OK, "ok");
        }
        let Some(user) = user else { return text(StatusCode::UNAUTHORIZED, "Unauthorized") };
        if let Err(refusal) = self.access.check(user, request.method(), &path).await {
            return text(StatusCode::FORBIDDEN, refusal);
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let method = request.method().clone();
        match (&method, parts.as_slice()) {
            (&Method::GET, ["pods"]) => self.list(),
            (&Method::GET, ["containerLogs", namespace, pod, container]) => {
                follow::answer(&self, namespace, pod, container, &Query::of(request.uri())).await
            }
            (&Method::GET | &Method::POST, ["exec", namespace, pod, container]) => {
                exec::answer(&self, (namespace, pod, container), request, exec::What::Exec).await
            }
            (&Method::GET | &Method::POST, ["exec", namespace, pod, uid, container]) if uid.len() == 36 => {
                exec::answer(&self, (namespace, pod, container), request, exec::What::Exec).await
            }
            (&Method::GET | &Method::POST, ["attach", namespace, pod, container]) => {
                exec::answer(&self, (namespace, pod, container), request, exec::What::Attach).await
            }
            (_, ["portForward", ..]) => {
                text(StatusCode::NOT_IMPLEMENTED, "port forwarding is not served by this node yet")
            }
            _ => text(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    fn list(&self) -> Response<Body> {
        let mut out = b"{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":[".to_vec();
        for (at, record) in self.pods.all().iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            record.splice(&mut out, b"", record.revision);
        }
        out.extend_from_slice(b"]}");
        let body = Full::new(Bytes::from(out)).map_err(|never: Infallible| match never {}).boxed();
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        response
    }

    /// The newest instance of a container: its status in the runtime.
    pub(crate) async fn instance(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<carrack_runtime::ContainerStatus, Status> {
        let record = self.pods.find(namespace, pod).ok_or_else(|| Status::not_found("", "pods", pod))?;
        let uid = record.header().uid.to_string();
        let listed = self.shared.runtime.list().await.map_err(Status::internal)?;
        let own = listed.into_iter().filter(|s| s.spec.pod_uid == uid).flat_map(|s| s.containers);
        let named = own.filter(|c| c.spec.name == container);
        let newest = named.max_by_key(|c| (c.created_at, c.spec.attempt));
        newest.ok_or_else(|| Status::bad_request(format!("container not found ({container:?})")))
    }
}

/// The user that a certificate names.
fn identity(certificate: &CertificateDer<'_>) -> Option<Caller> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(ToOwned::to_owned).collect();
    Some(Caller { name, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let uri =
            "/exec/a/b/c?command=sh&command=-c&command=echo+%22a%26b%22&tty=1&x=%zz".parse().expect("a uri");
        let query = Query::of(&uri);
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo \"a&b\""]);
        assert!(query.flag(&["tty"]) && !query.flag(&["stdin", "input"]));
    }
}
