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
    /// When it ran last, on its own period.
    pub last: Option<Timestamp>,
    /// Whether it has ever succeeded.
    passed: bool,
    /// Attempts made early since then.
    early: u32,
}

/// When a probe runs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The moment.
    pub at: Timestamp,
    /// An extra attempt within the first period: only its success counts.
    pub early: bool,
}

/// The first early attempt comes this long after the first failure, the next ones
/// after twice the time each.
const FIRST_EARLY: SignedDuration = SignedDuration::from_millis(50);

// === impl ProbeState ===

impl ProbeState {
    /// A probe known to have passed (under an earlier agent).
    pub fn passed(now: Timestamp) -> Self {
        Self { verdict: Some(true), run: (true, 1), last: Some(now), passed: true, early: 0 }
    }

    /// Takes in one result.
    pub fn observe(&mut self, probe: &Probe, success: bool, now: Timestamp) {
        self.run = if self.run.0 == success && self.last.is_some() {
            (success, self.run.1.saturating_add(1))
        } else {
            (success, 1)
        };
        self.last = Some(now);
        self.passed |= success;
        let threshold =
            if success { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        if self.run.1 >= threshold.max(1) {
            self.verdict = Some(success);
        }
    }

    /// Takes in the result of an early attempt.
    pub fn observe_early(&mut self, probe: &Probe, success: bool, now: Timestamp) {
        match (success, self.last) {
            (true, _) => self.observe(probe, true, now),
            (false, None) => self.last = Some(now),
            (false, Some(_)) => self.early += 1,
        }
    }

    /// When it runs next, for an instance started at `started`. A program that has just
    /// been started is rarely ready at once; so that it need not wait a whole period, a
    /// startup or readiness probe that has failed just once is tried early, too.
    pub fn next(&self, kind: Kind, probe: &Probe, started: Timestamp) -> Due {
        let regular = self.due(probe, started);
        if self.last.is_none() {
            // That a program is not ready the moment it starts is no news.
            return Due { at: regular, early: kind == Kind::Readiness };
        }
        let fresh = kind != Kind::Liveness && !self.passed && !self.run.0 && self.run.1 <= 1;
        let wait = FIRST_EARLY.saturating_mul((2 << self.early.min(20)) - 1);
        match self.last.filter(|_| fresh).and_then(|last| last.checked_add(wait).ok()) {
            Some(at) if at < regular => Due { at, early: true },
            _ => Due { at: regular, early: false },
        }
    }

    fn due(&self, probe: &Probe, started: Timestamp) -> Timestamp {
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

    #[test]
    fn a_fresh_program_is_tried_early() {
        let probe = Probe { period_seconds: Some(1), ..Probe::default() };
        let at = |ms| Timestamp::from_millisecond(ms).expect("in range");
        let mut state = ProbeState::default();
        assert_eq!(state.next(Kind::Readiness, &probe, at(0)), Due { at: at(0), early: true });
        assert_eq!(state.next(Kind::Startup, &probe, at(0)), Due { at: at(0), early: false });
        state.observe_early(&probe, false, at(0));
        let mut moments = Vec::new();
        loop {
            let due = state.next(Kind::Readiness, &probe, at(0));
            moments.push((due.at.as_millisecond(), due.early));
            if !due.early {
                break;
            }
            state.observe_early(&probe, false, due.at);
        }
        assert_eq!(moments, [(50, true), (150, true), (350, true), (750, true), (1000, false)]);
        assert!(!state.next(Kind::Liveness, &probe, at(0)).early);
        state.observe_early(&probe, true, at(800));
        assert_eq!(state.verdict, Some(true));
        state.observe(&probe, false, at(1800));
        assert!(!state.next(Kind::Readiness, &probe, at(0)).early, "only before the first success");
    }
}
