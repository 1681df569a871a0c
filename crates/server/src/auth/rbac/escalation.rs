//! Nobody grants what they do not hold: writing a role demands its rights, or the verb
//! `escalate`; binding one demands the role's rights, or the verb `bind`.
//!
//! Follows upstream's `registry/rbac/*/policybased`. Members of `system:masters` may
//! write anything.

use std::sync::Arc;

use carrack_api::Value;
use carrack_api::status::Status;
use futures::future::BoxFuture;

use super::index::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, RoleRef};
use super::{Rbac, rules, rules::Rule};
use crate::auth::{Authorizers, MASTERS};
use crate::request::Attributes;
use crate::seams::{Admission, AdmissionRequest, Authorizer, Decision, Operation};

/// The check, as an admission plugin that runs after all others have mutated.
pub struct Escalation {
    rbac: Arc<Rbac>,
    authorizers: Arc<Authorizers>,
}

impl Escalation {
    /// A check against the rights that `rbac` knows and what `authorizers` allow.
    pub fn new(rbac: Arc<Rbac>, authorizers: Arc<Authorizers>) -> Self {
        Self { rbac, authorizers }
    }

    async fn check(&self, request: &AdmissionRequest<'_>, object: &Value) -> Result<(), Status> {
        let call = request.call;
        if call.user.in_group(MASTERS) || request.old.is_some_and(|old| only_for_collection(object, old)) {
            return Ok(());
        }
        let forbidden = |detail: &str| {
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            Status::forbidden(&call.kind.group, &call.kind.plural, name, detail)
        };
        match &*call.kind.resource {
            ROLES | CLUSTER_ROLES => {
                let plural = &call.kind.plural;
                if self.allowed(request, "escalate", plural, &call.namespace, &call.name).await {
                    return Ok(());
                }
                self.holds(request, &Rule::read_all(object)).map_err(|detail| forbidden(&detail))?;
                let all = [any_resource(), any_url()];
                if (gathers(object) || request.old.is_some_and(gathers)) && self.holds(request, &all).is_err()
                {
                    return Err(forbidden("must have cluster-admin privileges to use the aggregationRule"));
                }
                Ok(())
            }
            _ => {
                let role = RoleRef::read(object);
                let plural = if &*role.kind == "Role" { "roles" } else { "clusterroles" };
                if self.allowed(request, "bind", plural, &call.namespace, &role.name).await {
                    return Ok(());
                }
                let rules =
                    self.rbac.rules_of(&role, &call.namespace).map_err(|detail| match &*role.kind {
                        // Upstream names the request's own resource here.
                        "Role" | "ClusterRole" => {
                            Status::not_found(&call.kind.group, &call.kind.plural, &role.name)
                        }
                        _ => Status::internal(detail),
                    })?;
                self.holds(request, &rules).map_err(|detail| forbidden(&detail))
            }
        }
    }

    /// Whether the user holds every right that `wanted` grants.
    fn holds(&self, request: &AdmissionRequest<'_>, wanted: &[Rule]) -> Result<(), String> {
        let user = &request.call.user;
        let (held, error) = self.rbac.rules_for(user, &request.call.namespace);
        let Some(missing) = rules::missing(&held, wanted) else { return Ok(()) };
        let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
        let resolution = error.map(|error| format!("; resolution errors: [{error}]")).unwrap_or_default();
        Err(format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{missing}{resolution}",
            user.name,
            groups.join(" "),
        ))
    }

    async fn allowed(
        &self,
        request: &AdmissionRequest<'_>,
        verb: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> bool {
        let group = &request.call.kind.group;
        let attributes = Attributes::resource(verb, group, plural, namespace, name);
        matches!(self.authorizers.authorize(&request.call.user, &attributes).await, Decision::Allow(_))
    }
}

impl Admission for Escalation {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && [ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS]
                .contains(&&*request.call.kind.resource)
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            match object {
                Some(object) => self.check(request, object).await,
                None => Ok(()),
            }
        })
    }
}

/// Whether an update only lets the garbage collector get on: nothing but owners and
/// finalizers differ.
pub(crate) fn only_for_collection(object: &Value, old: &Value) -> bool {
    let strip = |object: &Value| {
        let mut object = object.clone();
        if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"] {
                meta.remove(field);
            }
        }
        object
    };
    strip(object) == strip(old)
}

fn gathers(role: &Value) -> bool {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
    selectors.is_some_and(|selectors| !selectors.is_empty())
}

fn any_resource() -> Rule {
    let star = || vec!["*".into()];
    Rule { verbs: star(), groups: star(), resources: star(), ..Rule::default() }
}

fn any_url() -> Rule {
    Rule { verbs: vec!["*".into()], urls: vec!["*".into()], ..Rule::default() }
}
