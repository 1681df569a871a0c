//! A world in which a pod lives: a runtime in memory, outcomes and crashes of the
//! agent drawn from a seed. Whatever happens, the pod converges.

use std::time::Duration;

use carrack_runtime::{
    ContainerId, ContainerSpec, ContainerState, ContainerStatus, ExitStatus, SandboxId, SandboxSpec,
    SandboxState, SandboxStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::status::{NodeAddresses, generate};

/// What may go wrong at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Works,
    Fails,
    /// The action is done, but the agent dies before it knows.
    DiesAfter,
    /// The agent dies before the action.
    DiesBefore,
    /// A running container exits with this code.
    Exits(i32),
    /// The shim dies.
    LosesSandbox,
}

struct World {
    pod: Pod,
    sandboxes: Vec<SandboxStatus>,
    memory: Memory,
    last: PodStatus,
    now: Timestamp,
    ids: u32,
    deleted: bool,
    /// Names of containers in the order in which they were started.
    started: Vec<String>,
    /// Containers that end by themselves with code 0.
    one_shot: Vec<String>,
}

impl World {
    fn new(spec: serde_json::Value) -> Self {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 1}, "spec": spec}))
        .expect("a pod");
        let now = Timestamp::from_second(1_700_000_000).expect("in range");
        let inits = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
        let mut one_shot: Vec<String> =
            inits.filter(|c| !is_restartable_init(c)).map(|c| c.name.clone()).collect();
        let policy = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
        if policy.is_some_and(|p| p != "Always") {
            one_shot.extend(pod.spec.iter().flat_map(|s| &s.containers).map(|c| c.name.clone()));
        }
        let memory = Memory::adopt(&pod, &[], now);
        let (last, sandboxes, started) = (PodStatus::default(), Vec::new(), Vec::new());
        Self { pod, sandboxes, memory, last, now, ids: 0, deleted: false, started, one_shot }
    }

    fn view(&self) -> View<'_> {
        View {
            pod: &self.pod,
            gone: false,
            sandboxes: &self.sandboxes,
            memory: &self.memory,
            last: &self.last,
            now: self.now,
        }
    }

    /// The agent dies and comes back: what it knew is gone, its last status may be old.
    fn crash(&mut self) {
        self.pod.status = Some(self.last.clone());
        self.memory = Memory::adopt(&self.pod, &self.sandboxes, self.now);
        for sandbox in &self.sandboxes {
            let ips = vec!["10.42.0.9".parse().expect("an address")];
            self.memory.addresses.insert(sandbox.id.clone(), ips);
        }
    }

    fn id(&mut self, what: &str) -> String {
        self.ids += 1;
        format!("{what}{}", self.ids)
    }

    fn container(&mut self, id: &ContainerId) -> Option<&mut ContainerStatus> {
        self.sandboxes.iter_mut().flat_map(|s| &mut s.containers).find(|c| c.id == *id)
    }

    fn exit(&mut self, id: &ContainerId, code: i32) {
        let now = self.now;
        let Some(container) = self.container(id) else { return };
        if let ContainerState::Running { started_at, .. } = container.state {
            let reason = if code == 0 { "Completed" } else { "Error" };
            container.state = ContainerState::Exited(ExitStatus {
                exit_code: code,
                signal: 0,
                started_at: Some(started_at),
                finished_at: now,
                reason: reason.into(),
                message: String::new(),
            });
        }
    }

    /// Does an action for real.
    fn act(&mut self, action: &Action) -> Outcome {
        match action {
            Action::RunSandbox { attempt } => {
                let id = SandboxId(self.id("s"));
                self.sandboxes.push(SandboxStatus {
                    id: id.clone(),
                    spec: SandboxSpec { attempt: *attempt, pod_uid: "u".into(), ..SandboxSpec::default() },
                    state: SandboxState::Ready,
                    created_at: self.now,
                    netns: Some("/n".into()),
                    containers: Vec::new(),
                });
                Outcome::Sandbox(id, vec!["10.42.0.9".parse().expect("an address")])
            }
            Action::EnsureImage { .. } => Outcome::Image("sha256:1".into()),
            Action::StartContainer { container, attempt, sandbox } => {
                self.check_start(container);
                let id = ContainerId(self.id("c"));
                self.ids += 1;
                let created_at = self.now + SignedDuration::from_nanos(self.ids.into());
                let spec =
                    ContainerSpec { name: container.clone(), attempt: *attempt, ..ContainerSpec::default() };
                let state = ContainerState::Running { pid: 1, started_at: self.now };
                let home =
                    self.sandboxes.iter_mut().find(|s| s.id == *sandbox).expect("its sandbox is there");
                home.containers.push(ContainerStatus {
                    id: id.clone(),
                    sandbox: sandbox.clone(),
                    spec,
                    image_id: "sha256:1".into(),
                    created_at,
                    state,
                });
                self.started.push(container.clone());
                Outcome::Started(id)
            }
            Action::Kill { id, .. } => {
                self.exit(id, 143);
                Outcome::Done
            }
            Action::RemoveContainer { id } => {
                self.sandboxes.iter_mut().for_each(|s| s.containers.retain(|c| c.id != *id));
                Outcome::Done
            }
            Action::RemoveSandbox { id, .. } => {
                self.sandboxes.retain(|s| s.id != *id);
                Outcome::Done
            }
            Action::Probe { .. } => Outcome::Probed(true),
            Action::DeletePod => {
                assert!(self.sandboxes.is_empty(), "deleted while something is left");
                self.deleted = true;
                Outcome::Done
            }
            Action::PrepareVolumes | Action::TearDown | Action::PostStart { .. } => Outcome::Done,
        }
    }

    /// What must hold whenever a container is started.
    fn check_start(&self, name: &str) {
        assert!(self.pod.metadata.deletion_timestamp.is_none(), "{name} started while the pod ends");
        let running = self.view().running().filter(|c| c.spec.name == name).count();
        assert_eq!(running, 0, "two instances of {name}");
        let phase = self.last.phase.as_deref();
        assert!(!matches!(phase, Some("Succeeded" | "Failed")), "{name} started after the end");
        let spec = self.pod.spec.as_ref().expect("a spec");
        if spec.containers.iter().any(|c| c.name == name) {
            for init in spec.init_containers.iter().flatten().filter(|c| !is_restartable_init(c)) {
                assert!(self.started.contains(&init.name), "{name} before {}", init.name);
            }
        }
    }

    /// One round of the worker. False when there is nothing to do but to wait.
    fn round(&mut self, fates: &mut impl FnMut() -> Fate) -> bool {
        let status = generate(&self.view(), &NodeAddresses::default());
        self.last = status;
        self.memory.final_written = true;
        let plan = decide(&self.view());
        note_restarts(&mut self.memory, &self.sandboxes, &plan.actions);
        self.memory.begin(self.now, &plan.actions);
        for action in &plan.actions {
            let fate = if matches!(action, Action::Probe { .. }) { Fate::Works } else { fates() };
            match fate {
                Fate::DiesBefore => return self.crash_now(),
                Fate::DiesAfter => {
                    self.act(action);
                    return self.crash_now();
                }
                Fate::Fails => {
                    let pod = self.pod.clone();
                    let outcome = Outcome::Failed("ErrImagePull".into(), "no".into());
                    self.memory.apply(action, outcome, &pod, self.now);
                    continue;
                }
                Fate::Exits(code) => {
                    let running: Option<ContainerId> = self.view().running().next().map(|c| c.id.clone());
                    if let Some(id) = running {
                        self.exit(&id, code);
                    }
                }
                Fate::LosesSandbox => {
                    if let Some(sandbox) = self.sandboxes.last_mut() {
                        sandbox.state = SandboxState::NotReady;
                        let ids: Vec<_> = sandbox.containers.iter().map(|c| c.id.clone()).collect();
                        ids.iter().for_each(|id| self.exit(id, 255));
                    }
                }
                Fate::Works => {}
            }
            let lost = matches!(action, Action::StartContainer { sandbox, .. }
                if !self.sandboxes.iter().any(|s| s.id == *sandbox && s.state == SandboxState::Ready));
            let outcome = if lost {
                Outcome::Failed("CreateContainerError".into(), "no sandbox".into())
            } else {
                self.act(action)
            };
            let pod = self.pod.clone();
            self.memory.apply(action, outcome, &pod, self.now);
        }
        let idle = plan.actions.is_empty();
        if idle {
            self.pass_time(plan.wake_at);
        }
        !idle || plan.wake_at.is_some() || self.one_shots_run()
    }

    fn crash_now(&mut self) -> bool {
        self.crash();
        true
    }

    fn one_shots_run(&self) -> bool {
        self.view().running().any(|c| self.one_shot.contains(&c.spec.name))
    }

    /// One-shot containers end; otherwise time jumps to the next wake-up.
    fn pass_time(&mut self, wake_at: Option<Timestamp>) {
        let ending: Vec<ContainerId> = self
            .view()
            .running()
            .filter(|c| self.one_shot.contains(&c.spec.name))
            .map(|c| c.id.clone())
            .collect();
        self.now += SignedDuration::from_millis(10);
        for id in &ending {
            self.exit(id, 0);
        }
        if ending.is_empty()
            && let Some(at) = wake_at
        {
            self.now = self.now.max(at);
        }
    }

    /// Runs until `done`, and says after how many rounds.
    fn until(&mut self, mut fates: impl FnMut() -> Fate, done: impl Fn(&Self) -> bool) -> usize {
        for round in 0..2000 {
            self.round(&mut fates);
            if done(self) {
                return round;
            }
        }
        panic!("does not converge: {:?}\n{:#?}", self.started, self.last);
    }

    fn ready(&self) -> bool {
        let conditions = self.last.conditions.iter().flatten();
        self.last.phase.as_deref() == Some("Running")
            && conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
    }

    fn delete(&mut self) {
        self.pod.metadata.deletion_timestamp = Some(Time(self.now + Duration::from_secs(30)));
        self.pod.metadata.deletion_grace_period_seconds = Some(30);
    }
}

