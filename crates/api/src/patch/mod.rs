//! The patches that change a tree: JSON Patch (RFC 6902, with evanphx/json-patch's
//! quirks), JSON merge patch (RFC 7386) and strategic merge patch. Each takes the
//! current object and gives a [`Patched`] one, which [`Patched::decode`] turns into
//! a decoded object, as upstream does.
//!
//! Bounded: operations, copied bytes and depth have limits.

mod lists;
mod ops;
mod shape;
mod show;
mod strategic;
mod unstructured;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};
pub(crate) use show::go_text;

use crate::Kind;
use crate::decode::{self, Decoded};
use crate::field;
use crate::go::quoted;
use crate::schema::{Schema, TypeId};
use crate::status::Status;

/// Operations that one JSON Patch may hold.
pub const MAX_OPERATIONS: usize = 10_000;

/// A patched object.
#[derive(Debug, Clone, PartialEq)]
pub struct Patched {
    /// The object after the patch.
    pub value: Value,
    /// Strictness findings in the patch itself, as in [`Decoded::strict`].
    pub strict: Vec<String>,
    /// The patch, which errors show or tell what they show.
    patch: Box<[u8]>,
    way: Way,
}

/// How a patch changed an object, on which depends what reads the outcome and what
/// errors about it show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Operations on JSON.
    Json,
    /// A merge of JSON.
    Merge,
    /// A merge of trees.
    Strategic,
}

/// Why a patch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 400: the patch cannot be read or is malformed.
    #[error("{0}")]
    Bad(String),
    /// 413: more than [`MAX_OPERATIONS`].
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooMany(usize),
    /// 422: the patch is well-formed but does not apply, such as a failed test.
    #[error("{0}")]
    Unprocessable(String),
    /// 500, as upstream answers: the patch does not fit the object, such as a list
    /// item without its merge key.
    #[error("{0}")]
    Unfit(String),
}

impl Error {
    /// The failure as it leaves the house.
    pub fn to_status(&self) -> Status {
        match self {
            Self::Bad(message) => Status::bad_request(message),
            Self::TooMany(_) => Status::too_large(self.to_string()),
            Self::Unprocessable(message) => Status::other(422, "Invalid", message),
            Self::Unfit(message) => Status::other(500, "", message),
        }
    }
}

impl Patched {
    /// Decodes the patched object as the type `root`. What does not fit is a 422 that
    /// shows the patch; so is every strictness finding when `strict` is asked for,
    /// and otherwise they are in [`Decoded::strict`].
    pub fn decode(mut self, schema: &Schema, root: TypeId, strict: bool) -> Result<Decoded, Status> {
        if self.way == Way::Strategic
            && let Err(reason) = unstructured::convert(schema, root, &mut self.value)
        {
            return Err(invalid(&self.shown(schema, root), &reason));
        }
        self.decode_with(schema, root, strict, |value| decode::value(schema, root, value))
    }

    /// The same for an object of a version of a kind, built-in or custom.
    pub fn decode_as(self, kind: &Kind, version: usize, strict: bool) -> Result<Decoded, Status> {
        let (schema, root) = (&kind.versions[version].schema, kind.versions[version].root);
        if kind.custom {
            return self
                .decode_with(schema, root, strict, |value| decode::object_value(kind, version, value));
        }
        match self.other_kind(kind, version) {
            Some(reason) => Err(invalid(&self.shown(schema, root), &reason)),
            None if self.is_unversioned() => {
                self.decode_with(schema, root, strict, |value| Ok(unversioned(&value)))
            }
            None => self.decode(schema, root, strict),
        }
    }

    /// Whether the patch left an object that does not say its version.
    fn is_unversioned(&self) -> bool {
        self.way != Way::Strategic && crate::tree::text(&self.value, "apiVersion").is_empty()
    }

    /// What is wrong when the patch made it an object of another kind. (A strategic merge
    /// cannot: its outcome is read as what was there.)
    fn other_kind(&self, kind: &Kind, version: usize) -> Option<String> {
        if self.way == Way::Strategic {
            return None;
        }
        let mut given = [("apiVersion", ""), ("kind", "")];
        for (field, text) in &mut given {
            let value = self.value.get(*field).filter(|value| !value.is_null());
            *text = match value.map(|value| value.as_str().ok_or_else(|| decode::describe(value))) {
                Some(Err(what)) => {
                    return Some(format!(
                        "couldn't get version/kind; json parse error: json: cannot unmarshal {what} into Go struct field .{field} of type string"
                    ));
                }
                Some(Ok(text)) => text,
                None => "",
            };
        }
        let [(_, has_version), (_, has_kind)] = given;
        let fits = (has_version.is_empty() || *has_version == *kind.api_version(version))
            && (has_kind.is_empty() || *has_kind == *kind.kind);
        let reason = || match has_version {
            "" => decode::not_registered_internally(has_kind, &kind.group),
            version => decode::not_registered(has_kind, version),
        };
        (!fits).then(reason)
    }

