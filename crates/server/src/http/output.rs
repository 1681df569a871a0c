//! Writing answers: what the client accepts, and objects, lists and failures in it.
//!
//! JSON is spliced from records; other forms are made on demand. A client that takes
//! both JSON and protobuf gets JSON, which costs nothing to make.

use std::sync::Arc;

use bytes::Bytes;
use carrack_api::status::Status;
use carrack_api::{Kind, Record, Revision, Value, proto};
use futures::stream;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::{Body, table};
use crate::registry::{CONTINUE, Items, Listed, Registry, to_version};

/// Bytes of a frame of a streamed list, about.
const FRAME: usize = 64 << 10;

/// How an answer is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What of an object is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// All of it.
    Object,
    /// Columns.
    Table,
    /// Its metadata.
    Metadata,
}

/// What a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) encoding: Encoding,
    pub(crate) form: Form,
}

impl Accept {
    /// Reads the Accept header.
    ///
    /// # Errors
    /// 406 when nothing that it names can be made.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Status> {
        let text = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut protobuf = None;
        for clause in text.split(',').map(str::trim) {
            match Self::clause(clause) {
                Some(accept) if accept.encoding == Encoding::Protobuf => protobuf = protobuf.or(Some(accept)),
                Some(accept) => return Ok(accept),
                None => {}
            }
        }
        protobuf.ok_or_else(|| {
            Status::not_acceptable(
                "only the following media types are accepted: application/json, application/yaml, \
                 application/vnd.kubernetes.protobuf",
            )
        })
    }

    fn clause(clause: &str) -> Option<Self> {
        let mut parts = clause.split(';').map(str::trim);
        let encoding = match parts.next().unwrap_or_default() {
            "" | "*/*" | "application/*" | "application/json" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
            _ => return None,
        };
        let (mut form, mut version, mut group) = (Form::Object, "v1", "meta.k8s.io");
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match (name, value) {
                ("as", "Table") => form = Form::Table,
                ("as", "PartialObjectMetadata" | "PartialObjectMetadataList") => form = Form::Metadata,
                ("as", _) => return None,
                ("v", v) => version = v,
                ("g", g) => group = g,
                _ => {}
            }
        }
        (form == Form::Object || (version == "v1" && group == "meta.k8s.io"))
            .then_some(Self { encoding, form })
    }
}

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
        if record.header().api_version == self.api_version {
            record.splice(out, if bare { b"" } else { self.types() }, revision);
            return;
        }
        let mut object = self.value(record);
        object["metadata"]["resourceVersion"] = revision.to_string().into();
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
        to_version(&self.kind, &self.api_version, object).unwrap_or_else(|_| record.decode())
    }
}

/// Appends a record's metadata as a PartialObjectMetadata.
pub(crate) fn write_metadata(out: &mut Vec<u8>, record: &Record, revision: Revision, bare: bool) {
    if bare {
        out.extend_from_slice(b"{\"metadata\":{");
    } else {
        out.extend_from_slice(
            b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{",
        );
    }
    out.extend_from_slice(record.content.meta());
    if !record.content.managed().is_empty() {
        out.extend_from_slice(b",\"managedFields\":");
        out.extend_from_slice(record.content.managed());
    }
    out.extend_from_slice(format!(",\"resourceVersion\":\"{revision}\"}}}}").as_bytes());
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
            json(code, out)
        }
        (Form::Object, encoding) => value(encoding, Some(view), &view.value(record), code),
        (Form::Metadata, _) => {
            let mut out = Vec::new();
            write_metadata(&mut out, record, record.revision, false);
            json(code, out)
        }
        (Form::Table, _) => {
            let rows = [table::row(view, record, record.revision, include, registry.now())];
            let meta = json!({"resourceVersion": record.revision.to_string()});
            json(code, table::encode(view, &meta, &rows, true))
        }
    }
}

/// Answers a tree of the view's kind, or of any other type when there is no view.
pub(crate) fn value(
    encoding: Encoding,
    view: Option<&View>,
    value: &Value,
    code: StatusCode,
) -> Response<Body> {
    match (encoding, view) {
        (Encoding::Yaml, _) => respond(code, "application/yaml", yaml(value)),
        (Encoding::Protobuf, Some(view)) => {
            let version = &view.kind.versions[view.version];
            match proto::encode(&version.schema, version.root, value) {
                Ok(raw) => protobuf(code, proto::wrap(&view.api_version, &view.kind.kind, &raw)),
                Err(_) => json(code, value.to_string()),
            }
        }
        _ => json(code, value.to_string()),
    }
}

