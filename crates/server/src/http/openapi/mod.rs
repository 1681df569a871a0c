//! OpenAPI: what `kubectl explain`, client-side apply and validation read.
//!
//! Documents are made from the kinds' schemas when they are asked for, and not kept:
//! clients cache them by the hash in their address.

#[cfg(feature = "descriptions")]
mod descriptions;
mod paths;
mod schemas;

use base64::Engine;
use carrack_api::status::Status;
use carrack_api::{Kinds, Value, proto};
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH};
use http::request::Parts;
use http::{Response, StatusCode};
use serde_json::{Map, json};
use sha2::Digest;

use super::{Body, State, discovery, output};
use crate::registry::no_such_resource;
use crate::request::RequestInfo;

/// The two dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// Swagger 2.0, for old clients.
    V2,
    /// OpenAPI 3.0.
    V3,
}

impl Dialect {
    /// What a reference begins with.
    fn root(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }

    fn reference(self, name: &str) -> Value {
        json!({ "$ref": format!("{}{name}", self.root()) })
    }
}

/// Answers `/openapi/…`.
pub(crate) fn answer(state: &State, parts: &Parts, info: &RequestInfo) -> Result<Response<Body>, Status> {
    let path = info.attributes.path.trim_matches('/');
    let kinds = state.registry.kinds();
    let git_version = &state.parts.config.git_version;
    match path.strip_prefix("openapi/").unwrap_or_default() {
        "v3" => Ok(output::json(StatusCode::OK, index(&kinds, git_version).to_string())),
        "v2" => {
            let accept = parts.headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let message = accept.contains(proto::SWAGGER) || accept.contains(proto::SWAGGER_ASKED);
            if !message && !accept.is_empty() && !accept.contains("json") && !accept.contains("*/*") {
                let forms = format!("application/json, {}", proto::SWAGGER);
                return Err(Status::not_acceptable(format!(
                    "only the following media types are accepted: {forms}"
                )));
            }
            let groups = discovery::groups(&kinds);
            let all: Vec<(&str, &str)> =
                groups.iter().flat_map(|(group, vs)| vs.iter().map(move |v| (&**group, &**v))).collect();
            let form = if message { proto::SWAGGER } else { JSON };
            let tag = format!("{}{}", hash(&kinds, git_version, &all), if message { "-pb" } else { "" });
            Ok(tagged(parts, &tag, form, || document(&kinds, git_version, Dialect::V2, &all)))
        }
        rest => {
            let rest = rest.strip_prefix("v3/").ok_or_else(no_such_resource)?;
            let segments: Vec<&str> = rest.split('/').collect();
            let (group, version) = match &segments[..] {
                ["api", version] => ("", *version),
                ["apis", group, version] => (*group, *version),
                _ => return Err(no_such_resource()),
            };
            if discovery::served(&kinds, group, version).next().is_none() {
                return Err(no_such_resource());
            }
            let one = [(group, version)];
            let tag = hash(&kinds, git_version, &one);
            Ok(tagged(parts, &tag, JSON, || document(&kinds, git_version, Dialect::V3, &one)))
        }
    }
}

fn index(kinds: &Kinds, git_version: &str) -> Value {
    let mut paths = Map::new();
    for (group, versions) in discovery::groups(kinds) {
        for version in versions {
            let at =
                if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            let hash = hash(kinds, git_version, &[(&group, &version)]);
            let url = format!("/openapi/v3/{at}?hash={hash}");
            paths.insert(at, json!({ "serverRelativeURL": url }));
        }
    }
    json!({ "paths": paths })
}

/// Changes whenever a document may. Built-in schemas change with the version only.
fn hash(kinds: &Kinds, git_version: &str, of: &[(&str, &str)]) -> String {
    let mut digest = sha2::Sha256::new();
    digest.update(git_version);
    for (group, version) in of {
        for (kind, index) in discovery::served(kinds, group, version) {
            digest.update(format!("{group}/{version}/{}", kind.kind));
            if let Some(facts) = kind.facts(index) {
                digest.update(format!("{facts:?}"));
            }
        }
    }
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest.finalize()[..12])
}

/// The media type of documents, unless v2's message is asked for.
const JSON: &str = "application/json";

/// A document with its tag, or 304.
fn tagged(parts: &Parts, tag: &str, form: &'static str, make: impl FnOnce() -> Value) -> Response<Body> {
    let quoted = format!("\"{tag}\"");
    let same = parts.headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == quoted.as_bytes());
    let mut response = if same {
        output::respond(StatusCode::NOT_MODIFIED, form, Body::empty())
    } else if form == JSON {
        output::json(StatusCode::OK, make().to_string())
    } else {
        output::respond(StatusCode::OK, form, proto::swagger(&make()))
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&quoted) {
        headers.insert(ETAG, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

fn document(kinds: &Kinds, git_version: &str, dialect: Dialect, of: &[(&str, &str)]) -> Value {
    let mut definitions = schemas::Definitions::new(dialect);
    let mut all = Map::new();
    for (group, version) in of {
        for (kind, index) in discovery::served(kinds, group, version) {
            paths::add(&mut all, dialect, kind, index);
            definitions.add_kind(kind, index);
        }
    }
    let info = json!({"title": "Kubernetes", "version": git_version});
    #[cfg_attr(not(feature = "descriptions"), expect(unused_mut, reason = "nobody describes"))]
    let mut definitions = definitions.finish();
    #[cfg(feature = "descriptions")]
    if dialect == Dialect::V3 {
        for (group, version) in of {
            let group_version = carrack_api::kind::api_version(group, version);
            descriptions::describe(&group_version, &mut definitions);
            let custom =
                discovery::served(kinds, group, version).filter(|(kind, _)| kind.definition.is_some());
            let custom: Vec<String> = custom
                .map(|(kind, index)| {
                    let version = &kind.versions[index];
                    version.schema.object(version.root).name.to_string()
                })
                .collect();
            if !custom.is_empty() {
                descriptions::describe_custom(&custom, &mut definitions);
            }
        }
    }
    match dialect {
        Dialect::V2 => json!({"swagger": "2.0", "info": info, "paths": all, "definitions": definitions}),
        Dialect::V3 => {
            json!({"openapi": "3.0.0", "info": info, "paths": all, "components": {"schemas": definitions}})
        }
    }
}
