//! The documents of what is not a kind: discovery, the version, the issuer of tokens.

use carrack_api::{Kinds, Value};
use serde_json::Map;

use super::operations::{tag, words};
use super::schemas::{Definitions, META};
use super::{Dialect, paths};
use crate::http::discovery;

const INFO: &str = "io.k8s.apimachinery.pkg.version.Info";
const OBJECTS: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const JSON: &[&str] = &["application/json"];

/// A document's name in the index, its path, the id of its operation, its tag, the answer's
/// type and the media types of that.
struct Root {
    name: String,
    path: String,
    id: String,
    tag: String,
    answer: Option<String>,
    media: &'static [&'static str],
}

fn all(kinds: &Kinds) -> Vec<Root> {
    let fixed = |name: &str, id: &str, tag: &str, answer: Option<&str>, media| Root {
        name: name.to_owned(),
        path: format!("/{name}/"),
        id: id.to_owned(),
        tag: tag.to_owned(),
        answer: answer.map(str::to_owned),
        media,
    };
    let meta = |name: &str| format!("{META}{name}");
    let mut roots = vec![
        fixed(
            ".well-known/openid-configuration",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            None,
            JSON,
        ),
        fixed("api", "getCoreAPIVersions", "core", Some(&meta("APIVersions")), OBJECTS),
        fixed("apis", "getAPIVersions", "apis", Some(&meta("APIGroupList")), OBJECTS),
        fixed(
            "openid/v1/jwks",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            None,
            &["application/jwk-set+json"],
        ),
        fixed("version", "getCodeVersion", "version", Some(INFO), JSON),
    ];
    let is_builtin =
        |group: &str| kinds.iter().any(|kind| *kind.group == *group && kind.definition.is_none());
    for (group, _) in
        discovery::groups(kinds).iter().filter(|(group, _)| !group.is_empty() && is_builtin(group))
    {
        roots.push(fixed(
            &format!("apis/{group}"),
            &format!("get{}APIGroup", words(group, "")),
            &tag(group, ""),
            Some(&meta("APIGroup")),
            OBJECTS,
        ));
    }
    roots
}

/// The names under which the index lists them.
pub(super) fn names(kinds: &Kinds) -> Vec<String> {
    all(kinds).into_iter().map(|root| root.name).collect()
}

/// The paths and definitions of one of them, for OpenAPI 3.0.
pub(super) fn of(kinds: &Kinds, name: &str) -> Option<(Map<String, Value>, Map<String, Value>)> {
    let root = all(kinds).into_iter().find(|root| root.name == name)?;
    let mut written = Map::new();
    let mut definitions = Definitions::new(Dialect::V3);
    add(&mut written, Dialect::V3, &root);
    if let Some(answer) = &root.answer {
        definitions.add_type(answer);
    }
    Some((written, definitions.finish()))
}

/// Adds all of them to a document.
pub(super) fn add_all(
    kinds: &Kinds,
    dialect: Dialect,
    paths: &mut Map<String, Value>,
    definitions: &mut Definitions,
) {
    for root in all(kinds) {
        add(paths, dialect, &root);
        if let Some(answer) = &root.answer {
            definitions.add_type(answer);
        }
    }
}

fn add(written: &mut Map<String, Value>, dialect: Dialect, root: &Root) {
    paths::add_root(written, dialect, (&root.path, &root.id, &root.tag), root.answer.as_deref(), root.media);
}

/// Adds the path that lists what a group's version has.
pub(super) fn add_version(written: &mut Map<String, Value>, dialect: Dialect, group: &str, version: &str) {
    let path = match group {
        "" => format!("/api/{version}/"),
        group => format!("/apis/{group}/{version}/"),
    };
    let id = format!("get{}APIResources", words(group, version));
    let answer = format!("{META}APIResourceList");
    paths::add_root(written, dialect, (&path, &id, &tag(group, version)), Some(&answer), OBJECTS);
}
