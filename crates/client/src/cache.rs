//! An informer's cache: what a [`Source`](crate::Source) says is there, by key,
//! with indexes, a revision to wait for, and handlers told of each change.
//!
//! It holds shared records and decodes nothing. Handlers run in the order of the
//! changes, one at a time, after the change is visible; they must be quick. A
//! wake-up carries no duty: whoever is told reads the cache again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, RwLock};

use carrack_api::{Key, Record, Revision};
use tokio::sync::watch;

use crate::waiters::Waiters;
use crate::{Resource, Update};

/// Told of each change with the state before and after (one of them may be missing).
pub type Handler = Box<dyn Fn(Option<&Arc<Record>>, Option<&Arc<Record>>) + Send + Sync>;

/// A record before and after.
type Change = (Option<Arc<Record>>, Option<Arc<Record>>);

/// Names the index entries under which a record is found.
pub type IndexFn = fn(&Record) -> Vec<String>;

/// Index of records by the uids in their ownerReferences.
pub const BY_OWNER: &str = "owner";

/// How far a cache has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Whether the first reset has been applied.
    pub synced: bool,
    /// Everything up to here has been seen.
    pub revision: Revision,
    /// Rises when revisions went back: the server has lost its history, and
    /// whatever was awaited will not come.
    pub epoch: u64,
}

/// Records of one resource (in one scope).
pub struct Cache {
    resource: Resource,
    state: RwLock<State>,
    progress: watch::Sender<Progress>,
    waiters: Waiters,
    handlers: Mutex<Vec<Handler>>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<Key, Arc<Record>>,
    indexes: HashMap<&'static str, Index>,
}

struct Index {
    of: IndexFn,
    entries: HashMap<Box<str>, BTreeSet<Key>>,
}

// === impl Cache ===

impl Cache {
    /// An empty cache with the owner index.
    pub fn new(resource: Resource) -> Self {
        let cache = Self {
            resource,
            state: RwLock::default(),
            progress: watch::Sender::new(Progress::default()),
            waiters: Waiters::default(),
            handlers: Mutex::default(),
        };
        cache.add_index(BY_OWNER, owners);
        cache
    }

    /// What it holds records of.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Adds an index; the first function under a name stays.
    pub fn add_index(&self, name: &'static str, of: IndexFn) {
        let mut state = self.write();
        let State { records, indexes } = &mut *state;
        indexes.entry(name).or_insert_with(|| {
            let mut index = Index { of, entries: HashMap::new() };
            for record in records.values() {
                index.insert(record);
            }
            index
        });
    }

    /// Adds a handler; it is first told of everything already there.
    pub fn add_handler(&self, handler: Handler) {
        let mut handlers = self.handlers.lock().expect("handlers do not panic");
        for record in self.all() {
            handler(None, Some(&record));
        }
        handlers.push(handler);
    }

