//! Admission plugins: what a write must respect beyond its own kind's rules, and what
//! it is given that its author did not say. In upstream's order.
//!
//! Each plugin looks at the store's newest state; none keeps any of its own.

mod certificates;
mod limits;
mod namespace;
mod node_restriction;
mod owners;
mod pod_defaults;
mod pod_security;
mod runtime_class;
mod service_account;
mod storage;

use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Key, Record, Value};
use carrack_store::Store;

pub use certificates::Certificates;
pub use limits::LimitRanger;
pub use namespace::NamespaceLifecycle;
pub use node_restriction::NodeRestriction;
pub use owners::OwnerReferencesPermissionEnforcement;
pub use pod_defaults::{DefaultTolerationSeconds, Priority, TaintNodesByCondition};
pub use pod_security::PodSecurity;
pub use runtime_class::{PodTopologyLabels, RuntimeClass};
pub use service_account::ServiceAccount;
pub use storage::{DefaultClass, PersistentVolumeClaimResize, StorageObjectInUseProtection};

use crate::auth::Authorizers;
use crate::auth::rbac::Escalation;
use crate::quota::{Ledger, ResourceQuota};
use crate::seams::{Admission, AdmissionRequest, Operation};

/// The plugins that every server runs, in their order. What they reserve of quotas is
/// noted in `quotas`.
pub fn plugins(
    store: &Arc<dyn Store>,
    authorizers: &Arc<Authorizers>,
    quotas: &Arc<Ledger>,
) -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(NamespaceLifecycle::new(store.clone())),
        Arc::new(LimitRanger::new(store.clone())),
        Arc::new(ServiceAccount::new(store.clone())),
        Arc::new(NodeRestriction::new(store.clone(), authorizers.clone())),
        Arc::new(TaintNodesByCondition),
        Arc::new(PodSecurity::new(store.clone())),
        Arc::new(Priority::new(store.clone())),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(DefaultClass::of_claims(store.clone())),
        Arc::new(StorageObjectInUseProtection),
        Arc::new(OwnerReferencesPermissionEnforcement::new(authorizers.clone())),
        Arc::new(PersistentVolumeClaimResize::new(store.clone())),
        Arc::new(RuntimeClass::new(store.clone())),
        Arc::new(Certificates::new(authorizers.clone())),
        Arc::new(DefaultClass::of_ingresses(store.clone())),
        Arc::new(PodTopologyLabels::new(store.clone())),
        Arc::new(Escalation::new(authorizers.rbac().clone(), authorizers.clone())),
        Arc::new(ResourceQuota::new(quotas.clone())),
    ]
}

/// 403 about the object of a request: `pods "web" is forbidden: detail`.
pub(crate) fn refuse(request: &AdmissionRequest<'_>, object: Option<&Value>, detail: &str) -> Status {
    let meta = |field: &str| {
        let text = object?.get("metadata")?.get(field)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let call = request.call;
    let given = (!call.name.is_empty()).then(|| call.name.to_string());
    // A generated name means nothing to its author, and may be another at last.
    let generated = match (meta("name"), meta("generateName")) {
        (Some(name), Some(prefix)) if request.operation == Operation::Create && name.starts_with(&prefix) => {
            Some(prefix)
        }
        (name, prefix) => name.or(prefix),
    };
    let name = given.or(generated);
    let name = name.unwrap_or_else(|| "Unknown".to_owned());
    Status::forbidden(&call.kind.group, &call.kind.plural, &name, detail)
}

/// The newest record of an object.
fn look_up(store: &Arc<dyn Store>, resource: &str, namespace: &str, name: &str) -> Option<Arc<Record>> {
    store.get(&Key::new(resource, namespace, name))
}

/// All objects of a resource in a namespace.
fn all_in(store: &Arc<dyn Store>, resource: &str, namespace: &str) -> Vec<Value> {
    let snapshot = store.snapshot(resource);
    snapshot.range(&format!("{resource}/{namespace}/"), None).map(|record| record.decode()).collect()
}

/// The list at `field` of an object, made if it is not there. `None` when the object
/// is not an object, which decoding has ruled out.
fn list_mut<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Vec<Value>> {
    let list = object.as_object_mut()?.entry(field).or_insert_with(|| Value::Array(Vec::new()));
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut()
}

#[cfg(test)]
mod tests;
