//! Caches of every kind that is served, as the set of kinds changes.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use carrack_api::Key;
use carrack_api::kind::group_version;
use carrack_client::{Cache, Informers, Resource};
use tokio::sync::watch;

/// How long to wait for a kind's cache at the start; one that cannot be listed must
/// not keep the others waiting.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// Called with the cache of each kind, once.
pub(crate) type OnKind = Box<dyn Fn(&Arc<Cache>) + Send + Sync>;

/// Every kind with its cache, by store name.
pub(crate) struct AllKinds {
    informers: Arc<Informers>,
    caches: RwLock<BTreeMap<String, Arc<Cache>>>,
    on_kind: OnKind,
}

impl AllKinds {
    pub(crate) fn new(informers: Arc<Informers>, on_kind: OnKind) -> Self {
        Self { informers, caches: RwLock::default(), on_kind }
    }

    /// Takes the kinds over that are served now.
    pub(crate) fn set(&self, resources: &[Resource]) {
        let wanted = |resource: &&Resource| {
            // Events own nothing, are owned by nothing and are many.
            !(resource.plural == "events" && matches!(&*resource.group, "" | "events.k8s.io"))
        };
        let mut new = Vec::new();
        {
            let mut caches = self.caches.write().expect("nobody panics with the kinds locked");
            caches.retain(|store, _| resources.iter().any(|resource| *resource.store == **store));
            for resource in resources.iter().filter(wanted) {
                if !caches.contains_key(&*resource.store) {
                    let cache = self.informers.cache(resource);
                    caches.insert(resource.store.to_string(), cache.clone());
                    new.push(cache);
                }
            }
        }
        new.iter().for_each(|cache| (self.on_kind)(cache));
    }

    /// Follows the served kinds until the sender is gone.
    pub(crate) async fn follow(self: Arc<Self>, mut resources: watch::Receiver<Arc<[Resource]>>) {
        while resources.changed().await.is_ok() {
            let now = resources.borrow_and_update().clone();
            self.set(&now);
        }
        // The sender is gone: the kinds stay as they are.
        std::future::pending::<()>().await;
    }

    /// All caches.
    pub(crate) fn caches(&self) -> Vec<Arc<Cache>> {
        self.read().values().cloned().collect()
    }

    /// The cache that holds a store key.
    pub(crate) fn of_key(&self, key: &Key) -> Option<Arc<Cache>> {
        self.read().get(key.resource()).cloned()
    }

    /// The cache of a kind as an ownerReference names it; any version of the group
    /// will do.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Cache>> {
        let (group, _) = group_version(api_version);
        let is = |cache: &&Arc<Cache>| cache.resource().group == group && cache.resource().kind == kind;
        self.read().values().find(is).cloned()
    }

    /// Waits until the caches are filled, or have had their time.
    pub(crate) async fn wait_synced(&self) {
        let all = self.caches();
        let synced = futures::future::join_all(all.iter().map(|cache| cache.wait_synced()));
        if tokio::time::timeout(SYNC_LIMIT, synced).await.is_err() {
            let late = all.iter().filter(|cache| !cache.synced()).map(|cache| &*cache.resource().store);
            tracing::warn!(kinds = late.collect::<Vec<_>>().join(","), "cannot be watched yet");
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Cache>>> {
        self.caches.read().expect("nobody panics with the kinds locked")
    }
}
