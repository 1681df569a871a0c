//! Events: what happened to an object, said in words, fire and forget.
//!
//! An [`EventRecorder`] hands events to one background task that correlates them as
//! client-go does and writes them as core `v1` Events. Nobody waits for an event:
//! when the queue is full it is dropped, and a failed write is not repeated.

mod correlate;

use std::sync::Arc;

use carrack_api::{Record, Value};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use crate::clock::rfc3339;
use crate::{Client, Clock, Patch, resource};
use correlate::{Correlator, Outcome};

/// Events that may wait to be written; more are dropped.
pub const QUEUE_LIMIT: usize = 1000;

/// The object that an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion when the event happened.
    pub resource_version: String,
    /// Part of the object, such as `spec.containers{web}`; mostly empty.
    pub field_path: String,
}

/// `type` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// For the record.
    Normal,
    /// Something that someone should look at.
    Warning,
}

/// An event before it is written.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    about: Reference,
    kind: EventKind,
    reason: String,
    message: String,
    time: Timestamp,
}

/// Records events of one component. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    sender: mpsc::Sender<Event>,
    clock: Arc<dyn Clock>,
}

// === impl Reference ===

impl Reference {
    /// The object that a record holds.
    pub fn of(record: &Record) -> Self {
        let header = record.header();
        Self {
            api_version: header.api_version.to_string(),
            kind: header.kind.to_string(),
            namespace: record.key.namespace().into(),
            name: record.key.name().into(),
            uid: header.uid.to_string(),
            resource_version: record.revision.to_string(),
            field_path: String::new(),
        }
    }
}

// === impl EventKind ===

impl EventKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

// === impl EventRecorder ===

impl EventRecorder {
    /// Records as `component` (such as `deployment-controller`), on `host` if it is
    /// about a node. Spawns the background task, which ends with the last clone.
    pub fn new(client: Client, component: &str, host: &str, clock: Arc<dyn Clock>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
        let writer = Writer { client, component: component.into(), host: host.into() };
        tokio::spawn(writer.run(receiver));
        Self { sender, clock }
    }

    /// A recorder that drops everything, for tests.
    pub fn discard(clock: Arc<dyn Clock>) -> Self {
        Self { sender: mpsc::channel(1).0, clock }
    }

    /// Says that something happened. Never waits.
    pub fn event(&self, about: &Reference, kind: EventKind, reason: &str, message: impl Into<String>) {
        let event = Event {
            about: about.clone(),
            kind,
            reason: reason.into(),
            message: message.into(),
            time: self.clock.now(),
        };
        if let Err(mpsc::error::TrySendError::Full(event)) = self.sender.try_send(event) {
            tracing::debug!(reason = event.reason, "event dropped: the queue is full");
        }
    }

    /// An event of type Normal.
    pub fn normal(&self, about: &Reference, reason: &str, message: impl Into<String>) {
        self.event(about, EventKind::Normal, reason, message);
    }

    /// An event of type Warning.
    pub fn warning(&self, about: &Reference, reason: &str, message: impl Into<String>) {
        self.event(about, EventKind::Warning, reason, message);
    }
}

/// The background task.
struct Writer {
    client: Client,
    component: String,
    host: String,
}

impl Writer {
    async fn run(self, mut events: mpsc::Receiver<Event>) {
        let mut correlator = Correlator::default();
        while let Some(event) = events.recv().await {
            let time = event.time;
            match correlator.observe(event) {
                Outcome::Drop => {}
                Outcome::Create { event, slot } => self.create(&mut correlator, event, slot).await,
                Outcome::Count { event, slot, name, count } => {
                    let namespace = namespace(&event.about);
                    let patch = Patch::Merge(
                        json!({"count": count, "lastTimestamp": rfc3339(time), "message": event.message}),
                    );
                    let patched = self.client.patch(&resource::EVENTS, (namespace, &name), "", &patch).await;
                    match patched {
                        Ok(_) => {}
                        Err(error) if error.is_not_found() => self.create(&mut correlator, event, slot).await,
                        Err(error) => tracing::debug!(%error, "event not updated"),
                    }
                }
            }
        }
    }

    async fn create(&self, correlator: &mut Correlator, event: Event, slot: u64) {
        let name = format!("{}.{:x}", event.about.name, event.time.as_nanosecond());
        let object = self.object(&event, &name);
        match self.client.create(&resource::EVENTS, namespace(&event.about), &object).await {
            Ok(_) => correlator.created(slot, name),
            Err(error) => tracing::debug!(%error, reason = event.reason, "event not written"),
        }
    }

    fn object(&self, event: &Event, name: &str) -> Value {
        let about = &event.about;
        let mut involved = json!({
            "kind": about.kind, "apiVersion": about.api_version, "name": about.name, "uid": about.uid,
        });
        for (field, text) in [
            ("namespace", &about.namespace),
            ("resourceVersion", &about.resource_version),
            ("fieldPath", &about.field_path),
        ] {
            if !text.is_empty() {
                involved[field] = text.as_str().into();
            }
        }
        let mut source = json!({ "component": self.component });
        if !self.host.is_empty() {
            source["host"] = self.host.as_str().into();
        }
        let time = rfc3339(event.time);
        json!({
            "kind": "Event", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": namespace(about)},
            "involvedObject": involved, "source": source,
            "reason": event.reason, "message": event.message, "type": event.kind.as_str(),
            "firstTimestamp": time, "lastTimestamp": time, "count": 1,
            "reportingComponent": self.component, "reportingInstance": self.host,
        })
    }
}

/// Events about cluster-scoped objects live in `default`.
fn namespace(about: &Reference) -> &str {
    if about.namespace.is_empty() { "default" } else { &about.namespace }
}
