//! Acting as someone else: `Impersonate-User`, `-Group`, `-Uid` and `-Extra-…`.
//!
//! Constrained first (KEP-5284): who may `impersonate:user-info` a user still needs
//! `impersonate-on:user-info:list` pods to list pods as that user, and likewise for
//! service accounts, nodes, and the node that a pod's own account runs on. Then the old
//! way: the verb `impersonate` on every part of the other identity, for whatever the
//! other may do. Follows upstream's `endpoints/filters/impersonation`. The request then
//! has the other's rights only, none of the caller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::validation::names;
use futures::future::BoxFuture;
use http::request::Parts;

use super::{AUTHENTICATED, Authorizers, MASTERS, NODES, SERVICE_ACCOUNTS, forbidden};
use crate::request::{Attributes, User};
use crate::seams::{Decision, Impersonator};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// From so many on, one check for all is tried first.
const MANY: usize = 4;

/// Lets those act as others who may.
pub struct Impersonation {
    authorizers: Arc<Authorizers>,
}

/// Whom a request wants to act as.
#[derive(Debug, Default)]
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// A way to be allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    /// Whether the mode is about such a user.
    fn fits(self, wanted: &Wanted, caller: &User) -> bool {
        let bare = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let (node, account) = (node(&wanted.name), service_account(&wanted.name));
        match self {
            Self::AssociatedNode => {
                let own = caller.extra.get(NODE_NAME).filter(|values| values.len() == 1);
                let runs_on = own.and_then(|values| values.first()).map(|name| &**name);
                bare && node.is_some() && service_account(&caller.name).is_some() && runs_on == node
            }
            Self::ArbitraryNode => bare && node.is_some(),
            Self::ServiceAccount => bare && account.is_some(),
            Self::UserInfo => node.is_none() && account.is_none(),
            Self::Legacy => true,
        }
    }
}

impl Impersonation {
    /// Asks `authorizers`.
    pub fn new(authorizers: Arc<Authorizers>) -> Self {
        Self { authorizers }
    }

    fn become_other(
        &self,
        parts: &Parts,
        caller: &User,
        attributes: &Attributes,
    ) -> Result<Option<User>, Status> {
        let Some(wanted) = Wanted::read(parts)? else { return Ok(None) };
        let mut first = None;
        for mode in MODES.into_iter().filter(|mode| mode.fits(&wanted, caller)) {
            match self.try_mode(mode, &wanted, caller, attributes) {
                Ok(user) => return Ok(Some(user)),
                Err(status) => first = first.or(Some(status)),
            }
        }
        Err(first.unwrap_or_else(Status::unauthorized))
    }

