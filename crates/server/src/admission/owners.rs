//! OwnerReferencesPermissionEnforcement: nobody ties an object to an owner who could not
//! delete the object, and nobody blocks the deletion of what they could not finalize.

use std::sync::Arc;

use carrack_api::Value;
use carrack_api::status::Status;
use futures::future::BoxFuture;

use super::refuse;
use crate::auth::node::references::{items, text};
use crate::auth::{Authorizers, MASTERS};
use crate::request::Attributes;
use crate::seams::{Admission, AdmissionRequest, Decision, Operation};

/// The plugin.
pub struct OwnerReferencesPermissionEnforcement {
    authorizers: Arc<Authorizers>,
}

impl OwnerReferencesPermissionEnforcement {
    /// Asks the authorizers.
    pub fn new(authorizers: Arc<Authorizers>) -> Self {
        Self { authorizers }
    }

    /// Why the user may not, if so.
    fn refusal(&self, request: &AdmissionRequest<'_>, attributes: &Attributes) -> Option<String> {
        match self.authorizers.decide(&request.call.user, attributes) {
            Decision::Allow(_) => None,
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Some(reason),
        }
    }

    fn check(&self, request: &AdmissionRequest<'_>, object: &Value) -> Result<(), Status> {
        let call = request.call;
        if let Some(old) = request.old {
            let mut attributes = Attributes::resource(
                "delete",
                &call.kind.group,
                &call.kind.plural,
                &call.namespace,
                &call.name,
            );
            attributes.version = call.kind.versions[call.version].name.as_ref().into();
            attributes.subresource = call.subresource.clone();
            if owners(object) == owners(old) {
                return Ok(());
            }
            if let Some(reason) = self.refusal(request, &attributes) {
                let detail =
                    format!("cannot set an ownerRef on a resource you can't delete: {reason}, <nil>");
                return Err(refuse(request, Some(object), &detail));
            }
        }
        let blocking: Vec<&Value> = new_blocks(object, request.old).collect();
        let anything = Attributes {
            version: "*".into(),
            ..Attributes::resource("update", "*", "*/finalizers", "", "*")
        };
        if blocking.is_empty() || self.refusal(request, &anything).is_none() {
            return Ok(());
        }
        blocking.into_iter().try_for_each(|owner| self.check_owner(request, object, owner))
    }

    fn check_owner(
        &self,
        request: &AdmissionRequest<'_>,
        object: &Value,
        owner: &Value,
    ) -> Result<(), Status> {
        let part = |pointer: &str| text(owner, pointer).unwrap_or_default();
        let (api_version, kind) = (part("/apiVersion"), part("/kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kinds = request.registry.kinds();
        let served = |row: &&Arc<carrack_api::Kind>| {
            &*row.group == group && &*row.kind == kind && row.versions.iter().any(|v| &*v.name == version)
        };
        let Some(row) = kinds.iter().find(served) else {
            let detail = format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion \
                 {api_version} Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
            );
            return Err(refuse(request, Some(object), &detail));
        };
        let namespace = if row.namespaced { &*request.call.namespace } else { "" };
        let resource = format!("{}/finalizers", row.plural);
        let mut attributes = Attributes::resource("update", group, &resource, namespace, part("/name"));
        attributes.version = version.into();
        let Some(reason) = self.refusal(request, &attributes) else { return Ok(()) };
        let detail = format!(
            "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers \
             on: {reason}, <nil>"
        );
        Err(refuse(request, Some(object), &detail))
    }
}

fn owners(object: &Value) -> Vec<&Value> {
    items(object, "/metadata/ownerReferences").collect()
}

/// References that block and did not before.
fn new_blocks<'a>(object: &'a Value, old: Option<&'a Value>) -> impl Iterator<Item = &'a Value> {
    let blocks = |owner: &Value| owner["blockOwnerDeletion"] == true;
    items(object, "/metadata/ownerReferences").filter(move |owner| {
        let before = old.map(owners).unwrap_or_default();
        blocks(owner) && !before.iter().any(|own| own["uid"] == owner["uid"] && blocks(own))
    })
}

impl Admission for OwnerReferencesPermissionEnforcement {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && !request.call.user.in_group(MASTERS)
            // A pod's status cannot change its owners.
            && !request.is("pods", "status")
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let concerned = object.filter(|object| !owners(object).is_empty() || request.old.is_some());
        Box::pin(std::future::ready(concerned.map_or(Ok(()), |object| self.check(request, object))))
    }
}
