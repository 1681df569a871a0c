//! The record: one object as the house keeps it, shares it and serves it.
//!
//! An object's JSON is kept in three segments, so that a read only splices and
//! never re-encodes:
//!
//! ```text
//! {"kind":"Pod","apiVersion":"v1","metadata":{  ← left out of a built-in list's items
//!   «meta»                 everything in metadata but the next two
//!   ,"managedFields":«managed»                  ← may be left out
//!   ,"resourceVersion":"«revision»"             ← a DELETED event carries the deletion's
//! }«rest»}                 `,"spec":{…},"status":{…}`
//! ```
//!
//! The parsed [`Header`] holds what the machinery needs without decoding. Both are
//! immutable and shared: a list, a watch frame and a cache point at the same bytes.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::key::Key;

/// A store revision: rises with every write, never falls. Zero is "none".
pub type Revision = u64;

/// Parsed facts of an object that selectors, controllers and the registry use.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Header {
    /// `apiVersion` in which the record is encoded, such as `apps/v1`.
    pub api_version: Box<str>,
    /// `kind`, such as `Deployment`.
    pub kind: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.generation`; 0 when the kind has none.
    pub generation: i64,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.labels`, sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// `metadata.finalizers`.
    pub finalizers: Box<[Box<str>]>,
    /// `metadata.ownerReferences`.
    pub owners: Box<[Owner]>,
    /// Values of the kind's selectable fields, in the order of
    /// [`Kind::selectable`](crate::Kind); an absent field is empty.
    pub fields: Box<[Box<str>]>,
}

/// One entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// `apiVersion` of the owner.
    pub api_version: Box<str>,
    /// `kind` of the owner.
    pub kind: Box<str>,
    /// Name of the owner.
    pub name: Box<str>,
    /// Uid of the owner.
    pub uid: Box<str>,
    /// Whether this is the managing controller.
    pub controller: bool,
    /// Whether a foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

impl Header {
    /// The value of label `key`.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// The owner with `controller: true`.
    pub fn controller(&self) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.controller)
    }
}

/// An object without its revision: what a writer hands to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The parsed facts.
    pub header: Arc<Header>,
    /// `meta`, `managed` and `rest`, one after the other.
    body: Bytes,
    managed_at: u32,
    rest_at: u32,
    projection: Projection,
}

/// What readers of a record share instead of decoding it each; it lives as long as the
/// record, and says nothing that the record does not.
#[derive(Default)]
struct Projection(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Clone for Projection {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for Projection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Projection")
    }
}

impl PartialEq for Projection {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Projection {}

/// An object at a revision. Immutable; share it by `Arc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it is stored.
    pub key: Key,
    /// The revision of its last write (`metadata.resourceVersion`).
    pub revision: Revision,
    /// Header and bytes.
    pub content: Content,
}

// === impl Content ===

impl Content {
    /// Encodes an object's tree. `selectable` are the JSON paths (dotted, such as
    /// `spec.nodeName`; see [`Kind::field_paths`](crate::Kind)) whose values the header keeps. `metadata.resourceVersion`
    /// is dropped: the store assigns it. Returns `None` unless the tree is an
    /// object whose `metadata` is an object with at least one field, which every
    /// decoded write is.
    pub fn encode<S: AsRef<str>>(object: &Value, selectable: &[S]) -> Option<Self> {
        Self::encode_managed(object, selectable, None)
    }

    /// The same with `managed`, a JSON array or nothing, in place of the object's own
    /// managedFields.
    pub fn encode_managed<S: AsRef<str>>(
        object: &Value,
        selectable: &[S],
        managed: Option<&[u8]>,
    ) -> Option<Self> {
        let top = object.as_object()?;
        let meta = top.get("metadata")?.as_object()?;
        let header = Header::read(top, meta, selectable);
        // Room for most objects, so that it need not grow; what is kept is cut to size.
        let mut body = Vec::with_capacity(8 << 10);
        write_fields(&mut body, meta, &["managedFields", "resourceVersion"], false);
        if body.is_empty() {
            return None;
        }
        let managed_at = body.len() as u32;
        match managed {
            Some(managed) => body.extend_from_slice(managed),
            None => meta
                .get("managedFields")
                .filter(|managed| !managed.is_null())
                .into_iter()
                .for_each(|managed| write_value(&mut body, managed)),
        }
        let rest_at = body.len() as u32;
        write_fields(&mut body, top, &["apiVersion", "kind", "metadata"], true);
        let body = Bytes::copy_from_slice(&body);
        Some(Self { header: Arc::new(header), body, managed_at, rest_at, projection: Projection::default() })
    }

