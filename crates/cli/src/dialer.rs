//! How the server reaches a node's own endpoint (logs, exec): it dials the address that
//! the Node object gives, shows a certificate of its own, and verifies the node's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use carrack_api::Value;
use carrack_server::pki::{Pki, PkiError};
use carrack_server::seams::{NodeDialer, NodeStream};
use carrack_server::{Clock, SystemClock};
use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The name under which nodes know the server; RBAC gives it `nodes/proxy` and the like.
pub const USER: &str = "kube-apiserver-kubelet-client";
/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Dials nodes.
pub struct Dialer {
    tls: TlsConnector,
}

impl Dialer {
    /// A dialer with an identity of the cluster's CA.
    ///
    /// # Errors
    /// The identity cannot be issued.
    pub fn new(pki: &Pki) -> Result<Arc<Self>, PkiError> {
        let clock = Arc::new(SystemClock);
        let identity = pki.identity(USER, "system:masters", clock.now())?;
        let mut config = pki.client_config(&identity, clock)?;
        // Upgrades (exec) need HTTP/1.1.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(Self { tls: TlsConnector::from(Arc::new(config)) }))
    }
}

impl NodeDialer for Dialer {
    fn dial<'a>(&'a self, node: &'a Value) -> BoxFuture<'a, io::Result<Box<dyn NodeStream>>> {
        Box::pin(async move {
            let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let address = address(node)
                .ok_or_else(|| io::Error::other(format!("node {name:?} has no address or port yet")))?;
            let dial = async {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let server_name = ServerName::try_from(name).map_err(io::Error::other)?;
                self.tls.connect(server_name, stream).await
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
