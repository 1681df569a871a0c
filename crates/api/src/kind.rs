//! The table of kinds. Routes, discovery, OpenAPI, printer columns, storage keys
//! and contract tests all come from a [`Kind`]; a custom resource is one more of
//! them, added at run time.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use crate::crd::{Definition, Facts};
use crate::record::Header;
use crate::schema::{Schema, TypeId};

/// One resource: its names, versions and what it serves.
#[derive(Debug, Clone)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: Box<str>,
    /// `Deployment`.
    pub kind: Box<str>,
    /// `deployments`.
    pub plural: Box<str>,
    /// `deployment`.
    pub singular: Box<str>,
    /// `deploy`.
    pub short_names: Box<[Box<str>]>,
    /// `all`.
    pub categories: Box<[Box<str>]>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// First part of store keys: `deployments.apps`, `pods`. Two rows share one when
    /// the same objects are served in two groups (Event): the first row of the table
    /// is the one in whose form they are stored, see [`Kind::stored_group`].
    pub resource: Box<str>,
    /// Group of the stored form; differs from `group` only for the second row of
    /// objects served in two groups, whose reads and writes convert.
    pub stored_group: Box<str>,
    /// Served versions, preferred first.
    pub versions: Box<[Version]>,
    /// Index in `versions` of the one in which objects are stored.
    pub storage: usize,
    /// Verbs in discovery's words: create, delete, deletecollection, get, list,
    /// patch, update, watch. A review kind has only create and is never stored.
    pub verbs: Box<[Box<str>]>,
    /// Subresources such as status, scale, log.
    pub subresources: Box<[Subresource]>,
    /// Labels of field selectors beyond metadata.name and metadata.namespace, in the
    /// order of [`Header::fields`](crate::Header::fields).
    pub selectable: Box<[Box<str>]>,
    /// Where their values are found in the stored form, to be given to
    /// [`Content::encode`](crate::Content::encode): nearly always the label itself, but
    /// `a.b|c.d=false` takes the first non-empty of several paths and a default.
    pub field_paths: Box<[Box<str>]>,
    /// Whether it came from a CustomResourceDefinition.
    pub custom: bool,
    /// What its CustomResourceDefinition says of it.
    pub definition: Option<Arc<Definition>>,
}

/// A version of a kind.
#[derive(Debug, Clone)]
pub struct Version {
    /// `v1`, `v1beta1`.
    pub name: Box<str>,
    /// Arena of the version's types.
    pub schema: Arc<Schema>,
    /// The object's own type in that arena.
    pub root: TypeId,
    /// Spliced before a record: `"kind":"Pod","apiVersion":"v1",`.
    pub types: Box<[u8]>,
}

/// A subresource of a kind.
#[derive(Debug, Clone)]
pub struct Subresource {
    /// `status`, `scale`, `binding`, `log`, `exec`, `token`, …
    pub name: Box<str>,
    /// Kind of its bodies, such as `Scale` (with its group and version), when it
    /// differs from the parent's.
    pub kind: Box<str>,
    /// Group of that kind.
    pub group: Box<str>,
    /// Version of that kind.
    pub version: Box<str>,
    /// Verbs, as in discovery.
    pub verbs: Box<[Box<str>]>,
}

/// By plural or kind: the kinds and versions of that name, in any group.
type Index = HashMap<Box<str>, Vec<(usize, usize)>>;

/// All kinds that are served. Immutable; a new kind makes a new table.
#[derive(Debug, Clone, Default)]
pub struct Kinds {
    kinds: Vec<Arc<Kind>>,
    by_resource: Index,
    by_kind: Index,
}

// === impl Kind ===

impl Kind {
    /// `v1` or `apps/v1` for version `index`.
    pub fn api_version(&self, index: usize) -> String {
        api_version(&self.group, &self.versions[index].name)
    }

