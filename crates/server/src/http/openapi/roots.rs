//! The documents of what is not a kind: discovery, the version, the issuer of tokens.

use carrack_api::{Kinds, Value};
use serde_json::{Map, json};

use super::operations::{tag, words};
use super::schemas::META;
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
    let (mut written, mut definitions) = (Map::new(), Map::new());
    add(&mut written, Dialect::V3, &root);
    if let Some(answer) = &root.answer {
        define(&mut definitions, Dialect::V3, answer);
    }
    Some((written, definitions))
}

/// Adds all of them to a document.
pub(super) fn add_all(
    kinds: &Kinds,
    dialect: Dialect,
    paths: &mut Map<String, Value>,
    definitions: &mut Map<String, Value>,
) {
    for root in all(kinds) {
        add(paths, dialect, &root);
        if let Some(answer) = &root.answer {
            define(definitions, dialect, answer);
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

/// Fields of the types of discovery: name, type (`[]` of a list), whether it has to be there.
type Fields = &'static [(&'static str, &'static str, bool)];

fn fields(name: &str) -> Fields {
    match name {
        "APIVersions" => &[
            ("apiVersion", "string", false),
            ("kind", "string", false),
            ("serverAddressByClientCIDRs", "[]ServerAddressByClientCIDR", true),
            ("versions", "[]string", true),
        ],
        "APIGroup" => &[
            ("apiVersion", "string", false),
            ("kind", "string", false),
            ("name", "string", true),
            ("preferredVersion", "GroupVersionForDiscovery", false),
            ("serverAddressByClientCIDRs", "[]ServerAddressByClientCIDR", false),
            ("versions", "[]GroupVersionForDiscovery", true),
        ],
        "APIGroupList" => {
            &[("apiVersion", "string", false), ("groups", "[]APIGroup", true), ("kind", "string", false)]
        }
        "GroupVersionForDiscovery" => &[("groupVersion", "string", true), ("version", "string", true)],
        "ServerAddressByClientCIDR" => &[("clientCIDR", "string", true), ("serverAddress", "string", true)],
        // (version.Info)
        _ => &[
            ("buildDate", "string", true),
            ("compiler", "string", true),
            ("emulationMajor", "string", false),
            ("emulationMinor", "string", false),
            ("gitCommit", "string", true),
            ("gitTreeState", "string", true),
            ("gitVersion", "string", true),
            ("goVersion", "string", true),
            ("major", "string", true),
            ("minCompatibilityMajor", "string", false),
            ("minCompatibilityMinor", "string", false),
            ("minor", "string", true),
            ("platform", "string", true),
        ],
    }
}

fn define(all: &mut Map<String, Value>, dialect: Dialect, whole: &str) {
    if all.contains_key(whole) {
        return;
    }
    let short = whole.rsplit('.').next().unwrap_or_default();
    let v3 = dialect == Dialect::V3;
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut others = Vec::new();
    for (name, ty, needed) in fields(short) {
        let mut reference = |ty: &str| {
            let whole = format!("{META}{ty}");
            let reference = dialect.reference(&whole);
            others.push(whole);
            if v3 { json!({"allOf": [reference], "default": {}}) } else { reference }
        };
        let property = match ty.strip_prefix("[]") {
            Some("string") if v3 => json!({"type": "string", "default": ""}),
            Some("string") => json!({"type": "string"}),
            Some(item) => reference(item),
            None if *ty != "string" => reference(ty),
            None if v3 && *needed => json!({"type": "string", "default": ""}),
            None => json!({"type": "string"}),
        };
        let property = match ty.starts_with("[]") {
            true => json!({"type": "array", "items": property, "x-kubernetes-list-type": "atomic"}),
            false => property,
        };
        properties.insert((*name).to_owned(), property);
        if *needed {
            required.push(*name);
        }
    }
    let mut definition = json!({"type": "object", "properties": properties, "required": required});
    if short.starts_with("API") {
        definition["x-kubernetes-group-version-kind"] =
            json!([{"group": "", "version": "v1", "kind": short}]);
    }
    all.insert(whole.to_owned(), definition);
    for other in others {
        define(all, dialect, &other);
    }
}
