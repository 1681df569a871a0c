//! The life of a simulated pod: the agent's own decisions over a runtime that only
//! exists as data. Pure.
//!
//! A [`Life`] is made of an object alone ([`adopt`]), so that it can be dropped whenever
//! nothing is awaited and be made again from what was written.

mod adopt;
mod world;

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, Probe};
use serde_json::Value;
use std::time::Duration;

use super::scenario::Scenario;
use crate::decide::{self, Action, Memory, Outcome, Plan, View, note_restarts};
use crate::status::{self, NodeAddresses, diff};
use world::World;

/// Rounds in one step; a pod needs fewer, and a mistake must not hang the process.
const ROUNDS: usize = 64;
/// The first status of a pod that is only being created waits this long for a better
/// one, as a real node's does.
const FIRST_STATUS: SignedDuration = SignedDuration::from_millis(300);

/// A pod between two of its steps.
#[derive(Debug, Clone)]
pub struct Life {
    pod: Pod,
    scenario: Scenario,
    world: World,
    memory: Memory,
    last: PodStatus,
    written: PodStatus,
    born: Timestamp,
    delayed: Vec<(Timestamp, Action)>,
}

/// What to do for a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// The status patch to send.
    pub patch: Option<Value>,
    /// Whether to delete the object for good.
    pub delete: bool,
    /// When to step again without an event.
    pub wake_at: Option<Timestamp>,
    /// Nothing of it is left on the node; its address is free.
    pub finished: bool,
}

// === impl Life ===

impl Life {
    /// Takes a pod up as its status says it is. `address` is the one that it has or gets.
    pub fn adopt(pod: Pod, scenario: Scenario, address: Ipv4Addr, now: Timestamp) -> Self {
        let world = World { sandboxes: adopt::sandboxes(&pod), address };
        let mut memory = Memory::adopt(&pod, &world.sandboxes, now);
        memory.volumes_ready = !world.sandboxes.is_empty();
        for sandbox in &world.sandboxes {
            memory.addresses.insert(sandbox.id.clone(), vec![address.into()]);
        }
        let last = pod.status.clone().unwrap_or_default();
        let mut life = Self {
            pod: Pod::default(),
            scenario,
            world,
            memory,
            written: last.clone(),
            last,
            born: now,
            delayed: Vec::new(),
        };
        life.update(pod);
        life
    }

    /// Takes in a newer state of the object.
    pub fn update(&mut self, pod: Pod) {
        self.pod = pod;
        self.ready_after();
        self.trim();
    }

    /// Does everything that is due.
    pub fn step(&mut self, node: &NodeAddresses, now: Timestamp) -> Step {
        let mut plan = Plan::default();
        let mut delete = false;
        for _ in 0..ROUNDS {
            self.end_runs(now);
            self.finish_delayed(now);
            self.last = status::generate(&self.view(now), node);
            self.trim();
            self.memory.final_written = self.patch().is_none();
            plan = decide::decide(&self.view(now));
            if plan.actions.is_empty() {
                break;
            }
            note_restarts(&mut self.memory, &self.world.sandboxes, &plan.actions);
            self.memory.begin(now, &plan.actions);
            let mut acted = false;
            for action in std::mem::take(&mut plan.actions) {
                delete |= action == Action::DeletePod;
                match self.delay(&action) {
                    Duration::ZERO => {
                        acted = true;
                        self.act(&action, now);
                    }
                    delay => self.postpone(action, later(now, delay)),
                }
            }
            if !acted {
                break;
            }
        }
        let wakes = [plan.wake_at, self.next_delayed(), self.next_end(), self.first_status(now)];
        let wake_at = wakes.into_iter().flatten().min().map(|at| at.max(now));
        let patch = self.patch().filter(|_| self.first_status(now).is_none());
        // Everything that is awaited has its moment; the rest comes as an event.
        let wake_at = wake_at.filter(|_| !plan.finished);
        Step { patch, delete, wake_at, finished: plan.finished }
    }

    /// The patch of the last step has been written.
    pub fn wrote(&mut self) {
        self.written = self.last.clone();
    }

    /// Whether the object as answered to a write is more than this life knows.
    pub fn outdated(&self, answer: &Value) -> bool {
        let meta = &answer["metadata"];
        let deleting = meta["deletionTimestamp"].is_string();
        deleting != self.pod.metadata.deletion_timestamp.is_some()
            || meta["generation"].as_i64() != self.pod.metadata.generation
    }

