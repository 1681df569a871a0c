//! The rows of the built-in kinds. `kinds.txt` is written by `cargo xtask facts` from
//! upstream's published discovery and never by hand; what discovery does not say
//! (field selectors, the form in which objects are stored) is in the tables here.
//!
//! Its lines are
//!
//! ```text
//! = apps/v1                                              group and version
//! deployments deployment Deployment namespaced * short:deploy in:all
//!  scale Scale get,patch,update autoscaling/v1           a subresource of the row above
//! ```
//!
//! with plural, singular, kind, scope, verbs (`*` for all eight), short names and
//! categories; a subresource has the kind of its bodies, verbs, and that kind's group
//! and version when it is of another group.

pub(crate) mod selectable;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::{Kind, Kinds, Subresource, Version, api_version, group_version};
use crate::schema::Schema;

pub use selectable::{field_paths, is_field};

/// Verbs of a resource that is stored, in discovery's order.
const ALL_VERBS: &str = "create,delete,deletecollection,get,list,patch,update,watch";

/// Every kind that a default kube-apiserver v1.36 serves, in discovery's order.
pub fn builtin() -> Kinds {
    read(include_str!("kinds.txt"), &crate::facts::schema()).into_iter().map(Arc::new).collect()
}

fn read(text: &str, schema: &Arc<Schema>) -> Vec<Kind> {
    let roots = roots(schema);
    let mut kinds: Vec<Kind> = Vec::new();
    let (mut group, mut version) = ("", "");
    // Rows of a further version of a kind repeat its subresources.
    let mut repeated = false;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(gv) = line.strip_prefix("= ") {
            (group, version) = group_version(gv);
        } else if let Some(sub) = line.strip_prefix(' ') {
            if !repeated {
                let kind = kinds.last_mut().expect("a row comes before its subresources");
                let sub = subresource(sub, kind, version);
                kind.subresources = kind.subresources.iter().cloned().chain([sub]).collect();
            }
        } else {
            let kind = row(line, group);
            let root = roots.get(&(group, version, &*kind.kind));
            let root = *root.expect("every kind's type is among the facts");
            let types =
                format!("\"kind\":\"{}\",\"apiVersion\":\"{}\",", kind.kind, api_version(group, version));
            let version = Version {
                name: version.into(),
                schema: schema.clone(),
                root,
                types: types.into_bytes().into(),
            };
            let same = |k: &&mut Kind| k.group == kind.group && k.plural == kind.plural;
            if let Some(known) = kinds.iter_mut().find(same) {
                known.versions = known.versions.iter().cloned().chain([version]).collect();
                repeated = true;
            } else {
                kinds.push(Kind { versions: [version].into(), ..kind });
                repeated = false;
            }
        }
    }
    kinds
}

fn roots(schema: &Schema) -> BTreeMap<(&str, &str, &str), crate::schema::TypeId> {
    let mut roots = BTreeMap::new();
    for (id, object) in schema.objects() {
        for (group, version, kind) in &object.group_version_kinds {
            roots.insert((&**group, &**version, &**kind), id);
        }
    }
    roots
}

fn row(line: &str, group: &str) -> Kind {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (plural, singular, kind, scope, verbs) = (word(), word(), word(), word(), word());
    let (mut short_names, mut categories) = (Vec::new(), Vec::new());
    for flag in words {
        match flag.split_once(':') {
            Some(("short", names)) => short_names.extend(names.split(',').map(Into::into)),
            Some(("in", names)) => categories.extend(names.split(',').map(Into::into)),
            _ => unreachable!("unknown word {flag:?} in the table of kinds"),
        }
    }
    // Events of both groups are the same objects, stored in the core group's form.
    let stored_group = if kind == "Event" { "" } else { group };
    let resource = if stored_group.is_empty() { plural.into() } else { format!("{plural}.{stored_group}") };
    let rows = selectable::rows(group, plural);
    Kind {
        group: group.into(),
        kind: kind.into(),
        plural: plural.into(),
        singular: singular.into(),
        short_names: short_names.into(),
        categories: categories.into(),
        namespaced: scope == "namespaced",
        resource: resource.into(),
        stored_group: stored_group.into(),
        versions: Box::default(),
        storage: 0,
        verbs: list(if verbs == "*" { ALL_VERBS } else { verbs }),
        subresources: Box::default(),
        selectable: rows.iter().filter(|row| !row.0.is_empty()).map(|row| row.0.into()).collect(),
        field_paths: rows.iter().map(|row| row.1.into()).collect(),
        custom: false,
        definition: None,
    }
}

fn subresource(line: &str, parent: &Kind, version: &str) -> Subresource {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (name, kind, verbs, gv) = (word(), word(), word(), word());
    let (group, version) = if gv.is_empty() { (&*parent.group, version) } else { group_version(gv) };
    Subresource {
        name: name.into(),
        kind: kind.into(),
        group: group.into(),
        version: version.into(),
        verbs: list(verbs),
    }
}

fn list(text: &str) -> Box<[Box<str>]> {
    text.split(',').map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_uniqueness() {
        let kinds = builtin();
        assert_eq!(kinds.iter().count(), 67, "a default kube-apiserver serves that many resources");
        let mut seen = std::collections::BTreeSet::new();
        for kind in kinds.iter() {
            assert!(seen.insert((kind.group.clone(), kind.plural.clone())), "{} twice", kind.resource);
            for (index, version) in kind.versions.iter().enumerate() {
                let root = version.schema.object(version.root);
                assert!(root.name.ends_with(&format!(".{}", kind.kind)), "{}", root.name);
                assert_eq!(kinds.kind(&kind.group, &version.name, &kind.kind).unwrap().1, index);
                if kind.stored() {
                    assert!(root.field("metadata").is_some(), "{}", root.name);
                }
            }
        }
    }

    #[test]
    fn rows_say_what_discovery_says() {
        let kinds = builtin();
        let (pods, _) = kinds.resource("", "v1", "pods").unwrap();
        assert_eq!((&*pods.kind, &*pods.singular, pods.namespaced), ("Pod", "pod", true));
        assert_eq!(*pods.short_names, ["po".into()]);
        assert_eq!(&*pods.subresource("eviction").unwrap().group, "policy");
        assert_eq!(&*pods.versions[0].types, br#""kind":"Pod","apiVersion":"v1","#);
        let (scalers, index) = kinds.resource("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        assert_eq!((index, scalers.versions.len(), scalers.storage), (1, 2, 0));
        assert_eq!(scalers.subresources.len(), 1);
        let (reviews, _) = kinds.resource("authentication.k8s.io", "v1", "tokenreviews").unwrap();
        assert!(!reviews.stored());
    }

    #[test]
    fn events_of_both_groups_are_the_same_objects() {
        let kinds = builtin();
        let (core, _) = kinds.resource("", "v1", "events").unwrap();
        let (other, _) = kinds.resource("events.k8s.io", "v1", "events").unwrap();
        assert_eq!((&core.resource, core.is_alias()), (&other.resource, false));
        assert!(other.is_alias());
        assert!(!kinds.stored("events").unwrap().is_alias());
        assert_eq!(core.field_paths, other.field_paths);
        assert_eq!(core.selectable.len(), other.selectable.len() + 1);
    }
}
