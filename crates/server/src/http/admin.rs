//! `/carrack/v1/`: maintenance of the store over the API's own port. These are paths
//! that are no resources; whoever may not do everything needs RBAC rules for them.

use bytes::Bytes;
use carrack_api::status::Status;
use futures::stream;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{Body, State, output};
use crate::maintenance::{Keeper, MaintenanceError, RestoreError, RestoreOptions};
use crate::registry::not_stored;
use crate::request::RequestInfo;

const ROOT: &str = "/carrack/v1/";

/// Whether a path is one of these.
pub(crate) fn is_admin(path: &str) -> bool {
    path.starts_with(ROOT)
}

/// Answers a request about such a path.
pub(crate) async fn answer<B>(
    state: &State,
    parts: &Parts,
    info: &RequestInfo,
    body: B,
) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let unknown = || Status::other(404, "NotFound", "the server could not find the requested resource");
    let keeper = state.parts.keeper.as_ref().ok_or_else(unknown)?;
    let path = info.attributes.path.strip_prefix(ROOT).unwrap_or_default();
    match (&parts.method, path) {
        (&Method::GET, "backup") => backup(keeper, info.query.flag("withKeys")),
        (&Method::POST, "restore") => {
            let options = RestoreOptions { without_sealed: info.query.flag("withoutSealed") };
            restore(keeper, options, body).await.map(|done| answer_json(&done))
        }
        (&Method::GET, "encryption") => Ok(answer_json(&describe(keeper))),
        (&Method::POST, "encryption/rotate") => {
            let name = keeper.rotate().await.map_err(failed)?;
            Ok(answer_json(&json!({"key": name})))
        }
        (&Method::POST, "encryption/retire") => {
            let names = keeper.retire().await.map_err(failed)?;
            Ok(answer_json(&json!({"retired": names})))
        }
        (&Method::POST, "encryption/reload") => {
            keeper.reload().await.map_err(failed)?;
            Ok(answer_json(&describe(keeper)))
        }
        _ => Err(unknown()),
    }
}

fn answer_json(value: &Value) -> Response<Body> {
    output::json(StatusCode::OK, value.to_string())
}

fn describe(keeper: &Keeper) -> Value {
    serde_json::to_value(keeper.describe()).expect("names always encode")
}

fn failed(error: MaintenanceError) -> Status {
    match error {
        MaintenanceError::Store(error) => not_stored(&error),
        error => Status::internal(error),
    }
}

fn backup(keeper: &Keeper, with_keys: bool) -> Result<Response<Body>, Status> {
    let pieces = keeper.backup(with_keys).map_err(failed)?;
    let whole = pieces.map_while(|piece| {
        // Without its end a backup is known to be cut.
        piece.inspect_err(|error| tracing::error!(%error, "a backup was given up")).ok()
    });
    Ok(output::respond(StatusCode::OK, "application/octet-stream", Body::stream(stream::iter(whole))))
}

async fn restore<B>(keeper: &Keeper, options: RestoreOptions, body: B) -> Result<Value, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let refused = |error: RestoreError| match error {
        RestoreError::Store(error) => not_stored(&error),
        error => Status::other(422, "Invalid", error.to_string()),
    };
    let mut restore = keeper.restore(options);
    let mut body = std::pin::pin!(body);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(error.into().to_string()))?;
        if let Ok(bytes) = frame.into_data() {
            restore.push(&bytes).map_err(refused)?;
        }
    }
    let done = restore.finish().await.map_err(refused)?;
    tracing::warn!(objects = done.objects, taken = %done.about.time, "a backup was restored");
    Ok(json!({
        "objects": done.objects, "leftOut": done.left_out, "revision": done.revision,
        "taken": done.about.time, "version": done.about.version,
    }))
}
