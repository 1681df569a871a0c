//! The fixed order in which every request is handled.

use bytes::Bytes;
use carrack_api::status::Status;
use http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{Request, Response};

use super::{Body, State, admin, compress, input, output, paths, resource};
use crate::flow::Headers;
use crate::request::{Attributes, PeerCertificates, RequestInfo, User};
use crate::seams::{AuditEvent, Decision};

/// Answers one request.
pub(crate) async fn answer<B>(state: &State, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut parts, body) = request.into_parts();
    let info = match RequestInfo::parse(&parts.method, &parts.uri) {
        Ok(info) => info,
        Err(error) => return output::failure(&Status::bad_request(error.to_string())),
    };
    let began = std::time::Instant::now();
    let response = match identify(state, &parts, &info.attributes).await {
        Ok((user, impersonated)) => {
            let acting = impersonated.clone().unwrap_or_else(|| user.clone());
            let (headers, mut response) = controlled(state, &mut parts, &info, acting, body).await;
            headers.put(response.headers_mut());
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
        Err(status) => refused(&status),
    };
    let response = output::fit_failure(response, &parts.headers, &info.query);
    state.metrics.observe(&info, response.status().as_u16(), began.elapsed());
    compress::fit(response, &parts.headers, parts.extensions.get::<compress::Remote>()).await
}

/// Serves a request when flow control lets it and its user may, and says how it was sorted.
async fn controlled<B>(
    state: &State,
    parts: &mut Parts,
    info: &RequestInfo,
    user: User,
    body: B,
) -> (Headers, Response<Body>)
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (headers, seat) = state.flow.admit(&user, info).await;
    let response = match seat {
        // Held until there is an answer; a watch goes on without one.
        Ok(_seat) => match authorize(state, &user, &info.attributes).await {
            Ok(()) => serve(state, parts, info, user, body).await,
            Err(status) => refused(&status),
        },
        Err(status) => refused(&status),
    };
    (headers, response)
}

/// Refuses before anything is served. What is forbidden may repeat parts of the path, and
/// no browser shall take it for anything but what it says it is.
fn refused(status: &Status) -> Response<Body> {
    let mut response = output::failure(status);
    if status.code != 401 {
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    response
}

/// Serves a request that may be served.
async fn serve<B>(state: &State, parts: &mut Parts, info: &RequestInfo, user: User, body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let outcome = async {
        if !info.attributes.is_resource {
            if admin::is_admin(&info.attributes.path) {
                return admin::answer(state, parts, info, body).await;
            }
            return paths::answer(state, parts, info);
        }
        let (kind, version) = resource::find(state, info)?;
        if super::proxy::is_streaming(&info.attributes) && kind.definition.is_none() {
            return super::proxy::answer(state, parts, info, user, kind, version, body).await;
        }
        if !matches!(&*info.attributes.verb, "watch" | "proxy") {
            check_timeout(info.query.text("timeout"))?;
        }
        let work = async {
            let body = input::collect(body, state.parts.config.body_limit).await?;
            resource::answer(state, parts, info, user, kind, version, body).await
        };
        let limit = state.parts.config.request_timeout;
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(Status::timeout("request did not complete within the allotted timeout")))
    };
    outcome.await.unwrap_or_else(|status| output::failure(&status))
}

/// Whether a client's own limit is a duration as Go writes them (`1m30s`).
fn check_timeout(text: &str) -> Result<(), Status> {
    let refuse = |why: String| {
        Err(Status::bad_request(format!("invalid timeout specified in the request URL - time: {why}")))
    };
    let number = text.trim_start_matches(['+', '-']);
    if text.is_empty() || number == "0" {
        return Ok(());
    }
    let mut rest = number;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (amount, tail) = rest.split_at(digits);
        if !amount.contains(|c: char| c.is_ascii_digit()) {
            return refuse(format!("invalid duration {text:?}"));
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, after) = tail.split_at(end);
        match unit {
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = after,
            "" => return refuse(format!("missing unit in duration {text:?}")),
            unit => return refuse(format!("unknown unit {unit:?} in duration {text:?}")),
        }
    }
    if number.is_empty() { refuse(format!("invalid duration {text:?}")) } else { Ok(()) }
}

/// Who asks (and as whom).
async fn identify(
    state: &State,
    parts: &Parts,
    attributes: &Attributes,
) -> Result<(User, Option<User>), Status> {
    let user = authenticate(state, parts).await?;
    let impersonated = match &state.parts.impersonator {
        Some(impersonator) => impersonator.impersonate(parts, &user, attributes).await?,
        None => None,
    };
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

pub(super) async fn authorize(state: &State, user: &User, attributes: &Attributes) -> Result<(), Status> {
    let mut reasons = Vec::new();
    for authorizer in &state.parts.authorizers {
        match authorizer.authorize(user, attributes).await {
            Decision::Allow(_) => return Ok(()),
            Decision::Deny(reason) => {
                reasons.push(reason);
                break;
            }
            Decision::NoOpinion(reason) => reasons.push(reason),
        }
    }
    reasons.retain(|reason| !reason.is_empty());
    Err(forbidden(user, attributes, &reasons.join(", ")))
}

/// 403 in upstream's words (`responsewriters.ForbiddenStatusError`).
fn forbidden(user: &User, at: &Attributes, reason: &str) -> Status {
    let mut detail = format!("User {:?} cannot {} ", user.name, at.verb);
    if at.is_resource {
        let resource = match &*at.subresource {
            "" => at.resource.to_string(),
            sub => format!("{}/{sub}", at.resource),
        };
        detail += &format!("resource {resource:?} in API group {:?}", at.group);
        detail += &match &*at.namespace {
            "" => " at the cluster scope".to_owned(),
            namespace => format!(" in the namespace {namespace:?}"),
        };
    } else {
        detail += &format!("path {:?}", at.path);
    }
    if !reason.is_empty() {
        detail += &format!(": {reason}");
    }
    Status::forbidden(&at.group, &at.resource, &at.name, &detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_durations() {
        let check = |text: &str, expect: Option<&str>| {
            let said = check_timeout(text).err().map(|status| status.message);
            let expect =
                expect.map(|why| format!("invalid timeout specified in the request URL - time: {why}"));
            assert_eq!(said, expect, "{text}");
        };
        for fine in ["", "0", "1s", "1m30s", "-1.5h", "10ms"] {
            check(fine, None);
        }
        check("x", Some("invalid duration \"x\""));
        check("5", Some("missing unit in duration \"5\""));
        check("5y", Some("unknown unit \"y\" in duration \"5y\""));
    }
}
