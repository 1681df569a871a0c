//! TCP connections on localhost → endpoints.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::{MAX_CONNECTIONS, Targets};

/// How long one endpoint may take to accept. Pods are near.
const CONNECT: Duration = Duration::from_secs(3);
/// After the system ran out of something, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts for ever.
pub async fn serve(listener: TcpListener, targets: watch::Receiver<Targets>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Beyond the limit, connections wait in the listener's queue, and then are refused.
        let permit = Arc::clone(&room).acquire_owned().await;
        match listener.accept().await {
            Ok((client, _)) => {
                let targets = targets.borrow().clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    if let Err(error) = forward(client, targets).await {
                        tracing::debug!(%error, "a connection to a node port on localhost ended");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept on a node port on localhost");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Nothing has been read from the client before an endpoint has accepted, so the next
/// endpoint may be tried without anyone noticing.
async fn forward(mut client: TcpStream, targets: Targets) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
    for address in targets.in_turn() {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(mut server)) => {
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                tokio::io::copy_bidirectional(&mut client, &mut server).await?;
                return Ok(());
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    // A reset instead of an orderly end: the client shall not take it for an answer.
    let _ = client.set_zero_linger();
    Err(last)
}
