//! The door to the outside: TLS connections, within limits, each served until it
//! ends or the server does.
//!
//! What a peer proved with its certificate goes into the extensions of its requests;
//! nothing that comes over the wire can put a [`User`](crate::User) there.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::compress::Remote;
use crate::request::PeerCertificates;
use crate::server::Server;

/// Bounds on connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's backlog.
    pub connections: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for a request's head, which also ends idle HTTP/1.1 connections.
    pub head: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Time that requests have to end once the server shuts down.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(90),
            streams: 250,
            grace: Duration::from_secs(2),
        }
    }
}

/// Serves connections of a listener until `shutdown` resolves, then lets requests end
/// for at most the limits' grace. `tls` should offer `h2` and `http/1.1`, and ask for
/// (not demand) client certificates.
///
/// # Errors
/// None now; accept failures are waited out.
pub async fn serve(
    server: Server,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let place = tokio::select! {
            () = &mut shutdown => break,
            place = places.clone().acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let stream = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match stream {
            Ok((stream, remote)) => (stream, Remote(remote.ip())),
            Err(error) => {
                // Mostly no file descriptors left: others must end first.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (server, acceptor, limits) = (server.clone(), acceptor.clone(), limits.clone());
        let stopping = stopping.clone();
        connections.spawn(async move {
            connection(server, acceptor, stream, &limits, stopping).await;
            drop(place);
        });
    }
    server.close();
    // Nobody listens any more only when every connection has ended.
    let _ = stop.send(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.grace, ended).await.is_err() {
        connections.abort_all();
    }
    Ok(())
}

async fn connection(
    server: Server,
    acceptor: TlsAcceptor,
    (stream, remote): (TcpStream, Remote),
    limits: &Limits,
    mut stopping: watch::Receiver<bool>,
) {
    // Without it, small answers wait for acknowledgements.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
    let peer = chain.map(PeerCertificates::new);
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(remote);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        server.clone().call(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(64 << 10)
        .initial_connection_window_size(Some(4 << 20))
        .initial_stream_window_size(Some(1 << 20));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stop = async move {
        // An error says that the listener is gone, which is the same.
        drop(stopping.wait_for(|stop| *stop).await);
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
