//! Chance that a seed repeats exactly, on every machine.

use carrack_client::backoff::mix;

/// A stream of choices.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed and of what it is for, so that one part's choices do not move
    /// with another's.
    pub fn new(seed: u64, part: &str) -> Self {
        Self(part.bytes().fold(mix(seed), |state, byte| mix(state ^ u64::from(byte))))
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = mix(self.0.wrapping_add(1));
        (self.0 % limit as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// At most `count` of the items, in their order.
    pub fn some<T>(&mut self, items: Vec<T>, count: usize) -> Vec<T> {
        let mut places: Vec<usize> = (0..items.len()).collect();
        let count = count.min(items.len());
        for at in 0..count {
            let other = at + self.below(items.len() - at);
            places.swap(at, other);
        }
        let taken: std::collections::BTreeSet<usize> = places[..count].iter().copied().collect();
        items.into_iter().enumerate().filter(|(at, _)| taken.contains(at)).map(|(_, item)| item).collect()
    }
}