    /// What errors show: a merged tree's patch, else the patched object.
    fn shown(&self, schema: &Schema, root: TypeId) -> String {
        let patch = || decode::untyped(&self.patch).map(|read| read.value).unwrap_or_default();
        match self.way {
            Way::Strategic => match patch() {
                Value::Object(patch) => show::go_map(&patch),
                _ => show::go_map(&Map::new()),
            },
            Way::Merge => shape::json(schema, root, &self.value, &shape::Touched::by_merge(&patch())),
            Way::Json => shape::json(schema, root, &self.value, &shape::Touched::by_operations(&patch())),
        }
    }

    fn decode_with(
        mut self,
        schema: &Schema,
        root: TypeId,
        strict: bool,
        decode: impl FnOnce(Value) -> Result<Decoded, decode::Error>,
    ) -> Result<Decoded, Status> {
        // Errors are rare, and only they show the object; those of what is not known are
        // found while it is read.
        let kept = (strict || self.way != Way::Strategic).then(|| self.value.clone());
        let mut decoded = match decode(self.value) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.value = kept.unwrap_or_default();
                return Err(invalid(&self.shown(schema, root), &error.to_string()));
            }
        };
        if self.way == Way::Strategic {
            decoded.strict.sort();
        }
        decoded.strict.splice(0..0, std::mem::take(&mut self.strict));
        match decoded.strict_error().filter(|_| strict) {
            Some(error) => {
                self.value = kept.unwrap_or_default();
                Err(invalid(&self.shown(schema, root), &error.to_string()))
            }
            None => Ok(decoded),
        }
    }
}

/// What upstream reads of an object that does not say its version: it takes it for one of the
/// internal version, whose types know none of the fields.
fn unversioned(object: &Value) -> Decoded {
    let fields = object.as_object().into_iter().flat_map(Map::keys);
    let unknown = fields.filter(|field| !["apiVersion", "kind"].contains(&field.as_str()));
    let strict = unknown.map(|field| format!("unknown field {}", quoted(field)));
    let strict = strict.take(decode::MAX_FINDINGS).collect();
    Decoded { value: Value::Object(Map::new()), strict, ..Decoded::default() }
}

fn invalid(shown: &str, reason: &str) -> Status {
    let path = field::Path::ROOT;
    Status::invalid("", "", "", &[field::Error::invalid(&path.child("patch"), shown, reason)])
}

/// Applies a JSON Patch.
pub fn json(object: Value, patch: &[u8]) -> Result<Patched, Error> {
    let text = String::from_utf8_lossy(patch);
    let (operations, strict) = ops::read(&text)?;
    if operations.len() > MAX_OPERATIONS {
        return Err(Error::TooMany(operations.len()));
    }
    let value = ops::apply(object, operations)?;
    Ok(Patched { value, strict, patch: patch.into(), way: Way::Json })
}

/// Applies a JSON merge patch.
pub fn merge(mut object: Value, body: &[u8]) -> Result<Patched, Error> {
    let (patch, strict) = read_object(body).map_err(|e| Error::Bad(format!("error decoding patch: {e}")))?;
    if body.trim_ascii() == b"null" {
        return Err(Error::Bad("Invalid JSON Patch".into()));
    }
    if let Value::Object(target) = &mut object {
        merge_into(target, patch);
    }
    Ok(Patched { value: object, strict, patch: body.into(), way: Way::Merge })
}

/// Applies a strategic merge patch to an object of the type `root`. Custom kinds
/// have none: their caller answers 415.
pub fn strategic(schema: &Schema, root: TypeId, object: Value, body: &[u8]) -> Result<Patched, Error> {
    let (patch, strict) = read_object(body).map_err(Error::Bad)?;
    let Value::Object(original) = object else { return Err(Error::Bad("invalid JSON document".into())) };
    let merged = strategic::apply(schema, root, original, patch)?;
    Ok(Patched { value: Value::Object(merged), strict, patch: body.into(), way: Way::Strategic })
}

/// A patch that is an object, with its duplicate fields.
fn read_object(patch: &[u8]) -> Result<(Map<String, Value>, Vec<String>), String> {
    let read = decode::untyped(patch).map_err(|e| e.to_string())?;
    match read.value {
        Value::Object(map) => Ok((map, read.strict)),
        Value::Null => Ok((Map::new(), read.strict)),
        other => {
            let what = decode::describe(&other);
            Err(format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"))
        }
    }
}

fn merge_into(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match (target.get_mut(&key), value) {
            (_, Value::Null) => drop(target.remove(&key)),
            (Some(Value::Object(inner)), Value::Object(patch)) => merge_into(inner, patch),
            (_, mut value) => {
                prune_nulls(&mut value);
                target.insert(key, value);
            }
        }
    }
}

/// Nulls within a value that is new: gone from objects, kept in lists.
fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}
