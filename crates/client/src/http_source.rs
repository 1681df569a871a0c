//! A [`Source`] over HTTP: pages of a list, then a watch, for as long as it is wanted.
//!
//! Revisions are the server's. A watch that ends is resumed from the last revision
//! seen; when the server no longer has it (410), or says something unreadable, the
//! list is read again. Lines longer than [`MAX_LINE`] are refused.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use carrack_api::{Record, Revision, Value};
use futures::stream::BoxStream;
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::backoff::{Backoff, mix};
use crate::client::{Client, Error};
use crate::{Resource, Scope, Source, Update};

/// Largest watch event: an object at its limit of 3 MiB, and its managedFields.
pub const MAX_LINE: usize = 8 << 20;

/// Objects asked for in one page.
const PAGE: usize = 500;

/// Updates that may wait for a slow consumer; then the watch is read no further.
const BUFFER: usize = 256;

/// A watch without a byte for so long is given up: bookmarks come every minute.
const SILENCE: Duration = Duration::from_secs(150);

/// Lists and watches through a [`Client`].
pub struct HttpSource {
    client: Client,
}

impl HttpSource {
    /// Reads as whoever the client is.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Source for HttpSource {
    fn subscribe(&self, resource: &Resource, scope: Scope) -> BoxStream<'static, Update> {
        let (sender, mut receiver) = mpsc::channel(BUFFER);
        let (client, api_version) = (self.client.clone(), resource.api_version());
        let feed = Feed { client, resource: resource.clone(), api_version, scope, sender };
        tokio::spawn(feed.run());
        Box::pin(futures::stream::poll_fn(move |cx| receiver.poll_recv(cx)))
    }
}

/// Why a list or watch came to its end.
enum End {
    /// Nobody listens any more.
    Unwanted,
    /// The watch may be resumed.
    Closed,
    /// The history is gone or the stream is unusable: list again.
    Expired,
    /// The request failed.
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        if error.code() == 410 { Self::Expired } else { Self::Failed(error) }
    }
}

/// A line of a watch.
#[derive(serde::Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// A page of a list.
#[derive(serde::Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: Value,
    #[serde(default, borrow)]
    items: Option<Vec<&'a RawValue>>,
}

struct Feed {
    client: Client,
    resource: Resource,
    api_version: String,
    scope: Scope,
    sender: mpsc::Sender<Update>,
}

