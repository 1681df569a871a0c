//! Non-resource paths: discovery, OpenAPI, version, health, metrics.

use carrack_api::status::Status;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::{Body, State, discovery, health, openapi, output};
use crate::request::RequestInfo;

/// What [`no_page`] is known by; it is answered in plain text.
pub(super) const NO_PAGE: &str = "NoPage";

/// Answers a request about a path that is no resource.
pub(crate) fn answer(state: &State, parts: &Parts, info: &RequestInfo) -> Result<Response<Body>, Status> {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(Status::of_route(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
    }
    if let Some(response) = health::answer(state, info) {
        return Ok(response);
    }
    let path = info.attributes.path.trim_end_matches('/');
    if let Some(document) = state.parts.documents.iter().find(|document| document.path == path) {
        let body = Body::from(document.body.clone());
        let mut response = output::respond(StatusCode::OK, document.content_type, body);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        return Ok(response);
    }
    match path {
        "" => Ok(root(state)),
        "/version" => Ok(version(state)),
        "/metrics" => Ok(output::respond(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            Body::from(state.metrics.text(&state.registry)),
        )),
        _ if path.starts_with("/openapi/") => openapi::answer(state, parts, info),
        _ => discovery::answer(state, parts, path),
    }
}

/// Nothing is served at the path, not even in another version.
pub(super) fn no_page() -> Status {
    Status::other(404, NO_PAGE, "404 page not found")
}

fn root(state: &State) -> Response<Body> {
    let mut paths: Vec<String> = ["/api", "/api/v1", "/apis"].map(str::to_owned).into();
    for (group, versions) in discovery::groups(&state.registry.kinds()) {
        if !group.is_empty() {
            paths.push(format!("/apis/{group}"));
            paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
        }
    }
    paths.extend(state.parts.documents.iter().map(|document| document.path.to_owned()));
    paths.extend(
        ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned),
    );
    output::json(StatusCode::OK, json!({ "paths": paths }).to_string())
}

fn version(state: &State) -> Response<Body> {
    let git = &state.parts.config.git_version;
    let mut numbers = git.trim_start_matches('v').split('.');
    let mut number = || numbers.next().unwrap_or_default();
    let (major, minor) = (number(), number());
    let body = json!({
        "major": major, "minor": minor, "gitVersion": git, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("linux/{}", match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other }),
        "emulationMajor": major, "emulationMinor": minor,
        "minCompatibilityMajor": major, "minCompatibilityMinor": minor,
    });
    output::json(StatusCode::OK, body.to_string())
}
