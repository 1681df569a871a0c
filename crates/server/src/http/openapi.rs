//! OpenAPI documents, made from the schemas of the kinds.

use carrack_api::status::Status;
use http::Response;
use http::request::Parts;

use super::{Body, State};
use crate::registry::no_such_resource;
use crate::request::RequestInfo;

/// Answers `/openapi/…`.
pub(crate) fn answer(_state: &State, _parts: &Parts, _info: &RequestInfo) -> Result<Response<Body>, Status> {
    Err(no_such_resource())
}
