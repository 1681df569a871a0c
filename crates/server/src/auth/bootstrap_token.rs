//! Bootstrap tokens (`abcdef.0123456789abcdef`): how a machine that is not yet a node
//! asks for its first certificate. A token is a Secret of `kube-system`.
//!
//! Follows upstream's `plugin/pkg/auth/authenticator/token/bootstrap`. What is wrong with
//! a token is never told to whoever shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrack_api::status::Status;
use carrack_api::{Key, Value};
use carrack_store::Store;
use futures::future::BoxFuture;
use http::request::Parts;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::AUTHENTICATED;
use super::node::references::text;
use super::token::bearer;
use crate::clock::Clock;
use crate::request::{PeerCertificates, User};
use crate::seams::Authenticator;

const GROUP: &str = "system:bootstrappers";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// Authenticates bootstrap tokens.
#[derive(Clone)]
pub struct BootstrapTokens {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl BootstrapTokens {
    /// Looks at the secrets of a store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Whose token it is, if it is one that counts.
    pub fn verify(&self, token: &str) -> Option<User> {
        let (id, secret) = split(token)?;
        let record = self.store.get(&Key::new("secrets", "kube-system", &format!("bootstrap-token-{id}")))?;
        if record.header().deleting {
            return None;
        }
        user(&record.decode(), id, secret, self.clock.now())
    }
}

/// The id and the secret of a token, if it looks like one.
fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (plain(id, ID_LENGTH) && plain(secret, SECRET_LENGTH)).then_some((id, secret))
}

/// The user that a Secret makes of a token. Pure.
fn user(object: &Value, id: &str, secret: &str, now: Timestamp) -> Option<User> {
    let data: BTreeMap<&str, String> = object["data"]
        .as_object()?
        .iter()
        .filter_map(|(key, value)| {
            Some((key.as_str(), String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()?))
        })
        .collect();
    let is = |key: &str, wanted: &str| data.get(key).is_some_and(|value| value == wanted);
    let stored = data.get("token-secret")?;
    // Digests: how long a comparison takes tells nothing.
    let same = Sha256::digest(stored) == Sha256::digest(secret);
    if text(object, "/type") != Some(TYPE) || !same || !is("token-id", id) {
        return None;
    }
    if !is("usage-bootstrap-authentication", "true") || expired(data.get("expiration"), now) {
        return None;
    }
    let mut groups = BTreeSet::from([GROUP.to_owned()]);
    let extra = data.get("auth-extra-groups").map(String::as_str).unwrap_or_default();
    for group in extra.split(',').filter(|group| !group.is_empty()) {
        if !is_extra_group(group) {
            return None;
        }
        groups.insert(group.to_owned());
    }
    let groups = groups.into_iter().chain([AUTHENTICATED.to_owned()]);
    Some(User::new(&format!("system:bootstrap:{id}"), groups))
}

/// Whether a token's time is over; one that cannot be read is over.
fn expired(at: Option<&String>, now: Timestamp) -> bool {
    let at = at.filter(|at| !at.is_empty()).map(|at| at.parse::<Timestamp>());
    at.is_some_and(|at| at.map_or(true, |at| at <= now))
}

fn is_extra_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().all(|b| plain(b) || matches!(b, b':' | b'-'))
        && rest.bytes().last().is_some_and(plain)
}

impl Authenticator for BootstrapTokens {
    fn authenticate<'a>(
        &'a self,
        parts: &'a Parts,
        _: Option<&'a PeerCertificates>,
    ) -> BoxFuture<'a, Result<Option<User>, Status>> {
        let user = bearer(parts).and_then(|token| self.verify(token));
        Box::pin(std::future::ready(Ok(user)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_make_users() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let check = |change: &[(&str, &str)], kind: &str, expect: Option<&[&str]>| {
            let mut data = BTreeMap::from([
                ("token-id", "abcdef"),
                ("token-secret", "0123456789abcdef"),
                ("usage-bootstrap-authentication", "true"),
            ]);
            data.extend(change.iter().copied());
            let data: BTreeMap<&str, String> =
                data.into_iter().map(|(key, value)| (key, STANDARD.encode(value))).collect();
            let secret = json!({"type": kind, "data": data});
            let found = user(&secret, "abcdef", "0123456789abcdef", now);
            let groups = found.as_ref().map(|user| user.groups.iter().map(|g| &**g).collect::<Vec<_>>());
            assert_eq!(groups.as_deref(), expect, "{change:?}");
            assert!(found.is_none_or(|user| &*user.name == "system:bootstrap:abcdef"));
        };
        check(&[], TYPE, Some(&[GROUP, AUTHENTICATED]));
        check(&[], "Opaque", None);
        check(&[("token-secret", "0123456789abcdee")], TYPE, None);
        check(&[("token-id", "abcdee")], TYPE, None);
        check(&[("usage-bootstrap-authentication", "yes")], TYPE, None);
        check(&[("expiration", "2025-12-31T23:59:59Z")], TYPE, None);
        check(&[("expiration", "2026-01-01T00:00:01Z")], TYPE, Some(&[GROUP, AUTHENTICATED]));
        check(&[("expiration", "soon")], TYPE, None);
        let extra = "system:bootstrappers:b,system:bootstrappers:a";
        check(
            &[("auth-extra-groups", extra)],
            TYPE,
            Some(&[GROUP, "system:bootstrappers:a", "system:bootstrappers:b", AUTHENTICATED]),
        );
        check(&[("auth-extra-groups", "system:masters")], TYPE, None);
    }

    #[test]
    fn tokens_have_a_form() {
        for (token, expect) in [
            ("abcdef.0123456789abcdef", true),
            ("abcdeF.0123456789abcdef", false),
            ("abcdef.0123456789abcde", false),
            ("abcdef0123456789abcdef", false),
            ("a.b.c", false),
        ] {
            assert_eq!(split(token).is_some(), expect, "{token}");
        }
    }
}
