//! Strict, schema-driven decoding of request bodies into the one tree.
//!
//! What comes out is what upstream stores after a round trip through its Go
//! structs: unknown fields dropped (and reported with their path), zero values of
//! `omitempty` fields gone, value structs present, quantities and times in canonical
//! form. Errors are worded as `sigs.k8s.io/json` words them. Nothing is defaulted or
//! validated here. Trees are at most 128 levels deep and hold at most 50,000 objects and
//! lists.

mod empties;
mod path;
mod presence;
mod seed;
mod syntax;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer};
use serde_json::Value;

use crate::Kind;
use crate::crd;
use crate::go::quoted;
use crate::schema::{Schema, Ty, TypeId};
use crate::status::Status;
use seed::Context;

pub use empties::Empties;
pub(crate) use path::describe;
pub use presence::forget_empty;
pub(crate) use presence::{complete, settle, zero};
pub(crate) use seed::{MAX_COLLECTIONS, MAX_FINDINGS, TOO_MANY, base64_error};

/// A decoded body.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decoded {
    /// The object in canonical form.
    pub value: Value,
    /// Strictness findings in the order of the body, at most 100, such as
    /// `unknown field "spec.foo"` and `duplicate field "spec.bar"`. Each is the text
    /// of a warning; see [`Decoded::strict_error`] for the error.
    pub strict: Vec<String>,
    /// Where the body had empty lists and maps.
    pub empties: Empties,
}

/// Why a body could not be decoded. Displays as upstream's decoder words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kind is known; the rest does not fit it.
    #[error("{0}")]
    Unfit(String),
    /// Not even apiVersion and kind can be read.
    #[error("{reason}")]
    Unreadable {
        /// What the parser says.
        reason: String,
        /// The first bytes of the body, as upstream quotes them.
        summary: String,
    },
}

/// Bytes of a body that an error shows.
const SHOWN: usize = 8 << 10;

/// Where upstream's code keeps its types, as its errors say.
pub const SCHEME: &str = "pkg/runtime/scheme.go:111";

/// What is said of a body of a kind that there is not.
pub fn not_registered(kind: &str, api_version: &str) -> String {
    let (kind, version) = (quoted(kind), quoted(api_version));
    format!("no kind {kind} is registered for version {version} in scheme {SCHEME:?}")
}

/// The same of an object that says no version, which upstream takes for its internal one.
pub fn not_registered_internally(kind: &str, group: &str) -> String {
    let (kind, group) = (quoted(kind), quoted(group));
    format!("no kind {kind} is registered for the internal version of group {group} in scheme {SCHEME:?}")
}

impl Decoded {
    /// `strict decoding error: unknown field "a", duplicate field "b"`, when there
    /// is anything to refuse under `fieldValidation=Strict`.
    pub fn strict_error(&self) -> Option<Error> {
        let text = || format!("strict decoding error: {}", self.strict.join(", "));
        (!self.strict.is_empty()).then(|| Error::Unfit(text()))
    }
}

impl Error {
    /// 400: `Deployment in version "v1" cannot be handled as a Deployment: …`, or
    /// `the object provided is unrecognized (must be of type Deployment): …`.
    pub fn to_status(&self, kind: &str, version: &str) -> Status {
        Status::bad_request(match self {
            Self::Unfit(reason) => {
                format!("{kind} in version {version:?} cannot be handled as a {kind}: {reason}")
            }
            Self::Unreadable { summary, .. } => {
                format!("the object provided is unrecognized (must be of type {kind}): {self} ({summary})")
            }
        })
    }

    /// A body that does not say what it is.
    fn missing_kind(body: &[u8]) -> Self {
        let shown = &body[..body.len().min(SHOWN)];
        Self::unreadable(format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(shown)), body)
    }

    /// The same about a body of which not even the kind can be read.
    pub fn of_unknown(self, body: &[u8]) -> Self {
        match self {
            Self::Unfit(reason) => Self::unreadable(reason, body),
            unreadable => unreadable,
        }
    }

    fn unreadable_json(reason: &str, body: &[u8]) -> Self {
        Self::unreadable(format!("couldn't get version/kind; json parse error: {reason}"), body)
    }

    /// A body that does not even say what it is.
    pub fn unreadable(reason: String, body: &[u8]) -> Self {
        Self::Unreadable { reason, summary: summary(body) }
    }
}

/// Decodes a JSON body as the type `root`.
pub fn json(schema: &Schema, root: TypeId, body: &[u8]) -> Result<Decoded, Error> {
    // Go replaces invalid UTF-8 where serde_json would refuse it.
    let text = String::from_utf8_lossy(body);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let unreadable = || Error::unreadable_json(&syntax::describe(text.as_bytes()), body);
    match run(schema, root, &mut deserializer) {
        Ok(Ok(decoded)) => deserializer.end().map(|()| decoded).map_err(|_| unreadable()),
        // Upstream reads apiVersion and kind first: what it cannot find them in is worse.
        Ok(Err(error)) => Err(type_meta(body).err().unwrap_or(error)),
        Err(_) => Err(unreadable()),
    }
}

/// Decodes a YAML body (one document) as the type `root`.
pub fn yaml(schema: &Schema, root: TypeId, body: &[u8]) -> Result<Decoded, Error> {
    let (document, finding) = document(body)?;
    let mut decoded = value(schema, root, document)?;
    decoded.strict.splice(0..0, finding);
    Ok(decoded)
}

/// A YAML body as a tree, and what stands twice in it.
fn document(body: &[u8]) -> Result<(Value, Option<String>), Error> {
    let document = match crate::yaml::read(body) {
        Ok(document) => document,
        Err(error) => return Err(Error::unreadable(error.to_string(), body)),
    };
    if let Some(reason) = wrong_types(&document.value) {
        return Err(Error::unreadable_json(&reason, body));
    }
    let list = document.duplicates.join("\n  ");
    let finding = (!document.duplicates.is_empty()).then(|| format!("yaml: unmarshal errors:\n  {list}"));
    Ok((document.value, finding))
}

