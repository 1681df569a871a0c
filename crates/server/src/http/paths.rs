//! Non-resource paths: discovery, OpenAPI, version, health, metrics.

use carrack_api::status::Status;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::accept::{self, indented};
use super::{Body, State, discovery, health, openapi, output, zpages};
use crate::request::RequestInfo;

/// What [`no_page`] is known by; it is answered in plain text.
pub(super) const NO_PAGE: &str = "NoPage";
/// As [`NO_PAGE`], below a path that is served.
pub(super) const NO_ROUTE: &str = "NoRoute";

/// Paths that depend on nothing.
const OTHERS: [&str; 8] = [
    "/flagz",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/statusz",
    "/version",
];
/// The content type of metrics.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a request about a path that is no resource.
pub(crate) fn answer(state: &State, parts: &Parts, info: &RequestInfo) -> Result<Response<Body>, Status> {
    let given = &*info.attributes.path;
    if let Some(response) = health::answer(state, info) {
        return Ok(response);
    }
    if given.starts_with("//") {
        return Err(no_page());
    }
    let path = given.trim_end_matches('/');
    if !has_method(state, &parts.method, path) {
        return Err(Status::of_route(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
    }
    if let Some(document) = state.parts.documents.iter().find(|document| document.path == path) {
        accept::only(&parts.headers, document.content_type)?;
        let body = Body::from(document.body.clone());
        let mut response = output::respond(StatusCode::OK, document.content_type, body);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        return Ok(response);
    }
    if let Some(page) = zpages::answer(state, parts, path) {
        return page;
    }
    match path {
        "" => Ok(root(state)),
        "/version" => {
            accept::only(&parts.headers, "application/json")?;
            Ok(version(state))
        }
        "/metrics" => {
            let text = state.metrics.text(&state.registry);
            Ok(output::respond(StatusCode::OK, METRICS, Body::from(text)))
        }
        "/metrics/slis" => Ok(output::respond(StatusCode::OK, METRICS, Body::from(health::metrics(state)))),
        // There are none.
        _ if path.starts_with("/debug/pprof/") => {
            Ok(output::text(StatusCode::NOT_FOUND, "Unknown profile\n"))
        }
        _ if path.starts_with("/openapi/") => openapi::answer(state, parts, info),
        _ => discovery::answer(state, parts, info, path),
    }
}

/// Whether a path is asked for in a way that it may be. Lists of groups and what is no
/// path at all do not look at the method; documents of versions are only for GET.
fn has_method(state: &State, method: &Method, path: &str) -> bool {
    if *method == Method::GET {
        return true;
    }
    let segments: Vec<&str> = path.split('/').collect();
    match &segments[..] {
        ["", "apis"] | ["", "apis", _] => true,
        ["", "api" | "apis", ..] | ["", "version"] => false,
        ["", "openapi", "v2"] => true,
        ["", "openapi", ..] | ["", "metrics", ..] | [""] => *method == Method::HEAD,
        _ => *method == Method::HEAD || state.parts.documents.iter().all(|document| document.path != path),
    }
}

/// Nothing is served at the path, not even in another version.
pub(super) fn no_page() -> Status {
    Status::other(404, NO_PAGE, "404 page not found")
}

/// Nothing is served at the path, though something is at what it begins with.
pub(super) fn no_route() -> Status {
    Status::other(404, NO_ROUTE, "404 page not found")
}

/// Every path that the server tells of.
pub(super) fn listed(state: &State) -> Vec<String> {
    let mut paths: Vec<String> = ["/api", "/api/v1", "/apis"].map(str::to_owned).into();
    for (group, versions) in discovery::groups(&state.registry.kinds()) {
        if !group.is_empty() {
            paths.push(format!("/apis/{group}"));
            paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
        }
    }
    paths.push("/apis/".into());
    paths.extend(state.parts.documents.iter().map(|document| document.path.to_owned()));
    paths.extend(health::paths(state));
    paths.extend(OTHERS.map(str::to_owned));
    paths.sort();
    paths
}

fn root(state: &State) -> Response<Body> {
    let paths = listed(state);
    output::json(StatusCode::OK, indented(json!({ "paths": paths }).to_string().as_bytes()))
}

fn version(state: &State) -> Response<Body> {
    let git = &state.parts.config.git_version;
    let mut numbers = git.trim_start_matches('v').split('.');
    let mut number = || numbers.next().unwrap_or_default();
    let (major, minor) = (number(), number());
    // What it could be taken back to.
    let before =
        minor.parse::<u32>().map_or_else(|_| minor.to_owned(), |minor| minor.saturating_sub(1).to_string());
    let body = json!({
        "major": major, "minor": minor, "gitVersion": git, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("linux/{}", match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other }),
        "emulationMajor": major, "emulationMinor": minor,
        "minCompatibilityMajor": major, "minCompatibilityMinor": before,
    });
    output::json(StatusCode::OK, indented(body.to_string().as_bytes()))
}
