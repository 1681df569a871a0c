//! Who waits for a cache: each is woken by what it waits for, not by every change, however
//! many wait.
//!
//! Being woken says only that it is worth looking again. Whoever registers looks once more
//! afterwards, so nothing that happens meanwhile is missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use carrack_api::{Key, Revision};
use tokio::sync::oneshot;

/// Those who wait.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<State>);

#[derive(Default)]
struct State {
    revisions: BTreeMap<Revision, Vec<oneshot::Sender<()>>>,
    keys: HashMap<Key, Vec<oneshot::Sender<()>>>,
}

impl Waiters {
    /// To be woken when a revision has been reached.
    pub(crate) fn revision(&self, revision: Revision) -> oneshot::Receiver<()> {
        register(self.lock().revisions.entry(revision).or_default())
    }

    /// To be woken when an object changes.
    pub(crate) fn key(&self, key: &Key) -> oneshot::Receiver<()> {
        register(self.lock().keys.entry(key.clone()).or_default())
    }

    /// Everything up to `revision` has been seen.
    pub(crate) fn reached(&self, revision: Revision) {
        let mut state = self.lock();
        while let Some(entry) = state.revisions.first_entry().filter(|entry| *entry.key() <= revision) {
            wake(entry.remove());
        }
    }

    /// An object has changed.
    pub(crate) fn changed(&self, key: &Key) {
        let waiting = self.lock().keys.remove(key);
        waiting.into_iter().for_each(wake);
    }

    /// Anything may have changed.
    pub(crate) fn all(&self) {
        let State { revisions, keys } = std::mem::take(&mut *self.lock());
        revisions.into_values().chain(keys.into_values()).for_each(wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with the waiters locked")
    }
}

fn register(waiting: &mut Vec<oneshot::Sender<()>>) -> oneshot::Receiver<()> {
    // Whoever gave up waiting makes room.
    waiting.retain(|sender| !sender.is_closed());
    let (sender, receiver) = oneshot::channel();
    waiting.push(sender);
    receiver
}

fn wake(waiting: Vec<oneshot::Sender<()>>) {
    for sender in waiting {
        // Whoever gave up waiting needs no word.
        let _ = sender.send(());
    }
}
