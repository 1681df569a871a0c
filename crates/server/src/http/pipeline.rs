//! The fixed order in which every request is handled.

use bytes::Bytes;
use carrack_api::status::Status;
use http::request::Parts;
use http::{Request, Response};

use super::{Body, State};
use crate::request::{Attributes, PeerCertificates, RequestInfo, User};
use crate::seams::{AuditEvent, Decision};

/// Answers one request.
pub(crate) async fn answer<B>(state: &State, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, _body) = request.into_parts();
    let info = match RequestInfo::parse(&parts.method, &parts.uri) {
        Ok(info) => info,
        Err(error) => return fail(&Status::bad_request(error.to_string())),
    };
    match admit(state, &parts, &info.attributes).await {
        Ok((user, impersonated)) => {
            let response = Response::new(Body::empty());
            if let Some(audit) = &state.parts.audit {
                audit.record(&AuditEvent {
                    user: &user,
                    impersonated: impersonated.as_ref(),
                    attributes: &info.attributes,
                    code: response.status().as_u16(),
                });
            }
            response
        }
        Err(status) => fail(&status),
    }
}

/// Who asks (and as whom), if they may.
async fn admit(
    state: &State,
    parts: &Parts,
    attributes: &Attributes,
) -> Result<(User, Option<User>), Status> {
    let user = authenticate(state, parts).await?;
    let impersonated = match &state.parts.impersonator {
        Some(impersonator) => impersonator.impersonate(parts, &user).await?,
        None => None,
    };
    authorize(state, impersonated.as_ref().unwrap_or(&user), attributes).await?;
    Ok((user, impersonated))
}

async fn authenticate(state: &State, parts: &Parts) -> Result<User, Status> {
    if let Some(user) = parts.extensions.get::<User>() {
        return Ok(user.clone());
    }
    let peer = parts.extensions.get::<PeerCertificates>();
    for authenticator in &state.parts.authenticators {
        if let Some(user) = authenticator.authenticate(parts, peer).await? {
            return Ok(user);
        }
    }
    Err(Status::unauthorized())
}

async fn authorize(state: &State, user: &User, attributes: &Attributes) -> Result<(), Status> {
    for authorizer in &state.parts.authorizers {
        match authorizer.authorize(user, attributes).await {
            Decision::Allow(_) => return Ok(()),
            Decision::Deny(_) => break,
            Decision::NoOpinion(_) => {}
        }
    }
    Err(Status::forbidden("", "", "", "not allowed"))
}

fn fail(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::from(status.to_value().to_string()));
    *response.status_mut() =
        http::StatusCode::from_u16(status.code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
}
