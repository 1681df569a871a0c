//! Ownership through the scale subresource: `spec.replicas` of a Scale is a field of
//! the object behind it, and whoever owns the one owns the other.

use serde_json::Value;

use super::entries::{self, Entry};
use super::set;

/// apiVersion of Scale.
const SCALE: &str = "autoscaling/v1";
/// Where a Scale has its replicas.
const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// The managedFields of an object's Scale: those who own the replicas, at `path` in
/// the object.
pub fn scale_to_subresource(object: &Value, path: &[&str]) -> Option<Value> {
    let owners = entries::stored(Some(object)).into_iter().filter(|entry| set::has(&entry.fields, path));
    let fields = || set::one(&REPLICAS);
    let owners = owners.map(|entry| Entry { api_version: SCALE.into(), fields: fields(), ..entry });
    entries::into_list(owners.collect())
}

/// The object's managedFields after a write to its Scale, which left `scale` as the
/// Scale's managedFields. `api_version` is the object's.
pub fn scale_to_parent(
    object: &Value,
    scale: Option<&Value>,
    path: &[&str],
    api_version: &str,
) -> Option<Value> {
    let mut owners = scale.map(|list| entries::given(list).unwrap_or_default()).unwrap_or_default();
    let mut kept = Vec::new();
    for mut entry in entries::stored(Some(object)) {
        if set::has(&entry.fields, path) {
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
