//! Pods waiting to be placed: active, backing off, or until something changes.
//!
//! A pod that fits nowhere waits until a change that one of the refusing filters
//! looks at; then it is tried again, but not before its back-off is over. Nothing is
//! polled; after five minutes it is tried anyway, in case the reasoning missed a way.
//! Time is given as what has passed since some start.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use carrack_client::backoff::exponential;

use super::filter::Filter;
use super::pod::PodInfo;

/// First back-off of a pod.
const BACKOFF: Duration = Duration::from_secs(1);
/// Longest back-off of a pod.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Longest wait for a change.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// A change that may let a waiting pod in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A node came.
    NodeAdded,
    /// A node's parts changed.
    NodeChanged {
        /// Labels.
        labels: bool,
        /// Taints.
        taints: bool,
        /// `spec.unschedulable`.
        unschedulable: bool,
        /// Allocatable resources.
        allocatable: bool,
    },
    /// A pod left its node, or asks for less.
    PodRemoved,
}

impl Change {
    /// A node's heartbeat: nothing that anyone looks at.
    const NOTHING: Self =
        Self::NodeChanged { labels: false, taints: false, unschedulable: false, allocatable: false };

    /// Whether it can change a filter's mind.
    pub fn helps(self, filter: Filter) -> bool {
        match self {
            Self::NodeAdded => true,
            Self::PodRemoved => matches!(filter, Filter::Resources | Filter::HostPorts),
            Self::NodeChanged { labels, taints, unschedulable, allocatable } => match filter {
                Filter::Affinity => labels,
                Filter::Taints => taints,
                Filter::Unschedulable => unschedulable || taints,
                Filter::Resources => allocatable,
                Filter::NoNodes | Filter::NodeName | Filter::HostPorts => false,
            },
        }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    pods: HashMap<String, Waiting>,
    /// Highest priority first, then in order of arrival.
    active: BTreeSet<(Reverse<i64>, u64, String)>,
    /// By the time at which they become active.
    timed: BTreeSet<(Duration, String)>,
    serial: u64,
}

#[derive(Debug)]
struct Waiting {
    pod: Arc<PodInfo>,
    arrival: u64,
    attempts: u32,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Active,
    /// Taken by the scheduler, who has not said yet what became of it.
    Taken,
    /// A change that came while it was taken: try again.
    TakenStale,
    /// Until the time of an entry in `timed`.
    BackingOff(Duration),
    /// Until a change helps one of the filters, or a time.
    Waiting {
        filters: Vec<Filter>,
        since: Duration,
        until: Duration,
    },
}

impl Queue {
    /// Adds a pending pod, or takes over its new state. A changed spec is a reason to
    /// try again.
    pub fn set(&mut self, pod: Arc<PodInfo>, now: Duration) {
        let uid = pod.uid.clone();
        let Some(waiting) = self.pods.get_mut(&uid) else {
            self.serial += 1;
            let arrival = self.serial;
            self.active.insert((Reverse(pod.priority), arrival, uid.clone()));
            self.pods.insert(uid, Waiting { pod, arrival, attempts: 0, state: State::Active });
            return;
        };
        let before = std::mem::replace(&mut waiting.pod, pod);
        let pod = &waiting.pod;
        if waiting.state == State::Active && before.priority != pod.priority {
            self.active.remove(&(Reverse(before.priority), waiting.arrival, uid.clone()));
            self.active.insert((Reverse(pod.priority), waiting.arrival, uid.clone()));
        }
        let same = before.requests == pod.requests
            && before.affinity == pod.affinity
            && before.tolerations == pod.tolerations
            && before.host_ports == pod.host_ports;
        if !same {
            self.retry(&uid, now);
        }
    }

    /// Forgets a pod: placed by someone, or gone.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some(waiting) = self.pods.remove(uid) else { return false };
        match waiting.state {
            State::Active => {
                self.active.remove(&(Reverse(waiting.pod.priority), waiting.arrival, uid.to_owned()));
            }
            State::BackingOff(until) | State::Waiting { until, .. } => {
                self.timed.remove(&(until, uid.to_owned()));
            }
            State::Taken | State::TakenStale => {}
        }
        true
    }

    /// The next pod to place.
    pub fn take(&mut self, now: Duration) -> Option<Arc<PodInfo>> {
        self.promote(now);
        let (_, _, uid) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&uid)?;
        waiting.attempts += 1;
        waiting.state = State::Taken;
        Some(waiting.pod.clone())
    }

    /// A taken pod fits nowhere.
    pub fn refused(&mut self, uid: &str, filters: Vec<Filter>, now: Duration) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        if waiting.state == State::TakenStale {
            return self.back_off(uid, now);
        }
        let until = now + MAX_WAIT;
        waiting.state = State::Waiting { filters, since: now, until };
        self.timed.insert((until, uid.to_owned()));
    }

    /// A taken pod could not be bound.
    pub fn back_off(&mut self, uid: &str, now: Duration) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        let until = now + exponential(BACKOFF, MAX_BACKOFF, waiting.attempts.saturating_sub(1));
        waiting.state = State::BackingOff(until);
        self.timed.insert((until, uid.to_owned()));
    }

    /// Something changed: wakes whom it may help.
    pub fn changed(&mut self, change: Change, now: Duration) {
        if change == Change::NOTHING {
            return;
        }
        let helped = |waiting: &Waiting| match &waiting.state {
            State::Waiting { filters, .. } => filters.iter().any(|filter| change.helps(*filter)),
            State::Taken => true,
            _ => false,
        };
        let uids: Vec<String> =
            self.pods.iter().filter(|(_, waiting)| helped(waiting)).map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.retry(&uid, now);
        }
    }

    /// When the next pod becomes active by itself.
    pub fn next_due(&self) -> Option<Duration> {
        self.timed.first().map(|(due, _)| *due)
    }

    /// Whether a pod can be taken now.
    pub fn ready(&mut self, now: Duration) -> bool {
        self.promote(now);
        !self.active.is_empty()
    }

    /// Uids of all pods in it.
    pub fn uids(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(String::as_str)
    }

    /// Makes a waiting pod active, or lets it finish its back-off first.
    fn retry(&mut self, uid: &str, now: Duration) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        match waiting.state {
            State::Taken => waiting.state = State::TakenStale,
            State::Waiting { since, until, .. } => {
                self.timed.remove(&(until, uid.to_owned()));
                let over = since + exponential(BACKOFF, MAX_BACKOFF, waiting.attempts.saturating_sub(1));
                if over <= now {
                    waiting.state = State::Active;
                    self.active.insert((Reverse(waiting.pod.priority), waiting.arrival, uid.to_owned()));
                } else {
                    waiting.state = State::BackingOff(over);
                    self.timed.insert((over, uid.to_owned()));
                }
            }
            _ => {}
        }
    }

    fn promote(&mut self, now: Duration) {
        while let Some((due, uid)) = self.timed.first().cloned().filter(|(due, _)| *due <= now) {
            self.timed.remove(&(due, uid.clone()));
            if let Some(waiting) = self.pods.get_mut(&uid) {
                waiting.state = State::Active;
                self.active.insert((Reverse(waiting.pod.priority), waiting.arrival, uid));
            }
        }
    }
}