    fn ask(&self, caller: &User, attributes: &Attributes) -> Result<(), Status> {
        match self.authorizers.decide(caller, attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                Err(forbidden(caller, attributes, &reason))
            }
        }
    }

    fn try_mode(
        &self,
        mode: Mode,
        wanted: &Wanted,
        caller: &User,
        attributes: &Attributes,
    ) -> Result<User, Status> {
        let constrained = mode != Mode::Legacy;
        let verb =
            if constrained { format!("impersonate:{}", mode.name()) } else { "impersonate".to_owned() };
        if constrained {
            let verb = format!("impersonate-on:{}:{}", mode.name(), attributes.verb);
            self.ask(caller, &Attributes { verb: verb.into(), ..attributes.clone() })?;
        }
        let group = if constrained { "authentication.k8s.io" } else { "" };
        let about = |group: &str, resource: &str, namespace: &str, name: &str| Attributes {
            version: "v1".into(),
            ..Attributes::resource(&verb, group, resource, namespace, name)
        };
        let (name, groups) = (&*wanted.name, &wanted.groups);
        let mut asked = about(group, "users", "", name);
        let mut implied = Vec::new();
        if let Some(node) = node(name).filter(|_| constrained) {
            let node = if mode == Mode::AssociatedNode { "*" } else { node };
            asked = about(group, "nodes", "", node);
            implied = vec![NODES.to_owned()];
        }
        if let Some((namespace, account)) = service_account(name) {
            asked = about(group, "serviceaccounts", namespace, account);
            implied = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
        }
        self.ask(caller, &asked)?;
        if !wanted.uid.is_empty() {
            self.ask(caller, &about("authentication.k8s.io", "uids", "", &wanted.uid))?;
        }
        self.ask_groups(caller, constrained, groups, &|name| about(group, "groups", "", name))?;
        self.ask_extra(caller, constrained, &wanted.extra, &|key, value| {
            let mut asked = about("authentication.k8s.io", "userextras", "", value);
            asked.subresource = key.into();
            asked
        })?;
        let groups = if groups.is_empty() { implied } else { groups.clone() };
        Ok(wanted.user(groups))
    }

    fn ask_groups(
        &self,
        caller: &User,
        constrained: bool,
        groups: &[String],
        about: &dyn Fn(&str) -> Attributes,
    ) -> Result<(), Status> {
        if constrained && groups.iter().any(String::is_empty) {
            let detail = "impersonating the empty string group is not allowed";
            return Err(forbidden(caller, &about(""), detail));
        }
        if constrained && groups.iter().any(|group| group == MASTERS) {
            let detail = "impersonating the system:masters group is not allowed";
            return Err(forbidden(caller, &about(MASTERS), detail));
        }
        if constrained && groups.len() >= MANY && self.ask(caller, &about("*")).is_ok() {
            return Ok(());
        }
        groups.iter().try_for_each(|group| self.ask(caller, &about(group)))
    }

    fn ask_extra(
        &self,
        caller: &User,
        constrained: bool,
        extra: &BTreeMap<String, Vec<String>>,
        about: &dyn Fn(&str, &str) -> Attributes,
    ) -> Result<(), Status> {
        if let Some(detail) = extra.iter().find_map(|(key, values)| flaw(key, values)).filter(|_| constrained)
        {
            return Err(forbidden(caller, &about("", ""), &detail));
        }
        let count = extra.values().map(Vec::len).sum::<usize>().max(extra.len());
        if constrained && count >= MANY && self.ask(caller, &about("*", "*")).is_ok() {
            return Ok(());
        }
        let mut each = extra.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
        each.try_for_each(|(key, value)| self.ask(caller, &about(key, value)))
    }
}

/// What is wrong with an extra, for the constrained modes.
fn flaw(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let (domain, path) = key.split_once('/').unwrap_or((key, ""));
    if path.is_empty() || !names::dns_subdomain(domain).is_empty() {
        let detail = r#"must be a domain-prefixed path (such as "acme.io/foo")"#;
        return Some(format!(
            "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: {detail}"
        ));
    }
    if key.to_lowercase() != key {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
    }
    if values.iter().any(String::is_empty) {
        return Some("impersonating the empty string value in extra is not allowed".to_owned());
    }
    None
}

impl Wanted {
    fn read(parts: &Parts) -> Result<Option<Self>, Status> {
        let all = |name: &str| -> Vec<String> {
            let values = parts.headers.get_all(name).iter();
            values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
        };
        let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
        let mut wanted =
            Self { name: first(USER), uid: first(UID), groups: all(GROUP), extra: BTreeMap::new() };
        for (name, value) in &parts.headers {
            if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) {
                wanted.extra.entry(unescape(key)).or_default().push(value.to_owned());
            }
        }
        if !wanted.name.is_empty() {
            return Ok(Some(wanted));
        }
        if wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty() {
            return Ok(None);
        }
        let mut extra: Vec<String> =
            wanted.extra.iter().map(|(key, values)| format!("{key:?}:{}", go_strings(values))).collect();
        extra.sort();
        let extra = match extra.is_empty() {
            true => "map[string][]string(nil)".to_owned(),
            false => format!("map[string][]string{{{}}}", extra.join(", ")),
        };
        Err(Status::bad_request(format!(
            "requested &user.DefaultInfo{{Name:\"\", UID:{:?}, Groups:{}, Extra:{extra}}} without impersonating a \
             user name",
            wanted.uid,
            go_strings(&wanted.groups),
        )))
    }

    /// The other, in these groups and those that everyone is in.
    fn user(&self, mut groups: Vec<String>) -> User {
        let add = if self.name == "system:anonymous" { UNAUTHENTICATED } else { AUTHENTICATED };
        let decided = groups.iter().any(|group| group == UNAUTHENTICATED || group == add);
        if !decided {
            groups.push(add.to_owned());
        }
        let mut user = User::new(&self.name, groups);
        user.uid = (*self.uid).into();
        let boxed = |values: &Vec<String>| values.iter().map(|value| value.as_str().into()).collect();
        let extra = self.extra.iter().map(|(key, values)| (key.as_str().into(), boxed(values)));
        user.extra = Arc::new(extra.collect());
        user
    }
}

