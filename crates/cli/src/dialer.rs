//! How the server reaches a node's own endpoint (logs, exec): it dials the address that
//! the Node object gives, shows a certificate of its own, and verifies the node's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use carrack_api::Value;
use carrack_server::Clock;
use carrack_server::bootstrap::KUBELET_CLIENT;
use carrack_server::pki::{Pki, PkiError};
use carrack_server::seams::{NodeDialer, NodeStream};
use futures::future::BoxFuture;
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Dials nodes. Its identity is made anew in good time, when it is next needed.
pub struct Dialer {
    pki: Arc<Pki>,
    clock: Arc<dyn Clock>,
    current: Mutex<Current>,
}

/// The identity of the day.
struct Current {
    tls: TlsConnector,
    renew_at: Timestamp,
}

impl Dialer {
    /// A dialer with an identity of the cluster's CA.
    ///
    /// # Errors
    /// The identity cannot be issued.
    pub fn new(pki: Arc<Pki>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, PkiError> {
        let current = Mutex::new(issue(&pki, &clock)?);
        Ok(Arc::new(Self { pki, clock, current }))
    }

    /// TLS with an identity that lasts. While none can be made, the old one serves.
    fn tls(&self) -> TlsConnector {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.clock.now() >= current.renew_at {
            match issue(&self.pki, &self.clock) {
                Ok(new) => *current = new,
                Err(error) => tracing::warn!(%error, "the server's identity towards nodes is not renewed"),
            }
        }
        current.tls.clone()
    }
}

/// An identity that may reach nodes and nothing else: RBAC says so.
fn issue(pki: &Pki, clock: &Arc<dyn Clock>) -> Result<Current, PkiError> {
    let identity = pki.identity(KUBELET_CLIENT, "", clock.now())?;
    let mut config = pki.client_config(&identity, clock.clone())?;
    // Upgrades (exec) need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Current { tls: TlsConnector::from(Arc::new(config)), renew_at: identity.renew_at() })
}

impl NodeDialer for Dialer {
    fn dial<'a>(&'a self, node: &'a Value) -> BoxFuture<'a, io::Result<Box<dyn NodeStream>>> {
        Box::pin(async move {
            let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let address = address(node)
                .ok_or_else(|| io::Error::other(format!("node {name:?} has no address or port yet")))?;
            let tls = self.tls();
            let dial = async {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let server_name = ServerName::try_from(name).map_err(io::Error::other)?;
                tls.connect(server_name, stream).await
            };
            let stream = tokio::time::timeout(TIMEOUT, dial).await.map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer"))
            })??;
            Ok(Box::new(stream) as Box<dyn NodeStream>)
        })
    }
}

/// The internal address and the endpoint's port.
fn address(node: &Value) -> Option<SocketAddr> {
    let status = &node["status"];
    let internal = |address: &&Value| address["type"] == "InternalIP";
    let ip: IpAddr =
        status["addresses"].as_array()?.iter().find(internal)?["address"].as_str()?.parse().ok()?;
    let port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64()?;
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that is set by hand.
    struct Hands(Mutex<Timestamp>);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            *self.0.lock().expect("nobody panics with the hands")
        }
    }

    #[test]
    fn its_identity_is_renewed_while_it_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let pki = Pki::open_or_create(dir.path(), Default::default(), start).expect("keys");
        let clock = Arc::new(Hands(Mutex::new(start)));
        let dialer = Dialer::new(Arc::new(pki), clock.clone()).expect("a dialer");
        let due = || dialer.current.lock().expect("nobody panics while dialing").renew_at;
        let first = due();
        dialer.tls();
        assert_eq!(due(), first);
        *clock.0.lock().expect("hands") = first;
        dialer.tls();
        assert!(due() > first + jiff::SignedDuration::from_hours(24 * 200));
    }

    #[test]
    fn reads_a_nodes_address() {
        let node = serde_json::json!({"status": {
            "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.7"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        }});
        assert_eq!(address(&node), Some("10.0.0.7:10250".parse().unwrap()));
        assert_eq!(address(&serde_json::json!({})), None);
    }
}
