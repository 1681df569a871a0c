//! Requests that a node answers: log, exec, attach, port-forward, and the proxy to a
//! node's own endpoints.
//!
//! The caller is authorized here; then the request goes to the node's HTTPS endpoint
//! under the kubelet's paths, and bytes pass through as they are: also after an
//! upgrade to WebSocket or SPDY, which this server does not look into. None of the
//! caller's credentials reach the node.

mod location;
mod target;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carrack_api::status::Status;
use carrack_api::{Key, Kind, Value};
use futures::StreamExt;
use http::header::{CACHE_CONTROL, CONNECTION, HOST, HeaderName, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use self::location::Id;
use super::pipeline::authorize;
use super::{Body, State};
use crate::registry::{Call, Options, Sent, Warnings, no_such_resource};
use crate::request::{Attributes, RequestInfo, User};
use crate::seams::Operation;

/// Time to reach a node.
const DIAL: Duration = Duration::from_secs(10);
/// Bytes of a node's refusal that are read.
const REFUSAL: usize = 4096;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Outgoing = UnsyncBoxBody<Bytes, BoxError>;

/// Whether a request is streamed to or from a node.
pub(crate) fn is_streaming(at: &Attributes) -> bool {
    matches!(&*at.subresource, "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// Whether a request does something in a container, whatever its method: a GET through
/// `nodes/proxy` reaches a node's exec as well as its logs.
fn acts(parts: &Parts, info: &RequestInfo) -> bool {
    let at = &info.attributes;
    match (&*at.resource, &*at.subresource) {
        (_, "exec" | "attach" | "portforward") => true,
        ("nodes", "proxy") => {
            let acting = ["exec", "attach", "run", "portForward", "cri", "checkpoint"];
            parts.headers.contains_key(UPGRADE) || info.tail.split('/').any(|part| acting.contains(&part))
        }
        _ => false,
    }
}

/// Answers such a request.
pub(crate) async fn answer<B>(
    state: &State,
    parts: &mut Parts,
    info: &RequestInfo,
    user: User,
    kind: Arc<Kind>,
    version: usize,
    body: B,
) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let at = &info.attributes;
    let sub = kind.subresource(&at.subresource).ok_or_else(no_such_resource)?;
    if !sub.verbs.iter().any(|verb| **verb == *at.verb) {
        return Err(Status::other(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
    }
    if acts(parts, info) && &*at.verb != "create" {
        // A WebSocket starts with GET, but what it does is no reading.
        authorize(state, &user, &Attributes { verb: "create".into(), ..at.clone() }).await?;
    }
    let id = match (&*at.resource, &*at.subresource) {
        ("pods", "proxy") => Some(Id::of(&at.name, "pod")?),
        ("services", "proxy") => Some(Id::of(&at.name, "service")?),
        _ => None,
    };
    let call = Call {
        user,
        kind,
        version,
        namespace: if &*at.resource == "nodes" { "".into() } else { at.namespace.clone() },
        name: id.map_or_else(|| at.name.clone(), |id| id.name.into()),
        subresource: at.subresource.clone(),
        options: Options::default(),
        warnings: Warnings::default(),
        empties: Sent::default(),
        now: state.registry.now(),
    };
    let record = state.registry.get(&call, None).await?;
    let object = record.decode();
    if &*at.subresource != "log" {
        state.registry.admit(&call, Operation::Connect, Some(&object), None).await?;
    }
    if let Some(id) = id {
        return Err(proxied(state, &call, id, &at.name, &object));
    }
    let Some(target) = target::of(&call, &object, info)? else {
        let mut nothing = Response::new(Body::empty());
        *nothing.status_mut() = StatusCode::NO_CONTENT;
        nothing.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        return Ok(nothing);
    };
    let body: Outgoing = match parts.method {
        Method::GET | Method::HEAD => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        _ => body.map_err(Into::into).boxed_unsync(),
    };
    forward(state, parts, &target, body, &call).await
}

/// Why a request is not passed on to a pod or a Service.
fn proxied(state: &State, call: &Call, id: Id<'_>, asked: &str, object: &Value) -> Status {
    let there = if &*call.kind.resource == "pods" {
        location::of_pod(object)
    } else {
        let endpoints = state.registry.store().get(&Key::new("endpoints", &call.namespace, id.name));
        let endpoints = endpoints.map(|record| record.decode());
        location::of_service(id, asked, object, endpoints.as_ref())
    };
    there.err().unwrap_or_else(|| Status::unavailable("proxying to pods and services is not supported"))
}

/// Sends the request to its node and hands the answer back.
async fn forward(
    state: &State,
    parts: &mut Parts,
    target: &target::Target,
    body: Outgoing,
    call: &Call,
) -> Result<Response<Body>, Status> {
    let node = state.registry.store().get(&Key::new("nodes", "", &target.node));
    let node = node.ok_or_else(|| Status::not_found("", "nodes", &target.node))?.decode();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let headers = outgoing_headers(&parts.headers, upgrade.is_some());
    let upgrading = headers.contains_key(UPGRADE);
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = target.path.parse().map_err(|e| Status::bad_request(format!("{e}")))?;
    *request.headers_mut() = headers;
    let mut response = send(state, &node, request).await?;
    let code = response.status();
    if code == StatusCode::SWITCHING_PROTOCOLS {
        let upgrade = upgrade.filter(|_| upgrading);
        let upgrade = upgrade.ok_or_else(|| Status::internal("the node switched protocols unasked"))?;
        let node = hyper::upgrade::on(&mut response);
        tokio::spawn(splice(upgrade, node));
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = code;
        *answer.headers_mut() = response.headers().clone();
        return Ok(answer);
    }
    if &*call.subresource == "log" && !code.is_success() {
        return Err(refusal(response, call).await);
    }
    Ok(incoming(response))
}

async fn send(state: &State, node: &Value, request: Request<Outgoing>) -> Result<Response<Incoming>, Status> {
    let unreachable = |why: String| {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        Status::internal(format!("error dialing backend: node {name}: {why}"))
    };
    let addresses = node["status"]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    if addresses.is_empty() {
        return Err(Status::other(500, "", "no preferred addresses found; known addresses: []"));
    }
    let dialer = state.parts.dialer.as_ref();
    let dialer = dialer.ok_or_else(|| Status::unavailable("this server does not reach nodes"))?;
    let stream = tokio::time::timeout(DIAL, dialer.dial(node)).await;
    let stream = stream.map_err(|_| unreachable("timed out".into()))?;
    let stream = stream.map_err(|error| unreachable(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a node ended");
        }
    });
    sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))
}

/// Copies bytes both ways until both ends are done.
async fn splice(client: OnUpgrade, node: OnUpgrade) {
    let (client, node) = match tokio::try_join!(client, node) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "an upgraded connection did not come up"),
    };
    let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut node).await {
        tracing::debug!(%error, "an upgraded connection ended");
    }
}

