//! What a worker is told: only that something changed, never more than one of each.

use std::sync::{Arc, Mutex};

use carrack_api::Record;
use tokio::sync::Notify;

/// What has come since the last look.
#[derive(Debug, Default)]
pub struct Inbox {
    /// The object's newest state.
    pub pod: Option<Arc<Record>>,
    /// The object is gone.
    pub gone: bool,
    /// The runtime has news.
    pub runtime_changed: bool,
    /// A ConfigMap or Secret of the pod has changed.
    pub objects_changed: bool,
}

/// A worker's mailbox: bounded by its shape.
#[derive(Debug, Default)]
pub struct Mailbox {
    inbox: Mutex<Inbox>,
    wake: Notify,
}

impl Mailbox {
    /// Puts something in and wakes the worker.
    pub fn put(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.inbox.lock().expect("nobody panics with the inbox locked"));
        self.wake.notify_one();
    }

    /// Takes what there is.
    pub fn take(&self) -> Inbox {
        std::mem::take(&mut *self.inbox.lock().expect("nobody panics with the inbox locked"))
    }

    /// Waits until something is put in.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }
}
