//! Watch streams: items of a [`Watcher`] as frames, bookmarks, the end in time.
//!
//! The frame that nearly all watchers of a kind want (stored version, whole object,
//! JSON) is made once per event and shared through [`Event::frame`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carrack_api::status::Status;
use carrack_api::{Kind, Record, Revision, Value, prepare, proto};
use carrack_store::{Change, Event};
use futures::stream;
use http::{Response, StatusCode};
use tokio::sync::watch as watch_channel;
use tokio::time::Instant;

use super::accept::{Accept, Encoding, Form};
use super::compress::Watching;
use super::metrics::LongRunning;
use super::output::{self, View};
use super::{Body, table};
use crate::registry::{Item, Registry, Seen, Watcher, too_old};

/// Bytes of small frames that are sent together at most.
const COALESCE: usize = 64 << 10;

/// How a watch is to be served.
pub(crate) struct Settings {
    pub(crate) accept: Accept,
    pub(crate) view: View,
    pub(crate) include: table::Include,
    /// Whether the client takes bookmarks.
    pub(crate) bookmarks: bool,
    /// Whether to mark the end of the initial events.
    pub(crate) mark_initial_end: bool,
    /// Turns true when the server shuts down.
    pub(crate) closing: watch_channel::Receiver<bool>,
    /// Counts the watch and what it tells.
    pub(crate) counted: LongRunning,
    /// Marked when the table of kinds changes.
    pub(crate) kinds: watch_channel::Receiver<()>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

struct Stream {
    settings: Settings,
    registry: Arc<Registry>,
    watcher: Option<Watcher>,
    until: Instant,
    bookmark: tokio::time::Interval,
    told: Revision,
    columns_sent: bool,
}

/// Answers with a stream of events.
pub(crate) fn answer(settings: Settings, registry: Arc<Registry>, watcher: Watcher) -> Response<Body> {
    let media_type = match settings.accept.encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let until = Instant::now() + settings.timeout;
    let bookmark = tokio::time::interval_at(Instant::now() + settings.interval, settings.interval);
    let state =
        Stream { settings, registry, watcher: Some(watcher), until, bookmark, told: 0, columns_sent: false };
    let frames = stream::unfold(state, |mut state| async move {
        let frame = state.next().await?;
        Some((frame, state))
    });
    let mut response = output::respond(StatusCode::OK, media_type, Body::stream(frames));
    response.extensions_mut().insert(Watching);
    response
}

/// Answers with a stream of one ERROR event, as upstream does when a watch cannot
/// start where the client wants.
pub(crate) fn refuse(accept: Accept, status: &Status) -> Response<Body> {
    let frame = error_frame(accept.encoding, status);
    output::json(StatusCode::OK, frame)
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let watcher = self.watcher.as_mut()?;
            tokio::select! {
                biased;
                items = watcher.next() => match items {
                    Ok(items) => {
                        let frame = self.frames(items);
                        if !frame.is_empty() {
                            return Some(frame);
                        }
                    }
                    Err(expired) => {
                        self.watcher = None;
                        return Some(error_frame(self.settings.accept.encoding, &too_old(&expired)));
                    }
                },
                _ = self.bookmark.tick(), if self.settings.bookmarks => match watcher.catch_up() {
                    Ok(items) if items.is_empty() => {
                        let revision = watcher.revision();
                        if revision > self.told {
                            self.told = revision;
                            return Some(self.bookmark_frame(revision, false));
                        }
                    }
                    Ok(items) => return Some(self.frames(items)),
                    Err(expired) => {
                        self.watcher = None;
                        return Some(error_frame(self.settings.accept.encoding, &too_old(&expired)));
                    }
                },
                () = closed(&mut self.settings.closing) => return None,
                () = replaced(&mut self.settings.kinds, &self.registry, &self.settings.view) => {
                    // What happened until then is told; under another definition (or none)
                    // the client starts over.
                    let last = watcher.catch_up();
                    self.watcher = None;
                    return last.ok().filter(|items| !items.is_empty()).map(|items| self.frames(items));
                }
                () = tokio::time::sleep_until(self.until) => {
                    // A last bookmark lets the client go on from here.
                    let revision = watcher.revision();
                    self.watcher = None;
                    if self.settings.bookmarks && revision > self.told {
                        return Some(self.bookmark_frame(revision, false));
                    }
                    return None;
                }
            }
        }
    }

    fn frames(&mut self, mut items: VecDeque<Item>) -> Bytes {
        if items.len() == 1
            && let Some(item) = items.pop_front()
        {
            self.settings.counted.events(1);
            return self.frame(item);
        }
        let mut out = Vec::with_capacity(COALESCE);
        self.settings.counted.events(items.len());
        for item in items {
            out.extend_from_slice(&self.frame(item));
        }
        out.into()
    }

    fn frame(&mut self, item: Item) -> Bytes {
        match item {
            Item::Initial(record) => {
                self.told = self.told.max(record.revision);
                let first = self.tells_columns();
                self.encode_with("ADDED", &record, record.revision, first).into()
            }
            Item::InitialEnd(revision) if self.settings.mark_initial_end => {
                self.told = revision;
                self.bookmark_frame(revision, true)
            }
            Item::InitialEnd(_) => Bytes::new(),
            Item::Event(seen, event) => {
                self.told = event.revision;
                self.event(seen, &event)
            }
        }
    }

    fn event(&mut self, seen: Seen, event: &Event) -> Bytes {
        let plain = matches!(
            (seen, event.change),
            (Seen::Added, Change::Created)
                | (Seen::Modified, Change::Updated)
                | (Seen::Deleted, Change::Deleted)
        );
        let accept = self.settings.accept;
        let shared = plain
            && Accept { pretty: false, ..accept }.is_plain()
            && self.settings.view.is_stored_form(&event.record);
        let ty = match seen {
            Seen::Added => "ADDED",
            Seen::Modified => "MODIFIED",
            Seen::Deleted => "DELETED",
        };
        // What leaves a selection is shown as it was while it was in it.
        let left = seen == Seen::Deleted && event.change != Change::Deleted;
        let record = event.previous.as_ref().filter(|_| left).unwrap_or(&event.record);
        if shared {
            return event.frame.get_or_init(|| self.encode(ty, &event.record, event.revision).into()).clone();
        }
        let first = self.tells_columns();
        self.encode_with(ty, record, event.revision, first).into()
    }

    /// Whether the next event says what its columns are: the first does, and each of an
    /// APIService.
    fn tells_columns(&mut self) -> bool {
        let sent = std::mem::replace(&mut self.columns_sent, true);
        !sent || &*self.settings.view.kind.resource == "apiservices.apiregistration.k8s.io"
    }

    fn encode(&self, ty: &str, record: &Record, revision: Revision) -> Vec<u8> {
        self.encode_with(ty, record, revision, true)
    }

    fn encode_with(&self, ty: &str, record: &Record, revision: Revision, columns: bool) -> Vec<u8> {
        let Settings { accept, view, include, .. } = &self.settings;
        let mut object = Vec::new();
        if (accept.form, accept.encoding) == (Form::Object, Encoding::Json) {
            let mut out = head(ty, record.content.size());
            view.write(&mut out, record, revision, false);
            out.extend_from_slice(b"}\n");
            return out;
        }
        match (accept.form, accept.encoding) {
            (Form::Object, Encoding::Protobuf) => {
                let mut value = view.value(record);
                value["metadata"]["resourceVersion"] = revision.to_string().into();
                return self.protobuf(ty, &value);
            }
            (Form::Object, _) => view.write(&mut object, record, revision, false),
            (Form::Metadata | Form::MetadataList, Encoding::Protobuf) => {
                let raw = output::metadata_message(view, record, revision);
                return self.metadata_frame(ty, &raw);
            }
            (Form::Metadata | Form::MetadataList, _) => {
                output::write_metadata(&mut object, *accept, view, record, revision);
            }
            (Form::Table, _) => {
                let row = table::row(*accept, view, record, revision, *include, self.registry.now());
                let meta = serde_json::json!({"resourceVersion": revision.to_string()});
                object = table::encode(*accept, view, &meta, &[row], columns);
            }
        }
        wrap(ty, &object)
    }

    fn protobuf(&self, ty: &str, value: &Value) -> Vec<u8> {
        let view = &self.settings.view;
        let version = &view.kind.versions[view.version];
        match proto::encode(&version.schema, version.root, value) {
            Ok(raw) => proto::watch_frame(ty, &proto::wrap(&view.api_version, &view.kind.kind, &raw)),
            Err(error) => wrap("ERROR", Status::internal(error).to_value().to_string().as_bytes()),
        }
    }

    fn metadata_frame(&self, ty: &str, raw: &[u8]) -> Vec<u8> {
        let version = self.settings.accept.meta_version();
        proto::watch_frame(ty, &proto::wrap(version, "PartialObjectMetadata", raw))
    }

    fn bookmark_frame(&self, revision: Revision, initial_end: bool) -> Bytes {
        let Settings { accept, view, .. } = &self.settings;
        let mut meta = serde_json::json!({"resourceVersion": revision.to_string()});
        if initial_end {
            meta["annotations"] = serde_json::json!({"k8s.io/initial-events-end": "true"});
        }
        match accept.form {
            Form::Table => wrap("BOOKMARK", &table::encode(*accept, view, &meta, &[], false)),
            form => {
                let (kind, api_version) = match form {
                    Form::Metadata | Form::MetadataList => ("PartialObjectMetadata", accept.meta_version()),
                    _ => (&*view.kind.kind, &*view.api_version),
                };
                if accept.encoding == Encoding::Protobuf && kind == "PartialObjectMetadata" {
                    return self.metadata_frame("BOOKMARK", &output::metadata_of(&meta)).into();
                }
                let mut object =
                    serde_json::json!({"kind": kind, "apiVersion": api_version, "metadata": meta});
                let own = &view.kind.versions[view.version];
                // A typed object has what its type always writes.
                if form == Form::Object
                    && !view.kind.custom
                    && let Ok(Value::Object(empty)) = proto::decode(&own.schema, own.root, &[])
                    && let Some(fields) = object.as_object_mut()
                {
                    empty.into_iter().for_each(|(name, value)| _ = fields.entry(name).or_insert(value));
                    prepare::served_empty(&view.kind, &mut object);
                }
                if accept.encoding == Encoding::Protobuf {
                    return self.protobuf("BOOKMARK", &object).into();
                }
                wrap("BOOKMARK", object.to_string().as_bytes())
            }
        }
        .into()
    }
}

