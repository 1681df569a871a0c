//! Definitions of OpenAPI documents, out of the arena of types.

use std::collections::BTreeSet;
use std::sync::Arc;

use carrack_api::crd::Facts;
use carrack_api::kind::Subresource;
use carrack_api::schema::{Field, ListType, Object, Presence, Schema, Ty, TypeId};
use carrack_api::{Kind, Value};
use serde_json::{Map, json};

use super::{Dialect, published};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// Where the types of metadata are.
pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The name of the type of a kind's lists; that of a custom kind may be one of its own.
pub(super) fn list_name(kind: &Kind, item: &str) -> String {
    let name = item.strip_suffix(&*kind.kind).map(|head| format!("{head}{}", kind.list_kind()));
    name.unwrap_or_else(|| format!("{item}List"))
}

/// The type of a subresource's body, where it is not the kind itself.
pub(super) fn body_of(sub: &Subresource) -> Option<(Arc<Schema>, TypeId)> {
    let facts: Arc<Schema> = carrack_api::facts::schema();
    let is =
        |(g, v, k): &(Box<str>, Box<str>, Box<str>)| *g == sub.group && *v == sub.version && *k == sub.kind;
    let found = facts.objects().find(|(_, object)| object.group_version_kinds.iter().any(is));
    let id = found.map(|(id, _)| id)?;
    Some((facts, id))
}

/// Definitions that a document needs, each once.
pub(super) struct Definitions {
    dialect: Dialect,
    all: Map<String, Value>,
    seen: BTreeSet<Box<str>>,
}