    /// The same object with other metadata; its managedFields and all that comes after
    /// metadata stay as they are, and are not encoded again. Nothing by which the kind's
    /// objects are selected may be among what is other. `None` when `meta` has no field.
    pub fn with_meta(&self, meta: &Map<String, Value>) -> Option<Self> {
        let known = &*self.header;
        let header = Header {
            api_version: known.api_version.clone(),
            kind: known.kind.clone(),
            fields: known.fields.clone(),
            ..Header::read(&Map::new(), meta, &[""; 0])
        };
        let mut body = Vec::with_capacity(self.body.len() + 256);
        write_fields(&mut body, meta, &["managedFields", "resourceVersion"], false);
        if body.is_empty() {
            return None;
        }
        let managed_at = body.len() as u32;
        let rest_at = managed_at + self.rest_at - self.managed_at;
        body.extend_from_slice(&self.body[self.managed_at as usize..]);
        let projection = Projection::default();
        Some(Self { header: Arc::new(header), body: body.into(), managed_at, rest_at, projection })
    }

    /// Puts content back together from what a backend stored; `None` when the
    /// offsets do not fit the bytes.
    pub fn from_parts(header: Header, body: Bytes, managed_at: u32, rest_at: u32) -> Option<Self> {
        (managed_at <= rest_at && rest_at as usize <= body.len()).then(|| Self {
            header: Arc::new(header),
            body,
            managed_at,
            rest_at,
            projection: Projection::default(),
        })
    }

    /// The bytes and the offsets of the second and third segment, for a backend.
    pub fn parts(&self) -> (&Bytes, u32, u32) {
        (&self.body, self.managed_at, self.rest_at)
    }

    /// Fields of `metadata` without managedFields and resourceVersion, no braces.
    pub fn meta(&self) -> &[u8] {
        &self.body[..self.managed_at as usize]
    }

    /// The JSON array of `metadata.managedFields`; empty when there is none.
    pub fn managed(&self) -> &[u8] {
        &self.body[self.managed_at as usize..self.rest_at as usize]
    }

    /// The fields after `metadata`, each preceded by a comma.
    pub fn rest(&self) -> &[u8] {
        &self.body[self.rest_at as usize..]
    }

    /// Bytes that the object occupies, header not counted.
    pub fn size(&self) -> usize {
        self.body.len()
    }
}

// === impl Record ===

impl Record {
    /// Appends the object as JSON. `types` is the text `"kind":"Pod","apiVersion":"v1",`
    /// or empty, as in the items of a built-in list. `revision` is usually
    /// `self.revision`; a DELETED event passes the deletion's.
    pub fn splice(&self, out: &mut Vec<u8>, types: &[u8], revision: Revision) {
        self.splice_with(out, types, revision, self.content.managed());
    }

    fn splice_with(&self, out: &mut Vec<u8>, types: &[u8], revision: Revision, managed: &[u8]) {
        let content = &self.content;
        out.reserve(content.size() + types.len() + 80);
        out.push(b'{');
        out.extend_from_slice(types);
        out.extend_from_slice(b"\"metadata\":{");
        out.extend_from_slice(content.meta());
        if !managed.is_empty() {
            out.extend_from_slice(b",\"managedFields\":");
            out.extend_from_slice(managed);
        }
        out.extend_from_slice(b",\"resourceVersion\":\"");
        let mut digits = [0u8; 20];
        out.extend_from_slice(decimal(revision, &mut digits));
        out.extend_from_slice(b"\"}");
        out.extend_from_slice(content.rest());
        out.push(b'}');
    }

