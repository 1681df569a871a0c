//! Exponential back-off with a cap and deterministic jitter.

use std::time::Duration;

/// Grows from `base` to `cap` by doubling; each delay is spread over its upper half.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
    state: u64,
}

impl Backoff {
    /// `seed` decides the jitter.
    pub fn new(base: Duration, cap: Duration, seed: u64) -> Self {
        Self { base, cap, failures: 0, state: seed }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let full = exponential(self.base, self.cap, self.failures);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        self.state = mix(self.state);
        half + half.mul_f64((self.state >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Starts from `base` again, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `base * 2^failures`, at most `cap`.
pub fn exponential(base: Duration, cap: Duration, failures: u32) -> Duration {
    let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
    base.checked_mul(factor).unwrap_or(cap).min(cap)
}

/// One step of splitmix64: a well-spread number from any state.
pub fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let (base, cap) = (Duration::from_millis(5), Duration::from_secs(1));
        for (failures, expect) in [(0, 5), (1, 10), (4, 80), (8, 1000), (40, 1000)] {
            assert_eq!(exponential(base, cap, failures), Duration::from_millis(expect));
        }
    }

    #[test]
    fn jitter_stays_in_the_upper_half() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 7);
        for full in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay().as_millis();
            assert!((full / 2..=full).contains(&delay), "{delay} of {full}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
