//! Role-based access control, as `rbac.authorization.k8s.io/v1` defines it.
//!
//! Rights only add up; nothing denies. A role that is bound but missing grants nothing
//! and is named in the refusal. Aggregated cluster roles count with what they gather at
//! this moment, whatever their stored `rules` say.

mod escalation;
mod index;
pub mod policy;
pub mod rules;

use std::sync::Arc;

use carrack_store::Store;
use futures::future::BoxFuture;

pub use escalation::Escalation;
pub(crate) use escalation::only_for_collection;
pub use rules::Rule;

use super::follow::Follow;
use crate::request::{Attributes, User};
use crate::seams::{Authorizer, Decision};
use index::{Grants, RoleRef};

/// The RBAC authorizer. Share it by `Arc`.
pub struct Rbac {
    grants: Follow<Grants>,
}

impl Rbac {
    /// An authorizer over the roles and bindings of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { grants: Follow::new(store) }
    }

    /// Decides on one request.
    pub fn decide(&self, user: &User, attributes: &Attributes) -> Decision {
        let grants = self.grants.read();
        let (mut allowed, mut errors) = (None, Vec::new());
        grants.visit(user, &attributes.namespace, &mut |found| {
            match found {
                Ok((source, rule)) if rule.allows(attributes) => allowed = Some(source),
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
            allowed.is_none()
        });
        match allowed {
            Some(source) => Decision::Allow(format!("RBAC: allowed by {source}")),
            None if errors.is_empty() => Decision::NoOpinion(String::new()),
            None => Decision::NoOpinion(format!("RBAC: {}", aggregate(errors))),
        }
    }

    /// Every rule that applies to a user in a namespace (empty: cluster-wide), and what
    /// could not be resolved, if anything.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Option<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        self.grants.read().visit(user, namespace, &mut |found| {
            match found {
                Ok((_, rule)) => rules.push(rule.clone()),
                Err(error) => errors.push(error),
            }
            true
        });
        let error = (!errors.is_empty()).then(|| aggregate(errors));
        (rules, error)
    }

    /// Names of the aggregated cluster roles and what they gather at this moment.
    pub fn gathered(&self) -> Vec<(Box<str>, Arc<[Rule]>)> {
        self.grants.read().gathered()
    }

    /// The rules of the role that a binding in `namespace` refers to.
    fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<Arc<[Rule]>, String> {
        self.grants.read().rules_of(role, namespace).cloned()
    }
}

impl Authorizer for Rbac {
    fn authorize<'a>(&'a self, user: &'a User, attributes: &'a Attributes) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(self.decide(user, attributes)))
    }
}

/// Several errors as apimachinery's `Aggregate` prints them: each once.
fn aggregate(mut errors: Vec<String>) -> String {
    let mut unique = Vec::new();
    for error in errors.drain(..) {
        if !unique.contains(&error) {
            unique.push(error);
        }
    }
    match &unique[..] {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests;
