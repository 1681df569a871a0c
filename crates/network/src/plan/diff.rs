//! What turns one ruleset into another. Pure.
//!
//! The order of the updates is one in which the kernel accepts them within one
//! transaction: chains before the elements that lead to them, removals of elements
//! before additions (an element's data cannot be changed in place), chains that
//! nothing leads to any more at the end.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::rules::{Chain, Rule};
use super::ruleset::Verdict;
use super::{Endpoint, Frontend, FrontendKey, Protocol, Ruleset};

/// An element of one of the table's maps and sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// Of `service4`, `service6`, or `internal4`, `internal6` by the view of the key.
    Service(FrontendKey, Verdict),
    /// Of `endpoint4`, `endpoint6`; the number is the slot within the frontend.
    Endpoint(FrontendKey, u16, Endpoint),
    /// Of `hairpin4`, `hairpin6`.
    Hairpin(IpAddr),
    /// Of `remote4`, `remote6`.
    Remote(Endpoint, Protocol),
}

/// One step from one ruleset to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// A new chain that chooses endpoints, with its rules.
    AddChain(Chain),
    /// All rules of a fixed chain are replaced.
    SetRules(Chain, Vec<Rule>),
    /// The element is there and goes.
    Remove(Element),
    /// The element is not there and comes.
    Add(Element),
    /// The chain, with its rules, goes: no element leads to it any more.
    RemoveChain(Chain),
}

/// The steps from `old` to `new`; none if they are equal. Diff against
/// [`Ruleset::arranged_after`] to get few.
pub fn diff(old: &Ruleset, new: &Ruleset) -> Vec<Update> {
    let mut fixed = Vec::new();
    for chain in Chain::FIXED {
        let (before, after) = (old.fixed.get(&chain), new.fixed.get(&chain));
        if before != after {
            fixed.push(Update::SetRules(chain, after.cloned().unwrap_or_default()));
        }
    }
    let (choosers_before, choosers_after) = (old.choosers(), new.choosers());
    let new_choosers = choosers_after.difference(&choosers_before);
    let mut updates: Vec<Update> = new_choosers.map(|chain| Update::AddChain(*chain)).collect();
    updates.append(&mut fixed);

    let (mut removed, mut added) = (Vec::new(), Vec::new());
    merge(&old.frontends, &new.frontends, |key, before, after| {
        let mut elements = BTreeMap::new();
        let remove = before.iter().flat_map(|frontend| elements_of(key, frontend));
        elements.extend(remove.map(|element| (element, false)));
        for element in after.iter().flat_map(|frontend| elements_of(key, frontend)) {
            if elements.remove(&element).is_none() {
                added.push(Update::Add(element));
            }
        }
        removed.extend(elements.into_keys().map(Update::Remove));
    });
    let hairpin = |ip: &IpAddr| Element::Hairpin(*ip);
    removed.extend(old.hairpin.difference(&new.hairpin).map(hairpin).map(Update::Remove));
    added.extend(new.hairpin.difference(&old.hairpin).map(hairpin).map(Update::Add));

    let remote = |(to, protocol): &(Endpoint, Protocol)| Element::Remote(*to, *protocol);
    removed.extend(old.remote.difference(&new.remote).map(remote).map(Update::Remove));
    added.extend(new.remote.difference(&old.remote).map(remote).map(Update::Add));

    updates.append(&mut removed);
    updates.append(&mut added);
    let gone = choosers_before.difference(&choosers_after);
    updates.extend(gone.map(|chain| Update::RemoveChain(*chain)));
    updates
}

/// Calls `changed` for each key whose value differs, with both.
fn merge<'a>(
    old: &'a BTreeMap<FrontendKey, std::sync::Arc<Frontend>>,
    new: &'a BTreeMap<FrontendKey, std::sync::Arc<Frontend>>,
    mut changed: impl FnMut(&FrontendKey, Option<&'a Frontend>, Option<&'a Frontend>),
) {
    let (mut before, mut after) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (before.peek(), after.peek()) {
            (Some((key, a)), Some((other, b))) if key == other => {
                if !std::sync::Arc::ptr_eq(a, b) && a != b {
                    changed(key, Some(a), Some(b));
                }
                before.next();
                after.next();
            }
            (Some((key, a)), other) if other.is_none_or(|(other, _)| key < other) => {
                changed(key, Some(a), None);
                before.next();
            }
            (_, Some((key, b))) => {
                changed(key, None, Some(b));
                after.next();
            }
            (_, None) => break,
        }
    }
}

/// The elements that a frontend consists of.
pub fn elements_of(key: &FrontendKey, frontend: &Frontend) -> Vec<Element> {
    let slots = frontend.slots();
    let slots = (0u16..).zip(slots.iter().copied());
    core::iter::once(Element::Service(*key, frontend.verdict(key)))
        .chain(slots.map(|(slot, to)| Element::Endpoint(*key, slot, to)))
        .collect()
}