    /// The object's JSON with kind and apiVersion of its stored version.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.splice(&mut out, &self.types(), self.revision);
        out
    }

    /// `"kind":"…","apiVersion":"…",` of the stored version.
    pub fn types(&self) -> Vec<u8> {
        let header = &self.content.header;
        format!("\"kind\":\"{}\",\"apiVersion\":\"{}\",", header.kind, header.api_version).into_bytes()
    }

    /// The object as a tree, with kind, apiVersion and resourceVersion. Only a
    /// write or a controller deciding on this very object should need it.
    pub fn decode(&self) -> Value {
        serde_json::from_slice(&self.to_json()).expect("a record's segments were encoded from a tree")
    }

    /// As [`decode`](Self::decode), without managedFields: half of many an object, and
    /// nobody decides on them. Never to be written back whole.
    pub fn decode_lean(&self) -> Value {
        serde_json::from_slice(&self.lean()).expect("a record's segments were encoded from a tree")
    }

    /// Decodes into a typed struct, which finds no managedFields.
    pub fn decode_as<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.lean())
    }

    /// The same, decoded once for all who ask for it. (The first type that is asked for is
    /// kept, others are decoded each time.) What it takes in memory lasts as the record does,
    /// so this is for what is read again and again.
    pub fn projection<T>(&self) -> Result<Arc<T>, serde_json::Error>
    where
        T: serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        let kept = &self.content.projection.0;
        if let Some(found) = kept.get().and_then(|any| any.clone().downcast::<T>().ok()) {
            return Ok(found);
        }
        let made = Arc::new(self.decode_as::<T>()?);
        let _ = kept.set(made.clone());
        Ok(made)
    }

    fn lean(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.splice_with(&mut out, &self.types(), self.revision, &[]);
        out
    }

    /// Reads an object that came over the wire (a list item or watch event of
    /// another server). `resource` is as in [`Key::new`]. `None` when it lacks
    /// metadata, a name or a resourceVersion.
    pub fn from_wire<S: AsRef<str>>(resource: &str, object: &Value, selectable: &[S]) -> Option<Self> {
        let meta = object.get("metadata")?;
        let text = |field: &str| meta.get(field).and_then(Value::as_str);
        let key = Key::new(resource, text("namespace").unwrap_or_default(), text("name")?);
        let revision = text("resourceVersion")?.parse().ok()?;
        Some(Self { key, revision, content: Content::encode(object, selectable)? })
    }

    /// Whether these bytes stand anywhere in the object beyond its metadata: a quick look
    /// that spares decoding what cannot matter (`"persistentVolumeClaim"`).
    pub fn mentions(&self, text: &str) -> bool {
        memchr::memmem::find(self.content.rest(), text.as_bytes()).is_some()
    }

    /// The value of a selectable field of a built-in kind (`spec.nodeName`), which costs
    /// no decoding; empty when the object lacks it, `None` when the header was made
    /// without selectable fields or the kind has no such one.
    pub fn field(&self, label: &str) -> Option<&str> {
        let at = crate::kinds::selectable::position(self.key.resource(), label)?;
        self.header().fields.get(at).map(|value| &**value)
    }

    /// Shorthand for the header.
    pub fn header(&self) -> &Header {
        &self.content.header
    }
}

// === impl Header ===

impl Header {
    pub(crate) fn read<S: AsRef<str>>(
        top: &Map<String, Value>,
        meta: &Map<String, Value>,
        selectable: &[S],
    ) -> Self {
        let text = |map: &Map<String, Value>, field: &str| -> Box<str> {
            map.get(field).and_then(Value::as_str).unwrap_or_default().into()
        };
        let array = |field: &str| meta.get(field).and_then(Value::as_array).into_iter().flatten();
        let owner = |reference: &Value| {
            let map = reference.as_object()?;
            let flag = |field: &str| map.get(field).and_then(Value::as_bool).unwrap_or(false);
            Some(Owner {
                api_version: text(map, "apiVersion"),
                kind: text(map, "kind"),
                name: text(map, "name"),
                uid: text(map, "uid"),
                controller: flag("controller"),
                block_owner_deletion: flag("blockOwnerDeletion"),
            })
        };
        let labels = meta.get("labels").and_then(Value::as_object);
        let mut labels: Vec<(Box<str>, Box<str>)> = labels
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.as_str().into(), v.as_str().unwrap_or_default().into()))
            .collect();
        labels.sort();
        Self {
            api_version: text(top, "apiVersion"),
            kind: text(top, "kind"),
            uid: text(meta, "uid"),
            generation: meta.get("generation").and_then(Value::as_i64).unwrap_or(0),
            deleting: meta.get("deletionTimestamp").is_some_and(|t| !t.is_null()),
            labels: labels.into(),
            finalizers: array("finalizers").filter_map(Value::as_str).map(Into::into).collect(),
            owners: array("ownerReferences").filter_map(owner).collect(),
            fields: selectable.iter().map(|path| field_text(top, path.as_ref())).collect(),
        }
    }
}

