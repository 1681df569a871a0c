//! Lives of simulated pods, told as what is written when.

use super::*;
use crate::simulate::Behaviour;
use serde_json::json;

/// Milliseconds from the beginning, phase, and readiness of each container.
type Line = (i64, String, String);

struct Story {
    life: Life,
    start: Timestamp,
    now: Timestamp,
    lines: Vec<Line>,
    deleted: bool,
}

fn pod(spec: Value, annotations: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 1,
        "annotations": annotations}, "spec": spec}))
    .expect("a pod")
}

impl Story {
    fn new(pod: Pod) -> Self {
        let start = Timestamp::from_second(1_700_000_000).expect("in range");
        let behaviour = Behaviour { start: Duration::ZERO, ..Behaviour::default() };
        let life = Life::adopt(pod.clone(), Scenario::of(&pod, &behaviour), address(), start);
        Self { life, start, now: start, lines: Vec::new(), deleted: false }
    }

    /// Lives on until nothing is awaited or the time is over.
    fn until(&mut self, seconds: i64) -> &mut Self {
        let end = self.start + SignedDuration::from_secs(seconds);
        for _ in 0..1000 {
            let step = self.life.step(&NodeAddresses::default(), self.now);
            if step.patch.is_some() {
                self.note();
                self.life.wrote();
                continue;
            }
            self.deleted |= step.delete;
            match step.wake_at {
                Some(at) if at <= end => self.now = at.max(self.now),
                _ => break,
            }
        }
        self.now = self.now.max(end);
        self
    }

    fn note(&mut self) {
        let status = &self.life.last;
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let show = |s: &k8s_openapi::api::core::v1::ContainerStatus| {
            let state = s.state.clone().unwrap_or_default();
            let state = match (state.waiting, state.running, state.terminated) {
                (Some(waiting), ..) => waiting.reason.unwrap_or_default(),
                (_, Some(_), _) if s.ready => "ready".to_owned(),
                (_, Some(_), _) => "running".to_owned(),
                (.., Some(ended)) => format!("ended {}", ended.exit_code),
                _ => "nothing".to_owned(),
            };
            format!("{} {state} ×{}", s.name, s.restart_count)
        };
        let containers: Vec<String> = lists.into_iter().flatten().flatten().map(show).collect();
        let at = self.now.duration_since(self.start).as_millis();
        let phase = status.phase.clone().unwrap_or_default();
        self.lines.push((i64::try_from(at).expect("short"), phase, containers.join(", ")));
    }

    fn told(&self) -> Vec<(i64, &str, &str)> {
        self.lines.iter().map(|(at, phase, containers)| (*at, &**phase, &**containers)).collect()
    }

    /// The API marks it as deleted.
    fn delete(&mut self, grace: i64) -> &mut Self {
        let mut pod = self.life.pod.clone();
        let at = self.now + SignedDuration::from_secs(grace);
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.life.update(pod);
        self
    }
}

fn address() -> Ipv4Addr {
    Ipv4Addr::new(100, 64, 0, 1)
}

#[test]
fn a_pod_runs_with_one_write_and_is_deleted_with_two_requests() {
    let spec = json!({"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]});
    let mut story = Story::new(pod(spec, json!({})));
    story.until(60);
    assert_eq!(story.told(), [(0, "Running", "a ready ×0, b ready ×0")]);
    assert_eq!(story.life.last.pod_ip.as_deref(), Some("100.64.0.1"));
    story.delete(30).until(120);
    assert_eq!(story.lines.len(), 2);
    assert_eq!(story.lines[1].2, "a ended 0 ×0, b ended 0 ×0");
    assert!(story.deleted);
}

#[test]
fn init_containers_end_and_sidecars_stay() {
    let spec = json!({"initContainers": [{"name": "i", "image": "x"},
        {"name": "s", "image": "x", "restartPolicy": "Always"}], "containers": [{"name": "a", "image": "x"}]});
    let mut story = Story::new(pod(spec, json!({})));
    story.until(60);
    assert_eq!(story.told(), [(0, "Running", "i ended 0 ×0, s ready ×0, a ready ×0")]);
}

#[test]
fn a_pod_that_ends_restarts_by_its_policy() {
    let codes = json!({"simulate.carrack.io/exit-codes": "1,0", "simulate.carrack.io/run-for": "2s"});
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "x"}]});
    let mut never = Story::new(pod(spec("Never"), codes.clone()));
    never.until(60);
    assert_eq!(never.told(), [(0, "Running", "a ready ×0"), (2000, "Failed", "a ended 1 ×0")]);
    let mut on_failure = Story::new(pod(spec("OnFailure"), codes));
    on_failure.until(60);
    assert_eq!(
        on_failure.told(),
        [(0, "Running", "a ready ×0"), (2000, "Running", "a ready ×1"), (4000, "Succeeded", "a ended 0 ×1")]
    );
}

#[test]
fn delays_and_failures_are_shown_as_a_node_shows_them() {
    let spec = json!({"containers": [{"name": "a", "image": "x"}]});
    let slow = json!({"simulate.carrack.io/start-after": "1s", "simulate.carrack.io/ready-after": "3s"});
    let mut story = Story::new(pod(spec.clone(), slow));
    story.until(60);
    assert_eq!(
        story.told(),
        [
            (300, "Pending", "a ContainerCreating ×0"),
            (1000, "Running", "a running ×0"),
            (4000, "Running", "a ready ×0")
        ]
    );
    let mut unpullable = Story::new(pod(spec, json!({"simulate.carrack.io/pull-error": "no such image"})));
    unpullable.until(5);
    assert_eq!(
        unpullable.told(),
        [(0, "Pending", "a ErrImagePull ×0"), (1000, "Pending", "a ImagePullBackOff ×0")]
    );
}

#[test]
fn a_pod_taken_up_again_goes_on_as_it_was() {
    let spec = json!({"initContainers": [{"name": "i", "image": "x"}],
        "containers": [{"name": "a", "image": "x", "readinessProbe": {"initialDelaySeconds": 5}}]});
    let mut story = Story::new(pod(spec, json!({})));
    story.until(60);
    let mut again = story.life.pod.clone();
    again.status = Some(story.life.last.clone());
    let mut taken = Story::new(again);
    taken.now = story.now;
    taken.until(120);
    assert_eq!(taken.told(), [], "nothing to write");
    taken.delete(0).until(200);
    assert!(taken.deleted);
    assert_eq!(taken.lines.last().map(|line| &*line.2), Some("i ended 0 ×0, a ended 0 ×0"));
}

#[test]
fn a_deletion_waits_no_longer_than_its_grace() {
    let spec = json!({"containers": [{"name": "a", "image": "x"}]});
    let mut story = Story::new(pod(spec, json!({"simulate.carrack.io/stop-after": "1h"})));
    story.until(10);
    story.delete(5).until(30);
    let (at, _, containers) = story.lines.last().expect("a line");
    assert_eq!(containers, "a ended 137 ×0");
    assert!((15_000..=16_000).contains(at), "after {at} ms");
    assert!(story.deleted);
}