impl Impersonator for Impersonation {
    fn impersonate<'a>(
        &'a self,
        parts: &'a Parts,
        user: &'a User,
        attributes: &'a Attributes,
    ) -> BoxFuture<'a, Result<Option<User>, Status>> {
        Box::pin(std::future::ready(self.become_other(parts, user, attributes)))
    }
}

/// Strings as Go's `%#v` prints them.
fn go_strings(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    if quoted.is_empty() { "[]string(nil)".to_owned() } else { format!("[]string{{{}}}", quoted.join(", ")) }
}

/// The node in `system:node:name`.
fn node(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|name| names::dns_subdomain(name).is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{put, store};
    use serde_json::json;

    async fn allow(store: &Arc<dyn carrack_store::Store>, verbs: &[&str], group: &str, resource: &str) {
        let name = format!("{}-{resource}", verbs.join("-").replace(':', "-"));
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [{"verbs": verbs, "apiGroups": [group], "resources": [resource]}]});
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}]});
        put(store, "clusterroles.rbac.authorization.k8s.io", &role).await;
        put(store, "clusterrolebindings.rbac.authorization.k8s.io", &binding).await;
    }

    fn try_as(
        store: &Arc<dyn carrack_store::Store>,
        headers: &[(&str, &str)],
        verb: &str,
    ) -> Result<Option<User>, Status> {
        let mut request = http::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let ann = User::new("ann", [AUTHENTICATED]);
        let attributes = Attributes::resource(verb, "", "pods", "a", "");
        Impersonation::new(Arc::new(Authorizers::new(store.clone()))).become_other(&parts, &ann, &attributes)
    }

    #[tokio::test]
    async fn constrained_impersonation_is_for_what_it_says() {
        let store = store();
        let bob = [(USER, "bob")];
        let refused = try_as(&store, &bob, "list").unwrap_err();
        assert_eq!(
            refused.message,
            "pods is forbidden: User \"ann\" cannot impersonate-on:user-info:list resource \"pods\" in API group \
             \"\" in the namespace \"a\""
        );
        allow(&store, &["impersonate:user-info"], "authentication.k8s.io", "users").await;
        allow(&store, &["impersonate-on:user-info:list"], "", "pods").await;
        let user = try_as(&store, &bob, "list").unwrap().unwrap();
        assert_eq!((&*user.name, &*user.groups), ("bob", &[AUTHENTICATED.into()][..]));
        assert!(try_as(&store, &bob, "delete").is_err());
        // Groups are rights of their own, and the most powerful is not to be had.
        allow(&store, &["impersonate:user-info"], "authentication.k8s.io", "groups").await;
        assert!(try_as(&store, &[(USER, "bob"), (GROUP, "devs")], "list").unwrap().unwrap().in_group("devs"));
        let masters = try_as(&store, &[(USER, "bob"), (GROUP, MASTERS)], "list").unwrap_err();
        assert!(masters.message.ends_with("impersonating the system:masters group is not allowed"));
        // Nodes and accounts have modes of their own.
        assert!(try_as(&store, &[(USER, "system:node:n1")], "list").is_err());
        allow(&store, &["impersonate:arbitrary-node"], "authentication.k8s.io", "nodes").await;
        allow(&store, &["impersonate-on:arbitrary-node:list"], "", "pods").await;
        let node = try_as(&store, &[(USER, "system:node:n1")], "list").unwrap().unwrap();
        assert!(node.in_group(NODES));
    }

    #[tokio::test]
    async fn the_old_way_still_goes() {
        let store = store();
        allow(&store, &["impersonate"], "", "users").await;
        allow(&store, &["impersonate"], "authentication.k8s.io", "userextras/scopes").await;
        let headers = [(USER, "bob"), ("impersonate-extra-scopes", "view")];
        let user = try_as(&store, &headers, "delete").unwrap().unwrap();
        assert_eq!(user.extra.get("scopes"), Some(&vec!["view".into()]));
        assert!(try_as(&store, &[(USER, "bob"), (UID, "u")], "delete").is_err());
        let nameless = try_as(&store, &[(GROUP, "devs")], "get").unwrap_err();
        assert_eq!(
            nameless.message,
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"devs\"}, \
             Extra:map[string][]string(nil)} without impersonating a user name"
        );
        assert_eq!(try_as(&store, &[], "get").unwrap(), None);
    }
}