    fn view(&self, now: Timestamp) -> View<'_> {
        View {
            pod: &self.pod,
            gone: false,
            sandboxes: &self.world.sandboxes,
            memory: &self.memory,
            last: &self.last,
            now,
        }
    }

    fn patch(&self) -> Option<Value> {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        diff::patch(uid, &self.written, &self.last)
    }

    /// Until when a status that says little is held back.
    fn first_status(&self, now: Timestamp) -> Option<Timestamp> {
        let quiet = self.last.phase.as_deref() == Some("Pending")
            && self.written.container_statuses.is_none()
            && self.scenario.pull_error.is_none();
        let until = self.born.checked_add(FIRST_STATUS).ok()?;
        (quiet && until > now).then_some(until)
    }

    fn delay(&self, action: &Action) -> Duration {
        match action {
            Action::RunSandbox { .. } => self.scenario.start,
            Action::Kill { grace, .. } => self.scenario.stop.min(*grace),
            _ => Duration::ZERO,
        }
    }

    fn act(&mut self, action: &Action, now: Timestamp) {
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        let outcome = match (action, &self.scenario.pull_error) {
            (Action::EnsureImage { .. }, Some(error)) => {
                Outcome::Failed("ErrImagePull".into(), error.clone())
            }
            (Action::Kill { grace, .. }, _) => {
                let code = if self.scenario.stop > *grace { 137 } else { 0 };
                self.world.act(action, uid, code, now)
            }
            _ => self.world.act(action, uid, 0, now),
        };
        self.memory.apply(action, outcome, &self.pod, now);
    }

    fn postpone(&mut self, action: Action, at: Timestamp) {
        let task = action.task();
        self.delayed.retain(|(_, other)| other.task() != task);
        self.delayed.push((at, action));
    }

    fn finish_delayed(&mut self, now: Timestamp) {
        let due: Vec<Action> =
            self.delayed.iter().filter(|(at, _)| *at <= now).map(|(_, action)| action.clone()).collect();
        self.delayed.retain(|(at, _)| *at > now);
        due.iter().for_each(|action| self.act(action, now));
    }

    fn next_delayed(&self) -> Option<Timestamp> {
        self.delayed.iter().map(|(at, _)| *at).min()
    }

    /// When each running container ends by itself, and with which code.
    fn ends(&self) -> Vec<(carrack_runtime::ContainerId, Timestamp, i32)> {
        let runs = |name: &str| -> Option<Duration> {
            let init = self.view(Timestamp::UNIX_EPOCH).inits().find(|c| c.name == name).cloned();
            match init {
                Some(container) if decide::is_restartable_init(&container) => None,
                Some(_) => Some(Duration::ZERO),
                None => self.scenario.run,
            }
        };
        let init = |name: &str| self.view(Timestamp::UNIX_EPOCH).inits().any(|c| c.name == name);
        let running = self.world.running().filter_map(|(status, started)| {
            let name = &status.spec.name;
            let at = later(started, runs(name)?);
            let code = if init(name) { 0 } else { self.scenario.code(status.spec.attempt) };
            Some((status.id.clone(), at, code))
        });
        running.collect()
    }

    fn end_runs(&mut self, now: Timestamp) {
        for (id, at, code) in self.ends() {
            if at <= now {
                self.world.exit(&id, code, at.max(Timestamp::UNIX_EPOCH));
            }
        }
    }

    fn next_end(&self) -> Option<Timestamp> {
        self.ends().into_iter().map(|(_, at, _)| at).min()
    }

    /// A pod that is ready only later is one whose probe takes its time.
    fn ready_after(&mut self) {
        let Some(ready) = self.scenario.ready else { return };
        let seconds = i32::try_from(ready.as_secs()).unwrap_or(i32::MAX);
        for container in self.pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
            let probe = Probe { initial_delay_seconds: Some(seconds), ..Probe::default() };
            container.readiness_probe = Some(probe);
        }
    }

    /// Takes the probes away that would only pass again and again.
    fn trim(&mut self) {
        let statuses = [&self.last.init_container_statuses, &self.last.container_statuses];
        let verdicts: Vec<(String, bool, bool)> = statuses
            .into_iter()
            .flatten()
            .flatten()
            .map(|status| (status.name.clone(), status.started == Some(true), status.ready))
            .collect();
        let Some(spec) = &mut self.pod.spec else { return };
        let all: Vec<&mut Container> =
            spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).collect();
        for container in all {
            container.liveness_probe = None;
            let verdict = verdicts.iter().find(|(name, ..)| *name == container.name);
            if let Some((_, started, ready)) = verdict {
                container.startup_probe.take_if(|_| *started);
                container.readiness_probe.take_if(|_| *ready);
            }
        }
    }
}

fn later(at: Timestamp, delay: Duration) -> Timestamp {
    at.checked_add(delay).unwrap_or(Timestamp::MAX)
}

/// FNV-1a, for ids that are always the same, finished so that every bit counts.
pub fn hash(parts: &[&str]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state = (state ^ (state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    state ^ (state >> 33)
}

#[cfg(test)]
mod tests;
