//! A small API in memory, for tests of what leans on this crate (feature `fake`).
//!
//! It keeps trees by key under one revision counter, serves the verbs that components
//! use, and is a [`Source`] whose subscribers may lag behind by random (seeded) times.
//! It knows no defaults, no validation and no rights; writes can be made to break off
//! after they took effect, as a crash does.

mod serve;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_api::{Key, Record, Revision, Value};
use futures::stream::BoxStream;
use tokio::sync::watch;

use crate::backoff::mix;
use crate::{Client, Resource, Scope, Source, Update, resource};

/// The API.
pub struct Fake {
    state: Mutex<State>,
    head: watch::Sender<Revision>,
    resources: Vec<Resource>,
    delay: Duration,
    seed: u64,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    revision: Revision,
    log: Vec<Logged>,
    uids: u64,
    writes: u64,
    /// The number of the write that takes effect but is not answered.
    break_at: Option<u64>,
}

#[derive(Clone)]
struct Logged {
    revision: Revision,
    record: Arc<Record>,
    deleted: bool,
}

impl Fake {
    /// An empty API whose subscribers lag by up to `delay`.
    pub fn new(delay: Duration, seed: u64) -> Arc<Self> {
        let resources = [
            &resource::PODS,
            &resource::NODES,
            &resource::NAMESPACES,
            &resource::SERVICES,
            &resource::ENDPOINTS,
            &resource::CONFIG_MAPS,
            &resource::SECRETS,
            &resource::SERVICE_ACCOUNTS,
            &resource::EVENTS,
            &resource::DEPLOYMENTS,
            &resource::REPLICA_SETS,
            &resource::ENDPOINT_SLICES,
            &resource::LEASES,
            &resource::PERSISTENT_VOLUMES,
            &resource::PERSISTENT_VOLUME_CLAIMS,
            &resource::STORAGE_CLASSES,
            &resource::POD_DISRUPTION_BUDGETS,
        ];
        let resources = resources.into_iter().cloned().collect();
        let state = Mutex::default();
        Arc::new(Self { state, head: watch::Sender::new(0), resources, delay, seed })
    }

    /// Every resource that it serves.
    pub fn resources(&self) -> Arc<[Resource]> {
        self.resources.clone().into()
    }

    /// A client; all have all rights.
    pub fn client(self: &Arc<Self>, manager: &str) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request| {
            let fake = fake.clone();
            async move { fake.serve(request).await }
        });
        Client::over(service, manager)
    }

    /// Makes the `nth` write from now (counting from 1) take effect unanswered.
    pub fn break_write(&self, nth: u64) {
        let mut state = self.lock();
        state.break_at = Some(state.writes + nth);
    }

    /// Whether the write of [`break_write`](Self::break_write) is still to come.
    pub fn unbroken(&self) -> bool {
        self.lock().break_at.is_some()
    }

    /// Number of writes so far.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// The revision of the last write.
    pub fn revision(&self) -> Revision {
        self.lock().revision
    }

    /// Objects of a resource, ordered by key.
    pub fn list(&self, resource: &Resource) -> Vec<Value> {
        let prefix = format!("{}/", resource.store);
        let state = self.lock();
        let of = state.objects.iter().filter(|(key, _)| key.as_str().starts_with(&prefix));
        of.map(|(_, object)| object.clone()).collect()
    }

    /// One object.
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Value> {
        self.lock().objects.get(&resource.key(namespace, name)).cloned()
    }

    /// Creates or replaces an object as it is; uid and revision are given to it.
    pub fn put(&self, resource: &Resource, mut object: Value) -> Value {
        let mut state = self.lock();
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = resource.key(&text("namespace"), &text("name"));
        if object["metadata"]["uid"].is_null() {
            let old = state.objects.get(&key).map(|old| old["metadata"]["uid"].clone());
            object["metadata"]["uid"] = old.unwrap_or_else(|| state.next_uid().into());
        }
        object["kind"] = resource.kind.as_ref().into();
        object["apiVersion"] = resource.api_version().into();
        state.store(&key, object.clone());
        let stored = state.objects[&key].clone();
        self.publish(state);
        stored
    }

    /// Removes an object, whatever holds it.
    pub fn remove(&self, resource: &Resource, namespace: &str, name: &str) {
        let mut state = self.lock();
        state.drop_object(&resource.key(namespace, name));
        self.publish(state);
    }

    /// Waits until `done` says so, looking after every write.
    pub async fn until(&self, mut done: impl FnMut(&Self) -> bool) {
        let mut head = self.head.subscribe();
        while !done(self) {
            // Fails only when the sender is gone, and `self` holds it.
            let _ = head.changed().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("the fake does not panic while locked")
    }

    fn publish(&self, state: std::sync::MutexGuard<'_, State>) {
        let revision = state.revision;
        drop(state);
        self.head.send_replace(revision);
    }
}