fn works() -> Fate {
    Fate::Works
}

fn long_running() -> serde_json::Value {
    json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
        "initContainers": [{"name": "i1", "image": "i"},
            {"name": "side", "image": "i", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}},
            {"name": "i2", "image": "i"}],
        "containers": [
            {"name": "a", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}},
            {"name": "b", "image": "i", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}]})
}

fn job() -> serde_json::Value {
    json!({"restartPolicy": "OnFailure",
        "initContainers": [{"name": "i1", "image": "i"}, {"name": "side", "image": "i", "restartPolicy": "Always"}],
        "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]})
}

#[test]
fn starts_in_order_and_becomes_ready() {
    let mut world = World::new(long_running());
    world.until(works, World::ready);
    assert_eq!(world.started, ["i1", "side", "i2", "a", "b"]);
    insta::assert_json_snapshot!("running", world.last);
    world.delete();
    world.until(works, |world| world.deleted);
    assert_eq!(world.started.len(), 5);
    assert_eq!(world.last.phase.as_deref(), Some("Failed"));
}

#[test]
fn a_job_ends_with_its_sidecar_stopped() {
    let mut world = World::new(job());
    world.until(works, |world| world.memory.torn_down);
    assert_eq!(world.last.phase.as_deref(), Some("Succeeded"));
    assert!(world.sandboxes.is_empty() && !world.deleted);
    insta::assert_json_snapshot!("succeeded", world.last);
    // A restart of the agent later does not start it again.
    world.crash();
    for _ in 0..20 {
        world.round(&mut works);
    }
    assert_eq!(world.started, ["i1", "side", "a", "b"]);
}

#[test]
fn a_crashing_container_backs_off() {
    let mut world = World::new(json!({"containers": [{"name": "a", "image": "i"}]}));
    let mut delays = Vec::new();
    for _ in 0..6 {
        world.until(works, |world| world.view().running().next().is_some());
        let id = world.view().running().next().map(|c| c.id.clone()).expect("it runs");
        world.now += SignedDuration::from_secs(1);
        world.exit(&id, 1);
        let ended = world.now;
        world.until(works, |world| world.view().running().next().is_some());
        delays.push(world.now.duration_since(ended).as_secs());
    }
    assert_eq!(delays, [0, 10, 20, 40, 80, 160]);
    world.round(&mut works);
    assert_eq!(world.last.container_statuses.as_ref().map(|s| s[0].restart_count), Some(6));
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Works),
        2 => Just(Fate::Fails),
        1 => Just(Fate::DiesAfter),
        1 => Just(Fate::DiesBefore),
        1 => prop_oneof![Just(0), Just(1), Just(137)].prop_map(Fate::Exits),
        1 => Just(Fate::LosesSandbox),
    ]
}

/// The fates of the first steps; from then on everything works.
fn drawn(fates: Vec<Fate>) -> impl FnMut() -> Fate {
    let mut fates = fates.into_iter();
    move || fates.next().unwrap_or(Fate::Works)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_server_converges_whatever_happens(fates in prop::collection::vec(fate(), 0..40)) {
        let mut world = World::new(long_running());
        world.until(drawn(fates), World::ready);
    }

    #[test]
    fn a_job_ends_whatever_happens(fates in prop::collection::vec(fate(), 0..40)) {
        let mut world = World::new(job());
        world.until(drawn(fates), |world| world.last.phase.as_deref() == Some("Succeeded") && world.memory.torn_down);
        prop_assert!(world.sandboxes.is_empty());
    }

    #[test]
    fn a_deleted_pod_goes_whatever_happens(
        before in 0usize..30, fates in prop::collection::vec(fate(), 0..40), after in prop::collection::vec(fate(), 0..20),
    ) {
        let mut world = World::new(long_running());
        let mut fates = drawn(fates);
        for _ in 0..before {
            world.round(&mut fates);
        }
        world.delete();
        world.until(drawn(after), |world| world.deleted);
        prop_assert!(world.sandboxes.is_empty());
    }
}