    /// One record.
    pub fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.read().records.get(key).cloned()
    }

    /// One record by namespace and name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Record>> {
        self.get(&self.resource.key(namespace, name))
    }

    /// Every record, ordered by key.
    pub fn all(&self) -> Vec<Arc<Record>> {
        self.read().records.values().cloned().collect()
    }

    /// The records of a namespace, ordered by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Record>> {
        let start = format!("{}/{namespace}/", self.resource.store);
        let state = self.read();
        let range = state.records.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
        range.take_while(|(key, _)| key.as_str().starts_with(&start)).map(|(_, r)| r.clone()).collect()
    }

    /// The records under an index entry, ordered by key.
    pub fn indexed(&self, index: &str, entry: &str) -> Vec<Arc<Record>> {
        let state = self.read();
        let keys = state.indexes.get(index).and_then(|index| index.entries.get(entry));
        keys.into_iter().flatten().filter_map(|key| state.records.get(key).cloned()).collect()
    }

    /// The records that name `uid` in their ownerReferences.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Record>> {
        self.indexed(BY_OWNER, uid)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.read().records.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Revision up to which everything has been seen.
    pub fn revision(&self) -> Revision {
        self.progress.borrow().revision
    }

    /// Whether the first reset has been applied.
    pub fn synced(&self) -> bool {
        self.progress.borrow().synced
    }

    /// Waits for the first reset.
    pub async fn wait_synced(&self) {
        // Fails only when the sender is gone, and `self` holds it.
        let _ = self.progress.subscribe().wait_for(|progress| progress.synced).await;
    }

    /// Waits until everything up to `revision` has been seen, or the server has lost
    /// its history.
    pub async fn wait_for(&self, revision: Revision) {
        let reached = |now: Progress| now.synced && now.revision >= revision;
        self.wait(reached, || self.waiters.revision(revision)).await;
    }

    /// Waits until the object with `uid` at `key` is gone or going.
    pub async fn wait_deleting(&self, key: &Key, uid: &str) {
        let there = || self.get(key).is_some_and(|r| &*r.header().uid == uid && !r.header().deleting);
        self.wait(|now| now.synced && !there(), || self.waiters.key(key)).await;
    }

    async fn wait(
        &self,
        done: impl Fn(Progress) -> bool,
        register: impl Fn() -> tokio::sync::oneshot::Receiver<()>,
    ) {
        let epoch = self.progress.borrow().epoch;
        let over = || {
            let now = *self.progress.borrow();
            now.epoch != epoch || done(now)
        };
        while !over() {
            let woken = register();
            if over() {
                return;
            }
            // A sender that is gone is one more reason to look.
            let _ = woken.await;
        }
    }

    /// Applies one update and tells the handlers.
    pub fn apply(&self, update: Update) {
        match update {
            Update::Reset { records, revision } => self.reset(records, revision),
            Update::Changed { record, revision } => {
                let (key, old) = (record.key.clone(), self.write().insert(record.clone()));
                self.tell(&[(old, Some(record))]);
                self.advance(revision);
                self.waiters.changed(&key);
            }
            Update::Deleted { record, revision } => {
                let (key, old) = (record.key.clone(), self.write().remove(&record.key));
                self.tell(&[(Some(old.unwrap_or(record)), None)]);
                self.advance(revision);
                self.waiters.changed(&key);
            }
            Update::Progress(revision) => self.advance(revision),
        }
    }

    fn reset(&self, records: Vec<Arc<Record>>, revision: Revision) {
        let mut changes = Vec::with_capacity(records.len());
        let mut state = self.write();
        let mut gone: BTreeSet<Key> = state.records.keys().cloned().collect();
        for record in records {
            gone.remove(&record.key);
            let old = state.insert(record.clone());
            if old.as_ref().is_none_or(|old| old.revision != record.revision) {
                changes.push((old, Some(record)));
            }
        }
        changes.extend(gone.iter().map(|key| (state.remove(key), None)));
        drop(state);
        self.tell(&changes);
        self.progress.send_modify(|progress| {
            progress.epoch += u64::from(progress.synced && revision < progress.revision);
            (progress.synced, progress.revision) = (true, revision);
        });
        self.waiters.all();
    }

    fn advance(&self, revision: Revision) {
        self.progress.send_modify(|progress| progress.revision = progress.revision.max(revision));
        self.waiters.reached(revision);
    }

    fn tell(&self, changes: &[Change]) {
        let handlers = self.handlers.lock().expect("handlers do not panic");
        for (old, new) in changes {
            for handler in handlers.iter() {
                handler(old.as_ref(), new.as_ref());
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().expect("index functions do not panic")
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().expect("index functions do not panic")
    }
}

// === impl State ===

impl State {
    fn insert(&mut self, record: Arc<Record>) -> Option<Arc<Record>> {
        let old = self.records.insert(record.key.clone(), record.clone());
        for index in self.indexes.values_mut() {
            match &old {
                Some(old) => index.change(old, &record),
                None => index.insert(&record),
            }
        }
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Record>> {
        let old = self.records.remove(key)?;
        for index in self.indexes.values_mut() {
            index.remove(&old);
        }
        Some(old)
    }
}

// === impl Index ===

impl Index {
    fn insert(&mut self, record: &Arc<Record>) {
        for entry in (self.of)(record) {
            self.entries.entry(entry.into()).or_default().insert(record.key.clone());
        }
    }

    fn remove(&mut self, record: &Arc<Record>) {
        for entry in (self.of)(record) {
            self.take(&entry, &record.key);
        }
    }

    /// Most changes of an object leave it where it is found.
    fn change(&mut self, old: &Arc<Record>, new: &Arc<Record>) {
        let (before, after) = ((self.of)(old), (self.of)(new));
        for entry in before.iter().filter(|entry| !after.contains(entry)) {
            self.take(entry, &old.key);
        }
        for entry in after.into_iter().filter(|entry| !before.contains(entry)) {
            self.entries.entry(entry.into()).or_default().insert(new.key.clone());
        }
    }

    fn take(&mut self, entry: &str, key: &Key) {
        if let Some(keys) = self.entries.get_mut(entry) {
            keys.remove(key);
            if keys.is_empty() {
                self.entries.remove(entry);
            }
        }
    }
}

fn owners(record: &Record) -> Vec<String> {
    record.header().owners.iter().map(|owner| owner.uid.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource;
    use serde_json::json;

    fn pod(namespace: &str, name: &str, owner: &str, revision: u64) -> Arc<Record> {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "namespace": namespace, "name": name, "uid": format!("uid-{name}"),
            "resourceVersion": revision.to_string(),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": owner}]}});
        Arc::new(Record::from_wire::<&str>("pods", &object, &[]).expect("a pod"))
    }

    fn names(records: &[Arc<Record>]) -> Vec<&str> {
        records.iter().map(|record| record.key.name()).collect()
    }

    #[test]
    fn keeps_records_and_indexes_in_step() {
        let cache = Cache::new(resource::PODS.clone());
        let records = vec![pod("a", "one", "u1", 1), pod("a", "two", "u2", 2), pod("ab", "three", "u1", 3)];
        cache.apply(Update::Reset { records, revision: 5 });
        assert_eq!(names(&cache.in_namespace("a")), ["one", "two"]);
        assert_eq!(names(&cache.owned_by("u1")), ["one", "three"]);
        cache.apply(Update::Changed { record: pod("a", "one", "u2", 6), revision: 6 });
        assert_eq!(names(&cache.owned_by("u2")), ["one", "two"]);
        cache.apply(Update::Deleted { record: pod("a", "two", "u2", 7), revision: 7 });
        assert_eq!(names(&cache.owned_by("u2")), ["one"]);
        assert_eq!(cache.revision(), 7);
        cache.apply(Update::Reset { records: vec![], revision: 9 });
        assert!(cache.is_empty() && cache.owned_by("u1").is_empty());
    }

    #[test]
    fn handlers_hear_what_differs() {
        let cache = Cache::new(resource::PODS.clone());
        cache.apply(Update::Reset { records: vec![pod("a", "one", "u", 1)], revision: 1 });
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = heard.clone();
        let name = |r: Option<&Arc<Record>>| r.map(|r| r.revision).unwrap_or_default();
        cache.add_handler(Box::new(move |old, new| {
            log.lock().unwrap().push(format!("{}→{}", name(old), name(new)));
        }));
        let records = vec![pod("a", "one", "u", 1), pod("a", "two", "u", 2)];
        cache.apply(Update::Reset { records, revision: 3 });
        cache.apply(Update::Changed { record: pod("a", "two", "u", 4), revision: 4 });
        cache.apply(Update::Reset { records: vec![pod("a", "one", "u", 1)], revision: 5 });
        assert_eq!(*heard.lock().unwrap(), ["0→1", "0→2", "2→4", "4→0"]);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_write_or_with_the_world() {
        let cache = Arc::new(Cache::new(resource::PODS.clone()));
        cache.apply(Update::Reset { records: vec![pod("a", "one", "u", 1)], revision: 1 });
        let waiter = |revision| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.wait_for(revision).await })
        };
        let (near, far) = (waiter(3), waiter(100));
        let gone = {
            let cache = cache.clone();
            tokio::spawn(async move {
                cache.wait_deleting(&resource::PODS.key("a", "one"), "uid-one").await;
            })
        };
        tokio::task::yield_now().await;
        cache.apply(Update::Progress(3));
        near.await.unwrap();
        assert!(!far.is_finished() && !gone.is_finished());
        cache.apply(Update::Reset { records: vec![], revision: 2 });
        far.await.unwrap();
        gone.await.unwrap();
    }
}
