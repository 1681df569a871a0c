//! Caches shared by the components of one process: one subscription a resource.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use tokio::task::JoinSet;

use crate::{Cache, Resource, Scope, Source};

/// Caches by resource, each fed from the source by a task of its own. The tasks end
/// when this is dropped.
pub struct Informers {
    source: Arc<dyn Source>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    caches: HashMap<(Resource, Scope), Arc<Cache>>,
    feeds: JoinSet<()>,
}

impl Informers {
    /// Over one source.
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, inner: Mutex::default() }
    }

    /// The source underneath.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// The cache of a resource in all namespaces; made, and fed, at the first call.
    /// Must be called within a tokio runtime.
    pub fn cache(&self, resource: &Resource) -> Arc<Cache> {
        self.scoped(resource, Scope::default())
    }

    /// The cache of a part of a resource.
    pub fn scoped(&self, resource: &Resource, scope: Scope) -> Arc<Cache> {
        let mut inner = self.inner.lock().expect("nobody panics with the caches locked");
        let Inner { caches, feeds } = &mut *inner;
        let key = (resource.clone(), scope);
        if let Some(cache) = caches.get(&key) {
            return cache.clone();
        }
        let cache = Arc::new(Cache::new(resource.clone()));
        feeds.spawn(feed(self.source.clone(), cache.clone(), key.1.clone()));
        caches.insert(key, cache.clone());
        cache
    }
}

/// Applies updates to a cache for as long as the source gives them.
pub async fn feed(source: Arc<dyn Source>, cache: Arc<Cache>, scope: Scope) {
    let mut updates = source.subscribe(cache.resource(), scope);
    while let Some(update) = updates.next().await {
        cache.apply(update);
    }
    tracing::warn!(resource = %cache.resource().store, "source ended; the cache stays as it is");
}
