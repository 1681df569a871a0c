//! What the tests of this module share: a store in memory, objects in it, a clock.

use std::sync::{Arc, Mutex};

use carrack_api::{Content, Key, Value};
use carrack_store::{Expect, Limits, Local, Store, Write};
use jiff::Timestamp;

use crate::clock::Clock;

/// A store in memory.
pub(crate) fn store() -> Arc<dyn Store> {
    Arc::new(Local::memory(Limits::default()))
}

/// Writes an object as it stands, whatever was there.
pub(crate) async fn put(store: &Arc<dyn Store>, resource: &str, object: &Value) {
    let meta = &object["metadata"];
    let key =
        Key::new(resource, meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str().unwrap());
    let expect = store.get(&key).map_or(Expect::Absent, |record| Expect::At(record.revision));
    let content = Content::encode(object, &["spec.nodeName", "status.phase"]);
    store.commit(Write { key, expect, content, unsynced: false }).await.unwrap();
}

/// Deletes an object.
pub(crate) async fn delete(store: &Arc<dyn Store>, resource: &str, namespace: &str, name: &str) {
    let key = Key::new(resource, namespace, name);
    let revision = store.get(&key).unwrap().revision;
    store.commit(Write { key, expect: Expect::At(revision), content: None, unsynced: false }).await.unwrap();
}

/// A clock that is set by hand.
pub(crate) struct Stopped(Mutex<Timestamp>);

impl Stopped {
    pub(crate) fn at(time: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new(time.parse().unwrap())))
    }

    pub(crate) fn advance(&self, seconds: i64) {
        *self.0.lock().unwrap() += jiff::SignedDuration::from_secs(seconds);
    }
}

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}
