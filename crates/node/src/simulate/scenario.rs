//! How simulated pods behave: delays, ends and failures. Pure.
//!
//! Defaults come from [`Behaviour`]; a pod's annotations `simulate.carrack.io/…` win:
//! `start-after`, `ready-after`, `run-for`, `stop-after` (durations such as `1m30s`),
//! `exit-codes` (such as `1,1,0`: of each run, the last one for all further ones) and
//! `pull-error` (words of an image that cannot be pulled). What cannot be read is ignored.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;

/// Prefix of the annotations.
pub const PREFIX: &str = "simulate.carrack.io/";

/// What all pods do unless their annotations say otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    /// From the binding to the first container; spread by half of it both ways.
    pub start: Duration,
    /// From the signal to the end of a container.
    pub stop: Duration,
    /// How long the containers of a Job's pod run.
    pub job: Duration,
    /// The share of pods, from 0 to 1, whose containers end with code 1.
    pub failures: f64,
    /// Images that cannot be pulled, as pods name them.
    pub missing: Vec<String>,
}

/// What one pod does.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Until its sandbox stands.
    pub start: Duration,
    /// Until its containers are ready.
    pub ready: Option<Duration>,
    /// How long its containers run; for ever when `None`.
    pub run: Option<Duration>,
    /// From the signal to the end of a container.
    pub stop: Duration,
    /// Exit codes of its runs.
    pub codes: Vec<i32>,
    /// Why its images cannot be pulled.
    pub pull_error: Option<String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start: Duration::from_millis(100),
            stop: Duration::from_millis(100),
            job: Duration::from_secs(1),
            failures: 0.0,
            missing: Vec::new(),
        }
    }
}

// === impl Scenario ===

impl Scenario {
    /// What a pod does.
    pub fn of(pod: &Pod, behaviour: &Behaviour) -> Self {
        let meta = &pod.metadata;
        let annotation =
            |name: &str| meta.annotations.as_ref().and_then(|all| all.get(&format!("{PREFIX}{name}")));
        let duration = |name: &str| annotation(name).and_then(|text| parse(text));
        let chance = chance(meta.uid.as_deref().unwrap_or_default());
        let fails = chance < behaviour.failures;
        let of_job = meta
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.controller == Some(true) && owner.kind == "Job");
        let codes: Vec<i32> = annotation("exit-codes")
            .map(|text| text.split(',').filter_map(|code| code.trim().parse().ok()).collect())
            .unwrap_or_default();
        let ends = of_job || fails || !codes.is_empty();
        Self {
            start: duration("start-after").unwrap_or_else(|| behaviour.start.mul_f64(0.5 + chance)),
            ready: duration("ready-after"),
            run: duration("run-for").or_else(|| ends.then_some(behaviour.job)),
            stop: duration("stop-after").unwrap_or(behaviour.stop),
            codes: if codes.is_empty() { vec![i32::from(fails)] } else { codes },
            pull_error: annotation("pull-error").cloned().or_else(|| missing(pod, &behaviour.missing)),
        }
    }

    /// With which code the run of this number ends.
    pub fn code(&self, run: u32) -> i32 {
        let last = self.codes.last().copied().unwrap_or(0);
        self.codes.get(run as usize).copied().unwrap_or(last)
    }
}

/// Why a pod with an image that is not there cannot start.
fn missing(pod: &Pod, missing: &[String]) -> Option<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut images = containers.filter_map(|container| container.image.as_ref());
    let image = images.find(|image| missing.contains(image))?;
    Some(format!("failed to pull and unpack image {image:?}: not found"))
}

/// `1m30s`, `500ms` and the like.
pub fn parse(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok())
}

/// A number in [0, 1) that is always the same for a uid.
fn chance(uid: &str) -> f64 {
    (super::decide::hash(&[uid]) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scenario(metadata: serde_json::Value, behaviour: &Behaviour) -> Scenario {
        let pod = serde_json::from_value(json!({"metadata": metadata})).expect("a pod");
        Scenario::of(&pod, behaviour)
    }

    #[test]
    fn annotations_win() {
        let all = json!({"uid": "u", "annotations": {
            "simulate.carrack.io/start-after": "2s", "simulate.carrack.io/run-for": "1m30s",
            "simulate.carrack.io/exit-codes": "1, 2,0", "simulate.carrack.io/stop-after": "soon"}});
        let seen = scenario(all, &Behaviour::default());
        assert_eq!((seen.start, seen.run), (Duration::from_secs(2), Some(Duration::from_secs(90))));
        assert_eq!([0, 1, 2, 9].map(|run| seen.code(run)), [1, 2, 0, 0]);
        assert_eq!(seen.stop, Behaviour::default().stop, "unreadable");
    }

    #[test]
    fn pods_of_jobs_end_and_others_run() {
        let job = json!({"uid": "u", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "o", "controller": true}]});
        assert_eq!(scenario(job, &Behaviour::default()).run, Some(Behaviour::default().job));
        assert_eq!(scenario(json!({"uid": "u"}), &Behaviour::default()).run, None);
    }

    #[test]
    fn images_may_be_missing() {
        let behaviour = Behaviour { missing: vec!["web:404".into()], ..Behaviour::default() };
        for (image, fails) in [("web:404", true), ("web:1", false)] {
            let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "c", "image": image}]}});
            let pod = serde_json::from_value(pod).expect("a pod");
            assert_eq!(Scenario::of(&pod, &behaviour).pull_error.is_some(), fails, "{image}");
        }
    }

    #[test]
    fn failures_strike_their_share() {
        let behaviour = Behaviour { failures: 0.25, ..Behaviour::default() };
        let failing = (0..1000).filter(|n| {
            let seen = scenario(json!({"uid": format!("uid-{n}")}), &behaviour);
            seen.run.is_some() && seen.code(0) == 1
        });
        let failing = failing.count();
        assert!((200..300).contains(&failing), "{failing} of 1000");
    }
}
