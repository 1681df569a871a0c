//! Follows the pods of all simulated nodes and carries out what their lives ask for.
//!
//! What always holds: one watch for all nodes; a pod is worked on by one worker at a
//! time; a pod that waits for nothing keeps its address and nothing else, and its life
//! is made again from the next event. Requests under way are bounded by the workers.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_api::{Key, Record, Revision, Value};
use carrack_client::{
    Client, Clock, DeleteOptions, Error, Patch, Scope, Source, Update, WorkQueue, resource,
};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;

use super::Fleet;
use super::addresses::Addresses;
use super::decide::{Life, Step};
use super::scenario::{Behaviour, Scenario};
use crate::status::NodeAddresses;

/// Pods worked on at once.
const WORKERS: usize = 64;
/// Steps of a pod in one go; a write makes the next one.
const STEPS: usize = 8;
/// First and longest wait after a failed request.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a pod waits for an address when its node has none left.
const NO_ADDRESS: Duration = Duration::from_secs(1);

type Uid = Arc<str>;

/// The pods of a fleet.
pub struct Pods {
    client: Client,
    clock: Arc<dyn Clock>,
    fleet: Arc<Fleet>,
    behaviour: Behaviour,
    state: Mutex<State>,
    queue: WorkQueue<Uid>,
}

struct State {
    slots: HashMap<Uid, Slot>,
    addresses: Addresses,
}

/// What is kept of a pod.
struct Slot {
    key: Key,
    place: u32,
    address: Option<Ipv4Addr>,
    /// The newest state that no step has seen.
    latest: Option<Arc<Record>>,
    /// Up to here nothing is news.
    seen: Revision,
    /// While something is awaited.
    life: Option<Box<Life>>,
}

// === impl Pods ===

impl Pods {
    /// Knows no pods yet.
    pub fn new(client: Client, clock: Arc<dyn Clock>, fleet: Arc<Fleet>, behaviour: Behaviour) -> Self {
        let state = State { slots: HashMap::new(), addresses: Addresses::new(&fleet) };
        let queue = WorkQueue::new(RETRY.0, RETRY.1);
        Self { client, clock, fleet, behaviour, state: Mutex::new(state), queue }
    }