/// Decodes a tree, such as the outcome of a patch.
pub fn value(schema: &Schema, root: TypeId, value: Value) -> Result<Decoded, Error> {
    match run(schema, root, value) {
        Ok(decoded) => decoded,
        Err(error) => Err(Error::Unfit(error.to_string())),
    }
}

/// Decodes a JSON body as an object of a version of a kind, built-in or custom.
pub fn object(kind: &Kind, version: usize, body: &[u8]) -> Result<Decoded, Error> {
    let of = &kind.versions[version];
    let Some(definition) = &kind.definition else { return json(&of.schema, of.root, body) };
    if type_meta(body)?.1.is_empty() {
        return Err(Error::missing_kind(body));
    }
    crd::decode::settle(definition, version, untyped(body)?)
}

/// The same for a YAML body.
pub fn object_yaml(kind: &Kind, version: usize, body: &[u8]) -> Result<Decoded, Error> {
    let of = &kind.versions[version];
    let Some(definition) = &kind.definition else { return yaml(&of.schema, of.root, body) };
    let (value, finding) = document(body)?;
    if value["kind"].as_str().unwrap_or_default().is_empty() {
        return Err(Error::missing_kind(value.to_string().as_bytes()));
    }
    let read = Decoded { value, strict: finding.into_iter().collect(), ..Decoded::default() };
    crd::decode::settle(definition, version, read)
}

/// The same for a tree.
pub fn object_value(kind: &Kind, version: usize, tree: Value) -> Result<Decoded, Error> {
    let of = &kind.versions[version];
    match &kind.definition {
        Some(definition) => {
            let read = Decoded { value: tree, ..Decoded::default() };
            crd::decode::settle(definition, version, read)
        }
        None => value(&of.schema, of.root, tree),
    }
}

/// Decodes a JSON text without a schema, noting duplicate fields, as upstream does
/// with patches.
pub(crate) fn untyped(body: &[u8]) -> Result<Decoded, Error> {
    let text = String::from_utf8_lossy(body);
    let schema = Schema::default();
    let context = Context::new(&schema);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let value = context.untyped().deserialize(&mut deserializer);
    match value.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => Ok(Decoded {
            value: value.unwrap_or(Value::Null),
            strict: context.strict.take(),
            ..Decoded::default()
        }),
        Err(_) => {
            let refused = context.error.take();
            Err(Error::Unfit(refused.unwrap_or_else(|| syntax::describe(text.as_bytes()))))
        }
    }
}

/// `apiVersion` and `kind` of a JSON body without decoding the rest; absent ones
/// are empty.
pub fn type_meta(body: &[u8]) -> Result<(String, String), Error> {
    #[derive(serde::Deserialize)]
    struct Types<'a> {
        #[serde(default, borrow, rename = "apiVersion")]
        api_version: Option<Cow<'a, str>>,
        #[serde(default, borrow)]
        kind: Option<Cow<'a, str>>,
    }
    let text = String::from_utf8_lossy(body);
    match serde_json::from_str::<Types<'_>>(&text) {
        // serde would read the fields of a struct from a list, too.
        Ok(_) if text.trim_start().starts_with('[') => {
            Err(Error::unreadable_json(&unreadable_types(&text), body))
        }
        Ok(types) => {
            let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned).unwrap_or_default();
            Ok((owned(types.api_version), owned(types.kind)))
        }
        Err(_) => Err(Error::unreadable_json(&unreadable_types(&text), body)),
    }
}

/// The outer error is one of syntax, the inner one of types.
fn run<'de, D: Deserializer<'de>>(
    schema: &Schema,
    root: TypeId,
    deserializer: D,
) -> Result<Result<Decoded, Error>, D::Error> {
    let context = Context::new(schema);
    let value = match context.root(root).deserialize(deserializer) {
        Ok(value) => value,
        Err(error) => match context.error.take() {
            Some(reason) => return Ok(Err(Error::Unfit(reason))),
            None => return Err(error),
        },
    };
    Ok(match context.error.take() {
        Some(reason) => Err(Error::Unfit(reason)),
        None => Ok(Decoded {
            value: value.unwrap_or_else(|| presence::zero(schema, &Ty::Object(root))),
            strict: context.strict.take(),
            empties: context.empties.take(),
        }),
    })
}

/// Why apiVersion and kind cannot be read from a text.
fn unreadable_types(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => wrong_types(&value).unwrap_or_else(|| "invalid JSON".to_owned()),
        Err(_) => syntax::describe(text.as_bytes()),
    }
}

/// Why apiVersion and kind cannot be read from a tree, if so.
fn wrong_types(value: &Value) -> Option<String> {
    const TYPES: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let object = match value {
        Value::Object(object) => object,
        Value::Null => return None,
        _ => {
            let what = path::describe(value);
            return Some(format!("json: cannot unmarshal {what} into Go value of type {TYPES}"));
        }
    };
    ["apiVersion", "kind"].into_iter().find_map(|name| {
        let value = object.get(name).filter(|value| !value.is_string() && !value.is_null())?;
        let what = path::describe(value);
        Some(format!("json: cannot unmarshal {what} into Go struct field .{name} of type string"))
    })
}

fn summary(body: &[u8]) -> String {
    const LIMIT: usize = 30;
    let head = &body[..body.len().min(LIMIT)];
    let more = if body.len() > LIMIT { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(head)),
        Some(_) => {
            let hex: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hex}{more}")
        }
    }
}
