//! Events do not stay: each goes an hour after its last write, the oldest sooner when
//! there are too many, or they take too much room. (Upstream's `--event-ttl`.)
//!
//! Follows the watch of events and one timer; an idle cluster wakes nothing. After a
//! restart an event's age is told by the times that it carries.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use carrack_api::{Key, Record, Revision};
use carrack_store::{Change, Expect, Write};
use jiff::Timestamp;
use tokio::time::Instant;

use super::Registry;
use super::watch::{Item, Start, Watcher};

const RESOURCE: &str = "events";
/// How long an event stays after its last write.
const STAY: Duration = Duration::from_secs(3600);

/// What events may take up.
#[derive(Debug, Clone, Copy)]
struct Budget {
    events: usize,
    bytes: usize,
}

const BUDGET: Budget = Budget { events: 20_000, bytes: 32 << 20 };

/// The events that are there, in the order in which their time comes.
struct Aging {
    budget: Budget,
    due: BTreeMap<(Instant, Revision), (Key, usize)>,
    places: HashMap<Key, (Instant, Revision)>,
    bytes: usize,
}

/// Deletes events that are too old or too many, for as long as the server runs.
pub async fn expire_events(registry: Arc<Registry>) {
    loop {
        let watcher = registry.subscribe(RESOURCE, "", Start::Initial { fresh: false }).await;
        let Ok(watcher) = watcher else { return };
        // Falls out of the history only under a flood: then it starts over.
        Aging::new(BUDGET).follow(&registry, watcher).await;
    }
}

impl Aging {
    fn new(budget: Budget) -> Self {
        Self { budget, due: BTreeMap::new(), places: HashMap::new(), bytes: 0 }
    }

    async fn follow(&mut self, registry: &Registry, mut watcher: Watcher) {
        loop {
            let next = self.due.keys().next().map(|(at, _)| *at);
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                items = watcher.next() => match items {
                    Ok(items) => items.into_iter().for_each(|item| self.note(item, registry.now())),
                    Err(_) => return,
                },
                () = timer => {}
            }
            for (key, revision) in self.leaving(Instant::now()) {
                let write = Write { key, expect: Expect::At(revision), content: None, unsynced: true };
                // A conflict says that it was written again or is gone; both are well.
                drop(registry.store.commit(write).await);
            }
        }
    }

    fn note(&mut self, item: Item, now: Timestamp) {
        let (record, age) = match item {
            Item::Initial(record) => {
                let age = now.duration_since(written(&record).unwrap_or(now));
                (record, Duration::try_from(age).unwrap_or_default())
            }
            Item::Event(_, event) if event.change == Change::Deleted => {
                return self.remove(&event.record.key);
            }
            Item::Event(_, event) => (event.record.clone(), Duration::ZERO),
            Item::InitialEnd(_) => return,
        };
        self.remove(&record.key);
        let place = (Instant::now() + STAY.saturating_sub(age), record.revision);
        self.places.insert(record.key.clone(), place);
        self.bytes += record.content.size();
        self.due.insert(place, (record.key.clone(), record.content.size()));
    }

    fn remove(&mut self, key: &Key) {
        if let Some((_, size)) = self.places.remove(key).and_then(|place| self.due.remove(&place)) {
            self.bytes -= size;
        }
    }

    /// Takes out what has to go.
    fn leaving(&mut self, now: Instant) -> Vec<(Key, Revision)> {
        let mut leaving = Vec::new();
        while let Some((&(at, revision), (key, _))) = self.due.first_key_value() {
            let fits = self.due.len() <= self.budget.events && self.bytes <= self.budget.bytes;
            if fits && at > now {
                break;
            }
            let key = key.clone();
            self.remove(&key);
            leaving.push((key, revision));
        }
        leaving
    }
}

/// When an event was last written: what its managers say, or else its creation.
fn written(record: &Record) -> Option<Timestamp> {
    let object = record.decode();
    let meta = &object["metadata"];
    let managed = meta["managedFields"].as_array().into_iter().flatten().map(|entry| &entry["time"]);
    let times = managed.chain([&meta["creationTimestamp"]]);
    times.filter_map(|time| time.as_str()?.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Server, User};
    use carrack_store::{Limits, Local};
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn events_go_after_an_hour() {
        let store = Arc::new(Local::memory(Limits::default()));
        let server = Server::builder(store.clone(), carrack_api::kinds::builtin()).build();
        let registry = server.registry().clone();
        let event = json!({"metadata": {"name": "e", "namespace": "default"}, "reason": "r",
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}});
        let call = registry.call(User::loopback(), RESOURCE, "default", "").expect("events are served");
        registry.create(&call, event).await.expect("a valid event");
        let task = tokio::spawn(expire_events(registry.clone()));
        tokio::time::sleep(STAY - Duration::from_secs(5)).await;
        assert_eq!(store_len(&registry), 1);
        tokio::time::sleep(Duration::from_secs(10)).await;
        // The committer is a thread, which paused time does not wait for.
        for _ in 0..1000 {
            if store_len(&registry) == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
        assert_eq!(store_len(&registry), 0);
        task.abort();
    }

    fn record(name: &str, revision: Revision, written: Timestamp) -> Arc<Record> {
        let object = json!({"metadata": {"name": name,
            "creationTimestamp": "2020-01-01T00:00:00Z", "managedFields": [{"time": written.to_string()}]}});
        let content = carrack_api::Content::encode(&object, &[""; 0]).expect("has metadata");
        Arc::new(Record { key: Key::new(RESOURCE, "default", name), revision, content })
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_go_first_and_age_survives_a_restart() {
        let now = Timestamp::from_second(2_000_000_000).expect("a time");
        let old = |minutes: i64| now - jiff::SignedDuration::from_mins(minutes);
        let ages = [("a", 30), ("b", 59), ("c", 61), ("d", 0)];
        let size = record("a", 1, now).content.size();
        let fill = |budget| {
            let mut aging = Aging::new(budget);
            for (at, (name, age)) in ages.into_iter().enumerate() {
                aging.note(Item::Initial(record(name, at as Revision + 1, old(age))), now);
            }
            aging
        };
        let names = |leaving: Vec<(Key, Revision)>| -> Vec<String> {
            leaving.into_iter().map(|(key, _)| key.name().to_owned()).collect()
        };
        assert_eq!(names(fill(BUDGET).leaving(Instant::now())), ["c"]);
        assert_eq!(names(fill(BUDGET).leaving(Instant::now() + Duration::from_secs(90))), ["c", "b"]);
        let few = Budget { events: 2, ..BUDGET };
        assert_eq!(names(fill(few).leaving(Instant::now())), ["c", "b"]);
        let little = Budget { bytes: size + size / 2, ..BUDGET };
        assert_eq!(names(fill(little).leaving(Instant::now())), ["c", "b", "a"]);

        let mut aging = fill(few);
        aging.note(Item::Initial(record("c", 9, now)), now);
        assert_eq!((aging.due.len(), aging.bytes), (4, 4 * size), "written again, it is there once");
        assert_eq!(names(aging.leaving(Instant::now())), ["b", "a"]);
    }

    fn store_len(registry: &Registry) -> usize {
        registry.store().snapshot(RESOURCE).len()
    }
}
