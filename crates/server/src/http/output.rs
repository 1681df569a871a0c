//! Writing answers: what the client accepts, and objects, lists and failures in it.
//!
//! JSON is spliced from records; other forms are made on demand.

use std::sync::Arc;

use bytes::Bytes;
use carrack_api::status::Status;
use carrack_api::{Kind, Record, Revision, Value, prepare, proto};
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::accept::{Accept, Encoding, Form, indented};
use super::paths::{NO_PAGE, NO_ROUTE};
use super::{Body, table};
use crate::registry::{CONTINUE, Items, Listed, Registry, settle, to_version};
use crate::request::Query;

/// Bytes of a frame of a streamed list, about.
const FRAME: usize = 64 << 10;

/// A kind in the version that a client asked for.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) kind: Arc<Kind>,
    pub(crate) version: usize,
    /// `apps/v1`.
    pub(crate) api_version: Box<str>,
}

impl View {
    pub(crate) fn new(kind: Arc<Kind>, version: usize) -> Self {
        let api_version = kind.api_version(version).into();
        Self { kind, version, api_version }
    }

    /// `"kind":"Pod","apiVersion":"v1",`.
    pub(crate) fn types(&self) -> &[u8] {
        &self.kind.versions[self.version].types
    }

    /// Appends a record as JSON; `bare` leaves kind and apiVersion out.
    pub(crate) fn write(&self, out: &mut Vec<u8>, record: &Record, revision: Revision, bare: bool) {
        if revision != 0 && self.is_stored_form(record) {
            record.splice(out, if bare { b"" } else { self.types() }, revision);
            return;
        }
        let mut object = self.value(record);
        if revision != 0 {
            object["metadata"]["resourceVersion"] = revision.to_string().into();
        }
        if let Some(top) = object.as_object_mut().filter(|_| bare) {
            top.remove("kind");
            top.remove("apiVersion");
        }
        serde_json::to_writer(out, &object).expect("a tree always encodes");
    }

    /// The object as a tree in this version. What cannot be converted is shown as stored.
    pub(crate) fn value(&self, record: &Record) -> Value {
        let mut object = record.decode();
        if record.revision == 0
            && let Some(meta) = object["metadata"].as_object_mut()
        {
            meta.remove("resourceVersion");
        }
        match to_version(&self.kind, &self.api_version, object) {
            Ok(mut object) => {
                settle(&self.kind, self.version, record, &mut object);
                object
            }
            Err(_) => record.decode(),
        }
    }

    /// Whether a record's bytes are what this version shows.
    pub(crate) fn is_stored_form(&self, record: &Record) -> bool {
        let header = record.header();
        header.api_version == self.api_version && self.kind.is_settled(header)
    }
}

/// Appends a record's metadata as a PartialObjectMetadata.
pub(crate) fn write_metadata(
    out: &mut Vec<u8>,
    accept: Accept,
    view: &View,
    record: &Record,
    revision: Revision,
) {
    let version = accept.meta_version();
    let head = format!("{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{version}\",\"metadata\":");
    out.extend_from_slice(head.as_bytes());
    if prepare::has_hidden_annotation(&view.kind) {
        out.extend_from_slice(metadata(view, record, revision).to_string().as_bytes());
        return out.push(b'}');
    }
    out.push(b'{');
    out.extend_from_slice(record.content.meta());
    if !record.content.managed().is_empty() {
        out.extend_from_slice(b",\"managedFields\":");
        out.extend_from_slice(record.content.managed());
    }
    // What a dry run shows was never stored.
    if revision != 0 {
        out.extend_from_slice(format!(",\"resourceVersion\":\"{revision}\"").as_bytes());
    }
    out.extend_from_slice(b"}}");
}

/// A record's metadata as it is shown by itself.
fn metadata(view: &View, record: &Record, revision: Revision) -> Value {
    let mut meta = view.value(record)["metadata"].take();
    if prepare::has_hidden_annotation(&view.kind) {
        prepare::hide_annotation(&mut meta);
    }
    if revision != 0 {
        meta["resourceVersion"] = revision.to_string().into();
    }
    meta
}

/// A record's metadata as the message of a PartialObjectMetadata.
pub(crate) fn metadata_message(view: &View, record: &Record, revision: Revision) -> Vec<u8> {
    metadata_of(&metadata(view, record, revision))
}

/// Metadata as the message of a PartialObjectMetadata.
pub(crate) fn metadata_of(meta: &Value) -> Vec<u8> {
    let schema = carrack_api::facts::schema();
    let root = schema.find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let message = root.and_then(|root| proto::encode(&schema, root, meta).ok());
    proto::metadata(&message.unwrap_or_default())
}