impl State {
    fn next_uid(&mut self) -> String {
        self.uids += 1;
        // Spread, so that the order of uids is not that of creation.
        format!("{:016x}", mix(self.uids))
    }

    /// Stores an object under the next revision.
    fn store(&mut self, key: &Key, mut object: Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.append(key, &object, false);
        self.objects.insert(key.clone(), object);
    }

    fn drop_object(&mut self, key: &Key) {
        if let Some(mut object) = self.objects.remove(key) {
            self.revision += 1;
            object["metadata"]["resourceVersion"] = self.revision.to_string().into();
            self.append(key, &object, true);
        }
    }

    fn append(&mut self, key: &Key, object: &Value, deleted: bool) {
        let record = record(key, object);
        self.log.push(Logged { revision: self.revision, record: Arc::new(record), deleted });
    }
}

fn record(key: &Key, object: &Value) -> Record {
    let fields = carrack_api::kinds::field_paths(key.resource());
    Record::from_wire(key.resource(), object, &fields).expect("stored objects are whole")
}

/// Where a subscriber stands.
struct Cursor {
    fake: Arc<Fake>,
    resource: Resource,
    namespace: Option<String>,
    at: Option<usize>,
    head: watch::Receiver<Revision>,
    random: u64,
}

impl Source for Arc<Fake> {
    fn subscribe(&self, resource: &Resource, scope: Scope) -> BoxStream<'static, Update> {
        let random = resource.store.bytes().fold(self.seed, |state, byte| mix(state ^ u64::from(byte)));
        let cursor = Cursor {
            fake: self.clone(),
            resource: resource.clone(),
            namespace: scope.namespace,
            at: None,
            head: self.head.subscribe(),
            random,
        };
        Box::pin(futures::stream::unfold(cursor, |mut cursor| async move {
            let update = cursor.next().await?;
            Some((update, cursor))
        }))
    }
}

impl Cursor {
    async fn next(&mut self) -> Option<Update> {
        let Some(at) = self.at else { return Some(self.reset()) };
        let mut at = at;
        loop {
            let logged = self.fake.lock().log.get(at).cloned();
            let Some(Logged { revision, record, deleted }) = logged else {
                self.at = Some(at);
                self.head.changed().await.ok()?;
                continue;
            };
            at += 1;
            if !self.wants(&record.key) {
                continue;
            }
            self.at = Some(at);
            self.lag().await;
            return Some(match deleted {
                true => Update::Deleted { record, revision },
                false => Update::Changed { record, revision },
            });
        }
    }

    fn reset(&mut self) -> Update {
        let fake = self.fake.clone();
        let state = fake.lock();
        self.at = Some(state.log.len());
        let records = state
            .objects
            .iter()
            .filter(|(key, _)| self.wants(key))
            .map(|(key, object)| Arc::new(record(key, object)));
        Update::Reset { records: records.collect(), revision: state.revision }
    }

    fn wants(&self, key: &Key) -> bool {
        key.resource() == self.resource.store
            && self.namespace.as_ref().is_none_or(|namespace| key.namespace() == namespace)
    }

    async fn lag(&mut self) {
        let most = self.fake.delay.as_millis() as u64;
        if most > 0 {
            self.random = mix(self.random);
            tokio::time::sleep(Duration::from_millis(self.random % (most + 1))).await;
        }
    }
}
