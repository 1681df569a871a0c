//! What the server itself writes into `metadata`, and what of it a client may not
//! change. (After apimachinery's `rest.BeforeCreate` and `rest.BeforeUpdate`.)

use carrack_api::status::Status;
use carrack_api::{Key, Kind, Record, Value};
use serde_json::Map;

use super::behaviour::{self, Generation};
use super::call::Call;
use crate::clock::rfc3339;

/// Letters of generated suffixes: no vowels, nothing that is easily confused.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters of a name that come before a generated suffix at most.
const GENERATED_BASE: usize = 58;

/// The object's metadata, made when absent.
pub(crate) fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let top = object.as_object_mut().expect("made an object above");
    let meta = top.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !meta.is_object() {
        *meta = Value::Object(Map::new());
    }
    meta.as_object_mut().expect("made an object above")
}

/// A text of the object's metadata; empty when absent.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"].get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Sets a field of the object's metadata, or removes it.
pub(crate) fn set(object: &mut Value, field: &str, value: Option<Value>) {
    match value {
        Some(value) => of(object).insert(field.into(), value),
        None => of(object).remove(field),
    };
}

/// Whether `metadata.deletionTimestamp` is set.
pub(crate) fn deleting(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some_and(|at| !at.is_null())
}

/// The object's finalizers.
pub(crate) fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]
        .get("finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Whether the object has finalizers.
pub(crate) fn has_finalizers(object: &Value) -> bool {
    finalizers(object).next().is_some()
}

/// Fits the object's namespace to the request's.
///
/// # Errors
/// 400 when they differ.
pub(crate) fn settle_namespace(call: &Call, object: &mut Value) -> Result<(), Status> {
    let meta = of(object);
    if !call.kind.namespaced {
        meta.remove("namespace");
        return Ok(());
    }
    let given = meta.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if given.is_empty() {
        meta.insert("namespace".into(), (&*call.namespace).into());
    } else if given != &*call.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Fills in the name of an object that is made by its path.
///
/// # Errors
/// As [`check_name`].
pub(crate) fn settle_name(call: &Call, object: &mut Value) -> Result<(), Status> {
    if text(object, "name").is_empty() {
        of(object).insert("name".into(), (&*call.name).into());
    }
    check_name(call, object)
}

/// Checks the object's name against the one in the path.
///
/// # Errors
/// 400 when it is absent or another one.
pub(crate) fn check_name(call: &Call, object: &Value) -> Result<(), Status> {
    let given = text(object, "name");
    if given.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            call.name
        )));
    }
    if given != &*call.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            call.name
        )));
    }
    Ok(())
}