impl Feed {
    async fn run(self) {
        let seed = self.resource.store.bytes().fold(0, |state, byte| mix(state ^ u64::from(byte)));
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30), seed);
        let mut revision = None;
        loop {
            let end = match revision {
                None => self.list().await.map(|at| revision = Some(at)),
                Some(_) => self.watch(&mut revision, &mut backoff).await,
            };
            match end {
                Ok(()) => continue,
                Err(End::Unwanted) => return,
                Err(End::Closed) => {}
                Err(End::Expired) => revision = None,
                Err(End::Failed(error)) => {
                    tracing::debug!(resource = %self.resource.store, %error, "watch failed; trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = self.sender.closed() => return,
            }
        }
    }

    async fn list(&self) -> Result<Revision, End> {
        let mut records = Vec::new();
        let mut token = String::new();
        loop {
            let path = self.path(&[("limit", &PAGE.to_string()), ("continue", &token)]);
            let body = self.client.get_path(&path).await?;
            let page: Page<'_> = serde_json::from_slice(&body).map_err(unreadable)?;
            records.extend(page.items.into_iter().flatten().filter_map(|item| self.record(item)));
            token = page.metadata["continue"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                let revision = page.metadata["resourceVersion"].as_str().and_then(|rv| rv.parse().ok());
                let revision = revision.ok_or_else(|| unreadable("the list has no resourceVersion"))?;
                self.send(Update::Reset { records, revision }).await?;
                return Ok(revision);
            }
        }
    }

    async fn watch(&self, revision: &mut Option<Revision>, backoff: &mut Backoff) -> Result<(), End> {
        let from = revision.unwrap_or_default().to_string();
        let options =
            [("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", from.as_str())];
        let request = Request::get(self.path(&options))
            .header(http::header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| Error::Request(error.to_string()))?;
        let send = self.client.kube().send(request);
        let response = tokio::select! {
            response = send => response.map_err(|error| Error::Transport(error.to_string()))?,
            () = self.sender.closed() => return Err(End::Unwanted),
        };
        if !response.status().is_success() {
            let code = response.status().as_u16();
            let body = http_body_util::Limited::new(response.into_body(), 1 << 20).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(Error::from_status(code, &body).into());
        }
        let mut lines = Lines { body: response.into_body(), buffer: BytesMut::new(), searched: 0 };
        loop {
            let line = tokio::select! {
                line = tokio::time::timeout(SILENCE, lines.next()) => line,
                () = self.sender.closed() => return Err(End::Unwanted),
            };
            let Ok(Some(line)) = line else { return Err(End::Closed) };
            let update = self.event(&line?)?;
            *revision = Some(update.1);
            self.send(update.0).await?;
            backoff.reset();
        }
    }

    /// Reads one line of a watch.
    fn event(&self, line: &[u8]) -> Result<(Update, Revision), End> {
        let event: Event<'_> = serde_json::from_slice(line).map_err(|_| End::Expired)?;
        let read = || serde_json::from_str::<Value>(event.object.get()).map_err(|_| End::Expired);
        let update = match &*event.kind {
            "ERROR" => {
                let code = read()?["code"].as_u64().unwrap_or(500) as u16;
                return Err(Error::from_status(code, event.object.get().as_bytes()).into());
            }
            "BOOKMARK" => {
                let revision = read()?["metadata"]["resourceVersion"].as_str().and_then(|rv| rv.parse().ok());
                let revision = revision.ok_or(End::Expired)?;
                return Ok((Update::Progress(revision), revision));
            }
            "DELETED" => |record: Arc<Record>, revision| Update::Deleted { record, revision },
            _ => |record: Arc<Record>, revision| Update::Changed { record, revision },
        };
        let record = self.record(event.object).ok_or(End::Expired)?;
        let revision = record.revision;
        Ok((update(record, revision), revision))
    }

    /// A record of an object whose list may have left its kind out.
    fn record(&self, object: &RawValue) -> Option<Arc<Record>> {
        let fields = carrack_api::kinds::field_paths(&self.resource.store);
        let types = (&*self.api_version, &*self.resource.kind);
        Record::from_json(&self.resource.store, types, object, &fields).map(Arc::new)
    }

    fn path(&self, options: &[(&str, &str)]) -> String {
        let mut path = self.resource.collection_path(self.scope.namespace.as_deref().unwrap_or_default());
        let scope = [
            ("labelSelector", self.scope.labels.as_deref().unwrap_or_default()),
            ("fieldSelector", self.scope.fields.as_deref().unwrap_or_default()),
        ];
        let mut separator = '?';
        for (name, value) in options.iter().chain(&scope).filter(|(_, value)| !value.is_empty()) {
            path.push(separator);
            path.push_str(name);
            path.push('=');
            percent_encode(value, &mut path);
            separator = '&';
        }
        path
    }

    async fn send(&self, update: Update) -> Result<(), End> {
        self.sender.send(update).await.map_err(|_| End::Unwanted)
    }
}

/// Splits a body into lines.
struct Lines {
    body: Body,
    buffer: BytesMut,
    searched: usize,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Bytes, End>> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                return Some(Ok(line));
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_LINE {
                return Some(Err(End::Expired));
            }
            match self.body.frame().await? {
                Ok(frame) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Err(_) => return None,
            }
        }
    }
}

fn unreadable(error: impl ToString) -> End {
    End::Failed(Error::Decode(error.to_string()))
}

fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}
