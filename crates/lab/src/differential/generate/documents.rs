//! What is about the API and not about an object: discovery, OpenAPI, version, health,
//! and paths that are none.

use carrack_api::kinds;

use super::super::case::{Case, PROTOBUF, YAML, ask, raw};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut paths: Vec<String> = [
        "/",
        "/api",
        "/api/",
        "/apis",
        "/apis/",
        "/api/v1",
        "/api/v1/",
        "/version",
        "/version/",
        "/healthz",
        "/healthz?verbose",
        "/healthz/ping",
        "/healthz/etcd",
        "/healthz/nope",
        "/livez",
        "/livez?verbose",
        "/livez/ping",
        "/readyz",
        "/readyz?verbose",
        "/readyz?exclude=etcd",
        "/readyz?verbose&exclude=etcd",
        "/readyz/ping",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/api",
        "/openapi/v3/apis",
        "/openapi/v3/version",
        "/openapi/v3/api/v1",
        "/openapi/v3/nope",
        "/openapi",
        "/nope",
        "/apis/nope",
        "/apis/apps/nope",
        "/apis/nope/v1",
        "/apis/apps/v1/nope",
        "/api/v2",
        "/api/v1/nope",
        "/api/v1/namespaces/a/nope",
        "/apis/apps",
        "/apis/apps/",
        "/.well-known/openid-configuration",
        "/openid/v1/jwks",
        "/metrics/x",
        "/api/v1/namespaces/a/b/c/d/e",
        "/apis/apps/v1/namespaces/a",
        "//api/v1",
        "/api//v1",
        "/healthz/",
        "/logs",
        "/debug/pprof/x",
        "/configz",
        "/statusz",
        "/flagz",
        "/favicon.ico",
        "/robots.txt",
        "/swagger.json",
    ]
    .map(str::to_owned)
    .into();
    for kind in kinds::builtin().iter() {
        if !kind.group.is_empty() {
            paths.push(format!("/apis/{}", kind.group));
            for version in &kind.versions {
                paths.push(format!("/apis/{}/{}", kind.group, version.name));
                paths.push(format!("/openapi/v3/apis/{}/{}", kind.group, version.name));
            }
            paths.push(format!("/openapi/v3/apis/{}", kind.group));
        }
    }
    paths.sort();
    paths.dedup();
    let mut cases: Vec<Case> =
        paths.iter().map(|path| Case::new("", "get", path).then(ask("GET", path)).reading()).collect();
    for path in [
        "/api",
        "/apis",
        "/api/v1",
        "/apis/apps",
        "/apis/apps/v1",
        "/version",
        "/openapi/v2",
        "/healthz",
        "/nope",
    ] {
        for accept in [AGGREGATED, AGGREGATED_BETA, YAML, PROTOBUF, "text/html", "*/*", ""] {
            let request = ask("GET", path).header("Accept", accept);
            cases.push(Case::new("", "get", format!("{path} as {accept:?}")).then(request).reading());
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
            let request = raw(method, path, "application/json", "{}");
            cases.push(Case::new("", "get", format!("{method} {path}")).then(request).reading());
        }
        let request = ask("GET", path).acting_as("nobody-here");
        cases.push(Case::new("", "get", format!("{path} as nobody")).then(request).reading());
    }
    cases.push(
        Case::new("", "get", "/nope as nobody, posted").then(ask("POST", "/nope").acting_as("nobody-here")),
    );
    for kind in kinds::builtin().iter().filter(|kind| kind.stored()) {
        let group = if kind.group.is_empty() { "/api".into() } else { format!("/apis/{}", kind.group) };
        let path = format!("{group}/{}/{}", kind.versions[0].name, kind.plural);
        let request = ask("GET", path)
            .header("Accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
        cases.push(
            Case::new("", "list", format!("what is there from the start: {}", kind.resource)).then(request),
        );
    }
    cases
}
