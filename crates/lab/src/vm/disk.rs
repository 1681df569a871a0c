//! A disk whose power can be cut: what was written and not flushed is in its cache, and of
//! that an arbitrary part reaches the medium, in any order, sectors torn off.
//!
//! What a flush has acknowledged is on the medium. A sector of [`SECTOR`] bytes is whole:
//! old or new. The same seed makes the same of the same writes. Knows nothing of how
//! requests arrive.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::writes::next;

/// What the disk writes in one piece.
pub const SECTOR: usize = 4096;

/// The disk, shared by whoever serves it and whoever cuts its power.
pub struct Disk {
    state: Mutex<State>,
    dark: Condvar,
}

struct State {
    /// What is there whatever happens.
    medium: Vec<u8>,
    /// What reads see.
    cached: Vec<u8>,
    /// Writes since the last flush, in the order in which they came.
    unflushed: Vec<Write>,
    /// Requests of writing and flushing that are still served, and how many writes must be
    /// unflushed then for the power to go; `None`: it stays.
    left: Option<(u64, usize)>,
    /// Requests of writing and flushing that were served since the power came.
    served: u64,
    /// Whether the power is gone.
    dark: bool,
}

struct Write {
    offset: usize,
    data: Vec<u8>,
}

/// What became of the cache at a cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Requests of writing and flushing since the power came.
    pub served: u64,
    /// Writes that had not been flushed.
    pub unflushed: usize,
    /// Of these, those that left no trace.
    pub lost: usize,
    /// Of these, those of which some sectors were lost.
    pub torn: usize,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { served, unflushed, lost, torn } = self;
        write!(f, "after {served} requests, {unflushed} writes unflushed, {lost} of them lost, {torn} torn")
    }
}

// === impl Disk ===

