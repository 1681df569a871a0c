//! `/exec` and `/attach` over an upgraded connection.

use std::time::Duration;

use bytes::Bytes;
use carrack_api::status::Status;
use carrack_runtime::{ContainerId, ContainerState, ExecRequest, ExecSession, Runtime};
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::channels::{self, ERROR, Received, STDERR, STDOUT};
use super::{Body, Endpoint, Query, refuse};

/// Largest message of a client.
const MAX_MESSAGE: usize = 1 << 20;
/// Messages between the command and the connection.
const AHEAD: usize = 16;
/// Output may still come this long after the command has ended.
const DRAIN: Duration = Duration::from_secs(5);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A new command.
    Exec,
    /// The container's own process.
    Attach,
}

/// Upgrades the connection and starts the command, or says why not.
///
/// What is wrong with the pod is said before the handshake is looked at: a client that is
/// refused tries an older protocol next and reports that answer.
pub(super) async fn answer(
    endpoint: &Endpoint,
    (namespace, pod, container): (&str, &str, &str),
    mut request: Request<Incoming>,
    what: What,
) -> Response<Body> {
    let query = Query::of(request.uri());
    let id = match running(endpoint, (namespace, pod, container)).await {
        Ok(id) => id,
        Err(status) => return refuse(&status),
    };
    if what == What::Exec && query.all("command").next().is_none() {
        return refuse(&Status::bad_request("you must specify at least one command for the container"));
    }
    let handshake = match channels::handshake(request.headers()) {
        Ok(handshake) => handshake,
        Err(message) => return refuse(&Status::bad_request(message)),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let runtime = endpoint.shared.runtime.clone();
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "connection was not upgraded"),
        };
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        match begin(&*runtime, &id, &query, what).await {
            Ok(session) => carry(socket, session, what).await,
            Err(message) => fail(socket, message).await,
        }
    });
    let mut response = Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, header::HeaderValue::from_static(handshake.protocol));
    if let Ok(accept) = handshake.accept.parse() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// The container that is meant, if it runs.
async fn running(
    endpoint: &Endpoint,
    (namespace, pod, container): (&str, &str, &str),
) -> Result<ContainerId, Status> {
    let instance = endpoint.instance(namespace, pod, container).await?;
    if !matches!(instance.state, ContainerState::Running { .. }) {
        let message = format!("container not found (\"{container}\")");
        return Err(Status::other(404, "NotFound", message));
    }
    Ok(instance.id)
}

async fn begin(
    runtime: &dyn Runtime,
    id: &ContainerId,
    query: &Query,
    what: What,
) -> Result<ExecSession, String> {
    match what {
        What::Attach => {
            let attached = runtime.attach(id).await;
            let mut session = attached.map_err(|error| format!("error attaching to container: {error}"))?;
            if !query.flag(&["input", "stdin"]) {
                session.stdin = None;
            }
            Ok(session)
        }
        What::Exec => {
            let request = ExecRequest {
                command: query.all("command").map(ToOwned::to_owned).collect(),
                tty: query.flag(&["tty"]),
                stdin: query.flag(&["input", "stdin"]),
                size: None,
            };
            let begun = runtime.exec(id, request).await;
            begun.map_err(|error| format!("error executing command in container: {error}"))
        }
    }
}

/// Says why nothing was started, where clients look for the outcome.
async fn fail<S>(mut socket: WebSocketStream<S>, message: String)
where
    S: AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let status = channels::exit_status(&Err(message)).to_string();
    let told = async {
        socket.send(Message::Binary(channels::frame(ERROR, status.as_bytes()))).await?;
        socket.send(Message::Close(Some(normal()))).await?;
        // Until the client has read it: a connection closed over unread bytes is reset.
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<_, tokio_tungstenite::tungstenite::Error>(())
    };
    let _ = tokio::time::timeout(DRAIN, told).await;
}

/// Clients take any other end for a broken connection.
fn normal() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: "".into() }
}

/// Carries bytes both ways until the command ends or the client goes.
async fn carry<S>(socket: WebSocketStream<S>, session: ExecSession, what: What)
where
    S: AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, mut messages) = socket.split();
    let (sender, mut outgoing) = mpsc::channel::<Message>(AHEAD);
    let writer = tokio::spawn(async move {
        while let Some(message) = outgoing.recv().await {
            if sink.send(message).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
    });
    let ExecSession { mut stdin, stdout, stderr, resize, exit } = session;
    let out = tokio::spawn(copy(stdout, STDOUT, sender.clone()));
    let err = tokio::spawn(copy(stderr, STDERR, sender.clone()));
    let input = async {
        while let Some(Ok(message)) = messages.next().await {
            match message {
                Message::Binary(data) => match channels::receive(data) {
                    Received::Stdin(data) => {
                        if let Some(pipe) = &mut stdin
                            && pipe.write_all(&data).await.and(pipe.flush().await).is_err()
                        {
                            stdin = None;
                        }
                    }
                    Received::CloseStdin => {
                        if let Some(mut pipe) = stdin.take() {
                            let _ = pipe.shutdown().await;
                        }
                    }
                    Received::Resize(size) => {
                        if let Some(resize) = &resize {
                            resize(size);
                        }
                    }
                    Received::Nothing => {}
                },
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    tokio::select! {
        // Dropping `exit` kills the command, or detaches.
        () = input => {}
        code = exit => {
            let drained = futures::future::join(out, err);
            let _ = tokio::time::timeout(DRAIN, drained).await;
            let result = match (what, code) {
                (What::Attach, Ok(_)) => Ok(0),
                (_, code) => code.map_err(|error| error.to_string()),
            };
            let status = channels::exit_status(&result).to_string();
            let _ = sender.send(Message::Binary(channels::frame(ERROR, status.as_bytes()))).await;
            let _ = sender.send(Message::Close(Some(normal()))).await;
        }
    }
    drop(sender);
    let finish = async {
        let _ = writer.await;
        // As in `fail`: input that nobody wants any more must not cost the client the outcome.
        while let Some(Ok(_)) = messages.next().await {}
    };
    let _ = tokio::time::timeout(DRAIN, finish).await;
}

/// Sends a stream's bytes on its channel, beginning with an empty message that tells
/// the client that it is connected.
async fn copy(from: Option<Box<dyn AsyncRead + Send + Unpin>>, channel: u8, to: mpsc::Sender<Message>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 32 * 1024];
    let mut length = 0;
    loop {
        let message = Message::Binary(channels::frame(channel, &buffer[..length]));
        if to.send(message).await.is_err() {
            return;
        }
        length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
    }
}