    /// Follows the pods until the task is aborted.
    pub async fn run(self, source: Arc<dyn Source>) {
        let pods = Arc::new(self);
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let pods = pods.clone();
            workers.spawn(async move { pods.work().await });
        }
        let scope = Scope { fields: Some("spec.nodeName!=".into()), ..Scope::default() };
        let mut updates = source.subscribe(&resource::PODS, scope);
        while let Some(update) = updates.next().await {
            match update {
                Update::Reset { records, .. } => pods.reset(&records),
                Update::Changed { record, .. } => pods.see(&record),
                Update::Deleted { record, .. } => pods.lock().remove(&record.header().uid),
                Update::Progress(_) => {}
            }
        }
    }

    fn reset(&self, records: &[Arc<Record>]) {
        let live: HashSet<&str> = records.iter().map(|record| &*record.header().uid).collect();
        let mut state = self.lock();
        let gone: Vec<Uid> = state.slots.keys().filter(|uid| !live.contains(&***uid)).cloned().collect();
        gone.iter().for_each(|uid| state.remove(uid));
        drop(state);
        // Held addresses first, so that no new pod gets one of them.
        let (held, fresh): (Vec<_>, Vec<_>) = records.iter().partition(|record| address(record).is_some());
        held.into_iter().chain(fresh).for_each(|record| self.see(record));
    }

    fn see(&self, record: &Arc<Record>) {
        let mut state = self.lock();
        let State { slots, addresses } = &mut *state;
        let uid = match slots.get_mut(&*record.header().uid) {
            Some(slot) if record.revision <= slot.seen => return,
            Some(slot) => {
                slot.latest = Some(record.clone());
                Uid::from(&*record.header().uid)
            }
            None => {
                let field = |name: &str| record.field(name).unwrap_or_default();
                let Some(place) = self.fleet.place(field("spec.nodeName")) else { return };
                let ended = matches!(field("status.phase"), "Succeeded" | "Failed");
                let address = address(record).filter(|ip| !ended && addresses.hold(place, *ip));
                let slot = Slot {
                    key: record.key.clone(),
                    place,
                    address,
                    latest: Some(record.clone()),
                    seen: 0,
                    life: None,
                };
                let uid = Uid::from(&*record.header().uid);
                slots.insert(uid.clone(), slot);
                uid
            }
        };
        drop(state);
        self.queue.add(uid);
    }

    async fn work(&self) {
        while let Some(uid) = self.queue.next().await {
            match self.live(&uid).await {
                Ok(wake) => {
                    self.queue.forget(&uid);
                    if let Some(delay) = wake {
                        self.queue.add_after(uid.clone(), delay);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, pod = %uid, "a simulated pod's write failed; trying again");
                    self.queue.add_failed(uid.clone());
                }
            }
            self.queue.done(&uid);
        }
    }

    /// Lives a pod on until something has to be waited for; says for how long.
    async fn live(&self, uid: &Uid) -> Result<Option<Duration>, Error> {
        let now = self.clock.now();
        let Some((key, place, mut life)) = (match self.lock().take(uid, &self.behaviour, now) {
            Taken::Life(key, place, life) => Some((key, place, life)),
            Taken::NoAddress => return Ok(Some(NO_ADDRESS)),
            Taken::Nothing => None,
        }) else {
            return Ok(None);
        };
        let node = NodeAddresses { host_ips: vec![self.fleet.node_address(place).into()] };
        let mut seen = 0;
        let (mut result, mut step) = (Ok(()), Step::default());
        for _ in 0..STEPS {
            let now = self.clock.now();
            step = life.step(&node, now);
            if let Some(patch) = step.patch.take() {
                result = self.write(&key, patch, &mut life).await.map(|revision| seen = seen.max(revision));
            } else if step.delete {
                result = self.delete(&key, uid).await;
                break;
            } else {
                break;
            }
            if result.is_err() {
                break;
            }
        }
        let wake = step.wake_at.map(|at| until(at, self.clock.now()));
        let failed = result.is_err();
        self.lock().put(uid, seen, &step, (wake.is_some() || failed).then_some(life));
        result.map(|()| wake)
    }

    /// Writes a status; gives the revision up to which nothing is news.
    async fn write(&self, key: &Key, patch: Value, life: &mut Life) -> Result<Revision, Error> {
        let at = (key.namespace(), key.name());
        match self.client.patch(&resource::PODS, at, "status", &Patch::Strategic(patch)).await {
            Ok(written) => {
                life.wrote();
                let answer: Value = written.decode().unwrap_or_default();
                Ok(if life.outdated(&answer) { 0 } else { written.revision })
            }
            // It is gone or another one; the watch says so.
            Err(error) if error.is_not_found() || error.is_conflict() => {
                life.wrote();
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, key: &Key, uid: &str) -> Result<(), Error> {
        let at = (key.namespace(), key.name());
        let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::of_uid(uid) };
        match self.client.delete(&resource::PODS, at, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the simulated pods locked")
    }
}

/// What a worker finds.
enum Taken {
    Life(Key, u32, Box<Life>),
    /// Its node has no free address.
    NoAddress,
    /// Gone, or nothing new.
    Nothing,
}

// === impl State ===

impl State {
    /// Takes a pod's life out, with the newest state of its object.
    fn take(&mut self, uid: &Uid, behaviour: &Behaviour, now: Timestamp) -> Taken {
        let Some(slot) = self.slots.get_mut(uid) else { return Taken::Nothing };
        if slot.life.is_none() && slot.latest.is_none() {
            return Taken::Nothing;
        }
        if slot.address.is_none() {
            slot.address = self.addresses.take(slot.place);
        }
        let Some(address) = slot.address else { return Taken::NoAddress };
        let latest = slot.latest.take().filter(|record| record.revision > slot.seen);
        let pod = latest.and_then(|record| match record.decode_as::<Pod>() {
            Ok(pod) => Some(pod),
            Err(error) => {
                tracing::error!(%error, pod = %record.key, "pod cannot be read");
                None
            }
        });
        let life = match (slot.life.take(), pod) {
            (Some(mut life), Some(pod)) => {
                life.update(pod);
                life
            }
            (Some(life), None) => life,
            (None, Some(pod)) => {
                let scenario = Scenario::of(&pod, behaviour);
                Box::new(Life::adopt(pod, scenario, address, now))
            }
            (None, None) => return Taken::Nothing,
        };
        Taken::Life(slot.key.clone(), slot.place, life)
    }

    fn put(&mut self, uid: &Uid, seen: Revision, step: &Step, life: Option<Box<Life>>) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        slot.life = life;
        slot.seen = slot.seen.max(seen);
        if step.finished
            && let Some(address) = slot.address.take()
        {
            self.addresses.free(slot.place, address);
        }
    }

    fn remove(&mut self, uid: &str) {
        if let Some(Slot { place, address: Some(address), .. }) = self.slots.remove(uid) {
            self.addresses.free(place, address);
        }
    }
}

/// The address that a pod has, out of its header.
fn address(record: &Record) -> Option<Ipv4Addr> {
    record.field("status.podIP")?.parse().ok()
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}
