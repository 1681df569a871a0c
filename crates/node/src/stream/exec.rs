//! `/exec` and `/attach` over an upgraded connection.

use std::time::Duration;

use bytes::Bytes;
use carrack_api::status::Status;
use carrack_runtime::{ContainerState, ExecRequest, ExecSession};
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

/// Starts the command and upgrades the connection, or says why not.
pub(super) async fn answer(
    endpoint: &Endpoint,
    (namespace, pod, container): (&str, &str, &str),
    mut request: Request<Incoming>,
    what: What,
) -> Response<Body> {
    let handshake = match channels::handshake(request.headers()) {
        Ok(handshake) => handshake,
        Err(message) => return refuse(&Status::bad_request(message)),
    };
    let session = match begin(endpoint, (namespace, pod, container), &Query::of(request.uri()), what).await {
        Ok(session) => session,
        Err(status) => return refuse(&status),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let config = WebSocketConfig::default()
                    .max_message_size(Some(MAX_MESSAGE))
                    .max_frame_size(Some(MAX_MESSAGE));
                let io = TokioIo::new(upgraded);
                let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
                carry(socket, session, what).await;
            }
            Err(error) => tracing::debug!(%error, "connection was not upgraded"),
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

async fn begin(
    endpoint: &Endpoint,
    (namespace, pod, container): (&str, &str, &str),
    query: &Query,
    what: What,
) -> Result<ExecSession, Status> {
    let instance = endpoint.instance(namespace, pod, container).await?;
    if !matches!(instance.state, ContainerState::Running { .. }) {
        let message = format!("unable to upgrade connection: container not found (\"{container}\")");
        return Err(Status::other(404, "NotFound", message));
    }
    let runtime = &endpoint.shared.runtime;
    let session = match what {
        What::Attach => {
            let mut session = runtime.attach(&instance.id).await.map_err(Status::internal)?;
            if !query.flag(&["input", "stdin"]) {
                session.stdin = None;
            }
            session
        }
        What::Exec => {
            let command: Vec<String> = query.all("command").map(ToOwned::to_owned).collect();
            if command.is_empty() {
                return Err(Status::bad_request("you must specify at least one command for the container"));
            }
            let request = ExecRequest {
                command,
                tty: query.flag(&["tty"]),
                stdin: query.flag(&["input", "stdin"]),
                size: None,
            };
            runtime.exec(&instance.id, request).await.map_err(Status::internal)?
        }
    };
    Ok(session)
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
            // Clients take any other end for a broken connection.
            let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            let _ = sender.send(Message::Close(Some(close))).await;
        }
    }
    drop(sender);
    let _ = tokio::time::timeout(DRAIN, writer).await;
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