/// The text at a dotted path, as field selectors compare it: strings as they are,
/// booleans and numbers in JSON, anything else empty. The first of several paths
/// (`a.b|c.d`) that has a text wins, then the default after `=`.
fn field_text(top: &Map<String, Value>, expression: &str) -> Box<str> {
    let (paths, default) = expression.split_once('=').unwrap_or((expression, ""));
    for path in paths.split('|') {
        let mut parts = path.split('.');
        let mut at = parts.next().and_then(|first| top.get(first));
        for part in parts {
            at = at.and_then(|value| value.get(part));
        }
        match at {
            Some(Value::String(text)) if !text.is_empty() => return text.as_str().into(),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => return value.to_string().into(),
            _ => {}
        }
    }
    default.into()
}

fn write_fields(out: &mut Vec<u8>, map: &Map<String, Value>, except: &[&str], leading_comma: bool) {
    for (name, value) in map {
        if except.contains(&name.as_str()) {
            continue;
        }
        if leading_comma || !out.is_empty() {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, name).expect("writing to memory cannot fail");
        out.push(b':');
        write_value(out, value);
    }
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("a JSON tree always encodes");
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web", "namespace": "default", "uid": "u1", "resourceVersion": "7", "generation": 2,
                "labels": {"b": "2", "a": "1"}, "finalizers": ["example.com/x"],
                "managedFields": [{"manager": "kubectl"}],
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u0", "controller": true}],
            },
            "spec": {"nodeName": "n1", "hostNetwork": true}, "status": {"phase": "Running"},
        })
    }

    #[test]
    fn a_projection_is_made_once_and_lasts_as_the_record() {
        #[derive(serde::Deserialize)]
        struct Kind {
            kind: String,
        }
        let content = Content::encode(&pod(), &["spec.nodeName"]).unwrap();
        let record = Record { key: Key::new("pods", "default", "web"), revision: 7, content };
        let first = record.projection::<Kind>().unwrap();
        assert_eq!(first.kind, "Pod");
        assert!(Arc::ptr_eq(&first, &record.clone().projection::<Kind>().unwrap()));
        assert_eq!(record.projection::<Value>().unwrap()["spec"]["nodeName"], "n1");
    }

    #[test]
    fn splices_to_the_object_it_came_from() {
        let content =
            Content::encode(&pod(), &["spec.nodeName", "spec.hostNetwork", "status.podIP"]).unwrap();
        let record = Record { key: Key::new("pods", "default", "web"), revision: 7, content };
        assert_eq!(record.decode(), pod());
        let header = record.header();
        assert_eq!(&*header.fields, ["n1".into(), "true".into(), "".into()]);
        assert_eq!((header.label("a"), header.label("c")), (Some("1"), None));
        assert_eq!(header.controller().map(|o| &*o.name), Some("r"));
        let mut bare = Vec::new();
        record.splice(&mut bare, b"", 9);
        let bare: Value = serde_json::from_slice(&bare).unwrap();
        assert_eq!(bare.get("kind"), None);
        assert_eq!(bare["metadata"]["resourceVersion"], "9");
        assert_eq!(Record::from_wire("pods", &pod(), &["spec.nodeName"; 0]).unwrap().key, record.key);
    }

    #[test]
    fn other_metadata_leaves_the_rest() {
        let mut object = pod();
        let content = Content::encode(&object, &["spec.nodeName"]).unwrap();
        let meta = object["metadata"].as_object_mut().unwrap();
        meta.remove("finalizers");
        meta.insert("deletionTimestamp".into(), "2026-01-01T00:00:00Z".into());
        let other = content.with_meta(object["metadata"].as_object().unwrap()).unwrap();
        assert_eq!(other, Content::encode(&object, &["spec.nodeName"]).unwrap());
        assert!(other.header.deleting && other.header.finalizers.is_empty());
        assert_eq!(content.with_meta(&Map::new()), None);
    }

    #[test]
    fn refuses_what_has_no_metadata() {
        for bad in
            [json!({}), json!([]), json!({"metadata": {}}), json!({"metadata": {"resourceVersion": "1"}})]
        {
            assert_eq!(Content::encode(&bad, &[""; 0]), None, "{bad}");
        }
    }

    #[test]
    fn field_values_may_have_alternatives_and_defaults() {
        let paths = ["spec.none|spec.nodeName", "spec.none=0", "spec.hostNetwork=false"];
        let content = Content::encode(&pod(), &paths).unwrap();
        assert_eq!(*content.header.fields, ["n1".into(), "0".into(), "true".into()]);
    }

    #[test]
    fn decimals() {
        for n in [0, 9, 10, 12345, u64::MAX] {
            assert_eq!(decimal(n, &mut [0; 20]), n.to_string().as_bytes());
        }
    }
}
