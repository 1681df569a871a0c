//! A work queue: each key once, never by two workers at the same time.
//!
//! A key added while it is being worked on comes again after [`WorkQueue::done`].
//! Ready keys leave in the order in which they came. Delays and per-key back-off run
//! on tokio's clock, so a paused clock makes everything deterministic. It holds each
//! key at most once, so the number of objects bounds it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::exponential;

/// Back-off of a key's first failure and its limit, as in client-go.
pub const BASE_DELAY: Duration = Duration::from_millis(5);
/// Longest back-off of a key. (client-go: 1000 s; a shorter one repairs sooner.)
pub const MAX_DELAY: Duration = Duration::from_secs(120);

/// Keys waiting for workers.
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    base: Duration,
    cap: Duration,
}

struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    working: HashSet<K>,
    delayed: BTreeSet<(Instant, u64)>,
    delayed_keys: HashMap<u64, K>,
    delay_of: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    serial: u64,
    closed: bool,
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new(BASE_DELAY, MAX_DELAY)
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// With a back-off from `base` to `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            working: HashSet::new(),
            delayed: BTreeSet::new(),
            delayed_keys: HashMap::new(),
            delay_of: HashMap::new(),
            failures: HashMap::new(),
            serial: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), base, cap }
    }

    /// Adds a key, unless it waits already.
    pub fn add(&self, key: K) {
        self.lock().push(key);
        self.wake.notify_one();
    }

    /// Adds a key after a delay; of several delays the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.lock().push_after(key, Instant::now() + delay);
        self.wake.notify_one();
    }

    /// Adds a key after its back-off, which doubles with every call until
    /// [`forget`](Self::forget). Returns the delay.
    pub fn add_failed(&self, key: K) -> Duration {
        let mut state = self.lock();
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let delay = exponential(self.base, self.cap, *failures);
        *failures = failures.saturating_add(1);
        drop(state);
        self.add_after(key, delay);
        delay
    }

    /// Starts a key's back-off over.
    pub fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// The next key; `None` once closed and empty. Hand it back with
    /// [`done`](Self::done).
    pub async fn next(&self) -> Option<K> {
        loop {
            let due = {
                let mut state = self.lock();
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.queued.remove(&key);
                    state.working.insert(key.clone());
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                if state.closed {
                    // Pass it on: one notification wakes one worker.
                    self.wake.notify_one();
                    return None;
                }
                state.delayed.first().map(|(due, _)| *due)
            };
            let woken = self.wake.notified();
            match due {
                Some(due) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => woken.await,
            }
        }
    }

    /// Ends the work on a key; it is handed out again if it was added meanwhile.
    pub fn done(&self, key: &K) {
        let mut state = self.lock();
        state.working.remove(key);
        if state.queued.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Lets workers finish what is ready and then end.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Keys ready to be worked on.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// Whether no key is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<K>> {
        self.state.lock().expect("nobody panics with the queue locked")
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn push(&mut self, key: K) {
        if self.closed || !self.queued.insert(key.clone()) {
            return;
        }
        if !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn push_after(&mut self, key: K, due: Instant) {
        if self.closed {
            return;
        }
        if let Some(earlier) = self.delay_of.get(&key).copied() {
            if earlier.0 <= due {
                return;
            }
            self.delayed.remove(&earlier);
            self.delayed_keys.remove(&earlier.1);
        }
        self.serial += 1;
        let entry = (due, self.serial);
        self.delayed.insert(entry);
        self.delayed_keys.insert(self.serial, key.clone());
        self.delay_of.insert(key, entry);
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first().copied().filter(|(due, _)| *due <= now) {
            self.delayed.remove(&entry);
            if let Some(key) = self.delayed_keys.remove(&entry.1) {
                self.delay_of.remove(&key);
                self.push(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_never_worked_on_twice_at_a_time() {
        let queue = WorkQueue::default();
        for key in ["a", "b", "a"] {
            queue.add(key);
        }
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        assert!(queue.is_empty(), "a is being worked on");
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        queue.done(&"b");
        queue.close();
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn delays_keep_the_earliest_and_failures_double() {
        let queue = WorkQueue::new(ms(5), ms(30));
        let start = Instant::now();
        queue.add_after("later", ms(100));
        queue.add_after("later", ms(50));
        queue.add_after("later", ms(80));
        assert_eq!((queue.next().await, start.elapsed()), (Some("later"), ms(50)));
        queue.done(&"later");
        for expect in [5, 10, 20, 30, 30] {
            assert_eq!(queue.add_failed("x"), ms(expect));
            let before = Instant::now();
            assert_eq!((queue.next().await, before.elapsed()), (Some("x"), ms(expect)));
            queue.done(&"x");
        }
        queue.forget(&"x");
        assert_eq!(queue.add_failed("x"), ms(5));
    }

    #[tokio::test(start_paused = true)]
    async fn every_worker_finds_work_and_the_end() {
        let queue = Arc::new(WorkQueue::default());
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let queue = queue.clone();
            workers.spawn(async move {
                let mut count = 0;
                while let Some(key) = queue.next().await {
                    tokio::time::sleep(ms(10)).await;
                    queue.done(&key);
                    count += 1;
                }
                count
            });
        }
        let start = Instant::now();
        (0..40).for_each(|key| queue.add(key));
        tokio::task::yield_now().await;
        queue.close();
        let counts = workers.join_all().await;
        assert_eq!(counts, [10; 4]);
        assert_eq!(start.elapsed(), ms(100));
    }
}
