//! Time as an argument: wall-clock time comes from a [`Clock`] that is injected.
//!
//! Intervals (queues, back-off, lease ages) use tokio's monotonic time instead, so
//! that a moved wall clock disturbs nothing and tests can pause it.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

/// Tells wall-clock time.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that moves only when told, for tests.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// Moves by `step`, also backwards.
    pub fn advance(&self, step: SignedDuration) {
        let mut now = self.0.lock().expect("no holder of the clock panics");
        *now = now.checked_add(step).expect("tests stay within the range of time");
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no holder of the clock panics")
    }
}

/// `2026-11-21T01:02:03Z`: RFC 3339 in whole seconds, as `metav1.Time` is written.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-11-21T01:02:03.000004Z`: as `metav1.MicroTime` is written.
pub fn rfc3339_micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
