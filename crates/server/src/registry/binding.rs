//! Binding a pod to a node: the one write that sets `spec.nodeName`.
//! (After `registry/core/pod/storage.BindingREST`.)

use carrack_api::status::Status;
use carrack_api::{Value, field, validation};
use serde_json::json;

use super::call::Call;
use super::{Registry, meta};
use crate::clock::rfc3339;
use crate::seams::Operation;

impl Registry {
    /// Binds the call's pod as a `Binding` says.
    ///
    /// # Errors
    /// 404 without the namespace or the pod, 400 for a binding of another name, 409 when the
    /// pod is bound or being deleted, 500 (as upstream has it) for a target that is no node.
    pub async fn bind(&self, call: &Call, binding: &Value) -> Result<(), Status> {
        if let Some((bindings, version)) = self.kinds().resource("", "v1", "bindings") {
            let (kind, subresource) = (bindings.clone(), "".into());
            let call = Call { kind, version, subresource, ..call.clone() };
            self.mutate(&call, Operation::Create, None, &mut binding.clone()).await?;
        }
        if meta::text(binding, "name") != &*call.name {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        let target = &binding["target"];
        let node = target["name"].as_str().unwrap_or_default();
        check_target(target, node)?;
        if call.name.is_empty() {
            return Err(Status::bad_request("Name parameter required."));
        }
        if let Some(wrong) = validation::names::path_segment(&call.name).first() {
            return Err(Status::bad_request(format!("Name parameter invalid: {:?}: {wrong}", call.name)));
        }
        let uid = meta::text(binding, "uid").to_owned();
        let version = meta::text(binding, "resourceVersion").to_owned();
        self.modify(call, |pod| {
            if meta::deleting(pod) {
                return Err(conflict(
                    call,
                    &format!("pod {} is being deleted, cannot be assigned to a host", call.name),
                ));
            }
            if let Some(assigned) = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) {
                let detail = format!("pod {} is already assigned to node {assigned:?}", call.name);
                return Err(conflict(call, &detail));
            }
            if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
                let detail = format!("pod {} has non-empty .spec.schedulingGates", call.name);
                return Err(conflict(call, &detail));
            }
            for (field, given) in [("uid", &uid), ("resourceVersion", &version)] {
                if !given.is_empty() {
                    meta::of(pod).insert(field.into(), given.as_str().into());
                }
            }
            pod["spec"]["nodeName"] = node.into();
            for field in ["annotations", "labels"] {
                for (key, value) in binding["metadata"][field].as_object().into_iter().flatten() {
                    pod["metadata"][field][key] = value.clone();
                }
            }
            scheduled(pod, &rfc3339(call.now));
            Ok(())
        })
        .await?;
        Ok(())
    }
}

/// Sets the PodScheduled condition.
fn scheduled(pod: &mut Value, now: &str) {
    let observed = pod["metadata"]["generation"].clone();
    let mut condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": now});
    if !observed.is_null() {
        condition["observedGeneration"] = observed;
    }
    // Where room was made for it does not matter any more.
    pod["status"].as_object_mut().map(|status| status.remove("nominatedNodeName"));
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

fn check_target(target: &Value, node: &str) -> Result<(), Status> {
    let path = field::Path::ROOT;
    let path = path.child("target");
    let mut errors = Vec::new();
    let kind = target["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.push(field::Error::unlisted(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        errors.push(field::Error::required(&path.child("name"), ""));
    }
    // (Upstream returns the bare sentences, which makes a failure of the server of them.)
    match &errors[..] {
        [] => Ok(()),
        [one] => Err(Status::other(500, "", one.to_string())),
        all => {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            Err(Status::other(500, "", format!("[{}]", all.join(", "))))
        }
    }
}

fn conflict(call: &Call, detail: &str) -> Status {
    Status::conflict("", "pods/binding", &call.name, detail)
}
