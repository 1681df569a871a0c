//! Events do not stay: each goes an hour after its last write, the oldest sooner when
//! there are too many. (Upstream's `--event-ttl`.)
//!
//! Follows the watch of events and one timer; an idle cluster wakes nothing. After a
//! restart the hour begins anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use carrack_api::{Key, Record, Revision};
use carrack_store::{Change, Expect, Write};
use tokio::time::Instant;

use super::Registry;
use super::watch::{Item, Start, Watcher};

const RESOURCE: &str = "events";
/// How long an event stays after its last write.
const STAY: Duration = Duration::from_secs(3600);
/// Events that stay at most.
const MOST: usize = 20_000;

/// The writes of events, oldest first; one that was written again is there twice,
/// and only its last write counts.
struct Aging {
    queue: VecDeque<(Instant, Key, Revision)>,
}

/// Deletes events that are too old or too many, for as long as the server runs.
pub async fn expire_events(registry: Arc<Registry>) {
    let mut aging = Aging { queue: VecDeque::new() };
    loop {
        let watcher = registry.subscribe(RESOURCE, "", Start::Initial { fresh: false }).await;
        let Ok(watcher) = watcher else { return };
        aging.queue.clear();
        // Falls out of the history only under a flood: then it starts over.
        aging.follow(&registry, watcher).await;
    }
}

impl Aging {
    async fn follow(&mut self, registry: &Registry, mut watcher: Watcher) {
        loop {
            let next = self.queue.front().map(|(at, ..)| *at + STAY);
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                items = watcher.next() => match items {
                    Ok(items) => items.into_iter().for_each(|item| self.note(item)),
                    Err(_) => return,
                },
                () = timer => {}
            }
            self.expire(registry, Instant::now()).await;
        }
    }

    fn note(&mut self, item: Item) {
        let record: Arc<Record> = match item {
            Item::Initial(record) => record,
            Item::Event(_, event) if event.change != Change::Deleted => event.record.clone(),
            Item::Event(..) | Item::InitialEnd(_) => return,
        };
        self.queue.push_back((Instant::now(), record.key.clone(), record.revision));
    }

    async fn expire(&mut self, registry: &Registry, now: Instant) {
        while self.queue.len() > MOST || self.queue.front().is_some_and(|(at, ..)| *at + STAY <= now) {
            let Some((_, key, revision)) = self.queue.pop_front() else { return };
            let write = Write { key, expect: Expect::At(revision), content: None, unsynced: true };
            // A conflict says that it was written again or is gone, both of which are well.
            drop(registry.store.commit(write).await);
        }
    }
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

    fn store_len(registry: &Registry) -> usize {
        registry.store().snapshot(RESOURCE).len()
    }
}
