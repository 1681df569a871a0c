//! Who controls an object: adoption and release by selector, as upstream's
//! ControllerRefManager decides it.

use super::Meta;

/// What to do about one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Owned,
    /// An orphan that our selector matches: take it.
    Adopt,
    /// Ours, but the selector no longer matches: let it go.
    Release,
    /// None of our business.
    Ignore,
}

/// Decides about `object` for `controller`; `matches` says whether the selector does.
pub fn claim(controller: &Meta, object: &Meta, matches: bool) -> Claim {
    match object.controller() {
        Some(owner) if owner.uid != controller.uid => Claim::Ignore,
        Some(_) if matches => Claim::Owned,
        Some(_) if controller.deleting() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if controller.deleting() || !matches || object.deleting() => Claim::Ignore,
        None if object.namespace != controller.namespace => Claim::Ignore,
        None => Claim::Adopt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_controller_reference() {
        let meta = |uid: &str, owner: Option<&str>, deleting: bool| Meta {
            uid: uid.into(),
            owner_references: owner
                .map(|uid| {
                    Meta { uid: uid.into(), ..Meta::default() }.controller_ref("apps/v1", "ReplicaSet")
                })
                .into_iter()
                .collect(),
            deletion_timestamp: deleting.then_some(jiff::Timestamp::UNIX_EPOCH),
            ..Meta::default()
        };
        for (owner, ours_deleting, deleting, matches, expect) in [
            (Some("me"), false, false, true, Claim::Owned),
            (Some("me"), true, false, true, Claim::Owned),
            (Some("me"), false, false, false, Claim::Release),
            (Some("me"), true, false, false, Claim::Ignore),
            (Some("other"), false, false, true, Claim::Ignore),
            (None, false, false, true, Claim::Adopt),
            (None, false, true, true, Claim::Ignore),
            (None, true, false, true, Claim::Ignore),
            (None, false, false, false, Claim::Ignore),
        ] {
            let got = claim(&meta("me", None, ours_deleting), &meta("it", owner, deleting), matches);
            assert_eq!(got, expect, "{owner:?} {ours_deleting} {deleting} {matches}");
        }
    }
}
