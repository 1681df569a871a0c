//! OpenAPI: what `kubectl explain`, client-side apply and validation read.
//!
//! Documents are made from the kinds' schemas when they are asked for, and not kept:
//! clients cache them by the hash in their address.

#[cfg(feature = "descriptions")]
mod descriptions;
mod operations;
mod parameters;
mod paths;
mod published;
mod roots;
mod schemas;

use base64::Engine;
use carrack_api::status::Status;
use carrack_api::{Kinds, Value, proto};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION, VARY};
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
        // Of this type upstream's is, too.
        "v3" => {
            let index = index(&kinds, git_version).to_string();
            Ok(output::respond(StatusCode::OK, "text/plain; charset=utf-8", index))
        }
        "v2" => {
            let accept = parts.headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let message = accept.contains(proto::SWAGGER) || accept.contains(proto::SWAGGER_ASKED);
            if !message && !accept.is_empty() && !accept.contains("json") && !accept.contains("*/*") {
                return Ok(varying(nothing(StatusCode::NOT_ACCEPTABLE)));
            }
            let groups = discovery::groups(&kinds);
            let all: Vec<(&str, &str)> =
                groups.iter().flat_map(|(group, vs)| vs.iter().map(move |v| (&**group, &**v))).collect();
            let form = if message { proto::SWAGGER } else { JSON };
            let tag = format!("{}{}", hash(&kinds, git_version, &all), if message { "-pb" } else { "" });
            let response = tagged(parts, &tag, form, || document(&kinds, git_version, Dialect::V2, &all));
            Ok(varying(response))
        }
        rest => {
            let Some(rest) = rest.strip_prefix("v3/") else { return Err(no_such_resource()) };
            if let Some((written, definitions)) = roots::of(&kinds, rest) {
                let tag = hash_of_root(rest, git_version);
                return Ok(hashed(parts, info, &tag, || {
                    framed(Dialect::V3, written, definitions, git_version)
                }));
            }
            let segments: Vec<&str> = rest.split('/').collect();
            let (group, version) = match &segments[..] {
                ["api", version] => ("", *version),
                ["apis", group, version] => (*group, *version),
                _ => return Ok(nothing(StatusCode::NOT_FOUND)),
            };
            if discovery::served(&kinds, group, version).next().is_none() {
                return Ok(nothing(StatusCode::NOT_FOUND));
            }
            let one = [(group, version)];
            let tag = hash(&kinds, git_version, &one);
            Ok(hashed(parts, info, &tag, || document(&kinds, git_version, Dialect::V3, &one)))
        }
    }
}

/// Says that the document of Swagger 2.0 goes by how it is asked for.
fn varying(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
    response
}

/// An answer that only its code tells of, as the handlers of documents refuse.
fn nothing(code: StatusCode) -> Response<Body> {
    let mut response = output::respond(code, JSON, Body::empty());
    response.headers_mut().remove(CONTENT_TYPE);
    response
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
    for name in roots::names(kinds) {
        let url = format!("/openapi/v3/{name}?hash={}", hash_of_root(&name, git_version));
        paths.insert(name, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

/// The document of a root changes with the version only.
fn hash_of_root(name: &str, git_version: &str) -> String {
    let digest = sha2::Sha256::digest(format!("{name} {git_version}"));
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest[..12])
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

/// A document of OpenAPI 3.0. What an address with its hash answers never changes; with
/// another hash, the client is told the right one.
fn hashed(parts: &Parts, info: &RequestInfo, tag: &str, make: impl FnOnce() -> Value) -> Response<Body> {
    let asked = info.query.text("hash");
    if !asked.is_empty() && asked != tag {
        let mut response = output::respond(StatusCode::MOVED_PERMANENTLY, JSON, Body::empty());
        if let Ok(place) = HeaderValue::from_str(&format!("{}?hash={tag}", info.attributes.path)) {
            response.headers_mut().insert(LOCATION, place);
        }
        return response;
    }
    let mut response = tagged(parts, tag, JSON, make);
    if !asked.is_empty() {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    response
}

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
    headers.append(VARY, HeaderValue::from_static("Accept"));
    response
}

fn document(kinds: &Kinds, git_version: &str, dialect: Dialect, of: &[(&str, &str)]) -> Value {
    let mut definitions = schemas::Definitions::new(dialect);
    let mut written = paths::Written::default();
    for (group, version) in of {
        let mut is_builtin = false;
        for (kind, index) in discovery::served(kinds, group, version) {
            is_builtin |= kind.definition.is_none();
            let own = kind.versions[index].schema.object(kind.versions[index].root).name.to_string();
            let list = schemas::list_name(kind, &own);
            let sub = |name: &str| {
                let sub = kind.subresources_of(index).find(|sub| &*sub.name == name);
                let body = sub.and_then(schemas::body_of);
                body.map_or_else(|| own.clone(), |(facts, id)| facts.object(id).name.to_string())
            };
            let names = operations::Names { own: &own, list: &list, sub: &sub };
            for place in operations::places(kind, index, &names) {
                paths::add(&mut written, dialect, &place);
            }
            definitions.add_kind(kind, index);
        }
        if is_builtin {
            roots::add_version(&mut written.paths, dialect, group, version);
            written.types.insert(format!("{}APIResourceList", schemas::META));
        }
    }
    let paths::Written { paths: mut all, parameters, types } = written;
    for name in types {
        definitions.add_named(&name, of);
    }
    if dialect == Dialect::V2 {
        roots::add_all(kinds, dialect, &mut all, &mut definitions);
    }
    let definitions = definitions.finish();
    #[cfg(feature = "descriptions")]
    let definitions = described(kinds, dialect, of, definitions);
    let mut document = framed(dialect, all, definitions, git_version);
    if !parameters.is_empty() {
        document["parameters"] = parameters.into();
    }
    document
}

/// Definitions with their descriptions, which only OpenAPI 3.0 has.
#[cfg(feature = "descriptions")]
fn described(
    kinds: &Kinds,
    dialect: Dialect,
    of: &[(&str, &str)],
    mut definitions: Map<String, Value>,
) -> Map<String, Value> {
    if dialect == Dialect::V2 {
        return definitions;
    }
    for (group, version) in of {
        let group_version = carrack_api::kind::api_version(group, version);
        descriptions::describe(&group_version, &mut definitions);
        let custom = discovery::served(kinds, group, version).filter(|(kind, _)| kind.definition.is_some());
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
    definitions
}

/// A whole document. (It tells the version of the API, not of the program.)
fn framed(
    dialect: Dialect,
    paths: Map<String, Value>,
    definitions: Map<String, Value>,
    git_version: &str,
) -> Value {
    let version: Vec<&str> = git_version.trim_start_matches('v').splitn(3, '.').take(2).collect();
    let info = json!({"title": "Kubernetes", "version": version.join(".")});
    let security = json!({"BearerToken": {"type": "apiKey", "description": "Bearer Token authentication",
        "name": "authorization", "in": "header"}});
    match dialect {
        Dialect::V2 => json!({"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions,
            "securityDefinitions": security, "security": [{"BearerToken": []}]}),
        Dialect::V3 => {
            let mut components = json!({ "securitySchemes": security });
            if !definitions.is_empty() {
                components["schemas"] = definitions.into();
            }
            json!({"openapi": "3.0.0", "info": info, "paths": paths, "components": components})
        }
    }
}
