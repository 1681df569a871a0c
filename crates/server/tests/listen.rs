//! The door to the outside: TLS on the loopback, both versions of HTTP.
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carrack_api::status::Status;
use carrack_server::http::listen::{Limits, serve};
use carrack_server::pki::{Identity, Names, Pki};
use carrack_server::seams::Authenticator;
use carrack_server::{PeerCertificates, SystemClock, User};
use futures::future::BoxFuture;
use http::Request;
use http::request::Parts;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whoever shows a certificate is somebody.
struct ByCertificate;

impl Authenticator for ByCertificate {
    fn authenticate<'a>(
        &'a self,
        _: &'a Parts,
        peer: Option<&'a PeerCertificates>,
    ) -> BoxFuture<'a, Result<Option<User>, Status>> {
        let user = peer.filter(|peer| !peer.chain.is_empty()).map(|_| User::new("somebody", ["g"]));
        Box::pin(std::future::ready(Ok(user)))
    }
}

struct Door {
    pki: Pki,
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
    _dir: tempfile::TempDir,
}

async fn open() -> Door {
    let dir = tempfile::tempdir().unwrap();
    let now = jiff::Timestamp::now();
    let names = Names { domain: "cluster.local".into(), ..Names::default() };
    let pki = Pki::open_or_create(dir.path(), names, now).unwrap();
    let server =
        common::builder(carrack_api::kinds::builtin()).authenticator(Arc::new(ByCertificate)).build();
    let tls = Arc::new(pki.server_config(Arc::new(SystemClock)).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(server, listener, tls, Limits::default(), async move {
        stopped.await.unwrap();
    }));
    Door { pki, address, stop, served, _dir: dir }
}

async fn connect(door: &Door, identity: Option<&Identity>, protocol: &str) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(door.pki.ca_der()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => config
            .with_client_auth_cert(vec![identity.certificate_der().unwrap()], identity.key_der().unwrap())
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(door.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn get(stream: TlsStream<TcpStream>, path: &str) -> http::Response<hyper::body::Incoming> {
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let request = Request::get(format!("https://localhost{path}")).header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    if h2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        return sender.send_request(request).await.unwrap();
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

#[tokio::test]
async fn certificates_open_the_door_and_closing_ends_watches() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let door = open().await;
    let identity = door.pki.identity("somebody", "g", jiff::Timestamp::now()).unwrap();
    for protocol in ["http/1.1", "h2"] {
        let response = get(connect(&door, Some(&identity), protocol).await, "/api/v1/nodes").await;
        assert_eq!(response.status(), 200, "{protocol}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"{\"kind\":\"NodeList\""));
        let stranger = get(connect(&door, None, protocol).await, "/api/v1/nodes").await;
        assert_eq!(stranger.status(), 401, "{protocol}");
    }
    let watch = get(connect(&door, Some(&identity), "http/1.1").await, "/api/v1/nodes?watch=1").await;
    door.stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(1), watch.into_body().collect()).await;
    assert!(ended.unwrap().unwrap().to_bytes().is_empty());
    tokio::time::timeout(Duration::from_secs(5), door.served).await.unwrap().unwrap().unwrap();
}
