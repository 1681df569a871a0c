//! Acting as someone else: `Impersonate-User`, `-Group`, `-Uid` and `-Extra-…`.
//!
//! Every part of the other identity needs the verb `impersonate` on its own. Follows
//! upstream's `endpoints/filters/impersonation`. The request then has the other's
//! rights only, none of the caller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::status::Status;
use futures::future::BoxFuture;
use http::request::Parts;

use super::{AUTHENTICATED, Authorizers, SERVICE_ACCOUNTS, forbidden};
use crate::request::{Attributes, User};
use crate::seams::{Decision, Impersonator};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Lets those act as others who may.
pub struct Impersonation {
    authorizers: Arc<Authorizers>,
}

impl Impersonation {
    /// Asks `authorizers`.
    pub fn new(authorizers: Arc<Authorizers>) -> Self {
        Self { authorizers }
    }

    fn become_other(&self, parts: &Parts, caller: &User) -> Result<Option<User>, Status> {
        let all = |name: &str| -> Vec<&str> {
            parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
        };
        let (names, groups, uids) = (all(USER), all(GROUP), all(UID));
        let extra: Vec<(String, &str)> = parts
            .headers
            .iter()
            .filter_map(|(name, value)| {
                let key = name.as_str().strip_prefix(EXTRA)?;
                Some((unescape(key), value.to_str().ok()?))
            })
            .collect();
        let Some(name) = names.first().filter(|name| !name.is_empty()) else {
            if groups.is_empty() && uids.is_empty() && extra.is_empty() {
                return Ok(None);
            }
            let uid = uids.first().copied().unwrap_or_default();
            return Err(Status::bad_request(format!(
                "requested &user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:{}, Extra:{}}} without impersonating a \
                 user name",
                go_strings(&groups),
                if extra.is_empty() { "map[string][]string(nil)" } else { "map[string][]string{…}" },
            )));
        };
        let account = service_account(name);
        let ask = |group: &str, resource: &str, namespace: &str, name: &str| {
            let attributes = Attributes::resource("impersonate", group, resource, namespace, name);
            match self.authorizers.decide(caller, &attributes) {
                Decision::Allow(_) => Ok(()),
                Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                    Err(forbidden(caller, &attributes, &reason))
                }
            }
        };
        match account {
            Some((namespace, account)) => ask("", "serviceaccounts", namespace, account)?,
            None => ask("", "users", "", name)?,
        }
        for group in &groups {
            ask("", "groups", "", group)?;
        }
        for uid in &uids {
            ask("authentication.k8s.io", "uids", "", uid)?;
        }
        for (key, value) in &extra {
            ask("authentication.k8s.io", &format!("userextras/{key}"), "", value)?;
        }
        let mut user = User::new(name, all_groups(name, account, &groups));
        user.uid = uids.first().copied().unwrap_or_default().into();
        let mut map = BTreeMap::<Box<str>, Vec<Box<str>>>::new();
        for (key, value) in extra {
            map.entry(key.into()).or_default().push(value.into());
        }
        user.extra = Arc::new(map);
        Ok(Some(user))
    }
}

impl Impersonator for Impersonation {
    fn impersonate<'a>(
        &'a self,
        parts: &'a Parts,
        user: &'a User,
    ) -> BoxFuture<'a, Result<Option<User>, Status>> {
        Box::pin(std::future::ready(self.become_other(parts, user)))
    }
}

/// The groups of the other: those asked for, or those that its name implies.
fn all_groups(name: &str, account: Option<(&str, &str)>, asked: &[&str]) -> Vec<String> {
    let mut groups: Vec<String> = asked.iter().map(|&group| group.to_owned()).collect();
    if let (Some((namespace, _)), true) = (account, asked.is_empty()) {
        groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    }
    let add = if name == "system:anonymous" { "system:unauthenticated" } else { AUTHENTICATED };
    let decided =
        ["system:unauthenticated", AUTHENTICATED].iter().any(|g| groups.iter().any(|known| known == g));
    if !decided {
        groups.push(add.to_owned());
    }
    groups
}

/// Strings as Go's `%#v` prints them.
fn go_strings(texts: &[&str]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    if quoted.is_empty() { "[]string(nil)".to_owned() } else { format!("[]string{{{}}}", quoted.join(", ")) }
}

/// Namespace and name in `system:serviceaccount:ns:name`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// Undoes percent escapes of a header name; a broken one stays as it is.
fn unescape(key: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = key.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digits = (ahead.next(), ahead.next());
        let hex = |byte: Option<u8>| (byte? as char).to_digit(16);
        match (byte, hex(digits.0), hex(digits.1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}