/// Answers one object.
pub(crate) fn object(
    accept: Accept,
    view: &View,
    record: &Record,
    code: StatusCode,
    include: table::Include,
    registry: &Registry,
) -> Response<Body> {
    match (accept.form, accept.encoding) {
        (Form::Object, Encoding::Json) if record.revision != 0 => {
            let mut out = Vec::with_capacity(record.content.size() + 128);
            view.write(&mut out, record, record.revision, false);
            written(accept, code, out)
        }
        (Form::Object, _) => value(accept, Some(view), &view.value(record), code),
        (Form::Metadata, Encoding::Protobuf) => {
            let raw = metadata_message(view, record, record.revision);
            protobuf(code, proto::wrap(accept.meta_version(), "PartialObjectMetadata", &raw))
        }
        (Form::Metadata, _) => {
            let mut out = Vec::new();
            write_metadata(&mut out, accept, view, record, record.revision);
            written(accept, code, out)
        }
        (Form::MetadataList, _) => failure(&Status::not_acceptable(format!(
            "you requested PartialObjectMetadataList, but the requested object is not a list ({})",
            go_type(&view.kind, "")
        ))),
        (Form::Table, _) => {
            let rows = [table::row(accept, view, record, record.revision, include, registry.now())];
            let meta = match record.revision {
                0 => json!({}),
                revision => json!({"resourceVersion": revision.to_string()}),
            };
            written(accept, code, table::encode(accept, view, &meta, &rows, true))
        }
    }
}

/// Go's name of a kind's internal type, which upstream's messages tell.
fn go_type(kind: &Kind, ending: &str) -> String {
    if kind.custom {
        return format!("*unstructured.Unstructured{ending}");
    }
    let package = match &*kind.group {
        "" | "events.k8s.io" => "core",
        group => group.split('.').next().unwrap_or_default(),
    };
    format!("*{package}.{}{ending}", kind.kind)
}

/// Answers with JSON, or with what the client wants made of it.
pub(crate) fn written(accept: Accept, code: StatusCode, mut body: Vec<u8>) -> Response<Body> {
    match accept.encoding {
        Encoding::Yaml => {
            let text = serde_json::from_slice(&body).map_or_else(|_| String::new(), |value| yaml(&value));
            respond(code, "application/yaml", text)
        }
        _ if accept.pretty => respond(code, "application/json", indented(&body)),
        _ => {
            body.push(b'\n');
            respond(code, "application/json", body)
        }
    }
}

/// Answers a tree of the view's kind, or of any other type when there is no view.
pub(crate) fn value(accept: Accept, view: Option<&View>, value: &Value, code: StatusCode) -> Response<Body> {
    if let (Encoding::Protobuf, Some(view)) = (accept.encoding, view) {
        let version = &view.kind.versions[view.version];
        if let Ok(raw) = proto::encode(&version.schema, version.root, value) {
            return protobuf(code, proto::wrap(&view.api_version, &view.kind.kind, &raw));
        }
    }
    written(accept, code, value.to_string().into_bytes())
}

/// JSON is YAML; clients that ask for YAML read either.
pub(super) fn yaml(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a tree always encodes")
}

/// Answers a tree of a type that is no kind, by the package that has it. (Discovery's oldest
/// documents have no apiVersion to go by.)
pub(crate) fn named(accept: Accept, package: &str, object: &Value, code: StatusCode) -> Response<Body> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    if accept.encoding == Encoding::Protobuf {
        let schema = carrack_api::facts::schema();
        let root = schema.find(&format!("{package}.{}", text("kind")));
        if let Some(raw) = root.and_then(|root| proto::encode(&schema, root, object).ok()) {
            return protobuf(code, proto::wrap(text("apiVersion"), text("kind"), &raw));
        }
    }
    value(accept, None, object, code)
}

/// Answers a tree of a type of its own (Scale, TokenRequest, Status, …).
pub(crate) fn typed(accept: Accept, object: &Value, code: StatusCode) -> Response<Body> {
    if accept.encoding == Encoding::Protobuf {
        let schema = carrack_api::facts::schema();
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = carrack_api::kind::group_version(api_version);
        let is =
            |(g, v, k): &(Box<str>, Box<str>, Box<str>)| &**g == group && &**v == version && &**k == kind;
        let root = schema.objects().find(|(_, object)| object.group_version_kinds.iter().any(is));
        if let Some((root, _)) = root
            && let Ok(raw) = proto::encode(&schema, root, object)
        {
            return protobuf(code, proto::wrap(api_version, kind, &raw));
        }
    }
    value(accept, None, object, code)
}

