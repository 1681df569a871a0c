//! An immutable view of one resource at a revision.

use std::ops::Bound;
use std::sync::Arc;

use carrack_api::{Key, Record, Revision};
use rpds::RedBlackTreeMapSync;

pub(crate) type Map = RedBlackTreeMapSync<Key, Arc<Record>>;

/// A resource as it stood at [`revision`](Snapshot::revision). Cloning shares it.
#[derive(Clone)]
pub struct Snapshot {
    /// The store's revision when it was taken.
    pub revision: Revision,
    map: Map,
}

impl Snapshot {
    pub(crate) fn new(revision: Revision, map: Map) -> Self {
        Self { revision, map }
    }

    /// How many objects there are, in all namespaces.
    pub fn len(&self) -> usize {
        self.map.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The record under a key.
    pub fn get(&self, key: &Key) -> Option<&Arc<Record>> {
        self.map.get(key)
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
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.map
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(prefix))
            .map(|(_, record)| record)
    }
}