impl Definitions {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, all: Map::new(), seen: BTreeSet::new() }
    }

    /// Adds a type that operations speak of; those of options and events belong to every
    /// group of `groups`.
    pub(super) fn add_named(&mut self, name: &str, groups: &[(&str, &str)]) {
        match name.strip_prefix(META) {
            Some("Patch") => {
                self.all.insert(name.into(), json!({"type": "object"}));
                return;
            }
            Some(_) => {}
            // Kinds and their lists are there.
            None => return,
        }
        let facts = carrack_api::facts::schema();
        let Some(id) = facts.find(name) else { return };
        self.add(&facts, id);
        if let Some(kind @ ("DeleteOptions" | "WatchEvent")) = name.strip_prefix(META) {
            let core = ("", "v1");
            let all: Vec<(&str, &str)> = match self.dialect {
                Dialect::V2 => published::known().collect(),
                Dialect::V3 => {
                    [core].into_iter().chain(groups.iter().copied().filter(|one| *one != core)).collect()
                }
            };
            let of: Vec<Value> = all
                .iter()
                .map(|(group, version)| json!({"group": group, "version": version, "kind": kind}))
                .collect();
            self.all[name]["x-kubernetes-group-version-kind"] = of.into();
        }
    }

    /// Adds a type that is no kind's.
    pub(super) fn add_type(&mut self, name: &str) {
        let facts = carrack_api::facts::schema();
        if let Some(id) = facts.find(name) {
            self.add(&facts, id);
        }
    }

    /// The definitions by name.
    pub(super) fn finish(self) -> Map<String, Value> {
        self.all
    }

    /// Adds the types of a kind's version, its list, and its subresources' bodies.
    pub(super) fn add_kind(&mut self, kind: &Kind, index: usize) {
        let v = &kind.versions[index];
        let version = &*v.name;
        let name = v.schema.object(v.root).name.clone();
        match kind.facts(index) {
            Some(facts) => self.add_custom(kind, version, &name, facts),
            None => self.add(&v.schema, v.root),
        }
        if kind.stored() {
            self.add_list(kind, version, &name);
        }
        for sub in kind.subresources_of(index).filter(|sub| sub.kind != kind.kind) {
            // What streams has options, which are parameters and no body.
            if let Some((facts, root)) = body_of(sub).filter(|_| !sub.kind.ends_with("Options")) {
                self.add(&facts, root);
            }
        }
    }

    /// A custom kind is published as its definition has it, not as its types are read.
    fn add_custom(&mut self, kind: &Kind, version: &str, name: &str, facts: &Facts) {
        let built_in = carrack_api::facts::schema();
        if let Some(meta) = built_in.find(OBJECT_META) {
            self.add(&built_in, meta);
        }
        let mut definition = carrack_api::crd::openapi::schema(&facts.schema, self.dialect.root());
        definition["x-kubernetes-group-version-kind"] =
            json!([{"group": &*kind.group, "version": version, "kind": &*kind.kind}]);
        if !facts.selectable.is_empty() {
            definition["x-kubernetes-selectable-fields"] =
                facts.selectable.iter().map(|path| json!({ "fieldPath": &**path })).collect();
        }
        self.all.insert(name.to_owned(), definition);
    }

    fn add_list(&mut self, kind: &Kind, version: &str, item: &str) {
        let facts = carrack_api::facts::schema();
        if let Some(meta) = facts.find(LIST_META) {
            self.add(&facts, meta);
        }
        let list = json!({
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": self.named(LIST_META, self.empty()),
                "items": {"type": "array", "items": self.named(item, self.empty())},
            },
            "x-kubernetes-group-version-kind":
                [{"group": &*kind.group, "version": version, "kind": kind.list_kind()}],
        });
        self.all.insert(list_name(kind, item), list);
    }

    /// The default of a struct.
    fn empty(&self) -> Value {
        if self.dialect == Dialect::V3 { json!({}) } else { Value::Null }
    }

    fn add(&mut self, schema: &Schema, id: TypeId) {
        let object = schema.object(id);
        if !self.seen.insert(object.name.clone()) {
            return;
        }
        let definition = self.object(schema, object);
        self.all.insert(object.name.to_string(), definition);
    }

    fn object(&mut self, schema: &Schema, object: &Object) -> Value {
        let mut definition = json!({"type": "object"});
        let mut properties = Map::new();
        for field in &object.fields {
            let mut property = self.field(schema, field, &object.name);
            if published::GRANULAR
                .iter()
                .any(|(ty, name)| published::is(&object.name, ty) && *name == &*field.name)
            {
                property["x-kubernetes-map-type"] = "granular".into();
            }
            properties.insert(field.name.to_string(), property);
        }
        if !properties.is_empty() {
            definition["properties"] = properties.into();
        }
        let required: Vec<&str> =
            object.fields.iter().filter(|field| field.required).map(|field| &*field.name).collect();
        if !required.is_empty() {
            definition["required"] = json!(required);
        }
        if !object.group_version_kinds.is_empty() {
            definition["x-kubernetes-group-version-kind"] = object
                .group_version_kinds
                .iter()
                .map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}))
                .collect();
        }
        if object.atomic {
            definition["x-kubernetes-map-type"] = "atomic".into();
        }
        let union = published::UNIONS.iter().find(|(ty, ..)| published::is(&object.name, ty));
        if let Some((_, discriminator, members)) = union {
            let members: Map<String, Value> =
                members.iter().map(|(field, value)| ((*field).to_owned(), (*value).into())).collect();
            let mut union = json!({ "fields-to-discriminateBy": members });
            if !discriminator.is_empty() {
                union["discriminator"] = (*discriminator).into();
            }
            definition["x-kubernetes-unions"] = json!([union]);
        }
        if object.preserve_unknown {
            definition["x-kubernetes-preserve-unknown-fields"] = true.into();
        }
        definition
    }

    fn field(&mut self, schema: &Schema, field: &Field, of: &str) -> Value {
        // What Go's encoder always writes has its zero value as default.
        let always = match field.ty {
            Ty::Object(_) => matches!(field.presence, Presence::Always | Presence::NonZero),
            _ => field.presence == Presence::Always,
        };
        let is = |ty: &str, name: &str| published::is(of, ty) && *name == *field.name;
        let published = published::DEFAULTS.iter().find(|(ty, name, _)| is(ty, name));
        // (A name that is embedded is the one of a LocalObjectReference.)
        let embedded = !field.embedded.is_empty() && &*field.name == "name";
        let default = match (&*field.default, published) {
            _ if self.dialect == Dialect::V2 => Value::Null,
            ("", Some((.., text))) => serde_json::from_str(text).unwrap_or_default(),
            ("", None) if always || embedded => self.zero(&field.ty),
            ("", None) => Value::Null,
            (text, _) => serde_json::from_str(text).unwrap_or_default(),
        };
        let mut value = self.ty(schema, &field.ty, default);
        if let Some((.., name)) = published::NAMED.iter().find(|(ty, name, _)| is(ty, name)) {
            let definition = if published::is_anything(name) { json!({}) } else { json!({"type": "object"}) };
            self.all.insert((*name).to_owned(), definition);
            let reference = self.dialect.reference(name);
            match field.ty {
                Ty::List(_) => value["items"] = reference,
                Ty::Map(_) => value["additionalProperties"] = reference,
                _ => value = reference,
            }
        }
        if let Some((.., values)) = published::VALUES.iter().find(|(ty, name, _)| is(ty, name)) {
            value["additionalProperties"]["enum"] = json!(values);
        }
        if !field.allowed.is_empty() {
            let place = if matches!(field.ty, Ty::List(_)) { &mut value["items"] } else { &mut value };
            place["enum"] = json!(field.allowed);
        }
        if published::ATOMIC.iter().any(|(ty, name)| is(ty, name)) {
            value["x-kubernetes-list-type"] = "atomic".into();
        }
        if matches!(field.ty, Ty::List(_)) && !field.is_wrapped_list() {
            match field.list {
                ListType::Atomic => value["x-kubernetes-list-type"] = "atomic".into(),
                ListType::Set => value["x-kubernetes-list-type"] = "set".into(),
                ListType::Map => {
                    value["x-kubernetes-list-type"] = "map".into();
                    value["x-kubernetes-list-map-keys"] = json!(field.list_keys);
                }
            }
        }
        if field.atomic {
            value["x-kubernetes-map-type"] = "atomic".into();
        }
        if !field.merge_key.is_empty() {
            value["x-kubernetes-patch-merge-key"] = (&*field.merge_key).into();
        }
        let strategy = match (field.patch_merge, field.retain_keys) {
            (true, true) => "merge,retainKeys",
            (true, false) => "merge",
            (false, true) => "retainKeys",
            (false, false) if field.patch_replace => "replace",
            (false, false) => return self.aside(value, is),
        };
        value = self.aside(value, is);
        value["x-kubernetes-patch-strategy"] = strategy.into();
        value
    }

    /// The reference of a field that has a description is not alone, which OpenAPI 3.0 asks
    /// for.
    fn aside(&self, value: Value, is: impl Fn(&str, &str) -> bool) -> Value {
        if published::UNDESCRIBED.iter().any(|(ty, name)| is(ty, name)) {
            return value;
        }
        match (self.dialect, value.get("$ref")) {
            (Dialect::V3, Some(reference)) => json!({"allOf": [{ "$ref": reference }]}),
            _ => value,
        }
    }

    /// The zero value that OpenAPI 3.0 publishes of a type; null where it publishes none.
    fn zero(&self, ty: &Ty) -> Value {
        match ty {
            _ if self.dialect == Dialect::V2 => Value::Null,
            Ty::String => "".into(),
            Ty::Int32 | Ty::Int64 | Ty::Float => 0.into(),
            Ty::Bool => false.into(),
            Ty::Object(_) => json!({}),
            _ => Value::Null,
        }
    }

    fn ty(&mut self, schema: &Schema, ty: &Ty, default: Value) -> Value {
        let mut value = match ty {
            Ty::String => json!({"type": "string"}),
            Ty::Bytes => json!({"type": "string", "format": "byte"}),
            Ty::Int32 => json!({"type": "integer", "format": "int32"}),
            Ty::Int64 => json!({"type": "integer", "format": "int64"}),
            Ty::Float => json!({"type": "number", "format": "double"}),
            Ty::Bool => json!({"type": "boolean"}),
            Ty::Any => json!({"type": "object"}),
            Ty::Quantity => return self.scalar(QUANTITY, default),
            Ty::IntOrString => return self.scalar(INT_OR_STRING, default),
            Ty::Time => return self.scalar(TIME, default),
            Ty::MicroTime => return self.scalar(MICRO_TIME, default),
            Ty::Object(id) => {
                self.add(schema, *id);
                let name = schema.object(*id).name.to_string();
                return self.named(&name, default);
            }
            Ty::List(item) => {
                let zero = self.zero(item);
                json!({"type": "array", "items": self.ty(schema, item, zero)})
            }
            Ty::Map(item) => {
                let zero = self.zero(item);
                json!({"type": "object", "additionalProperties": self.ty(schema, item, zero)})
            }
        };
        if !default.is_null() {
            value["default"] = default;
        }
        value
    }

    /// A reference to one of the types that are not objects, which are defined here.
    fn scalar(&mut self, name: &str, default: Value) -> Value {
        let v2 = self.dialect == Dialect::V2;
        let either = |first: &str| json!([{ "type": first }, {"type": if first == "string" { "number" } else { "string" }}]);
        let definition = match name {
            QUANTITY if v2 => json!({"type": "string"}),
            QUANTITY => json!({"oneOf": either("string")}),
            INT_OR_STRING if v2 => json!({"type": "string", "format": "int-or-string"}),
            INT_OR_STRING => json!({"format": "int-or-string", "oneOf": either("integer")}),
            _ => json!({"type": "string", "format": "date-time"}),
        };
        self.all.entry(name.to_owned()).or_insert(definition);
        self.named(name, default)
    }

    /// A reference; next to one, OpenAPI 3.0 allows nothing else, hence `allOf`.
    fn named(&self, name: &str, default: Value) -> Value {
        let reference = self.dialect.reference(name);
        match (self.dialect, default) {
            (_, Value::Null) => reference,
            (Dialect::V2, default) => {
                let mut reference = reference;
                reference["default"] = default;
                reference
            }
            (Dialect::V3, default) => json!({"allOf": [reference], "default": default}),
        }
    }
}
