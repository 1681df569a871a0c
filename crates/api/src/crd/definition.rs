//! From a CustomResourceDefinition to the row of a kind.
//!
//! A row exists while the definition is established; it is made anew from the stored
//! object whenever that changes, and holds no reference to it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::columns::Column;
use super::props::Props;
use super::{arena, columns};
use crate::kind::{Kind, Subresource, Version, api_version, compare_versions};
use crate::tree::{flag, get, items, text, text_at, texts};

/// What a definition says of a kind beyond what every kind has.
#[derive(Debug, Clone)]
pub struct Definition {
    /// `BoatList`.
    pub list_kind: Box<str>,
    /// Changes with whatever shapes stored objects and their headers: an object whose
    /// header carries another one was written under another definition.
    pub stamp: Box<str>,
    /// Whether the definition is being deleted: nothing new may be created.
    pub terminating: bool,
    /// In the order of [`Kind::versions`].
    pub versions: Box<[Facts]>,
}

/// What a definition says of one version.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whether the version is served.
    pub served: bool,
    /// Its schema.
    pub schema: Props,
    /// Whether status is a subresource.
    pub status: bool,
    /// The scale subresource.
    pub scale: Option<Scale>,
    /// Printer columns after the name.
    pub columns: Box<[Column]>,
    /// What to warn of when the version is used, if it is deprecated.
    pub warning: Option<Box<str>>,
    /// Selectable fields, without the leading dot.
    pub selectable: Box<[Box<str>]>,
}

/// Where the scale subresource finds its numbers: paths of fields.
#[derive(Debug, Clone)]
pub struct Scale {
    /// `specReplicasPath` as given, for messages.
    pub spec_path: Box<str>,
    /// `statusReplicasPath` as given.
    pub status_path: Box<str>,
    /// `labelSelectorPath` as given.
    pub selector_path: Option<Box<str>>,
}

impl Scale {
    /// The fields of a simple path such as `.spec.replicas`.
    pub fn fields(path: &str) -> impl Iterator<Item = &str> {
        path.trim_start_matches('.').split('.')
    }
}

/// The condition of a type in a definition's status.
pub fn condition<'a>(definition: &'a Value, ty: &str) -> Option<&'a Value> {
    items(&definition["status"], "conditions").iter().find(|condition| text(condition, "type") == ty)
}

/// The row of an established definition's kind.
pub fn kind(definition: &Value) -> Option<Kind> {
    let is = |ty: &str| condition(definition, ty).is_some_and(|found| text(found, "status") == "True");
    if !is("Established") {
        return None;
    }
    let spec = get(definition, "spec")?;
    let names = definition["status"].get("acceptedNames")?;
    let (group, kind, plural) = (text(spec, "group"), text(names, "kind"), text(names, "plural"));
    if group.is_empty() || kind.is_empty() || plural.is_empty() {
        return None;
    }
    let mut given: Vec<&Value> = items(spec, "versions").iter().collect();
    given.sort_by(|a, b| compare_versions(text(b, "name"), text(a, "name")));
    let storage = given.iter().position(|version| flag(version, "storage"))?;
    let facts: Box<[Facts]> = given.iter().map(|version| facts(spec, version)).collect();
    let mut selectable: Vec<Box<str>> = facts.iter().flat_map(|facts| facts.selectable.to_vec()).collect();
    selectable.sort();
    selectable.dedup();
    let stamp = stamp(&given, storage, &selectable);
    let field_paths = selectable.iter().cloned().chain([format!("={stamp}").into()]).collect();
    let versions = given.iter().zip(&facts).map(|(version, facts)| {
        let name = text(version, "name");
        let (schema, root) = arena::build(&facts.schema, group, name, kind);
        let types = format!("\"kind\":\"{kind}\",\"apiVersion\":\"{}\",", api_version(group, name));
        Version { name: name.into(), schema: Arc::new(schema), root, types: types.into_bytes().into() }
    });
    let verbs = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
    Some(Kind {
        group: group.into(),
        kind: kind.into(),
        plural: plural.into(),
        singular: text(names, "singular").into(),
        short_names: texts(names, "shortNames").map(Into::into).collect(),
        categories: texts(names, "categories").map(Into::into).collect(),
        namespaced: text(spec, "scope") == "Namespaced",
        resource: format!("{plural}.{group}").into(),
        stored_group: group.into(),
        versions: versions.collect(),
        storage,
        verbs: verbs.map(Into::into).into(),
        subresources: subresources(&facts, group, kind),
        selectable: selectable.into(),
        field_paths,
        custom: true,
        definition: Some(Arc::new(Definition {
            list_kind: text(names, "listKind").into(),
            stamp: stamp.into(),
            terminating: is("Terminating"),
            versions: facts,
        })),
    })
}

fn facts(spec: &Value, version: &Value) -> Facts {
    let schema = version["schema"].get("openAPIV3Schema").map(Props::read).unwrap_or_default();
    let subresources = &version["subresources"];
    Facts {
        served: flag(version, "served"),
        schema,
        status: get(subresources, "status").is_some(),
        scale: get(subresources, "scale").map(|scale| Scale {
            spec_path: text(scale, "specReplicasPath").into(),
            status_path: text(scale, "statusReplicasPath").into(),
            selector_path: get(scale, "labelSelectorPath").and_then(Value::as_str).map(Into::into),
        }),
        columns: columns::read(items(version, "additionalPrinterColumns")),
        warning: flag(version, "deprecated").then(|| warning(spec, version).into()),
        selectable: items(version, "selectableFields")
            .iter()
            .map(|field| text(field, "jsonPath").trim_start_matches('.').into())
            .collect(),
    }
}

/// What upstream says of a deprecated version that says nothing itself.
fn warning(spec: &Value, version: &Value) -> String {
    if let Some(own) = version["deprecationWarning"].as_str() {
        return own.to_owned();
    }
    let (group, kind, name) = (text(spec, "group"), text_at(spec, &["names", "kind"]), text(version, "name"));
    let newer = items(spec, "versions")
        .iter()
        .filter(|other| flag(other, "served") && !flag(other, "deprecated"))
        .map(|other| text(other, "name"))
        .filter(|other| compare_versions(name, other).is_lt())
        .max_by(|a, b| compare_versions(a, b));
    match newer {
        Some(newer) => format!("{group}/{name} {kind} is deprecated; use {group}/{newer} {kind}"),
        None => format!("{group}/{name} {kind} is deprecated"),
    }
}

fn subresources(facts: &[Facts], group: &str, kind: &str) -> Box<[Subresource]> {
    let verbs = || ["get", "patch", "update"].map(Into::into).into();
    let mut all = Vec::new();
    if facts.iter().any(|facts| facts.status) {
        let (name, version) = ("status".into(), "".into());
        all.push(Subresource { name, kind: kind.into(), group: group.into(), version, verbs: verbs() });
    }
    if facts.iter().any(|facts| facts.scale.is_some()) {
        let (kind, group, version) = ("Scale".into(), "autoscaling".into(), "v1".into());
        all.push(Subresource { name: "scale".into(), kind, group, version, verbs: verbs() });
    }
    all.into()
}

/// A digest of the storage version's name and schema and of the selectable fields
/// (FNV-1a, 64 bits: it tells definitions of one kind apart and defends against nobody).
fn stamp(versions: &[&Value], storage: usize, selectable: &[Box<str>]) -> String {
    let version = &versions[storage];
    let shape = json!([version["name"], version["schema"], selectable]).to_string();
    let digest = shape.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{digest:016x}")
}