impl Disk {
    /// A disk with this content, a whole number of sectors.
    ///
    /// # Errors
    /// It is not one.
    pub fn new(content: Vec<u8>) -> Result<Self> {
        ensure!(content.len().is_multiple_of(SECTOR), "{} bytes are not whole sectors", content.len());
        let state = State {
            cached: content.clone(),
            medium: content,
            unflushed: Vec::new(),
            left: None,
            served: 0,
            dark: false,
        };
        Ok(Self { state: Mutex::new(state), dark: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk in its place. Whoever used it is gone by now.
    pub fn replace(&self, content: &[u8]) {
        let mut state = self.lock();
        state.medium = content.to_vec();
        state.cached = content.to_vec();
        state.unflushed.clear();
        (state.left, state.served, state.dark) = (None, 0, false);
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.lock().medium.len()
    }

    /// What is on the medium.
    pub fn medium(&self) -> Vec<u8> {
        self.lock().medium.clone()
    }

    /// Reads; `None` when the power is gone or there is no such place.
    pub fn read(&self, offset: usize, length: usize) -> Option<Vec<u8>> {
        let state = self.lock();
        let data = state.cached.get(offset..offset.checked_add(length)?)?.to_vec();
        (!state.dark).then_some(data)
    }

    /// Writes into the cache; false when the power is gone or there is no such place.
    pub fn write(&self, offset: usize, data: Vec<u8>) -> bool {
        let mut state = self.lock();
        let Some(end) = offset.checked_add(data.len()).filter(|end| *end <= state.cached.len()) else {
            return false;
        };
        if state.dark {
            return false;
        }
        state.cached[offset..end].copy_from_slice(&data);
        state.unflushed.push(Write { offset, data });
        self.count(&mut state)
    }

    /// Puts on the medium what was written before; false when the power is gone.
    pub fn flush(&self) -> bool {
        let mut state = self.lock();
        if state.dark || !self.count(&mut state) {
            return false;
        }
        let State { medium, unflushed, .. } = &mut *state;
        for write in unflushed.drain(..) {
            medium[write.offset..write.offset + write.data.len()].copy_from_slice(&write.data);
        }
        true
    }

    /// Counts a request; false when the power goes while it is being served.
    fn count(&self, state: &mut State) -> bool {
        state.served += 1;
        let unflushed = state.unflushed.len();
        match &mut state.left {
            Some((0, least)) => state.dark = unflushed >= *least,
            Some((left, _)) => *left -= 1,
            None => {}
        }
        if state.dark {
            self.dark.notify_all();
        }
        !state.dark
    }

    /// Requests of writing and flushing that were served since the power came.
    pub fn served(&self) -> u64 {
        self.lock().served
    }

    /// Cuts the power while a request of writing or flushing is being served: the first one
    /// after the next `requests` at which at least so many writes are `unflushed`.
    pub fn cut_after(&self, requests: u64, unflushed: usize) {
        self.lock().left = Some((requests, unflushed));
    }

    /// Waits for the cut, which comes at `limit` at the latest. Returns whether it came in
    /// the middle of a request.
    pub fn wait_for_cut(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        while !state.dark {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.dark = true;
                return false;
            }
            state = self.dark.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Decides by `seed` what of the cache reached the medium, and gives the power back.
    /// Whoever used the disk is gone by now.
    pub fn settle(&self, seed: &mut u64) -> Cut {
        let mut state = self.lock();
        let State { medium, unflushed, served, .. } = &mut *state;
        let mut cut = Cut { served: *served, unflushed: unflushed.len(), ..Cut::default() };
        // From a cache that was all but written back to one of which nothing was.
        let kept = next(seed) % 5 * 25;
        let tears = next(seed).is_multiple_of(2);
        for write in unflushed.drain(..) {
            let (mut whole, mut none) = (true, true);
            let keep = next(seed) % 100 < kept;
            let torn = tears && next(seed).is_multiple_of(4);
            for (place, piece) in sectors(&write) {
                let reaches = if torn { next(seed).is_multiple_of(2) } else { keep };
                if reaches {
                    medium[place..place + piece.len()].copy_from_slice(piece);
                }
                whole &= reaches;
                none &= !reaches;
            }
            cut.lost += usize::from(none);
            cut.torn += usize::from(!whole && !none);
        }
        state.cached = state.medium.clone();
        (state.left, state.served, state.dark) = (None, 0, false);
        cut
    }
}

/// The parts of a write by sector.
fn sectors(write: &Write) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let place = write.offset + at;
        let length = (SECTOR - place % SECTOR).min(write.data.len() - at);
        let piece = &write.data[at..at + length];
        at += length;
        (length > 0).then_some((place, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(byte: u8) -> Vec<u8> {
        vec![byte; SECTOR]
    }

    /// Three sectors: the first flushed as 1, then overwritten as 2; the others written as
    /// 3 in one request; then the power goes. What each holds afterwards.
    fn after(seed: u64) -> (Vec<u8>, Cut) {
        let disk = Disk::new(vec![0; 3 * SECTOR]).unwrap();
        assert!(disk.write(0, sector(1)) && disk.flush());
        disk.cut_after(1, 0);
        assert!(disk.write(0, sector(2)));
        assert!(!disk.write(SECTOR, vec![3; 2 * SECTOR]), "the power goes while it is served");
        assert!(!disk.flush() && !disk.write(0, sector(9)) && disk.read(0, 1).is_none());
        assert!(disk.wait_for_cut(Duration::ZERO));
        let cut = disk.settle(&mut { seed });
        let bytes = disk.read(0, 3 * SECTOR).unwrap();
        assert_eq!(bytes, disk.medium());
        for sector in bytes.chunks(SECTOR) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
        }
        (bytes.chunks(SECTOR).map(|sector| sector[0]).collect(), cut)
    }

    #[test]
    fn what_was_flushed_stays_and_anything_may_happen_to_the_rest() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 1..2000 {
            let (bytes, cut) = after(seed);
            assert_eq!((cut.served, cut.unflushed), (4, 2));
            assert_eq!(after(seed), (bytes.clone(), cut), "a seed repeats a cut");
            seen.insert(bytes);
        }
        let first = [1, 2];
        let rest = [[0, 0], [0, 3], [3, 0], [3, 3]];
        let all = first.into_iter().flat_map(|a| rest.map(|[b, c]| vec![a, b, c])).collect();
        assert_eq!(seen, all, "lost, kept, torn and out of order, never the state before the flush");
    }

    #[test]
    fn a_flush_that_is_cut_has_promised_nothing() {
        let mut kept = std::collections::BTreeSet::new();
        for seed in 1..200 {
            let disk = Disk::new(sector(0)).unwrap();
            disk.cut_after(1, 0);
            assert!(disk.write(0, sector(1)) && !disk.flush());
            disk.settle(&mut { seed });
            kept.insert(disk.medium()[0]);
        }
        assert_eq!(kept, [0, 1].into());
    }

    #[test]
    fn a_cut_waits_until_enough_is_unflushed() {
        let disk = Disk::new(sector(0)).unwrap();
        disk.cut_after(1, 2);
        let steps = [disk.flush(), disk.write(0, sector(1)), disk.flush(), disk.write(0, sector(2))];
        assert_eq!((steps, disk.write(0, sector(3))), ([true; 4], false));
        assert_eq!(disk.settle(&mut 1).unflushed, 2);
    }

    #[test]
    fn a_cut_comes_in_time_also_when_nothing_is_written() {
        let disk = Disk::new(sector(0)).unwrap();
        assert!(!disk.wait_for_cut(Duration::ZERO));
        assert!(!disk.write(0, sector(1)));
        disk.settle(&mut 1);
        assert!(disk.write(0, sector(1)) && disk.flush());
    }
}
