//! Startup, liveness and readiness probes as state machines. Pure.
//!
//! Thresholds count in a row; a startup probe holds the other two back until it has
//! passed once. Verdicts belong to one instance of a container.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, Probe};

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `startupProbe`.
    Startup,
    /// `livenessProbe`.
    Liveness,
    /// `readinessProbe`.
    Readiness,
}

impl Kind {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What one probe has shown so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProbeState {
    /// The verdict once a threshold was reached.
    pub verdict: Option<bool>,
    /// The last result and how often it came in a row.
    pub run: (bool, i32),
    /// When it ran last.
    pub last: Option<Timestamp>,
}

// === impl ProbeState ===

impl ProbeState {
    /// A probe known to have passed (under an earlier agent).
    pub fn passed(now: Timestamp) -> Self {
        Self { verdict: Some(true), run: (true, 1), last: Some(now) }
    }

    /// Takes in one result.
    pub fn observe(&mut self, probe: &Probe, success: bool, now: Timestamp) {
        self.run = if self.run.0 == success && self.last.is_some() {
            (success, self.run.1.saturating_add(1))
        } else {
            (success, 1)
        };
        self.last = Some(now);
        let threshold =
            if success { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        if self.run.1 >= threshold.max(1) {
            self.verdict = Some(success);
        }
    }

    /// When it runs next, for an instance started at `started`.
    pub fn due(&self, probe: &Probe, started: Timestamp) -> Timestamp {
        let (from, seconds) = match self.last {
            Some(last) => (last, probe.period_seconds.unwrap_or(10).max(1)),
            None => (started, probe.initial_delay_seconds.unwrap_or(0)),
        };
        from.checked_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX)
    }
}

/// The probe of a container in its spec.
pub fn of(container: &Container, kind: Kind) -> Option<&Probe> {
    match kind {
        Kind::Startup => container.startup_probe.as_ref(),
        Kind::Liveness => container.liveness_probe.as_ref(),
        Kind::Readiness => container.readiness_probe.as_ref(),
    }
}

/// The probe of a container found by name in its pod.
pub fn spec_of<'a>(pod: &'a Pod, container: &str, kind: Kind) -> Option<&'a Probe> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    of(all.find(|c| c.name == container)?, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut state = ProbeState::default();
        let now = Timestamp::UNIX_EPOCH;
        let results = [
            (true, None),
            (true, Some(true)),
            (false, Some(true)),
            (false, Some(true)),
            (true, Some(true)),
            (false, Some(true)),
            (false, Some(true)),
            (false, Some(false)),
            (true, Some(false)),
            (true, Some(true)),
        ];
        for (step, (success, verdict)) in results.into_iter().enumerate() {
            state.observe(&probe, success, now);
            assert_eq!(state.verdict, verdict, "step {step}");
        }
    }

    #[test]
    fn first_after_the_delay_then_every_period() {
        let probe = Probe { initial_delay_seconds: Some(5), period_seconds: Some(2), ..Probe::default() };
        let at = |s| Timestamp::from_second(s).expect("in range");
        let mut state = ProbeState::default();
        assert_eq!(state.due(&probe, at(100)), at(105));
        state.observe(&probe, true, at(106));
        assert_eq!(state.due(&probe, at(100)), at(108));
    }
}
