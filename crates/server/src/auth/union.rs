//! The authorizers in their order, and the words of a refusal.

use std::sync::Arc;

use carrack_api::status::Status;
use carrack_store::Store;
use futures::future::BoxFuture;

use super::MASTERS;
use super::node::NodeAuthorizer;
use super::rbac::Rbac;
use crate::request::{Attributes, User};
use crate::seams::{Authorizer, Decision};

/// `system:masters`, then Node, then RBAC: the authorizer that the server is given.
pub struct Authorizers {
    node: Arc<NodeAuthorizer>,
    rbac: Arc<Rbac>,
}

impl Authorizers {
    /// The authorizers over one store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let rbac = Arc::new(Rbac::new(store.clone()));
        Self { node: Arc::new(NodeAuthorizer::new(store)), rbac }
    }

    /// The RBAC authorizer among them.
    pub fn rbac(&self) -> &Arc<Rbac> {
        &self.rbac
    }

    /// Decides; [`Decision::NoOpinion`] means that nobody allows it.
    pub fn decide(&self, user: &User, attributes: &Attributes) -> Decision {
        if user.in_group(MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        match self.node.decide(user, attributes) {
            Decision::NoOpinion(reason) => reasons.push(reason),
            decided => return decided,
        }
        match self.rbac.decide(user, attributes) {
            Decision::NoOpinion(reason) => reasons.push(reason),
            decided => return decided,
        }
        reasons.retain(|reason| !reason.is_empty());
        Decision::NoOpinion(reasons.join("\n"))
    }
}

impl Authorizer for Authorizers {
    fn authorize<'a>(&'a self, user: &'a User, attributes: &'a Attributes) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(self.decide(user, attributes)))
    }
}

/// The 403 of a request that nobody allows, worded as apiserver's `responsewriters`
/// word it. `reason` is the decision's; it may be empty.
pub fn forbidden(user: &User, attributes: &Attributes, reason: &str) -> Status {
    let Attributes { verb, group, resource, subresource, namespace, name, path, .. } = attributes;
    let user = &user.name;
    let mut message = if !attributes.is_resource {
        format!("User {user:?} cannot {verb} path {path:?}")
    } else {
        let slash = if subresource.is_empty() { "" } else { "/" };
        let what = format!("{resource}{slash}{subresource}");
        let scope = match &**namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!("User {user:?} cannot {verb} resource {what:?} in API group {group:?} {scope}")
    };
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    Status::forbidden(group, resource, name, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_refusals_as_upstream_does() {
        let user = User::new("bob", ["system:authenticated"]);
        let check = |attributes: Attributes, reason: &str, expect: &str| {
            assert_eq!(forbidden(&user, &attributes, reason).message, expect);
        };
        check(
            Attributes::resource("list", "", "pods", "default", ""),
            "",
            r#"pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default""#,
        );
        check(
            Attributes::resource("get", "apps", "deployments/scale", "a", "web"),
            "why",
            r#"deployments.apps "web" is forbidden: User "bob" cannot get resource "deployments/scale" in API group "apps" in the namespace "a": why"#,
        );
        check(
            Attributes::resource("list", "", "nodes", "", ""),
            "",
            r#"nodes is forbidden: User "bob" cannot list resource "nodes" in API group "" at the cluster scope"#,
        );
        check(Attributes::path("get", "/x"), "", r#"forbidden: User "bob" cannot get path "/x""#);
    }
}
