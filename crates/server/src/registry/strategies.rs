//! Kinds that differ from all others in what no table can say: pods, namespaces,
//! nodes. (Services, which allocate, have theirs beside the allocators.)

use std::collections::HashMap;
use std::sync::Arc;

use carrack_api::Value;
use carrack_api::prepare::pods::qos;
use serde_json::json;

use super::call::Call;
use super::certificates::SigningRequests;
use super::devices::Claims;
use super::meta;
use crate::clock::rfc3339;
use crate::seams::{Removal, Strategy};

/// The strategies that every server has.
pub(crate) fn builtin() -> HashMap<Box<str>, Arc<dyn Strategy>> {
    let all: [(&str, Arc<dyn Strategy>); 10] = [
        ("pods", Arc::new(Pods)),
        ("namespaces", Arc::new(Namespaces)),
        ("apiservices.apiregistration.k8s.io", Arc::new(ApiServices)),
        ("validatingadmissionpolicies.admissionregistration.k8s.io", Arc::new(OnlyStatus)),
        ("flowschemas.flowcontrol.apiserver.k8s.io", Arc::new(OnlyStatus)),
        ("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", Arc::new(OnlyStatus)),
        ("certificatesigningrequests.certificates.k8s.io", Arc::new(SigningRequests)),
        ("resourceclaims.resource.k8s.io", Arc::new(Claims)),
        ("resourceclaimtemplates.resource.k8s.io", Arc::new(Claims)),
        (carrack_api::crd::RESOURCE, Arc::new(crate::crd::Definitions)),
    ];
    all.into_iter().map(|(resource, strategy)| (resource.into(), strategy)).collect()
}

/// Pods start Pending, have a quality-of-service class, and go gracefully.
struct Pods;

impl Strategy for Pods {
    fn prepare_create(&self, call: &Call, pod: &mut Value) {
        pod["status"] = json!({"phase": "Pending", "qosClass": qos(&pod["spec"])});
        carrack_api::prepare::pods::create(pod, &rfc3339(call.now));
    }

    fn prepare_update(&self, call: &Call, pod: &mut Value, old: &Value) {
        if &*call.subresource != "status" {
            return;
        }
        // A kubelet may leave out what it never changes.
        if pod["status"].get("qosClass").is_none()
            && let Some(class) = old["status"].get("qosClass")
        {
            pod["status"]["qosClass"] = class.clone();
        }
    }

    fn removal(&self, _call: &Call, pod: &mut Value, asked: Option<i64>) -> Removal {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        if node.is_empty() || matches!(phase, "Failed" | "Succeeded") {
            return Removal::Graceful(0);
        }
        let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
        let grace = asked.or(own).unwrap_or(0);
        Removal::Graceful(if grace < 0 { 1 } else { grace })
    }
}

/// An APIService without a Service behind it is served here, and thus available at once.
struct ApiServices;

impl Strategy for ApiServices {
    fn prepare_create(&self, call: &Call, object: &mut Value) {
        if object["spec"]["service"].is_null() {
            object["status"] = json!({"conditions": [{
                "type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available",
                "lastTransitionTime": rfc3339(call.now),
            }]});
        }
    }

    fn prepare_update(&self, call: &Call, object: &mut Value, old: &Value) {
        keep_metadata(call, object, old);
    }
}

/// Kinds whose status subresource leaves all metadata alone.
struct OnlyStatus;

impl Strategy for OnlyStatus {
    fn prepare_update(&self, call: &Call, object: &mut Value, old: &Value) {
        keep_metadata(call, object, old);
    }
}

fn keep_metadata(call: &Call, object: &mut Value, old: &Value) {
    if &*call.subresource == "status" {
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            meta::set(object, field, old["metadata"].get(field).cloned());
        }
    }
}

/// Namespaces are emptied before they go: a deletion marks them Terminating, and the
/// `finalize` subresource takes their finalizers away one by one.
struct Namespaces;

impl Strategy for Namespaces {
    fn prepare_create(&self, _call: &Call, namespace: &mut Value) {
        namespace["status"] = json!({"phase": "Active"});
        if !namespace["spec"].is_object() {
            namespace["spec"] = json!({});
        }
        let finalizers = &mut namespace["spec"]["finalizers"];
        if !finalizers.is_array() {
            *finalizers = json!([]);
        }
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(|finalizer| finalizer == "kubernetes")
        {
            finalizers.push("kubernetes".into());
        }
    }

    fn prepare_update(&self, call: &Call, namespace: &mut Value, old: &Value) {
        // Only `finalize` changes spec.finalizers.
        if &*call.subresource != "finalize"
            && let Some(top) = namespace.as_object_mut()
            && let Some(spec) = old.get("spec")
        {
            top.insert("spec".into(), spec.clone());
        }
    }

    fn removal(&self, _call: &Call, namespace: &mut Value, _asked: Option<i64>) -> Removal {
        let emptied = namespace["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if meta::deleting(namespace) && emptied {
            return Removal::Now;
        }
        namespace["status"]["phase"] = "Terminating".into();
        Removal::Held
    }
}
