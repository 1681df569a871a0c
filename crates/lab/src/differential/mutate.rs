//! Mutations of an object, from the field table: every field that it has or could have is
//! dropped, set to null, to a wrong type, out of its range, to a name that is none, to the
//! empty text, to one that is too long, to an unknown word; lists get duplicates.
//!
//! What a mutation does depends on the object and the table alone; the seed only chooses.

use carrack_api::schema::{Field, Schema, Ty, TypeId};
use serde_json::{Value, json};

use super::objects::plausible;
use super::random::Random;

/// A step on the way to a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Into an object.
    Field(String),
    /// Into a list.
    Index(usize),
}

/// One change of an object.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// Where.
    pub path: Vec<Step>,
    /// The new value; without one the field goes.
    pub value: Option<Value>,
}

impl Mutation {
    /// `spec.replicas = -1`.
    pub fn title(&self) -> String {
        let what = match &self.value {
            None => "dropped".to_owned(),
            Some(value) => {
                let text = value.to_string();
                match text.char_indices().nth(60) {
                    Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
                    None => text,
                }
            }
        };
        format!("{} = {what}", self.pointer())
    }

    /// `spec.containers[0].name`.
    pub fn pointer(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if text.is_empty() => text.push_str(name),
                Step::Field(name) => text.push_str(&format!(".{name}")),
                Step::Index(at) => text.push_str(&format!("[{at}]")),
            }
        }
        text
    }

    /// The object with the change.
    pub fn on(&self, object: &Value) -> Value {
        let mut object = object.clone();
        let Some((last, way)) = self.path.split_last() else { return object };
        let mut at = &mut object;
        for step in way {
            at = match step {
                Step::Field(name) => {
                    if !at.is_object() {
                        *at = json!({});
                    }
                    &mut at[name]
                }
                Step::Index(index) => match at.get_mut(index) {
                    Some(item) => item,
                    None => return object,
                },
            };
        }
        match (last, &self.value) {
            (Step::Field(name), Some(value)) => {
                if !at.is_object() {
                    *at = json!({});
                }
                at[name] = value.clone();
            }
            (Step::Field(name), None) => drop(at.as_object_mut().map(|fields| fields.remove(name))),
            (Step::Index(index), Some(value)) => {
                if let Some(item) = at.get_mut(index) {
                    *item = value.clone();
                }
            }
            (Step::Index(index), None) => {
                if let Some(items) = at.as_array_mut().filter(|items| items.len() > *index) {
                    items.remove(*index);
                }
            }
        }
        object
    }

    /// The operation of a JSON patch that makes the change.
    pub fn operation(&self, object: &Value) -> Value {
        let pointer: String = self
            .path
            .iter()
            .map(|step| match step {
                Step::Field(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
                Step::Index(at) => format!("/{at}"),
            })
            .collect();
        match &self.value {
            None => json!({"op": "remove", "path": pointer}),
            Some(value) if object.pointer(&pointer).is_some() => {
                json!({"op": "replace", "path": pointer, "value": value})
            }
            Some(value) => json!({"op": "add", "path": pointer, "value": value}),
        }
    }

    /// The merge patch that makes the change, when no list is on the way.
    pub fn merge_patch(&self) -> Option<Value> {
        self.path.iter().rev().try_fold(self.value.clone().unwrap_or(Value::Null), |inner, step| match step {
            Step::Field(name) => Some(json!({name: inner})),
            Step::Index(_) => None,
        })
    }
}

/// All mutations of an object of the type `root`.
pub fn all(schema: &Schema, root: TypeId, object: &Value, random: &mut Random) -> Vec<Mutation> {
    let mut walk = Walk { schema, random, path: Vec::new(), found: Vec::new() };
    walk.object(root, object);
    walk.found
}

struct Walk<'a> {
    schema: &'a Schema,
    random: &'a mut Random,
    path: Vec<Step>,
    found: Vec<Mutation>,
}

