//! An immutable view of one resource at a revision.

use std::ops::Bound;
use std::sync::Arc;

use carrack_api::selector::Labels;
use carrack_api::{Key, Record, Revision};
use rpds::RedBlackTreeMapSync;

use crate::labels::Index;

pub(crate) type Map = RedBlackTreeMapSync<Key, Arc<Record>>;

/// A resource as it stood at [`revision`](Snapshot::revision). Cloning shares it.
#[derive(Clone)]
pub struct Snapshot {
    /// The store's revision when it was taken.
    pub revision: Revision,
    map: Map,
    labels: Index,
}

impl Snapshot {
    pub(crate) fn new(revision: Revision, map: Map, labels: Index) -> Self {
        Self { revision, map, labels }
    }

    /// How many objects there are, in all namespaces.
    pub fn len(&self) -> usize {
        self.map.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// How many objects a namespace has.
    pub fn len_in(&self, namespace: &str) -> usize {
        self.labels.objects_in(namespace)
    }

    /// The record under a key.
    pub fn get(&self, key: &Key) -> Option<&Arc<Record>> {
        self.map.get(key)
    }

    /// All records in key order, taking the snapshot along.
    pub(crate) fn into_records(self) -> impl Iterator<Item = Arc<Record>> + Send + 'static {
        let records: Vec<_> = self.map.values().cloned().collect();
        records.into_iter()
    }

    /// All records in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.map.values()
    }

    /// Records whose key starts with `prefix` (such as `pods/default/`) and comes
    /// after `after`, in key order.
    pub fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Record>> {
        self.map
            .range::<str, _>((start(prefix, after), Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(prefix))
            .map(|(_, record)| record)
    }
    /// As [`range`](Self::range), leaving out records that `labels` cannot select. What
    /// comes is yet to be checked against the selector.
    pub fn candidates<'a>(
        &'a self,
        labels: Option<&Labels>,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Record>> + 'a> {
        match labels.and_then(|labels| self.labels.candidates(labels, prefix, start(prefix, after))) {
            Some(keys) => Box::new(keys.filter_map(|key| self.map.get(key))),
            None => Box::new(self.range(prefix, after)),
        }
    }
}

fn start<'a>(prefix: &'a str, after: Option<&'a str>) -> Bound<&'a str> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}