/// Answers a list; JSON is streamed.
pub(crate) fn list(
    accept: Accept,
    view: &View,
    listed: Listed,
    include: table::Include,
    registry: &Registry,
) -> Response<Body> {
    let mut meta = list_meta(&listed);
    if view.kind.definition.is_some() && accept.form == Form::Object && meta.get("continue").is_none() {
        // As upstream's untyped lists have it.
        meta["continue"] = "".into();
    }
    match (accept.form, accept.encoding) {
        (Form::Table, _) => {
            let now = registry.now();
            let mut records = listed.all();
            table::order(&view.kind, &mut records);
            let rows: Vec<Vec<u8>> =
                records.iter().map(|r| table::row(accept, view, r, r.revision, include, now)).collect();
            written(accept, StatusCode::OK, table::encode(accept, view, &meta, &rows, true))
        }
        (Form::Metadata, _) => failure(&Status::not_acceptable(format!(
            "you requested PartialObjectMetadata, but the requested object is a list ({})",
            go_type(&view.kind, "List")
        ))),
        (Form::Object, Encoding::Protobuf) => list_protobuf(view, &meta, &listed),
        (Form::MetadataList, Encoding::Protobuf) => {
            let all = listed.all();
            let items: Vec<Vec<u8>> = all.iter().map(|r| metadata_message(view, r, r.revision)).collect();
            let items = items.iter().map(Vec::as_slice);
            let kind = "PartialObjectMetadataList";
            protobuf(StatusCode::OK, proto::list(accept.meta_version(), kind, &meta, items))
        }
        (Form::MetadataList, _) if listed.is_empty() => {
            // Upstream's empty list of metadata has no items at all.
            let (kind, version) = ("PartialObjectMetadataList", accept.meta_version());
            let list = json!({"kind": kind, "apiVersion": version, "metadata": meta, "items": null});
            value(accept, None, &list, StatusCode::OK)
        }
        (form, encoding) => {
            let (kind, api_version) = match form {
                Form::MetadataList => ("PartialObjectMetadataList".to_owned(), accept.meta_version()),
                _ => (view.kind.list_kind(), &*view.api_version),
            };
            let head = format!(
                "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{meta},\"items\":["
            );
            let mut pieces = stream_list(view.clone(), accept, listed, head.into_bytes());
            if accept.pretty || encoding == Encoding::Yaml {
                let mut whole = Vec::new();
                while let Some((piece, more)) = pieces() {
                    whole.extend_from_slice(&piece);
                    if !more {
                        break;
                    }
                }
                whole.extend_from_slice(b"]}");
                return written(accept, StatusCode::OK, whole);
            }
            respond(StatusCode::OK, "application/json", frames(pieces))
        }
    }
}

fn list_meta(listed: &Listed) -> Value {
    let mut meta = match listed.revision {
        0 => json!({}),
        revision => json!({"resourceVersion": revision.to_string()}),
    };
    if !listed.continue_token.is_empty() {
        meta["continue"] = listed.continue_token.as_str().into();
    }
    if let Some(remaining) = listed.remaining {
        meta["remainingItemCount"] = remaining.into();
    }
    meta
}

fn list_protobuf(view: &View, meta: &Value, listed: &Listed) -> Response<Body> {
    let version = &view.kind.versions[view.version];
    let encode = |record: &Arc<Record>| {
        let mut object = view.value(record);
        if let Some(top) = object.as_object_mut() {
            top.remove("kind");
            top.remove("apiVersion");
        }
        proto::encode(&version.schema, version.root, &object)
    };
    let items: Result<Vec<_>, _> = listed.all().iter().map(encode).collect();
    match items {
        Ok(items) => {
            let items = items.iter().map(Vec::as_slice);
            protobuf(StatusCode::OK, proto::list(&view.api_version, &view.kind.list_kind(), meta, items))
        }
        Err(error) => failure(&Status::internal(error)),
    }
}

/// Pieces of about 64 kB, without the end; each says whether more will come.
type Pieces = Box<dyn FnMut() -> Option<(Vec<u8>, bool)> + Send>;