impl Walk<'_> {
    fn set(&mut self, value: Value) {
        self.found.push(Mutation { path: self.path.clone(), value: Some(value) });
    }

    fn object(&mut self, id: TypeId, value: &Value) {
        let schema = self.schema;
        for field in &schema.object(id).fields {
            // The server's own, and tried by name elsewhere.
            if matches!(&*field.name, "managedFields" | "creationTimestamp" | "uid" | "selfLink") {
                continue;
            }
            self.path.push(Step::Field(field.name.to_string()));
            match value.get(&*field.name) {
                Some(inner) => self.present(field, &field.ty, inner),
                None => self.absent(field),
            }
            self.path.pop();
        }
        self.path.push(Step::Field("unheardOf".into()));
        self.set(json!(1));
        self.path.pop();
    }

    fn absent(&mut self, field: &Field) {
        let value = plausible(self.schema, field, &field.ty, 2, self.random);
        self.set(value);
        for value in scalars(field, &field.ty) {
            self.set(value);
        }
        if !matches!(field.ty, Ty::Any) {
            let other = plausible(self.schema, field, &field.ty, 3, self.random);
            self.set(other);
        }
    }

    fn present(&mut self, field: &Field, ty: &Ty, value: &Value) {
        self.found.push(Mutation { path: self.path.clone(), value: None });
        for value in [Value::Null].into_iter().chain(wrong(ty)).chain(scalars(field, ty)) {
            self.set(value);
        }
        match (ty, value) {
            (Ty::Object(id), inner) => {
                self.set(json!({}));
                self.object(*id, inner);
            }
            (Ty::List(item), Value::Array(items)) => {
                self.set(json!([]));
                self.set(Value::Array(items.iter().chain(items).cloned().collect()));
                if items.len() > 1 {
                    self.set(Value::Array(items.iter().rev().cloned().collect()));
                }
                let more = plausible(self.schema, field, item, 2, self.random);
                self.set(Value::Array(items.iter().cloned().chain([more]).collect()));
                for (at, inner) in items.iter().enumerate() {
                    self.path.push(Step::Index(at));
                    self.present(field, item, inner);
                    self.path.pop();
                }
            }
            (Ty::Map(item), Value::Object(entries)) => {
                self.set(json!({}));
                for key in ["", "a/b/c", "-x", "Not A Key", &"k".repeat(260)] {
                    let mut entries = entries.clone();
                    let value = entries.values().next().cloned();
                    let value = value.unwrap_or_else(|| plausible(self.schema, field, item, 1, self.random));
                    entries.insert(key.to_owned(), value);
                    self.set(entries.into());
                }
                if let Some((key, inner)) = entries.iter().next() {
                    self.path.push(Step::Field(key.clone()));
                    self.present(field, item, inner);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }
}

/// Values of another JSON type.
fn wrong(ty: &Ty) -> Vec<Value> {
    match ty {
        Ty::String | Ty::Bytes | Ty::Time | Ty::MicroTime => vec![json!(7), json!({"a": 1}), json!(["x"])],
        Ty::Int32 | Ty::Int64 | Ty::Float | Ty::Bool => vec![json!("7"), json!([1])],
        Ty::Quantity | Ty::IntOrString => vec![json!(true), json!([1]), json!({})],
        Ty::Object(_) | Ty::Map(_) => vec![json!("x"), json!([])],
        Ty::List(_) => vec![json!("x"), json!({}), json!([null])],
        Ty::Any => vec![json!(7)],
    }
}

/// Values of the right JSON type at which rules break.
fn scalars(field: &Field, ty: &Ty) -> Vec<Value> {
    match ty {
        Ty::String if !field.allowed.is_empty() => {
            let known = field.allowed.iter().map(|word| json!(&**word));
            known.chain([json!(""), json!("Bogus")]).collect()
        }
        Ty::String => {
            let texts = ["", "Not_A Name!", "-x", "a/b", "x", "é", "a.example.com"];
            texts.iter().map(|text| json!(text)).chain([json!("a".repeat(300))]).collect()
        }
        Ty::Bytes => vec![json!(""), json!("no base64!"), json!("YQ==")],
        Ty::Int32 | Ty::Int64 => [-1, 0, 1, 101, 65_536, 2_147_483_648, 9_223_372_036_854_775_807_i64]
            .iter()
            .map(|number| json!(number))
            .chain([json!(1.5), json!(1e30)])
            .collect(),
        Ty::Float => vec![json!(-1), json!(0)],
        Ty::Bool => vec![json!(true), json!(false)],
        Ty::Quantity => ["-1", "0", "abc", "1.5", "1e3", "10Gi", "0.0001", "1Ti1"]
            .iter()
            .map(|text| json!(text))
            .chain([json!(5), json!(0.5)])
            .collect(),
        Ty::IntOrString => {
            vec![json!("101%"), json!("x y"), json!(""), json!("-5%"), json!(-1), json!(0), json!(70_000)]
        }
        Ty::Time | Ty::MicroTime => {
            vec![
                json!("soon"),
                json!(""),
                json!("2020-01-02T03:04:05Z"),
                json!("2020-01-02T03:04:05.5+02:00"),
            ]
        }
        _ => Vec::new(),
    }
}