/// `base` with five random letters behind, cut so that it stays a name.
pub(crate) fn generated_name(base: &str) -> String {
    let mut end = base.len().min(GENERATED_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    let random = uuid::Uuid::new_v4();
    let mut bits = u128::from_be_bytes(*random.as_bytes()) >> 64;
    for _ in 0..5 {
        name.push(ALPHABET[(bits % ALPHABET.len() as u128) as usize] as char);
        bits /= ALPHABET.len() as u128;
    }
    name
}

/// Stamps a new object: uid, creation time, generation; clears what only the server
/// sets.
pub(crate) fn stamp_new(call: &Call, object: &mut Value) {
    let meta = of(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"] {
        meta.remove(field);
    }
    // (Kinds without a generation keep what they were given.)
    meta.insert("creationTimestamp".into(), rfc3339(call.now).into());
    meta.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    if !matches!(behaviour::generation(&call.kind), Generation::None | Generation::Later) {
        meta.insert("generation".into(), 1.into());
    }
}

/// Carries over from the old object what an update may leave out or may not touch.
pub(crate) fn stamp_update(object: &mut Value, old: &Value) {
    let old = old["metadata"].as_object();
    let meta = of(object);
    let mut keep = |field: &str, only_if_absent: bool| {
        if only_if_absent && meta.get(field).is_some_and(|value| !value.is_null() && value != "") {
            return;
        }
        match old.and_then(|old| old.get(field)) {
            Some(value) => meta.insert(field.into(), value.clone()),
            None => meta.remove(field),
        };
    };
    keep("uid", true);
    // Without one, the update is meant for whatever is there.
    keep("resourceVersion", true);
    for field in ["creationTimestamp", "generation", "selfLink"] {
        keep(field, false);
    }
    // One that the server did not set is for validation to refuse.
    if old.is_some_and(|old| old.contains_key("deletionTimestamp")) {
        keep("deletionTimestamp", false);
    }
    keep("deletionGracePeriodSeconds", true);
}

/// Raises the generation if the update calls for it.
pub(crate) fn raise_generation(call: &Call, object: &mut Value, old: &Value) {
    if behaviour::generation(&call.kind).raised(object, old) {
        bump_generation(object);
    }
}

/// Raises the generation by one.
pub(crate) fn bump_generation(object: &mut Value) {
    let meta = of(object);
    let generation = meta.get("generation").and_then(Value::as_i64).unwrap_or(0);
    meta.insert("generation".into(), (generation + 1).into());
}

/// Sets deletion time and grace.
pub(crate) fn mark_deleted(object: &mut Value, at: jiff::Timestamp, grace: i64) {
    let meta = of(object);
    meta.insert("deletionTimestamp".into(), rfc3339(at).into());
    meta.insert("deletionGracePeriodSeconds".into(), grace.into());
}

/// Checks the `resourceVersion` of a replacement against what is stored.
///
/// # Errors
/// 409 for another version, 400 for a resourceVersion that is no number, 422
/// for a missing one where the kind demands it.
pub(crate) fn check_replacement(call: &Call, object: &Value, current: &Record) -> Result<(), Status> {
    let version = text(object, "resourceVersion");
    if version.is_empty() || version == "0" {
        if !behaviour::unconditional_update(&call.kind) {
            let path = carrack_api::field::Path::ROOT;
            let path = path.child("metadata");
            let path = path.child("resourceVersion");
            let error = carrack_api::field::Error::invalid(&path, 0, "must be specified for an update");
            // Upstream says the resource here, not the kind.
            return Err(Status::invalid(&call.kind.group, &call.kind.plural, &call.name, &[error]));
        }
    } else {
        let version: u64 = version.parse().map_err(|_| {
            Status::bad_request(format!("invalid resource version {version:?}: not a number"))
        })?;
        if version != current.revision {
            return Err(call.modified());
        }
    }
    Ok(())
}

/// Checks the `uid` of a replacement, by which a client says which object it means. (A
/// patch changes what it knows by name; a uid in it is a field like others.)
///
/// # Errors
/// 409 for another uid.
pub(crate) fn check_uid(call: &Call, object: &Value, current: &str) -> Result<(), Status> {
    let uid = text(object, "uid");
    if !uid.is_empty() && uid != current {
        let detail = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, \
             AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {current}",
            storage_key(&call.kind, &call.key()),
        );
        return Err(Status::conflict(&call.kind.group, &call.kind.plural, &call.name, &detail));
    }
    Ok(())
}

/// Where upstream would store an object, as its errors say.
fn storage_key(kind: &Kind, key: &Key) -> String {
    let place = match (&*kind.group, &*kind.plural) {
        ("", "replicationcontrollers") => "controllers".to_owned(),
        ("", "nodes") => "minions".to_owned(),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "services") => "services/specs".to_owned(),
        ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
        (group, plural)
            if kind.custom || ["apiextensions.k8s.io", "apiregistration.k8s.io"].contains(&group) =>
        {
            format!("{group}/{plural}")
        }
        (_, plural) => plural.to_owned(),
    };
    match key.namespace() {
        "" => format!("/registry/{place}/{}", key.name()),
        namespace => format!("/registry/{place}/{namespace}/{}", key.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn generated_names_stay_names() {
        let name = generated_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name.bytes().skip(4).all(|b| ALPHABET.contains(&b)), "{name}");
        assert_eq!(generated_name(&"x".repeat(300)).len(), 63);
        assert_ne!(generated_name("a"), generated_name("a"));
    }

    #[test]
    fn updates_keep_what_the_server_wrote() {
        let old = json!({"metadata": {"uid": "u", "creationTimestamp": "t", "generation": 3}});
        let mut new = json!({"metadata": {"generation": 9, "name": "n"}});
        stamp_update(&mut new, &old);
        assert_eq!(
            new,
            json!({"metadata": {"uid": "u", "creationTimestamp": "t", "generation": 3, "name": "n"}})
        );
    }
}