/// The client's headers without credentials and without what concerns its connection
/// only, but for the upgrade it asks for.
fn outgoing_headers(from: &HeaderMap, may_upgrade: bool) -> HeaderMap {
    const DROPPED: &[&str] = &[
        "authorization",
        "cookie",
        "host",
        "connection",
        "upgrade",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in from {
        let text = name.as_str();
        if !DROPPED.contains(&text) && !text.starts_with("impersonate-") && !text.starts_with("x-remote-") {
            headers.append(name.clone(), without_token(name, value));
        }
    }
    headers.insert(HOST, HeaderValue::from_static("node"));
    if let Some(protocol) = from.get(UPGRADE).filter(|_| may_upgrade) {
        headers.insert(UPGRADE, protocol.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    headers
}

/// Browsers send bearer tokens as a WebSocket protocol; the node must not see them.
fn without_token(name: &HeaderName, value: &HeaderValue) -> HeaderValue {
    if name.as_str() != "sec-websocket-protocol" {
        return value.clone();
    }
    let text = value.to_str().unwrap_or_default();
    let kept: Vec<&str> =
        text.split(',').map(str::trim).filter(|p| !p.starts_with("base64url.bearer.authorization")).collect();
    HeaderValue::from_str(&kept.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The node's answer, streamed.
fn incoming(response: Response<Incoming>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let frames = BodyStream::new(body)
        .take_while(|frame| std::future::ready(frame.is_ok()))
        .filter_map(|frame| std::future::ready(frame.ok().and_then(|frame| frame.into_data().ok())));
    let mut answer = Response::new(Body::stream(frames));
    *answer.status_mut() = parts.status;
    for (name, value) in &parts.headers {
        if !matches!(name.as_str(), "connection" | "keep-alive" | "transfer-encoding" | "upgrade") {
            answer.headers_mut().append(name.clone(), value.clone());
        }
    }
    answer
}

/// A node's refusal as a failure.
async fn refusal(response: Response<Incoming>, call: &Call) -> Status {
    let code = response.status().as_u16();
    let text = match http_body_util::Limited::new(response.into_body(), REFUSAL).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        Err(_) => String::new(),
    };
    match code {
        400 => Status::bad_request(text),
        404 => Status::other(
            404,
            "NotFound",
            format!("the server could not find the requested resource ( pods/log {})", call.name),
        ),
        _ => Status::internal(text),
    }
}