/// A list piece by piece, each made when it is asked for.
fn stream_list(view: View, accept: Accept, listed: Listed, head: Vec<u8>) -> Pieces {
    // Items of built-in lists carry no types: the list has them.
    let bare = !view.kind.custom;
    let write = move |out: &mut Vec<u8>, record: &Record| match accept.form {
        Form::MetadataList => write_metadata(out, accept, &view, record, record.revision),
        _ => view.write(out, record, record.revision, bare),
    };
    let mut first = true;
    let mut piece = move |out: &mut Vec<u8>, record: &Record| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write(out, record);
        out.len() < FRAME
    };
    match listed.items {
        Items::Page(records) => {
            let mut records = records.into_iter();
            let mut head = Some(head);
            Box::new(move || {
                let mut out = start(&mut head)?;
                loop {
                    match records.next() {
                        Some(record) if !piece(&mut out, &record) => return Some((out, true)),
                        Some(_) => {}
                        None => return Some((out, false)),
                    }
                }
            })
        }
        Items::All(snapshot, scope) => {
            let prefix = scope.prefix();
            let mut last: Option<String> = None;
            let mut head = Some(head);
            Box::new(move || {
                let mut out = start(&mut head)?;
                let mut full = None;
                for record in scope.records(&snapshot, &prefix, last.as_deref()) {
                    if !piece(&mut out, record) {
                        full = Some(record.key.to_string());
                        break;
                    }
                }
                let more = full.is_some();
                last = full;
                Some((out, more))
            })
        }
    }
}

/// The buffer of the next frame: the head at first, then empty ones.
fn start(head: &mut Option<Vec<u8>>) -> Option<Vec<u8>> {
    Some(head.take().unwrap_or_else(|| Vec::with_capacity(FRAME + (16 << 10))))
}

/// A body out of `next`, which says with each piece whether more will come. A list of
/// one piece has a known length.
fn frames(mut next: Pieces) -> Body {
    let end = |mut out: Vec<u8>| {
        out.extend_from_slice(b"]}\n");
        out
    };
    let Some((first, more)) = next() else { return Body::empty() };
    if !more {
        return Body::from(end(first));
    }
    let rest = std::iter::from_fn({
        let mut done = false;
        move || {
            if done {
                return None;
            }
            let (out, more) = next()?;
            done = !more;
            Some(Bytes::from(if more { out } else { end(out) }))
        }
    });
    Body::stream(stream::iter(std::iter::once(Bytes::from(first)).chain(rest)))
}

/// Marks a response that tells a failure.
#[derive(Clone)]
struct Failed(Arc<Value>);

/// Tells a failure in the way that the client reads; anything else stays as it is.
pub(crate) fn fit_failure(response: Response<Body>, headers: &HeaderMap, query: &Query) -> Response<Body> {
    let Some(Failed(object)) = response.extensions().get::<Failed>().cloned() else { return response };
    let fitted = match Accept::of_failure(headers, query) {
        Some(accept) if accept.is_plain() => return response,
        Some(accept) => typed(accept, &object, response.status()),
        // There is no way to tell it that the client would take.
        None => respond(response.status(), "application/json", indented(object.to_string().as_bytes())),
    };
    let (mut parts, _) = response.into_parts();
    let (head, body) = fitted.into_parts();
    parts.headers.extend(head.headers);
    Response::from_parts(parts, body)
}

/// Answers a failure. The one place where errors become responses.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    if status.reason == NO_PAGE || status.reason == NO_ROUTE {
        let mut response = text(StatusCode::NOT_FOUND, status.message.clone() + "\n");
        if status.reason == NO_ROUTE {
            response.headers_mut().remove(CACHE_CONTROL);
        }
        return response;
    }
    let mut object = status.to_value();
    if let Some(details) = object.get_mut("details").and_then(Value::as_object_mut) {
        let token = details.remove(CONTINUE);
        let empty = details.is_empty() && token.is_some();
        if let Some(token) = token {
            object["metadata"]["continue"] = token;
        }
        if empty && let Some(top) = object.as_object_mut() {
            top.remove("details");
        }
    }
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, object.to_string() + "\n");
    response.extensions_mut().insert(Failed(Arc::new(object)));
    if let Some(seconds) = status.details["retryAfterSeconds"].as_u64()
        && let Ok(seconds) = HeaderValue::from_str(&seconds.to_string())
    {
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

/// A `Status` that says that it worked.
pub(crate) fn success(accept: Accept, code: StatusCode, details: Value) -> Response<Body> {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    if code == StatusCode::CREATED {
        status["code"] = code.as_u16().into();
    }
    if !details.is_null() {
        status["details"] = details;
    }
    typed(accept, &status, code)
}

/// A JSON answer.
pub(crate) fn json(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    respond(code, "application/json", Body::from(body))
}

/// A plain text answer.
pub(crate) fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = respond(code, "text/plain; charset=utf-8", Body::from(body));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn protobuf(code: StatusCode, body: Vec<u8>) -> Response<Body> {
    respond(code, "application/vnd.kubernetes.protobuf", Body::from(body))
}

/// An answer of any type.
pub(crate) fn respond(code: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Adds `Warning: 299 - "…"` headers.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for value in super::warnings::headers(warnings) {
        response.headers_mut().append(WARNING, value);
    }
}
