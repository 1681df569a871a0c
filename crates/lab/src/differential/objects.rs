//! The objects that cases start from: those of `objects.yaml`, which upstream accepts, and
//! maximal ones that the field table lets grow out of them.

use std::collections::HashMap;

use anyhow::{Context, Result};
use carrack_api::schema::{Field, Schema, Ty, TypeId};
use carrack_api::yaml;
use serde_json::{Map, Value, json};

use super::random::Random;

/// How deep a maximal object grows below what is written down.
const GROWTH: usize = 3;

/// Objects by apiVersion and kind, small ones first.
pub struct Objects(HashMap<(String, String), Vec<Value>>);

impl Objects {
    /// Reads the file that is built in.
    ///
    /// # Errors
    /// It is no YAML.
    pub fn load() -> Result<Self> {
        let mut all: HashMap<_, Vec<Value>> = HashMap::new();
        for document in documents(include_str!("objects.yaml"))? {
            all.entry(types(&document)).or_default().push(document);
        }
        Ok(Self(all))
    }

    /// The objects of a kind: a small one first, then richer ones.
    pub fn of(&self, api_version: &str, kind: &str) -> &[Value] {
        self.0.get(&(api_version.to_owned(), kind.to_owned())).map_or(&[], Vec::as_slice)
    }
}

/// The documents of a text, without those that are empty.
///
/// # Errors
/// One is no YAML.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for part in format!("\n{text}").split("\n---") {
        let document = yaml::read(part.as_bytes()).with_context(|| format!("in {part}"))?.value;
        if document.is_object() {
            found.push(document);
        }
    }
    Ok(found)
}

/// apiVersion and kind.
pub fn types(object: &Value) -> (String, String) {
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    (text("apiVersion"), text("kind"))
}

/// A copy under a name, unless the object must have its own, with `@ns@` and `@n@` filled in.
pub fn named(object: &Value, name: &str, namespace: &str) -> Value {
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let number = digits.parse::<u64>().unwrap_or(7);
    let place = name.replace('.', "-");
    let text = object.to_string().replace("@ns@", namespace);
    let own = text.contains("@n@");
    // Names that are addresses count, all others can say whose they are.
    let is_address = object["kind"] == "IPAddress";
    let text = text.replace("@n@", &if is_address { (number % 250 + 1).to_string() } else { place });
    let mut object: Value = serde_json::from_str(&text).unwrap_or_default();
    let fixed = own || object["kind"] == "APIService";
    // Reviews are questions, which have no names.
    let kind = object["kind"].as_str().unwrap_or_default();
    if kind.ends_with("Review") {
        if kind == "LocalSubjectAccessReview" {
            object["metadata"] = json!({"namespace": namespace});
        }
        return object;
    }
    if let Some(fields) = object.as_object_mut() {
        let meta = fields.entry("metadata").or_insert_with(|| json!({}));
        if !fixed {
            meta["name"] = name.into();
        }
        if !namespace.is_empty() {
            meta["namespace"] = namespace.into();
        }
    }
    object
}

/// Lets an object grow: about one in `rarity` of the fields that it leaves out gets a value
/// that looks right.
pub fn grow(schema: &Schema, root: TypeId, object: &mut Value, rarity: usize, random: &mut Random) {
    grow_in(schema, root, object, GROWTH, rarity, random);
}

fn grow_in(
    schema: &Schema,
    root: TypeId,
    object: &mut Value,
    depth: usize,
    rarity: usize,
    random: &mut Random,
) {
    let Some(fields) = object.as_object_mut() else { return };
    for field in &schema.object(root).fields {
        if matches!(&*field.name, "apiVersion" | "kind" | "metadata" | "status" | "managedFields") {
            continue;
        }
        if let Some(value) = fields.get_mut(&*field.name) {
            grow_value(schema, &field.ty, value, depth, rarity, random);
        } else if random.once_in(rarity) {
            fields.insert(field.name.to_string(), plausible(schema, field, &field.ty, depth, random));
        }
    }
}

fn grow_value(schema: &Schema, ty: &Ty, value: &mut Value, depth: usize, rarity: usize, random: &mut Random) {
    match (ty, value) {
        (Ty::Object(id), value) => grow_in(schema, *id, value, depth, rarity, random),
        (Ty::List(item), Value::Array(items)) => {
            items.iter_mut().for_each(|value| grow_value(schema, item, value, depth, rarity, random));
        }
        _ => {}
    }
}

/// A value of a field that has a chance to be accepted.
pub fn plausible(schema: &Schema, field: &Field, ty: &Ty, depth: usize, random: &mut Random) -> Value {
    match ty {
        Ty::String if !field.allowed.is_empty() => {
            field.allowed[random.below(field.allowed.len())].as_ref().into()
        }
        Ty::String => text(&field.name, random).into(),
        Ty::Bytes => "YWJj".into(),
        Ty::Int32 | Ty::Int64 => json!([1, 2, 10, 80, 600][random.below(5)]),
        Ty::Float => json!(1.5),
        Ty::Bool => json!(random.once_in(2)),
        Ty::Quantity => ["1", "100m", "1Gi", "1.5", "2e3"][random.below(5)].into(),
        Ty::IntOrString => [json!(1), json!("25%"), json!("http"), json!(8080)][random.below(4)].clone(),
        Ty::Time => "2020-01-02T03:04:05Z".into(),
        Ty::MicroTime => "2020-01-02T03:04:05.000006Z".into(),
        Ty::Any => json!({"a": [1, "b"]}),
        Ty::Object(id) => {
            let mut fields = Map::new();
            for inner in &schema.object(*id).fields {
                if inner.required || (depth > 0 && random.once_in(3)) {
                    let value = plausible(schema, inner, &inner.ty, depth.saturating_sub(1), random);
                    fields.insert(inner.name.to_string(), value);
                }
                if depth == 0 && fields.len() > 3 {
                    break;
                }
            }
            fields.into()
        }
        Ty::List(item) => json!([plausible(schema, field, item, depth.saturating_sub(1), random)]),
        Ty::Map(item) => json!({"key": plausible(schema, field, item, depth.saturating_sub(1), random)}),
    }
}

fn text(field: &str, random: &mut Random) -> &'static str {
    let lower = field.to_ascii_lowercase();
    let choices: &[&str] = if lower.ends_with("ip") || lower.ends_with("ips") {
        &["10.0.0.1", "fd00::1"]
    } else if lower.contains("cidr") {
        &["10.0.0.0/24"]
    } else if lower.contains("path") {
        &["/a/b", "a"]
    } else if lower.contains("url") || lower.contains("uri") {
        &["https://example.com/a"]
    } else if lower.contains("expression") {
        &["true"]
    } else if lower.contains("version") {
        &["v1"]
    } else if lower.contains("class") || lower.contains("driver") || lower.contains("controller") {
        &["example.com", "fast"]
    } else {
        &["a-1", "web", "example.com/x", "value"]
    };
    choices[random.below(choices.len())]
}
