//! Node ports on localhost.
//!
//! Rules cannot do this soundly: a packet from 127.0.0.1 must not leave a host, and the
//! sysctl that lets it (`route_localnet`) opens the host's loopback to its neighbours
//! (CVE-2020-8558). So a small forwarder listens on 127.0.0.1 and ::1 and passes bytes on.
//!
//! Invariants: it listens on loopback only; it connects only to endpoints that it was given;
//! connections, UDP clients and buffers are bounded, and at the bound new ones are turned
//! away. Connections under way go on when endpoints change, as they do with rules.
//!
//! Not here: which endpoints those are (see [`crate::plan::local_ports`]); SCTP.

mod tcp;
mod udp;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::plan::{Endpoint, Protocol};

/// Connections, and UDP clients, of one port on one address.
pub const MAX_CONNECTIONS: usize = 1024;

/// Listens on 127.0.0.1 and ::1 for each node port and passes connections on. Dropping it
/// closes the ports; TCP connections under way end by themselves.
#[derive(Debug, Default)]
pub struct LocalForwarder {
    ports: BTreeMap<(Protocol, u16), Port>,
}

#[derive(Debug)]
struct Port {
    targets: watch::Sender<Targets>,
    listeners: BTreeMap<IpAddr, JoinHandle<()>>,
}

impl Drop for Port {
    fn drop(&mut self) {
        for listener in self.listeners.values() {
            listener.abort();
        }
    }
}

/// The endpoints of a port, taken in turn.
#[derive(Debug, Clone, Default)]
struct Targets {
    endpoints: Arc<[Endpoint]>,
    turn: Arc<AtomicUsize>,
}

impl Targets {
    fn new(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints: endpoints.into(), turn: Arc::default() }
    }

    /// All of them once, beginning with the one whose turn it is.
    fn in_turn(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let endpoints = Arc::clone(&self.endpoints);
        (0..endpoints.len()).map(move |index| {
            let to = endpoints[first.wrapping_add(index) % endpoints.len()];
            SocketAddr::new(to.ip, to.port)
        })
    }

    fn contains(&self, address: SocketAddr) -> bool {
        let to = Endpoint { ip: address.ip(), port: address.port() };
        self.endpoints.contains(&to)
    }
}

impl LocalForwarder {
    /// Nothing is bound yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The ports and endpoints from now on (see [`crate::plan::local_ports`]). New ports are
    /// bound, old ones closed. Returns what could not be bound, for an event or a log line;
    /// it is tried again at the next call. A port without endpoints stays bound and closes
    /// its connections at once.
    pub async fn update(
        &mut self,
        ports: BTreeMap<(Protocol, u16), Vec<Endpoint>>,
    ) -> Vec<(Protocol, u16, io::Error)> {
        self.ports.retain(|port, _| ports.contains_key(port));
        let mut failed = Vec::new();
        for ((protocol, number), endpoints) in ports {
            let targets = Targets::new(endpoints);
            let port = match self.ports.entry((protocol, number)) {
                std::collections::btree_map::Entry::Occupied(port) => {
                    let port = port.into_mut();
                    let same = port.targets.borrow().endpoints == targets.endpoints;
                    if !same {
                        port.targets.send_replace(targets);
                    }
                    port
                }
                std::collections::btree_map::Entry::Vacant(place) => {
                    let (targets, _) = watch::channel(targets);
                    place.insert(Port { targets, listeners: BTreeMap::new() })
                }
            };
            if let Err(error) = port.listen(protocol, number).await {
                failed.push((protocol, number, error));
            }
        }
        failed
    }
}

impl Port {
    async fn listen(&mut self, protocol: Protocol, number: u16) -> io::Result<()> {
        let mut result = Ok(());
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            if self.listeners.get(&ip).is_some_and(|listener| !listener.is_finished()) {
                continue;
            }
            let targets = self.targets.subscribe();
            match start(protocol, SocketAddr::new(ip, number), targets).await {
                Ok(Some(listener)) => {
                    self.listeners.insert(ip, listener);
                }
                Ok(None) => {}
                // A machine without IPv6 has no ::1.
                Err(error) if ip.is_ipv6() && error.kind() == io::ErrorKind::AddrNotAvailable => {}
                Err(error) if ip.is_ipv6() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }
}

async fn start(
    protocol: Protocol,
    address: SocketAddr,
    targets: watch::Receiver<Targets>,
) -> io::Result<Option<JoinHandle<()>>> {
    Ok(match protocol {
        Protocol::Tcp => {
            let listener = TcpListener::bind(address).await?;
            Some(tokio::spawn(tcp::serve(listener, targets)))
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(address).await?;
            Some(tokio::spawn(udp::serve(socket, targets)))
        }
        Protocol::Sctp => None,
    })
}
