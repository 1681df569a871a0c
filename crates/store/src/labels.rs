//! Which objects carry which label, so that a list by label looks at the few objects
//! it may want rather than at all; and how many objects a namespace has, so that a page
//! can say how many are left without walking them.
//!
//! A label is remembered as a hash of its key and value: a collision costs a look at
//! one record too many, never a wrong answer, because whoever asks checks the record
//! itself. The index is one persistent ordered set, part of every snapshot.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;

use carrack_api::selector::{Labels, Operator};
use carrack_api::{Header, Key};
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

/// Equality requirements of one selector that are compared for the rarest.
const COMPARED: usize = 4;

/// A label and one object that carries it; ordered so that the objects of a label
/// are neighbours, in key order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    label: u64,
    key: Key,
}

/// The labels of one resource's objects.
#[derive(Clone)]
pub(crate) struct Index {
    entries: RedBlackTreeSetSync<Entry>,
    namespaces: HashTrieMapSync<Box<str>, usize>,
}

fn hash(key: &str, value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { entries: RedBlackTreeSetSync::new_sync(), namespaces: HashTrieMapSync::new_sync() }
    }

    /// Brings the index from an object's labels before a write to those after it.
    pub(crate) fn update(&mut self, key: &Key, before: Option<&Header>, after: Option<&Header>) {
        self.count(key.namespace(), before.is_some(), after.is_some());
        let labels = |header: Option<&Header>| header.map_or(0, |header| header.labels.len());
        let (old, new) = (before.map(|h| &h.labels), after.map(|h| &h.labels));
        if old == new || (labels(before) == 0 && labels(after) == 0) {
            return;
        }
        let carries = |header: Option<&Header>, name: &str, value: &str| {
            header.is_some_and(|header| header.label(name) == Some(value))
        };
        for (name, value) in old.into_iter().flatten() {
            if !carries(after, name, value) {
                self.entries.remove_mut(&Entry { label: hash(name, value), key: key.clone() });
            }
        }
        for (name, value) in new.into_iter().flatten() {
            if !carries(before, name, value) {
                self.entries.insert_mut(Entry { label: hash(name, value), key: key.clone() });
            }
        }
    }

    fn count(&mut self, namespace: &str, before: bool, after: bool) {
        if before == after {
            return;
        }
        let now = (self.objects_in(namespace) + usize::from(after)).saturating_sub(usize::from(before));
        if now == 0 {
            self.namespaces.remove_mut(namespace);
        } else {
            self.namespaces.insert_mut(namespace.into(), now);
        }
    }

    /// How many objects a namespace has.
    pub(crate) fn objects_in(&self, namespace: &str) -> usize {
        self.namespaces.get(namespace).copied().unwrap_or(0)
    }

    /// Keys in order, from `start` on, of all objects that `selector` can select and
    /// some that it does not; `None` when it asks for no label's exact value.
    pub(crate) fn candidates<'a>(
        &'a self,
        selector: &Labels,
        prefix: &'a str,
        start: Bound<&str>,
    ) -> Option<impl Iterator<Item = &'a Key> + use<'a>> {
        let exact = selector.requirements()?.iter().filter_map(|requirement| {
            let value = requirement.values.first().filter(|_| requirement.values.len() == 1)?;
            (requirement.operator == Operator::In).then(|| hash(&requirement.key, value))
        });
        let labels: Vec<u64> = exact.take(COMPARED).collect();
        let label = match &*labels {
            [] => return None,
            [only] => *only,
            several => several[shortest(several.iter().map(|label| self.walk(*label, prefix, start)))],
        };
        Some(self.walk(label, prefix, start))
    }

    fn walk<'a>(
        &'a self,
        label: u64,
        prefix: &'a str,
        start: Bound<&str>,
    ) -> impl Iterator<Item = &'a Key> + use<'a> {
        let start = start.map(|key| Entry { label, key: Key::at(key) });
        self.entries
            .range((start, Bound::Unbounded))
            .take_while(move |entry| entry.label == label && entry.key.as_str().starts_with(prefix))
            .map(|entry| &entry.key)
    }
}

/// Which walk ends first: all are taken one step at a time until one is over, which
/// costs no more than the shortest times their number.
fn shortest<I: Iterator>(walks: impl Iterator<Item = I>) -> usize {
    let mut walks: Vec<I> = walks.collect();
    loop {
        if let Some(over) = walks.iter_mut().position(|walk| walk.next().is_none()) {
            return over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(labels: &[(&str, &str)]) -> Header {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Header { labels, ..Header::default() }
    }

    fn found(index: &Index, selector: &str, prefix: &str, start: Bound<&str>) -> Option<Vec<String>> {
        let selector = Labels::parse(selector).unwrap();
        let keys = index.candidates(&selector, prefix, start)?;
        Some(keys.map(|key| key.name().to_owned()).collect())
    }

    #[test]
    fn follows_creations_changes_and_deletions() {
        let mut index = Index::new();
        let key = |namespace: &str, name: &str| Key::new("pods", namespace, name);
        let web = header(&[("app", "web"), ("shard", "1")]);
        let moved = header(&[("app", "web"), ("shard", "2")]);
        for name in ["a", "b", "c"] {
            index.update(&key("x", name), None, Some(&web));
        }
        index.update(&key("y", "d"), None, Some(&web));
        index.update(&key("x", "b"), Some(&web), Some(&moved));
        index.update(&key("x", "c"), Some(&web), None);

        let all = Bound::Included("pods/");
        let check = |selector: &str, prefix: &str, start, expect: Option<&[&str]>| {
            let expect = expect.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(found(&index, selector, prefix, start), expect, "{selector} {prefix}");
        };
        assert_eq!((index.objects_in("x"), index.objects_in("y"), index.objects_in("z")), (2, 1, 0));
        check("app=web", "pods/", all, Some(&["a", "b", "d"]));
        check("app=web", "pods/x/", Bound::Included("pods/x/"), Some(&["a", "b"]));
        check("app=web", "pods/x/", Bound::Excluded("pods/x/a"), Some(&["b"]));
        check("app=web,shard=2", "pods/", all, Some(&["b"]));
        check("shard=2,app=web", "pods/", all, Some(&["b"]));
        check("app=none", "pods/", all, Some(&[]));
        check("app", "pods/", all, None);
        check("app in (web,db)", "pods/", all, None);
        check("app!=web", "pods/", all, None);
    }
}
