//! Who may see into devices that others use: claims of namespaces that say so.
//! (After `registry/resource/utils.go`.)

use carrack_api::field::{Error, Errors, Path};
use carrack_api::{Key, Value};

use super::Registry;
use super::call::Call;
use crate::auth::node::references::items;
use crate::seams::Strategy;

/// The label of a namespace in which admin access can be asked for.
const LABEL: &str = "resource.kubernetes.io/admin-access";

/// ResourceClaims and templates of such.
pub(crate) struct Claims;

impl Strategy for Claims {
    fn authorize(&self, registry: &Registry, call: &Call, new: &Value, old: Option<&Value>) -> Errors {
        match (old, &*call.subresource) {
            // A spec never changes.
            (None, _) => {
                let list = match call.kind.kind.ends_with("Template") {
                    true => "/spec/spec/devices/requests",
                    false => "/spec/devices/requests",
                };
                let asks = |request: &Value| request["exactly"]["adminAccess"] == true;
                let at = items(new, list).position(asks);
                refuse(registry, call, at, "spec.devices.requests")
            }
            (Some(old), "status") => {
                let at = |claim: &Value| {
                    let mut results = items(claim, "/status/allocation/devices/results");
                    results.position(|result| result["adminAccess"] == true)
                };
                let at = at(new).filter(|_| at(old).is_none());
                refuse(registry, call, at, "status.allocation.devices.results")
            }
            _ => Errors::new(),
        }
    }
}

/// The error of the item that asks for admin access, unless its namespace allows it.
fn refuse(registry: &Registry, call: &Call, at: Option<usize>, list: &str) -> Errors {
    let Some(at) = at else { return Errors::new() };
    let namespace = registry.store().get(&Key::new("namespaces", "", &call.namespace));
    if namespace.is_some_and(|record| record.decode()["metadata"]["labels"][LABEL] == "true") {
        return Errors::new();
    }
    let detail =
        format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
    let path = Path::ROOT.child(list);
    vec![Error::forbidden(&path.index(at).child("adminAccess"), &detail)]
}
