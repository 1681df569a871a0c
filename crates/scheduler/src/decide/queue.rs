//! Pods waiting to be placed: active, backing off, gated, or until something changes.
//!
//! A pod that fits nowhere waits until a change that one of the refusing plugins says
//! may help ([`super::hints`]); then it is tried again, after its back-off or as soon
//! as nothing else is to be done. Nothing is polled; after five minutes it is tried
//! anyway, in case the reasoning missed a way. Waiting pods are kept by who refused
//! them, so that a change meets only those that it may concern. Time is given as what
//! has passed since some start.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use carrack_client::backoff::exponential;

use super::hints::Event;
use super::plugins::Plugins;
use super::pod::PodInfo;

/// First back-off of a pod.
const BACKOFF: Duration = Duration::from_secs(1);
/// Longest back-off of a pod.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Longest wait for a change.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    pods: HashMap<Arc<str>, Waiting>,
    /// Highest priority first, then in order of arrival.
    active: BTreeSet<(Reverse<i64>, u64, Arc<str>)>,
    /// By the time at which they become active.
    timed: BTreeSet<(Duration, Arc<str>)>,
    /// Those of `timed` that need not wait for it when nothing else is to be done.
    eager: BTreeSet<(Duration, Arc<str>)>,
    /// Those that wait for a change, by who refused them.
    refused: BTreeMap<Plugins, BTreeSet<Arc<str>>>,
    serial: u64,
}

#[derive(Debug)]
struct Waiting {
    pod: Arc<PodInfo>,
    arrival: u64,
    /// Attempts in which it fitted nowhere.
    refusals: u32,
    /// Attempts in a row that broke off.
    errors: u32,
    /// Evictions for it are under way; a change meanwhile is remembered.
    evicting: Option<bool>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    /// Taken by the scheduler, who has not said yet what became of it.
    Taken,
    /// Waits for its gates.
    Gated,
    /// Until the time of an entry in `timed`; whether also in `eager`.
    BackingOff {
        until: Duration,
        eager: bool,
    },
    /// Until a change helps one of the plugins, or a time.
    Refused {
        plugins: Plugins,
        since: Duration,
        until: Duration,
    },
}

impl Queue {
    /// Adds a pending pod, or takes over its new state. A changed spec is a reason to
    /// try again.
    pub fn set(&mut self, pod: Arc<PodInfo>, now: Duration) {
        let uid = pod.uid.clone();
        let gated = !pod.gates.is_empty();
        let Some(waiting) = self.pods.get_mut(&uid) else {
            self.serial += 1;
            let state = if gated { State::Gated } else { State::Active };
            let arrival = self.serial;
            if !gated {
                self.active.insert((Reverse(pod.priority), arrival, uid.clone()));
            }
            let waiting = Waiting { pod, arrival, refusals: 0, errors: 0, evicting: None, state };
            self.pods.insert(uid, waiting);
            return;
        };
        let before = std::mem::replace(&mut waiting.pod, pod);
        let (pod, arrival) = (waiting.pod.clone(), waiting.arrival);
        match waiting.state {
            State::Gated if !gated => {
                waiting.state = State::Active;
                self.active.insert((Reverse(pod.priority), arrival, uid));
                return;
            }
            State::Active if before.priority != pod.priority => {
                self.active.remove(&(Reverse(before.priority), arrival, uid.clone()));
                self.active.insert((Reverse(pod.priority), arrival, uid.clone()));
            }
            _ => {}
        }
        let same = before.needs == pod.needs
            && before.labels == pod.labels
            && before.spread == pod.spread
            && before.terms == pod.terms;
        if !same {
            self.retry(&uid, now);
        }
    }