/// JSON is YAML; clients that ask for YAML read either.
fn yaml(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a tree always encodes")
}

/// Answers a tree of a type of its own (Scale, TokenRequest, DeleteOptions, …).
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
    value(accept.encoding, None, object, code)
}

/// Answers a list; JSON is streamed.
pub(crate) fn list(
    accept: Accept,
    view: &View,
    listed: Listed,
    include: table::Include,
    registry: &Registry,
) -> Response<Body> {
    let meta = list_meta(&listed);
    match (accept.form, accept.encoding) {
        (Form::Table, _) => {
            let now = registry.now();
            let rows: Vec<Vec<u8>> =
                listed.all().iter().map(|r| table::row(view, r, r.revision, include, now)).collect();
            json(StatusCode::OK, table::encode(view, &meta, &rows, true))
        }
        (Form::Object, Encoding::Protobuf) => list_protobuf(view, &meta, &listed),
        (form, _) => {
            let (kind, api_version) = match form {
                Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1"),
                _ => (view.kind.list_kind(), &*view.api_version),
            };
            let head = format!(
                "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{meta},\"items\":["
            );
            let body = stream_list(view.clone(), form, listed, head.into_bytes());
            respond(StatusCode::OK, "application/json", body)
        }
    }
}

fn list_meta(listed: &Listed) -> Value {
    let mut meta = json!({"resourceVersion": listed.revision.to_string()});
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

/// Frames of about 64 kB, each made when the one before is on its way.
fn stream_list(view: View, form: Form, listed: Listed, head: Vec<u8>) -> Body {
    // Items of built-in lists carry no types: the list has them.
    let bare = !view.kind.custom;
    let write = move |out: &mut Vec<u8>, record: &Record| match form {
        Form::Metadata => write_metadata(out, record, record.revision, false),
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
            frames(move || {
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
            frames(move || {
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
fn frames(mut next: impl FnMut() -> Option<(Vec<u8>, bool)> + Send + 'static) -> Body {
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

/// Answers a failure. The one place where errors become responses.
pub(crate) fn failure(status: &Status) -> Response<Body> {
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
    let mut response = json(code, object.to_string());
    if let Some(seconds) = status.details["retryAfterSeconds"].as_u64()
        && let Ok(seconds) = HeaderValue::from_str(&seconds.to_string())
    {
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

/// A `Status` that says that it worked.
pub(crate) fn success(code: StatusCode, details: Value) -> Response<Body> {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    if code == StatusCode::CREATED {
        status["code"] = code.as_u16().into();
    }
    if !details.is_null() {
        status["details"] = details;
    }
    json(code, status.to_string())
}

/// A JSON answer.
pub(crate) fn json(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    respond(code, "application/json", Body::from(body))
}

/// A plain text answer.
pub(crate) fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    respond(code, "text/plain; charset=utf-8", Body::from(body))
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
pub(crate) fn warn(response: &mut Response<Body>, warnings: Vec<String>) {
    for warning in warnings {
        let escaped = warning.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = escaped.chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{clean}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_accept() {
        let check = |text: &str, expect: Option<(Encoding, Form)>| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, text.parse().unwrap());
            let seen = Accept::read(&headers).ok().map(|accept| (accept.encoding, accept.form));
            assert_eq!(seen, expect, "{text}");
        };
        use Encoding::{Json, Protobuf, Yaml};
        check("", Some((Json, Form::Object)));
        check("*/*", Some((Json, Form::Object)));
        check("application/vnd.kubernetes.protobuf,application/json", Some((Json, Form::Object)));
        check("application/vnd.kubernetes.protobuf", Some((Protobuf, Form::Object)));
        check("application/yaml", Some((Yaml, Form::Object)));
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Json, Form::Table)));
        check(
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json",
            Some((Json, Form::Object)),
        );
        check(
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Some((Json, Form::Metadata)),
        );
        check("text/html", None);
    }
}
