//! Ownership through the scale subresource: `spec.replicas` of a Scale is a field of
//! the object behind it, and whoever owns the one owns the other.

use serde_json::Value;

use super::entries::{self, Entry};
use super::set;

/// apiVersion of Scale.
const SCALE: &str = "autoscaling/v1";
/// Where a Scale has its replicas.
const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// Where objects have their replicas, by apiVersion; an empty path for a version without
/// a Scale.
pub type ReplicasPaths<'a> = Vec<(String, Vec<&'a str>)>;

fn path<'a>(paths: &'a ReplicasPaths<'_>, api_version: &str) -> Option<&'a [&'a str]> {
    paths.iter().find(|(known, _)| known == api_version).map(|(_, path)| &**path)
}

/// Whether an entry has the field at a path.
fn owns(entry: &Entry, path: &[&str]) -> bool {
    !path.is_empty() && set::has(&entry.fields, path)
}

/// The managedFields of an object's Scale: those who own the replicas.
pub fn scale_to_subresource(object: &Value, paths: &ReplicasPaths<'_>) -> Option<Value> {
    let is_owner = |entry: &Entry| path(paths, &entry.api_version).is_some_and(|path| owns(entry, path));
    let owners = entries::stored(Some(object)).into_iter().filter(is_owner);
    let fields = || set::one(&REPLICAS);
    let owners = owners.map(|entry| Entry { api_version: SCALE.into(), fields: fields(), ..entry });
    entries::into_list(owners.collect())
}

/// The object's managedFields after a write to its Scale, which left `scale` as the
/// Scale's managedFields. `api_version` is the object's.
pub fn scale_to_parent(
    object: &Value,
    scale: Option<&Value>,
    paths: &ReplicasPaths<'_>,
    api_version: &str,
) -> Option<Value> {
    let mut owners = scale.map(|list| entries::given(list).unwrap_or_default()).unwrap_or_default();
    let mut kept = Vec::new();
    for mut entry in entries::stored(Some(object)) {
        // Of a version that is not served any more.
        let Some(path) = path(paths, &entry.api_version) else { continue };
        if owns(&entry, path) {
            // A manager of updates is told apart by its apiVersion, and that of a Scale is
            // never the object's: upstream makes a new entry for it.
            match owners.iter().position(|owner| owner.is_of(&entry)) {
                Some(at) => drop(owners.swap_remove(at)),
                None => set::subtract(&mut entry.fields, &set::one(path)),
            }
        }
        if !entry.fields.is_empty() {
            kept.push(entry);
        }
    }
    let path = path(paths, api_version).unwrap_or(&[]);
    // As upstream has it, who comes to own the replicas so does without a time.
    let new = owners.into_iter().filter(|owner| set::has(&owner.fields, &REPLICAS)).map(|owner| Entry {
        api_version: api_version.to_owned(),
        time: String::new(),
        fields: set::one(path),
        ..owner
    });
    kept.extend(new);
    entries::into_list(kept)
}