    /// Forgets a pod: placed by someone, or gone.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some((uid, waiting)) = self.pods.remove_entry(uid) else { return false };
        match waiting.state {
            State::Active => {
                self.active.remove(&(Reverse(waiting.pod.priority), waiting.arrival, uid));
            }
            State::BackingOff { until, .. } => {
                self.eager.remove(&(until, uid.clone()));
                self.timed.remove(&(until, uid));
            }
            State::Refused { plugins, until, .. } => {
                self.forget_refusal(plugins, &uid);
                self.timed.remove(&(until, uid));
            }
            State::Taken | State::Gated => {}
        }
        true
    }

    /// A pod in it.
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.pods.get(uid).map(|waiting| &waiting.pod)
    }

    /// The next pod to place.
    pub fn take(&mut self, now: Duration) -> Option<Arc<PodInfo>> {
        self.promote(now);
        let uid = match self.active.pop_first() {
            Some((_, _, uid)) => uid,
            None => {
                let (until, uid) = self.eager.pop_first()?;
                self.timed.remove(&(until, uid.clone()));
                uid
            }
        };
        let waiting = self.pods.get_mut(&uid)?;
        waiting.state = State::Taken;
        Some(waiting.pod.clone())
    }

    /// A taken pod fits nowhere.
    pub fn refused(&mut self, uid: &str, plugins: Plugins, now: Duration) {
        let Some((uid, waiting)) = self.entry(uid) else { return };
        waiting.refusals += 1;
        waiting.errors = 0;
        let until = now + MAX_WAIT;
        waiting.state = State::Refused { plugins, since: now, until };
        self.timed.insert((until, uid.clone()));
        self.refused.entry(plugins).or_default().insert(uid);
    }

    /// A taken pod could not be bound.
    pub fn back_off(&mut self, uid: &str, now: Duration) {
        let Some((uid, waiting)) = self.entry(uid) else { return };
        waiting.errors += 1;
        let until = now + exponential(BACKOFF, MAX_BACKOFF, waiting.errors - 1);
        waiting.state = State::BackingOff { until, eager: false };
        self.timed.insert((until, uid));
    }

    /// Evictions for a pod begin: it is not tried before they are done.
    pub fn evicting(&mut self, uid: &str) {
        if let Some((_, waiting)) = self.entry(uid) {
            waiting.evicting = Some(false);
        }
    }

    /// They are done: what changed meanwhile counts now. After a failure the pod is tried
    /// again, but not at once.
    pub fn evicted(&mut self, uid: &str, failed: bool, now: Duration) {
        let Some((uid, waiting)) = self.entry(uid) else { return };
        let changed = waiting.evicting.take() == Some(true);
        match waiting.state {
            State::Refused { plugins, until, .. } if failed => {
                self.forget_refusal(plugins, &uid);
                self.timed.remove(&(until, uid.clone()));
                self.back_off(&uid, now);
            }
            _ if changed => self.retry(&uid, now),
            _ => {}
        }
    }

    /// Something changed: wakes whom it may help.
    pub fn changed(&mut self, event: &Event<'_>, now: Duration) {
        let concerns = event.concerns();
        if concerns.is_empty() {
            return;
        }
        let mut helped: Vec<Arc<str>> = Vec::new();
        for (plugins, uids) in &self.refused {
            // Who was refused by nobody in particular is helped by anything.
            if !plugins.is_empty() && !plugins.meets(concerns) {
                continue;
            }
            let pods = uids.iter().filter_map(|uid| self.pods.get(uid));
            let woken = pods.filter(|waiting| plugins.is_empty() || event.helps(*plugins, &waiting.pod));
            helped.extend(woken.map(|waiting| waiting.pod.uid.clone()));
        }
        for uid in helped {
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
        !(self.active.is_empty() && self.eager.is_empty())
    }

    /// Uids of all pods in it.
    pub fn uids(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(|uid| &**uid)
    }

    fn entry(&mut self, uid: &str) -> Option<(Arc<str>, &mut Waiting)> {
        let (uid, _) = self.pods.get_key_value(uid)?;
        let uid = uid.clone();
        self.pods.get_mut(&uid).map(|waiting| (uid, waiting))
    }

    fn forget_refusal(&mut self, plugins: Plugins, uid: &Arc<str>) {
        if let Some(uids) = self.refused.get_mut(&plugins) {
            uids.remove(uid);
            if uids.is_empty() {
                self.refused.remove(&plugins);
            }
        }
    }

    /// Lets a refused pod be tried again once its back-off is over.
    fn retry(&mut self, uid: &str, now: Duration) {
        let Some((uid, waiting)) = self.entry(uid) else { return };
        let State::Refused { plugins, since, until } = waiting.state else { return };
        if let Some(changed) = &mut waiting.evicting {
            *changed = true;
            return;
        }
        let over = since + exponential(BACKOFF, MAX_BACKOFF, waiting.refusals.saturating_sub(1));
        let place = (Reverse(waiting.pod.priority), waiting.arrival, uid.clone());
        waiting.state =
            if over <= now { State::Active } else { State::BackingOff { until: over, eager: true } };
        self.timed.remove(&(until, uid.clone()));
        self.forget_refusal(plugins, &uid);
        if over <= now {
            self.active.insert(place);
        } else {
            self.timed.insert((over, uid.clone()));
            self.eager.insert((over, uid));
        }
    }

    fn promote(&mut self, now: Duration) {
        while let Some((due, uid)) = self.timed.first().cloned().filter(|(due, _)| *due <= now) {
            self.timed.remove(&(due, uid.clone()));
            self.eager.remove(&(due, uid.clone()));
            let Some(waiting) = self.pods.get_mut(&uid) else { continue };
            let before = waiting.state;
            waiting.state = State::Active;
            let place = (Reverse(waiting.pod.priority), waiting.arrival, uid.clone());
            if let State::Refused { plugins, .. } = before {
                self.forget_refusal(plugins, &uid);
            }
            self.active.insert(place);
        }
    }
}
