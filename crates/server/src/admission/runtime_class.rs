//! RuntimeClass: what a pod's runtime costs and where it may run, taken from its class;
//! and PodTopologyLabels: the zone and region of a pod's node.

use std::sync::Arc;

use carrack_api::Value;
use carrack_api::quota::Amounts;
use carrack_api::status::Status;
use carrack_store::Store;
use futures::future::BoxFuture;
use serde_json::json;

use super::{look_up, refuse};
use crate::auth::node::references::text;
use crate::seams::{Admission, AdmissionRequest, Operation};

const CLASSES: &str = "runtimeclasses.node.k8s.io";
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];
const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// RuntimeClass.
pub struct RuntimeClass {
    store: Arc<dyn Store>,
}

/// PodTopologyLabels.
pub struct PodTopologyLabels {
    store: Arc<dyn Store>,
}

impl RuntimeClass {
    /// Looks at the runtime classes of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    fn class(&self, request: &AdmissionRequest<'_>, pod: &Value) -> Result<Option<Value>, Status> {
        let Some(name) = pod["spec"]["runtimeClassName"].as_str() else { return Ok(None) };
        let class = look_up(&self.store, CLASSES, "", name).map(|record| record.decode());
        if class.is_none() {
            let detail = format!("pod rejected: RuntimeClass {name:?} not found");
            return Err(refuse(request, Some(pod), &detail));
        }
        Ok(class)
    }

    fn fill_in(&self, request: &AdmissionRequest<'_>, pod: &mut Value) -> Result<(), Status> {
        let Some(class) = self.class(request, pod)? else { return Ok(()) };
        if class["overhead"].is_object() {
            let (own, fixed) = (Amounts::read(&pod["spec"]["overhead"]), &class["overhead"]["podFixed"]);
            if !own.is_empty() && own != Amounts::read(fixed) {
                return Err(refuse(request, Some(pod), MISMATCH));
            }
            pod["spec"]["overhead"] = fixed.clone();
        }
        let scheduling = &class["scheduling"];
        for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
            let own = pod["spec"]["nodeSelector"].get(key).and_then(Value::as_str);
            if let Some(own) = own.filter(|own| Some(*own) != value.as_str()) {
                let wanted = value.as_str().unwrap_or_default();
                let detail = format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; \
                     pod.spec.nodeSelector[{key}] = {own}"
                );
                return Err(refuse(request, Some(pod), &detail));
            }
            pod["spec"]["nodeSelector"][key] = value.clone();
        }
        if scheduling.is_object() {
            let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
            let merged = merge(list(&pod["spec"]["tolerations"]), list(&scheduling["tolerations"]));
            if !merged.is_empty() {
                pod["spec"]["tolerations"] = merged.into();
            }
        }
        Ok(())
    }

    fn check(&self, request: &AdmissionRequest<'_>, pod: &Value) -> Result<(), Status> {
        let class = self.class(request, pod)?;
        let fixed = class.as_ref().map(|class| &class["overhead"]).filter(|overhead| overhead.is_object());
        let own = &pod["spec"]["overhead"];
        match fixed {
            Some(overhead) if Amounts::read(&overhead["podFixed"]) != Amounts::read(own) => {
                Err(refuse(request, Some(pod), MISMATCH))
            }
            None if !own.is_null() => {
                let detail =
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                Err(refuse(request, Some(pod), detail))
            }
            _ => Ok(()),
        }
    }
}

/// Both lists, without what another toleration covers.
fn merge(mut all: Vec<Value>, second: Vec<Value>) -> Vec<Value> {
    all.extend(second);
    let mut merged: Vec<Value> = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let before = merged.iter().any(|other| covers(other, one));
        let after = all[i + 1..].iter().any(|other| other != one && covers(other, one));
        if !before && !after {
            merged.push(one.clone());
        }
    }
    merged
}

/// Whether `wide` tolerates everything that `narrow` does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    fn at<'a>(toleration: &'a Value, field: &str) -> &'a str {
        toleration[field].as_str().unwrap_or_default()
    }
    let any_key = at(wide, "key").is_empty() && at(wide, "operator") == "Exists";
    if at(wide, "key") != at(narrow, "key") && !any_key {
        return false;
    }
    if !at(wide, "effect").is_empty() && at(wide, "effect") != at(narrow, "effect") {
        return false;
    }
    if at(wide, "effect") == "NoExecute"
        && let Some(most) = wide["tolerationSeconds"].as_i64()
        && narrow["tolerationSeconds"].as_i64().is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    match at(wide, "operator") {
        "" | "Equal" => at(narrow, "operator") == "Equal" && at(narrow, "value") == at(wide, "value"),
        "Exists" => true,
        _ => false,
    }
}

impl Admission for RuntimeClass {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation == Operation::Create && request.is("pods", "")
    }

    fn mutate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        pod: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(self.fill_in(request, pod)))
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        pod: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(pod.map_or(Ok(()), |pod| self.check(request, pod))))
    }
}

impl PodTopologyLabels {
    /// Looks at the nodes of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }
}

impl Admission for PodTopologyLabels {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation == Operation::Create && request.is("pods", "")
            || request.operation == Operation::Update && request.is("pods", "binding")
    }

    fn mutate<'a>(
        &'a self,
        _: &'a AdmissionRequest<'a>,
        pod: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let node = text(pod, "/spec/nodeName").and_then(|name| look_up(&self.store, "nodes", "", name));
        if let Some(node) = node {
            for key in TOPOLOGY {
                if let Some(value) = node.header().label(key) {
                    if !pod["metadata"]["labels"].is_object() {
                        pod["metadata"]["labels"] = json!({});
                    }
                    pod["metadata"]["labels"][key] = value.into();
                }
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::node::references::items;

    #[test]
    fn merges_tolerations() {
        let exists = |key: &str| json!({"key": key, "operator": "Exists"});
        let equal = |key: &str, value: &str| json!({"key": key, "operator": "Equal", "value": value});
        let check = |first: Value, second: Value, expect: Value| {
            let list = |value: &Value| items(value, "").cloned().collect::<Vec<_>>();
            assert_eq!(Value::from(merge(list(&first), list(&second))), expect);
        };
        check(json!([equal("a", "1")]), json!([exists("a")]), json!([exists("a")]));
        check(json!([exists("a")]), json!([equal("a", "1")]), json!([exists("a")]));
        check(json!([exists("a")]), json!([exists("a"), exists("b")]), json!([exists("a"), exists("b")]));
        check(json!([equal("a", "1")]), json!([equal("a", "2")]), json!([equal("a", "1"), equal("a", "2")]));
        check(json!([exists("a")]), json!([{"operator": "Exists"}]), json!([{"operator": "Exists"}]));
    }
}
