//! UDP datagrams on localhost → endpoints: one socket a client, while it is in use.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::{MAX_CONNECTIONS, Targets};

/// As conntrack: a client that says nothing and hears nothing for so long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// The largest datagram.
const DATAGRAM: usize = 65_535;
/// After the system ran out of something, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// A client's socket, connected to its endpoint.
struct Session {
    server: Arc<UdpSocket>,
    to: SocketAddr,
    replies: tokio::task::AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.replies.abort();
    }
}

/// Receives for ever.
pub async fn serve(socket: UdpSocket, targets: watch::Receiver<Targets>) {
    let socket = Arc::new(socket);
    let (idle, mut idlers) = mpsc::channel::<SocketAddr>(MAX_CONNECTIONS);
    let mut sessions: HashMap<SocketAddr, Session> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            Some(client) = idlers.recv() => {
                sessions.remove(&client);
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, client)) => {
                    let current = targets.borrow().clone();
                    let stale = |session: &Session| {
                        session.replies.is_finished() || !current.contains(session.to)
                    };
                    if sessions.get(&client).is_some_and(stale) {
                        sessions.remove(&client);
                    }
                    if !sessions.contains_key(&client) && sessions.len() < MAX_CONNECTIONS
                        && let Ok(session) = open(&socket, client, &current, idle.clone()).await
                    {
                        sessions.insert(client, session);
                    }
                    if let Some(session) = sessions.get(&client) {
                        // Datagrams may be lost; the client knows.
                        let _ = session.server.send(&buffer[..length]).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot receive on a node port on localhost");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

async fn open(
    socket: &Arc<UdpSocket>,
    client: SocketAddr,
    targets: &Targets,
    idle: mpsc::Sender<SocketAddr>,
) -> io::Result<Session> {
    let to = targets.in_turn().next().ok_or(io::ErrorKind::ConnectionRefused)?;
    let any: SocketAddr = if to.is_ipv4() { ([0u8; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let server = Arc::new(UdpSocket::bind(any).await?);
    server.connect(to).await?;
    let (from, back) = (Arc::clone(&server), Arc::clone(socket));
    let replies = tokio::spawn(async move {
        let mut buffer = vec![0; DATAGRAM];
        while let Ok(Ok(length)) = timeout(IDLE, from.recv(&mut buffer)).await {
            let _ = back.send_to(&buffer[..length], client).await;
        }
        let _ = idle.send(client).await;
    });
    Ok(Session { server, to, replies: replies.abort_handle() })
}