    /// The subresource of a name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| &*sub.name == name)
    }

    /// Whether the stored form is that of another group (`events.k8s.io` Events).
    pub fn is_alias(&self) -> bool {
        self.stored_group != self.group
    }

    /// Whether objects are kept in the store (all but reviews and the like).
    pub fn stored(&self) -> bool {
        self.verbs.iter().any(|verb| &**verb == "get")
    }

    /// `DeploymentList`.
    pub fn list_kind(&self) -> String {
        match &self.definition {
            Some(definition) => definition.list_kind.to_string(),
            None => format!("{}List", self.kind),
        }
    }

    /// The verbs that discovery tells: fewer while the definition is being deleted.
    pub fn advertised(&self) -> Vec<&str> {
        let terminating = self.definition.as_ref().is_some_and(|definition| definition.terminating);
        let hidden = |verb: &str| terminating && matches!(verb, "create" | "patch" | "update");
        self.verbs.iter().map(|verb| &**verb).filter(|verb| !hidden(verb)).collect()
    }

    /// What a definition says of version `index`.
    pub fn facts(&self, index: usize) -> Option<&Facts> {
        self.definition.as_ref().and_then(|definition| definition.versions.get(index))
    }

    /// Whether version `index` is served; one that is not may still be what is stored.
    pub fn is_served(&self, index: usize) -> bool {
        self.facts(index).is_none_or(|facts| facts.served)
    }

    /// The version that clients prefer.
    pub fn preferred(&self) -> Option<&Version> {
        self.versions.iter().enumerate().find(|(index, _)| self.is_served(*index)).map(|(_, version)| version)
    }

    /// The subresources of version `index`.
    pub fn subresources_of(&self, index: usize) -> impl Iterator<Item = &Subresource> {
        let facts = self.facts(index);
        self.subresources.iter().filter(move |sub| match (facts, &*sub.name) {
            (Some(facts), "status") => facts.status,
            (Some(facts), "scale") => facts.scale.is_some(),
            _ => true,
        })
    }

    /// The subresource of a name, if version `index` has it.
    pub fn subresource_of(&self, index: usize, name: &str) -> Option<&Subresource> {
        self.subresources_of(index).find(|sub| &*sub.name == name)
    }

    /// Whether an object is stored in the form in which the present definition would
    /// store it. Others have to be brought into it whenever they are read.
    pub fn is_settled(&self, header: &Header) -> bool {
        self.definition.as_ref().is_none_or(|definition| header.fields.last() == Some(&definition.stamp))
    }
}

// === impl Kinds ===

impl Kinds {
    /// A table with one more kind, or with its newer definition in place of the
    /// one with the same resource.
    pub fn with(&self, kind: Kind) -> Self {
        let mut kinds = self.kinds.clone();
        match kinds.iter_mut().find(|known| known.resource == kind.resource) {
            Some(known) => *known = Arc::new(kind),
            None => kinds.push(Arc::new(kind)),
        }
        Self::from_iter(kinds)
    }

    /// A table without the kind of a resource (`deployments.apps`).
    pub fn without(&self, resource: &str) -> Self {
        Self::from_iter(self.kinds.iter().filter(|k| &*k.resource != resource).cloned())
    }

    /// By path: group, version and plural. Returns the kind and the version's index.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<(&Arc<Kind>, usize)> {
        self.look_up(&self.by_resource, group, version, plural)
    }

    /// By object: group, version and kind.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<(&Arc<Kind>, usize)> {
        self.look_up(&self.by_kind, group, version, kind)
    }

    /// By the first part of a store key: `pods`, `deployments.apps`.
    pub fn stored(&self, resource: &str) -> Option<&Arc<Kind>> {
        self.kinds.iter().find(|kind| &*kind.resource == resource)
    }

    /// Every kind, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.iter()
    }

    fn look_up(&self, names: &Index, group: &str, version: &str, name: &str) -> Option<(&Arc<Kind>, usize)> {
        names.get(name)?.iter().find_map(|&(at, index)| {
            let kind = &self.kinds[at];
            (*kind.group == *group && *kind.versions[index].name == *version).then_some((kind, index))
        })
    }
}

impl FromIterator<Arc<Kind>> for Kinds {
    fn from_iter<I: IntoIterator<Item = Arc<Kind>>>(kinds: I) -> Self {
        let kinds: Vec<_> = kinds.into_iter().collect();
        let (mut by_resource, mut by_kind) = (Index::new(), Index::new());
        for (at, kind) in kinds.iter().enumerate() {
            for index in (0..kind.versions.len()).filter(|index| kind.is_served(*index)) {
                by_resource.entry(kind.plural.clone()).or_default().push((at, index));
                by_kind.entry(kind.kind.clone()).or_default().push((at, index));
            }
        }
        Self { kinds, by_resource, by_kind }
    }
}

/// `v1` for the core group, `apps/v1` otherwise.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Splits `apps/v1` into group and version; the core group is empty.
pub fn group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Orders versions by how much clients prefer them: `v1` over `v2beta1` over
/// `v1alpha1`, and any of these over names of another shape, which go by the alphabet.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

/// Stability, major and minor number of a version of the usual shape.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number = |text: &str| if text.starts_with('0') { None } else { text.parse().ok() };
    let major = number(&rest[..end])?;
    let rest = &rest[end..];
    match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        (Some(minor), _) => Some((1, major, number(minor)?)),
        (_, Some(minor)) => Some((0, major, number(minor)?)),
        _ => rest.is_empty().then_some((2, major, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_stability() {
        let mut versions = ["v1alpha1", "foo", "v2beta1", "v10", "v1", "v01", "v2", "v1beta2", "bar"];
        versions.sort_by(|a, b| compare_versions(b, a));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "bar", "foo", "v01"]);
    }
}
