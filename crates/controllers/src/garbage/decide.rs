//! What becomes of an object when its owners go, and of its dependents when it goes.
//!
//! Two decisions, both pure: [`decide`] on what the caches know, which mostly ends
//! the matter, and [`judge`] once every doubtful owner has been looked up live. What
//! is deleted for want of an owner is always decided by the second.

use carrack_api::Key;
use carrack_api::record::Owner;

/// Finalizer of an object whose dependents are to be orphaned.
pub const ORPHAN: &str = "orphan";
/// Finalizer of an object whose dependents are to be deleted first.
pub const FOREGROUND: &str = "foregroundDeletion";

/// What is decided on.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Whether the object is being deleted.
    pub deleting: bool,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// Its owners, each as the caches see it.
    pub owners: Vec<(Owner, Seen)>,
    /// Objects that name it as an owner; only gathered if it is being deleted.
    pub dependents: Vec<Dependent>,
}

/// An owner as the caches see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is there.
    Solid,
    /// It waits for its dependents to be deleted.
    Waiting,
    /// It is not there, or its kind is not known: look it up.
    Unsure,
}

/// An owner as the server knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is there.
    Solid,
    /// It waits for its dependents to be deleted.
    Waiting,
    /// It does not exist, or is another one of the same name.
    Dangling,
}

/// An object that names another as its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependent {
    /// Its key.
    pub key: Key,
    /// Whether the owner's foreground deletion waits for it.
    pub blocks: bool,
    /// Whether it waits for dependents of its own.
    pub foreground: bool,
}

/// What to do at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Rest,
    /// Take the reference out of these dependents, then the `orphan` finalizer away.
    Orphan(Vec<Key>),
    /// No dependent blocks any more: take the `foregroundDeletion` finalizer away.
    Release,
    /// Look at these dependents: their owner waits for them.
    Wake(Vec<Key>),
    /// Look the object and its owners up, then [`judge`].
    LookUp,
}

/// What to do with an object whose owners are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It stays.
    Keep,
    /// It stays, without references to these uids.
    Unlink(Vec<String>),
    /// It goes, with this propagation policy; first its references are made
    /// non-blocking if `unblock`, to break a cycle.
    Delete {
        /// `Background`, `Foreground` or `Orphan`.
        policy: &'static str,
        /// Whether a dependent of it waits, too.
        unblock: bool,
    },
}

/// Decides on what the caches know.
pub fn decide(view: &View) -> Plan {
    let has = |finalizer: &str| view.finalizers.iter().any(|one| one == finalizer);
    if view.deleting {
        if has(ORPHAN) {
            return Plan::Orphan(view.dependents.iter().map(|dependent| dependent.key.clone()).collect());
        }
        if !has(FOREGROUND) {
            // On its way; its dependents come when it is gone.
            return Plan::Rest;
        }
        let blocking: Vec<&Dependent> = view.dependents.iter().filter(|d| d.blocks).collect();
        if blocking.is_empty() {
            return Plan::Release;
        }
        let next = blocking.into_iter().filter(|dependent| !dependent.foreground);
        return Plan::Wake(next.map(|dependent| dependent.key.clone()).collect());
    }
    if view.owners.iter().all(|(_, seen)| *seen == Seen::Solid) {
        return Plan::Rest;
    }
    Plan::LookUp
}

/// Decides once the owners have been looked up. `dependents` are the object's own.
pub fn judge(owners: &[(Owner, Verdict)], finalizers: &[String], dependents: &[Dependent]) -> Judgement {
    let of = |verdict: Verdict| owners.iter().filter(move |(_, v)| *v == verdict).map(|(owner, _)| owner);
    if owners.is_empty() {
        return Judgement::Keep;
    }
    if of(Verdict::Solid).next().is_some() {
        let gone: Vec<String> =
            of(Verdict::Dangling).chain(of(Verdict::Waiting)).map(|owner| owner.uid.to_string()).collect();
        return if gone.is_empty() { Judgement::Keep } else { Judgement::Unlink(gone) };
    }
    if of(Verdict::Waiting).next().is_some() && !dependents.is_empty() {
        let unblock = dependents.iter().any(|dependent| dependent.foreground);
        return Judgement::Delete { policy: "Foreground", unblock };
    }
    let has = |finalizer: &str| finalizers.iter().any(|one| one == finalizer);
    let policy = match (has(ORPHAN), has(FOREGROUND)) {
        (true, _) => "Orphan",
        (_, true) => "Foreground",
        _ => "Background",
    };
    Judgement::Delete { policy, unblock: false }
}