/// Resolves when the server shuts down.
async fn closed(closing: &mut watch_channel::Receiver<bool>) {
    // An error says that the server is gone, which is the same.
    drop(closing.wait_for(|closing| *closing).await);
}

/// Resolves when a custom kind is no longer what the view holds. A definition on its way
/// out keeps its watches: they are to see its objects go.
async fn replaced(kinds: &mut watch_channel::Receiver<()>, registry: &Registry, view: &View) {
    if view.kind.definition.is_none() {
        return std::future::pending().await;
    }
    loop {
        kinds.borrow_and_update();
        let now = registry.kinds();
        let leaving = |kind: &Kind| kind.definition.as_ref().is_some_and(|d| d.terminating);
        let holds = |kind: &Arc<Kind>| Arc::ptr_eq(kind, &view.kind) || leaving(kind);
        if !now.stored(&view.kind.resource).is_some_and(holds) {
            return;
        }
        if kinds.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn head(ty: &str, size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 160);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(ty.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out
}

fn wrap(ty: &str, object: &[u8]) -> Vec<u8> {
    let mut out = head(ty, object.len());
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out
}

fn error_frame(encoding: Encoding, status: &Status) -> Bytes {
    let object = status.to_value();
    if encoding == Encoding::Protobuf {
        let schema = carrack_api::facts::schema();
        let encoded = schema
            .find("io.k8s.apimachinery.pkg.apis.meta.v1.Status")
            .and_then(|root| proto::encode(&schema, root, &object).ok());
        if let Some(raw) = encoded {
            return proto::watch_frame("ERROR", &proto::wrap("v1", "Status", &raw)).into();
        }
    }
    wrap("ERROR", object.to_string().as_bytes()).into()
}
