//! Restart policies and back-off. Pure.
//!
//! Back-off of crashing containers and of image pulls is kubelet's: 10 s, doubled,
//! at most 300 s, forgotten after 10 minutes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::Backoff;

const INITIAL: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);
/// Twice the maximum, as in client-go's `hasExpired`.
const FORGET: Duration = Duration::from_secs(600);

/// Delays that double from `first` to `max`.
#[derive(Debug, Clone, Copy)]
pub struct Doubling {
    first: Duration,
    max: Duration,
}

/// Between pulls of an image that cannot be pulled.
pub const IMAGE_BACKOFF: Doubling = Doubling { first: INITIAL, max: MAX };
/// Between attempts at a step of our own (sandbox, volumes, creating a container).
pub const STEP_BACKOFF: Doubling =
    Doubling { first: Duration::from_millis(500), max: Duration::from_secs(60) };

// === impl Doubling ===

impl Doubling {
    /// The delay after `failures` earlier ones.
    pub fn delay(self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.first.checked_mul(factor).unwrap_or(self.max).min(self.max)
    }
}

/// Crash back-off after `restarts` restarts.
pub fn exponential(restarts: u32) -> Duration {
    IMAGE_BACKOFF.delay(restarts)
}

// === impl Backoff ===

impl Backoff {
    /// The back-off once the run that ended at `finished` is followed by another.
    pub fn next(before: Option<Self>, finished: Timestamp) -> Self {
        let delay = match before {
            Some(before) if !before.expired(finished) => (before.delay * 2).min(MAX),
            _ => INITIAL,
        };
        Self { delay, updated: finished }
    }

    /// Until when a container whose last run ended at `finished` waits; `None` when
    /// it may start at once.
    pub fn until(self, finished: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if self.expired(finished) {
            return None;
        }
        let until = finished.checked_add(self.delay).unwrap_or(Timestamp::MAX);
        (until > now).then_some(until)
    }

    fn expired(self, finished: Timestamp) -> bool {
        finished.duration_since(self.updated) > FORGET.try_into().unwrap_or_default()
    }
}

/// Whether a container that ended with `code` is to run again: its own rules and
/// policy first (KEP-5307), then the pod's.
pub fn should_restart(pod: &Pod, container: &Container, init: bool, code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.iter().flatten().any(|value| *value == code);
        if listed == (codes.operator == "In") {
            return rule.action == "Restart";
        }
    }
    let pods = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    let own = container.restart_policy.as_deref();
    match own.or(pods).unwrap_or("Always") {
        // An init container that ended well has done its work, unless it is a sidecar.
        "Always" => !init || own == Some("Always") || code != 0,
        "OnFailure" => code != 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    #[test]
    fn crash_backoff_doubles_and_is_forgotten() {
        let mut backoff = None;
        for (finished, delay) in [(0, 10), (20, 20), (50, 40), (100, 80), (200, 160), (400, 300), (900, 300)]
        {
            let next = Backoff::next(backoff, at(finished));
            assert_eq!(next.delay, Duration::from_secs(delay), "after the run that ended at {finished}");
            backoff = Some(next);
        }
        let backoff = Backoff::next(backoff, at(900));
        assert_eq!(backoff.until(at(1000), at(1001)), Some(at(1300)));
        assert_eq!(backoff.until(at(1000), at(1300)), None);
        assert_eq!(backoff.until(at(1501), at(1501)), None, "a run of more than ten minutes");
        assert_eq!(Backoff::next(Some(backoff), at(1501)).delay, INITIAL);
    }

    #[test]
    fn policies() {
        let pod = |policy: &str| -> Pod {
            serde_json::from_value(serde_json::json!({"spec": {"containers": [], "restartPolicy": policy}}))
                .expect("a pod")
        };
        let container =
            |own: Option<&str>| Container { restart_policy: own.map(Into::into), ..Container::default() };
        let cases = [
            ("Always", None, false, 0, true),
            ("Always", None, true, 0, false),
            ("Always", None, true, 1, true),
            ("OnFailure", None, false, 0, false),
            ("OnFailure", None, false, 2, true),
            ("Never", None, false, 2, false),
            ("Never", Some("Always"), true, 0, true),
            ("Always", Some("Never"), false, 1, false),
        ];
        for (policy, own, init, code, expect) in cases {
            let got = should_restart(&pod(policy), &container(own), init, code);
            assert_eq!(got, expect, "{policy} {own:?} init={init} code={code}");
        }
    }
}
