//! The run loop on the fake API: waits for its own writes, survives panics, backs off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use carrack_api::Key;
use jiff::Timestamp;
use serde_json::json;

use crate::controller::{Controller, Error, Writes, run};
use crate::fake::Fake;
use crate::resource::{CONFIG_MAPS, NAMESPACES};
use crate::{Cache, Client, Informers, SystemClock, WorkQueue};

/// Wants a number of ConfigMaps in each namespace, and creates what it does not see.
struct Fill {
    client: Client,
    namespaces: Arc<Cache>,
    maps: Arc<Cache>,
    wanted: usize,
    panics: AtomicUsize,
}

impl Controller for Fill {
    type Plan = usize;

    fn name(&self) -> &'static str {
        "fill"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.namespaces.clone(), self.maps.clone()]
    }

    fn decide(&self, key: &Key, _: Timestamp) -> Option<usize> {
        let left = self.panics.load(Ordering::Relaxed);
        if left > 0 {
            self.panics.store(left - 1, Ordering::Relaxed);
            panic!("{left} more");
        }
        self.namespaces.get(key)?;
        let missing = self.wanted - self.maps.in_namespace(key.name()).len();
        (missing > 0).then_some(missing)
    }

    async fn act(&self, key: &Key, missing: usize, writes: &Writes) -> Result<Option<Duration>, Error> {
        for _ in 0..missing {
            let map = json!({"metadata": {"generateName": "m-"}});
            writes.wrote(&self.client.create(&CONFIG_MAPS, key.name(), &map).await?);
        }
        Ok(None)
    }
}

async fn check(delay: u64, panics: usize, broken_write: Option<u64>) {
    let fake = Fake::new(Duration::from_millis(delay), 7);
    let informers = Informers::new(Arc::new(fake.clone()));
    let namespaces = informers.cache(&NAMESPACES);
    let maps = informers.cache(&CONFIG_MAPS);
    let queue: Arc<WorkQueue<Key>> = Arc::default();
    for cache in [&namespaces, &maps] {
        let queue = queue.clone();
        cache.add_handler(Box::new(move |_, new| {
            let Some(record) = new else { return };
            let name =
                if record.key.namespace().is_empty() { record.key.name() } else { record.key.namespace() };
            queue.add(NAMESPACES.key("", name));
        }));
    }
    let panics = AtomicUsize::new(panics);
    let fill = Fill { client: fake.client("fill"), namespaces, maps, wanted: 3, panics };
    let task = tokio::spawn(run(Arc::new(fill), queue.clone(), 4, Arc::new(SystemClock)));
    if let Some(nth) = broken_write {
        fake.break_write(nth);
    }
    for name in ["a", "b", "c"] {
        fake.put(&NAMESPACES, json!({"metadata": {"name": name}}));
    }
    fake.until(|fake| fake.list(&CONFIG_MAPS).len() >= 9).await;
    // Woken again and again while its writes are on their way: it still adds nothing.
    for _ in 0..50 {
        ["a", "b", "c"].iter().for_each(|name| queue.add(NAMESPACES.key("", name)));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let extra = usize::from(broken_write.is_some());
    assert!((9..=9 + extra).contains(&fake.list(&CONFIG_MAPS).len()));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_created_twice_however_late_the_caches() {
    for delay in [0, 1, 30, 400] {
        check(delay, 0, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn panics_and_lost_answers_are_retried() {
    check(10, 3, None).await;
    // Who does not hear that it wrote cannot wait for it: at most that one is doubled.
    check(10, 0, Some(4)).await;
}
