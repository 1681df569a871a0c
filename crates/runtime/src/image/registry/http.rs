//! A small HTTP/1.1 client for registries: TLS with the machine's certificate authorities,
//! redirects, time limits.
//!
//! What always holds: `Authorization` is dropped when a redirect leaves the host; without
//! TLS only loopback and configured hosts are spoken to; every wait has a limit.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;

use super::RegistryConfig;
use super::resolve;

/// How long the other side may be silent.
pub const IDLE: Duration = Duration::from_secs(60);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Where distributions keep their certificate authorities.
const CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// An answer whose body is still to come.
pub type Response = http::Response<Incoming>;
type Error = String;

/// The client; connections are made for each request.
pub struct HttpClient {
    config: RegistryConfig,
    tls: OnceLock<Arc<ClientConfig>>,
}

/// What to ask for.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// With scheme and host.
    pub url: String,
    /// `Accept`.
    pub accept: Option<String>,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// A form to post.
    pub form: Option<String>,
}

impl HttpClient {
    /// Reads nothing yet.
    pub fn new(config: RegistryConfig) -> Self {
        Self { config, tls: OnceLock::new() }
    }

    /// Schemes to try for a registry, in order.
    pub fn schemes(&self, endpoint: &str) -> &'static [&'static str] {
        let host = host_of(endpoint);
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let listed = self.config.insecure.iter().any(|i| i == endpoint || i == host);
        if loopback || listed { &["https", "http"] } else { &["https"] }
    }

    /// Asks, following redirects.
    pub async fn request(&self, target: &Target) -> Result<Response, Error> {
        let mut target = target.clone();
        for _ in 0..=MAX_REDIRECTS {
            let url: Uri = target.url.parse().map_err(|e| format!("bad URL \"{}\": {e}", target.url))?;
            let response = match tokio::time::timeout(IDLE, self.once(&url, &target)).await {
                Ok(response) => response?,
                Err(_) => {
                    return Err(format!("{} does not answer", url.host().unwrap_or_default()));
                }
            };
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
            let next = absolute(&url, location.ok_or("a redirect without a location")?)?;
            if url.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err("a redirect from https to http is not followed".to_owned());
            }
            if next.authority() != url.authority() {
                target.authorization = None;
            }
            target.url = next.to_string();
        }
        Err(format!("more than {MAX_REDIRECTS} redirects"))
    }

    async fn once(&self, url: &Uri, target: &Target) -> Result<Response, Error> {
        let authority = url.authority().ok_or("a URL without a host")?;
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") if self.schemes(authority.as_str()).contains(&"http") => false,
            Some("http") => {
                return Err(format!("{authority} is not configured as an insecure registry"));
            }
            _ => return Err(format!("URL \"{url}\" is neither http nor https")),
        };
        let host = host_of(authority.as_str());
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let stream = connect(host, port).await?;
        let path = url.path_and_query().map_or("/", |p| p.as_str());
        let method = if target.form.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority.as_str())
            .header(USER_AGENT, concat!("carrack/", env!("CARGO_PKG_VERSION")));
        if target.form.is_some() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        if let Some(accept) = &target.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = &target.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let body = Full::new(Bytes::from(target.form.clone().unwrap_or_default()));
        let request = request.body(body).map_err(|e| e.to_string())?;
        if !https {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let tls = tokio_rustls::TlsConnector::from(self.tls()?)
            .connect(name, stream)
            .await
            .map_err(|e| format!("TLS to {authority}: {e}"))?;
        exchange(tls, request).await
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let mut roots = RootCertStore::empty();
        let named = std::env::var("SSL_CERT_FILE").ok();
        let bundles = named.as_deref().into_iter().chain(CA_BUNDLES);
        if let Some(bundle) = bundles.map(Path::new).find(|path| path.exists()) {
            add_authorities(&mut roots, bundle)?;
        }
        for file in &self.config.ca_files {
            add_authorities(&mut roots, file)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(self.tls.get_or_init(|| Arc::new(config)).clone())
    }
}

fn add_authorities(roots: &mut RootCertStore, file: &Path) -> Result<(), Error> {
    let bad = |e: rustls::pki_types::pem::Error| format!("{}: {e}", file.display());
    for certificate in CertificateDer::pem_file_iter(file).map_err(bad)? {
        // A bundle may hold some that rustls does not take.
        let _ = roots.add(certificate.map_err(bad)?);
    }
    Ok(())
}

/// Without port and brackets.
fn host_of(authority: &str) -> &str {
    if let Some((inside, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inside;
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Error> {
    let mut last = format!("no address for {host}");
    for address in resolve::addresses(host).await? {
        match tokio::time::timeout(CONNECT, TcpStream::connect((address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => last = format!("dial tcp {address}:{port}: {e}"),
            Err(_) => last = format!("dial tcp {address}:{port}: timed out"),
        }
    }
    Err(last)
}

async fn exchange(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response, Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // Ends with the body.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|e| e.to_string())
}

fn absolute(base: &Uri, location: &str) -> Result<Uri, Error> {
    let full = if location.starts_with('/') {
        let scheme = base.scheme_str().unwrap_or("https");
        let authority = base.authority().map_or("", |a| a.as_str());
        format!("{scheme}://{authority}{location}")
    } else {
        location.to_owned()
    };
    full.parse().map_err(|e| format!("bad redirect \"{full}\": {e}"))
}

/// A whole body of at most `limit` bytes.
pub async fn collect(response: Response, limit: u64) -> Result<Vec<u8>, Error> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let body = Limited::new(response.into_body(), limit).collect();
    match tokio::time::timeout(IDLE, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(e)) => Err(format!("{e} (limit {limit} bytes)")),
        Err(_) => Err("the registry stopped sending".to_owned()),
    }
}
