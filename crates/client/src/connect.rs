//! HTTPS to an API server: rustls with ring, HTTP/2 where the server offers it.
//!
//! The server is reached at a numeric address (no name service in a static binary)
//! and verified against a CA under a server name. No certificate is ever skipped.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Uri, header};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a connection may take to stand, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the server is and how it proves itself.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Numeric address.
    pub address: SocketAddr,
    /// Name or address that its certificate must carry.
    pub server_name: String,
    /// PEM of the CAs that may have signed it.
    pub ca_pem: Vec<u8>,
}

/// How the client proves itself.
#[derive(Clone)]
pub enum Credentials {
    /// A client certificate.
    Certificate {
        /// PEM of the certificate and its intermediates.
        chain_pem: Vec<u8>,
        /// PEM of its private key.
        key_pem: Vec<u8>,
    },
    /// A bearer token, asked for at each request, so that it may rotate.
    Token(Arc<dyn Fn() -> String + Send + Sync>),
}

/// Why no connection can be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A PEM file does not hold what it should.
    #[error("{what} is not valid PEM: {source}")]
    Pem {
        /// Which of them.
        what: &'static str,
        /// What the reader says.
        source: rustls::pki_types::pem::Error,
    },
    /// rustls refuses the parts.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The server name is neither a DNS name nor an address.
    #[error("{0:?} is not a server name")]
    ServerName(String),
}

/// A `kube::Client` to `endpoint` as whoever `credentials` say.
pub fn connect(endpoint: &Endpoint, credentials: &Credentials) -> Result<kube::Client, ConnectError> {
    let connector = Connector {
        address: endpoint.address,
        name: ServerName::try_from(endpoint.server_name.clone())
            .map_err(|_| ConnectError::ServerName(endpoint.server_name.clone()))?,
        tls: TlsConnector::from(Arc::new(tls_config(endpoint, credentials)?)),
    };
    let token = match credentials {
        Credentials::Token(token) => Some(token.clone()),
        Credentials::Certificate { .. } => None,
    };
    let client = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(15))
        .http2_keep_alive_while_idle(true)
        .build(connector);
    let authority = endpoint.address.to_string();
    Ok(kube::Client::new(Https { client, authority: authority.into(), token }, "default"))
}

/// The rustls configuration of [`connect`], for other connections to the server.
pub fn tls_config(
    endpoint: &Endpoint,
    credentials: &Credentials,
) -> Result<rustls::ClientConfig, ConnectError> {
    let certificates = |pem: &[u8], what| {
        CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| ConnectError::Pem { what, source })
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&endpoint.ca_pem, "the CA")? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match credentials {
        Credentials::Certificate { chain_pem, key_pem } => {
            let key = PrivateKeyDer::from_pem_slice(key_pem)
                .map_err(|source| ConnectError::Pem { what: "the client key", source })?;
            builder.with_client_auth_cert(certificates(chain_pem, "the client certificate")?, key)?
        }
        Credentials::Token(_) => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Completes paths to URLs and adds the token.
struct Https {
    client: legacy::Client<Connector, Body>,
    authority: Arc<str>,
    token: Option<Arc<dyn Fn() -> String + Send + Sync>>,
}

impl tower::Service<Request<Body>> for Https {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = tower::BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let client = self.client.clone();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder().scheme("https").authority(&*self.authority).path_and_query(path).build();
        let token = self.token.as_ref().map(|token| HeaderValue::try_from(format!("Bearer {}", token())));
        Box::pin(async move {
            *request.uri_mut() = uri?;
            if let Some(token) = token {
                request.headers_mut().insert(header::AUTHORIZATION, token?);
            }
            Ok(client.request(request).await?)
        })
    }
}

/// Dials the one address, whatever the URL says.
#[derive(Clone)]
struct Connector {
    address: SocketAddr,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, name, tls } = self.clone();
        Box::pin(async move {
            let dial = async {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                tls.connect(name, tcp).await
            };
            let stream =
                tokio::time::timeout(CONNECT_TIMEOUT, dial).await.map_err(std::io::Error::other)??;
            Ok(TokioIo::new(Stream(stream)))
        })
    }
}

/// A TLS stream that tells hyper which protocol was agreed.
struct Stream(TlsStream<TcpStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        match self.0.get_ref().1.alpn_protocol() {
            Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

impl tokio::io::AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
