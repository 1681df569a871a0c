//! The run loop that all controllers share: caches → queue → workers → decide → act.
//!
//! Invariants: a key is worked on by one worker at a time; after acting on a key the
//! loop waits until the caches have seen its own writes before it decides on that
//! key again, so a pure `decide` on a late cache never does a thing twice. A panic
//! in `decide` or `act` is reported and retried like an error. The loop holds no
//! state that a restart would miss.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_api::{Key, Revision};
use futures::FutureExt;
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::client::{self, Written};
use crate::{Cache, Clock, WorkQueue};

/// How long a write may stay unseen before the log says so.
const UNSEEN_WARNING: Duration = Duration::from_secs(30);

/// One controller, as the loop sees it.
pub trait Controller: Send + Sync + 'static {
    /// What `decide` hands to `act`.
    type Plan: Send + 'static;

    /// Its name in logs, such as `deployment`.
    fn name(&self) -> &'static str;

    /// The caches it decides on; all are synced before the first decision, and its
    /// writes to their resources are awaited there.
    fn caches(&self) -> Vec<Arc<Cache>>;

    /// Gathers the view of `key` from the caches and decides. Synchronous, so the
    /// view is of one moment. `None`: nothing to do.
    fn decide(&self, key: &Key, now: Timestamp) -> Option<Self::Plan>;

    /// Carries the plan out, recording every write. Answers when the key wants to be
    /// looked at again without a change, if it does.
    fn act(
        &self,
        key: &Key,
        plan: Self::Plan,
        writes: &Writes,
    ) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;
}

/// Why acting failed; the key is retried with back-off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error(transparent)]
    Api(#[from] client::Error),
    /// Something else went wrong.
    #[error("{0}")]
    Other(String),
}

/// What one pass wrote and the caches shall see. Cheap to clone, shared by the
/// requests that a pass has under way at once.
#[derive(Debug, Clone, Default)]
pub struct Writes(Arc<Mutex<Vec<Awaited>>>);

/// A write to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Awaited {
    /// The cache of the key's resource has reached the revision.
    Revision(Key, Revision),
    /// The object is gone or carries a deletionTimestamp.
    Deleting { key: Key, uid: String },
}

// === impl Writes ===

impl Writes {
    /// Notes a created or changed object.
    pub fn wrote(&self, written: &Written) {
        self.push(Awaited::Revision(written.key.clone(), written.revision));
    }

    /// Notes a deletion.
    pub fn deleted(&self, key: &Key, uid: &str) {
        self.push(Awaited::Deleting { key: key.clone(), uid: uid.into() });
    }

    fn push(&self, awaited: Awaited) {
        self.0.lock().expect("nobody panics while noting a write").push(awaited);
    }

    fn take(&self) -> Vec<Awaited> {
        std::mem::take(&mut self.0.lock().expect("nobody panics while noting a write"))
    }

    /// Waits until the caches have seen everything noted so far.
    pub async fn seen(&self, caches: &[Arc<Cache>]) {
        let cache_of = |key: &Key| caches.iter().find(|cache| cache.resource().store == key.resource());
        let mut highest: HashMap<&str, (&Arc<Cache>, Revision)> = HashMap::new();
        let awaited = self.take();
        for one in &awaited {
            if let Awaited::Revision(key, revision) = one
                && let Some(cache) = cache_of(key)
            {
                let entry = highest.entry(&cache.resource().store).or_insert((cache, 0));
                entry.1 = entry.1.max(*revision);
            }
        }
        for (cache, revision) in highest.into_values() {
            cache.wait_for(revision).await;
        }
        for one in &awaited {
            if let Awaited::Deleting { key, uid } = one
                && let Some(cache) = cache_of(key)
            {
                cache.wait_deleting(key, uid).await;
            }
        }
    }
}

/// Runs a controller until the queue is closed or the future dropped.
pub async fn run<C: Controller>(
    controller: Arc<C>,
    queue: Arc<WorkQueue<Key>>,
    workers: usize,
    clock: Arc<dyn Clock>,
) {
    for cache in controller.caches() {
        cache.wait_synced().await;
    }
    tracing::debug!(controller = controller.name(), "caches are synced");
    let mut tasks = JoinSet::new();
    for _ in 0..workers.max(1) {
        tasks.spawn(work(controller.clone(), queue.clone(), clock.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(controller = controller.name(), %error, "a worker ended");
        }
    }
}

async fn work<C: Controller>(controller: Arc<C>, queue: Arc<WorkQueue<Key>>, clock: Arc<dyn Clock>) {
    // Held here so that dropping the worker also ends what waits for its writes.
    let mut waiting = JoinSet::new();
    while let Some(key) = queue.next().await {
        let writes = Writes::default();
        match pass(&*controller, &key, clock.now(), &writes).await {
            Ok(again) => {
                queue.forget(&key);
                if let Some(delay) = again {
                    queue.add_after(key.clone(), delay);
                }
            }
            Err(error) => {
                let delay = queue.add_failed(key.clone());
                report(controller.name(), &key, &error, delay);
            }
        }
        while waiting.try_join_next().is_some() {}
        // The key stays "being worked on" until the caches have caught up.
        let (name, caches) = (controller.name(), controller.caches());
        let mut settled = Box::pin(async move { settle(name, key, &writes, &caches).await });
        match futures::poll!(&mut settled) {
            std::task::Poll::Ready(key) => queue.done(&key),
            std::task::Poll::Pending => {
                let queue = queue.clone();
                waiting.spawn(async move { queue.done(&settled.await) });
            }
        }
    }
}

/// Decides and acts once; a panic becomes an error.
async fn pass<C: Controller>(
    controller: &C,
    key: &Key,
    now: Timestamp,
    writes: &Writes,
) -> Result<Option<Duration>, Error> {
    let pass = async {
        match controller.decide(key, now) {
            Some(plan) => controller.act(key, plan, writes).await,
            None => Ok(None),
        }
    };
    AssertUnwindSafe(pass).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Error::Other(format!("panicked: {text}")))
    })
}

async fn settle(name: &'static str, key: Key, writes: &Writes, caches: &[Arc<Cache>]) -> Key {
    let mut seen = Box::pin(writes.seen(caches));
    while tokio::time::timeout(UNSEEN_WARNING, &mut seen).await.is_err() {
        tracing::warn!(controller = name, %key, "the cache has not seen an own write yet");
    }
    key
}

fn report(controller: &str, key: &Key, error: &Error, delay: Duration) {
    match error {
        Error::Api(error) if error.is_conflict() => {
            tracing::debug!(controller, %key, %error, ?delay, "the object has changed; trying again");
        }
        error => tracing::warn!(controller, %key, %error, ?delay, "trying again"),
    }
}
