//! Which pod addresses of each simulated node are taken. Pure but for its own memory.
//!
//! What always holds: an address is held by one pod at a time, and the one longest free
//! goes next.

use std::net::Ipv4Addr;

use super::Fleet;

/// The addresses of all nodes of a fleet.
pub struct Addresses {
    nodes: Vec<Block>,
    bits: u32,
}

#[derive(Clone)]
struct Block {
    base: u32,
    next: u32,
    taken: Box<[u64]>,
}

// === impl Addresses ===

impl Addresses {
    /// All free.
    pub fn new(fleet: &Fleet) -> Self {
        let bits = fleet.pod_bits();
        let words = (1usize << bits).div_ceil(64);
        let block = |place| Block {
            base: u32::from(fleet.pod_base(place)),
            next: 0,
            taken: vec![0; words].into_boxed_slice(),
        };
        Self { nodes: (0..fleet.count).map(block).collect(), bits }
    }

    /// Takes an address of a node; `None` when all are held.
    pub fn take(&mut self, place: u32) -> Option<Ipv4Addr> {
        let size = 1u32 << self.bits;
        let block = self.nodes.get_mut(place as usize)?;
        // The first is the network's, the last the broadcast's.
        let usable = size.checked_sub(2).filter(|usable| *usable > 0)?;
        let free = (0..usable).map(|step| (block.next + step) % usable + 1).find(|n| !block.holds(*n))?;
        block.next = free % usable;
        block.set(free, true);
        Some(Ipv4Addr::from(block.base + free))
    }

    /// Notes that an address is held already; false when it is not the node's or not free.
    pub fn hold(&mut self, place: u32, address: Ipv4Addr) -> bool {
        let Some((block, number)) = self.find(place, address) else { return false };
        let free = !block.holds(number);
        block.set(number, true);
        free
    }

    /// Gives an address back.
    pub fn free(&mut self, place: u32, address: Ipv4Addr) {
        if let Some((block, number)) = self.find(place, address) {
            block.set(number, false);
        }
    }

    fn find(&mut self, place: u32, address: Ipv4Addr) -> Option<(&mut Block, u32)> {
        let size = 1u32 << self.bits;
        let block = self.nodes.get_mut(place as usize)?;
        let number = u32::from(address).checked_sub(block.base).filter(|number| *number < size)?;
        Some((block, number))
    }
}

// === impl Block ===

impl Block {
    fn holds(&self, number: u32) -> bool {
        self.taken[number as usize / 64] & (1 << (number % 64)) != 0
    }

    fn set(&mut self, number: u32, taken: bool) {
        let bit = 1 << (number % 64);
        let word = &mut self.taken[number as usize / 64];
        *word = if taken { *word | bit } else { *word & !bit };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_address_is_held_twice() {
        let fleet = Fleet { pods: 3, ..Fleet::new("sim", 2, "v1") };
        let mut addresses = Addresses::new(&fleet);
        let mut seen = BTreeSet::new();
        for place in [0, 1] {
            while let Some(address) = addresses.take(place) {
                assert!(seen.insert(address), "{address} twice");
            }
        }
        assert_eq!(seen.len(), 2 * 6, "two blocks of 8 without their ends: {seen:?}");
        let one = *seen.first().unwrap();
        addresses.free(0, one);
        assert_eq!((addresses.take(0), addresses.take(0)), (Some(one), None));
    }

    #[test]
    fn a_freed_address_rests() {
        let fleet = Fleet { pods: 3, ..Fleet::new("sim", 1, "v1") };
        let mut addresses = Addresses::new(&fleet);
        let first = addresses.take(0).unwrap();
        addresses.free(0, first);
        assert_ne!(addresses.take(0), Some(first));
        assert!(addresses.hold(0, first));
        assert!(!addresses.hold(0, first), "held already");
        assert!(!addresses.hold(0, Ipv4Addr::LOCALHOST), "not ours");
    }
}
