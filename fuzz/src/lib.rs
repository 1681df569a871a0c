//! What all fuzz targets share: the objects they start from, the bounds that every input
//! must keep, and a mutator that knows JSON.
//!
//! A target calls the function that the server calls. Every input is measured
//! ([`within_bounds`]); one in a thousand has a part of itself repeated up to the limit
//! of bodies, because what is costly is rarely short.

mod generate;
mod measure;
mod mutate;
pub mod server;

use std::sync::LazyLock;

use carrack_api::kind::{Kind, Kinds};
use carrack_api::{Value, kinds, validation};

pub use generate::{generate, words};
pub use measure::within_bounds;
pub use mutate::{Random, mutate_json, mutate_tree};

/// Bytes of a request body at most, as the server has it.
pub const BODY_LIMIT: usize = 3 << 20;

/// Every kind that is served.
pub static KINDS: LazyLock<Kinds> = LazyLock::new(kinds::builtin);

/// Objects of many kinds that a kube-apiserver accepts, defaulted: kind, version, object.
pub static OBJECTS: LazyLock<Vec<(&'static Kind, usize, Value)>> = LazyLock::new(|| {
    let lines = [
        include_str!("../../crates/api/tests/answers/create.jsonl"),
        include_str!("../../crates/api/tests/answers/kinds-create.jsonl"),
    ];
    let mut objects: Vec<(&'static Kind, usize, Value)> = Vec::new();
    for line in lines.iter().flat_map(|lines| lines.lines()) {
        let case: Value = serde_json::from_str(line).expect("a line is a case");
        let object = case["object"].clone();
        let Some((kind, version)) = kind_of(&object) else { continue };
        let Ok(decoded) = carrack_api::decode::object_value(kind, version, object) else { continue };
        let mut object = decoded.value;
        carrack_api::defaults::default_object(kind, version, &mut object);
        let alike = objects.iter().filter(|(other, ..)| std::ptr::eq(*other, kind)).count();
        if alike < 4 && validation::validate_create(kind, &object).is_empty() {
            objects.push((kind, version, object));
        }
    }
    objects
});

/// Kinds with a version each, in a fixed order: a byte of an input chooses one.
pub static ROWS: LazyLock<Vec<(&'static Kind, usize)>> = LazyLock::new(|| {
    let versions = |kind: &'static std::sync::Arc<Kind>| (0..kind.versions.len()).map(move |v| (&**kind, v));
    KINDS.iter().flat_map(versions).collect()
});

/// The kind and version that an object says it is of.
pub fn kind_of(object: &Value) -> Option<(&'static Kind, usize)> {
    let (group, version) = carrack_api::kind::group_version(object["apiVersion"].as_str()?);
    let (kind, at) = KINDS.kind(group, version, object["kind"].as_str()?)?;
    Some((kind, at))
}

/// The row that an input's first byte chooses, and the rest of it.
pub fn row(input: &[u8]) -> Option<(&'static Kind, usize, &[u8])> {
    let (first, rest) = input.split_first()?;
    let (kind, version) = ROWS[usize::from(*first) % ROWS.len()];
    Some((kind, version, rest))
}

/// The object that an input's first byte chooses, and the rest of it.
pub fn object(input: &[u8]) -> Option<(&'static Kind, usize, &'static Value, &[u8])> {
    let (first, rest) = input.split_first()?;
    let (kind, version, object) = &OBJECTS[usize::from(*first) % OBJECTS.len()];
    Some((kind, *version, object, rest))
}

/// What the server does with an object that it has decoded, up to storing it and showing
/// it again.
pub fn use_object(kind: &Kind, version: usize, mut object: Value) {
    carrack_api::defaults::default_object(kind, version, &mut object);
    let _ = validation::validate_create(kind, &object);
    let _ = carrack_api::warnings::of(kind, &object, None);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let _ = carrack_api::columns::cells(kind, version, &object, now);
    let content = carrack_api::Content::encode(&object, &kind.field_paths);
    if content.is_some() && kind.definition.is_none() {
        let v = &kind.versions[version];
        let message =
            carrack_api::proto::encode(&v.schema, v.root, &object).expect("what was decoded encodes");
        let _ = carrack_api::proto::decode(&v.schema, v.root, &message).expect("what was encoded decodes");
    }
}
