//! Requests that a node answers: log, exec, attach, port-forward and proxy.

use std::sync::Arc;

use bytes::Bytes;
use carrack_api::Kind;
use carrack_api::status::Status;
use http::Response;
use http::request::Parts;

use super::{Body, State};
use crate::request::{Attributes, RequestInfo, User};

/// Whether a request is streamed to or from a node.
pub(crate) fn is_streaming(at: &Attributes) -> bool {
    matches!(&*at.subresource, "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// Answers such a request.
pub(crate) async fn answer<B>(
    _state: &State,
    _parts: &mut Parts,
    _info: &RequestInfo,
    _user: User,
    _kind: Arc<Kind>,
    _version: usize,
    _body: B,
) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Err(Status::unavailable("no connection to nodes"))
}
