//! Which schema a request falls under, and which flow of it the request belongs to.
//!
//! (After `apiserver/pkg/util/flowcontrol/rule.go`.)

use std::hash::{DefaultHasher, Hash, Hasher};

use super::spec::{Distinguisher, NonResourceRule, ResourceRule, Rules, Schema, Spec, Subject};
use crate::request::{Attributes, User};

impl Spec {
    /// The first schema that fits; `None` only if not even `catch-all` does.
    pub(crate) fn classify(&self, user: &User, at: &Attributes) -> Option<usize> {
        self.schemas.iter().position(|schema| schema.rules.iter().any(|rules| fits(rules, user, at)))
    }
}

impl Schema {
    /// A number for the flow, the same for all its requests.
    pub(crate) fn flow(&self, user: &User, at: &Attributes) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        match self.distinguisher {
            Distinguisher::None => {}
            Distinguisher::User => user.name.hash(&mut hasher),
            Distinguisher::Namespace => at.namespace.hash(&mut hasher),
        }
        hasher.finish()
    }
}

fn fits(rules: &Rules, user: &User, at: &Attributes) -> bool {
    let requested = || match at.is_resource {
        true => rules.resource.iter().any(|rule| fits_resource(rule, at)),
        false => rules.non_resource.iter().any(|rule| fits_path(rule, at)),
    };
    rules.subjects.iter().any(|subject| is_subject(subject, user)) && requested()
}

fn is_subject(subject: &Subject, user: &User) -> bool {
    match subject {
        Subject::User(name) => matches!(&**name, "*") || **name == *user.name,
        Subject::Group(name) => matches!(&**name, "*") || user.in_group(name),
        Subject::ServiceAccount { namespace, name } => {
            let account = user.name.strip_prefix("system:serviceaccount:");
            let named = account.and_then(|rest| rest.strip_prefix(&**namespace)?.strip_prefix(':'));
            named.is_some_and(|found| &**name == "*" || **name == *found)
        }
    }
}

fn fits_resource(rule: &ResourceRule, at: &Attributes) -> bool {
    use super::spec::Names;
    let resource = || match (&rule.resources, &*at.subresource) {
        (Names::All, _) => true,
        (names, "") => names.has(&at.resource),
        (names, sub) => names.has(&format!("{}/{sub}", at.resource)),
    };
    let place =
        || if at.namespace.is_empty() { rule.cluster_scope } else { rule.namespaces.has(&at.namespace) };
    rule.verbs.has(&at.verb) && rule.groups.has(&at.group) && place() && resource()
}

fn fits_path(rule: &NonResourceRule, at: &Attributes) -> bool {
    let fits = |url: &str| {
        if url == "*" || *url == *at.path {
            return true;
        }
        let prefix = url.strip_suffix('*').unwrap_or(url);
        let rest = at.path.strip_prefix(prefix);
        rest.is_some_and(|rest| prefix.ends_with('/') || rest.starts_with('/'))
    };
    rule.verbs.has(&at.verb) && rule.urls.iter().any(|url| fits(url))
}
