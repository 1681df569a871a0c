//! Rules of the remaining groups.

use serde_json::{Value, json};

use super::Rule;
use crate::tree::{default, default_text, get, int, items, object_mut, text};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Rules by type, without the leading `io.k8s.`.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("api.admissionregistration.v1.MatchResources", match_resources),
    ("api.admissionregistration.v1.MutatingAdmissionPolicySpec", fail),
    ("api.admissionregistration.v1.MutatingWebhook", mutating_webhook),
    ("api.admissionregistration.v1.NamedRuleWithOperations", all_scopes),
    ("api.admissionregistration.v1.RuleWithOperations", all_scopes),
    ("api.admissionregistration.v1.ServiceReference", https),
    ("api.admissionregistration.v1.ValidatingAdmissionPolicySpec", fail),
    ("api.admissionregistration.v1.ValidatingWebhook", webhook),
    ("api.authentication.v1.TokenRequestSpec", |spec| default(spec, "expirationSeconds", 3600)),
    ("api.discovery.v1.EndpointPort", endpoint_port),
    ("api.flowcontrol.v1.ExemptPriorityLevelConfiguration", |level| shares(level, 0)),
    ("api.flowcontrol.v1.FlowSchemaSpec", |spec| positive(spec, "matchingPrecedence", 1000)),
    ("api.flowcontrol.v1.LimitedPriorityLevelConfiguration", |level| shares(level, 30)),
    ("api.flowcontrol.v1.QueuingConfiguration", queuing),
    ("api.networking.v1.IngressClassParametersReference", |reference| default(reference, "scope", "Cluster")),
    ("api.networking.v1.NetworkPolicyPort", |port| default(port, "protocol", "TCP")),
    ("api.networking.v1.NetworkPolicySpec", network_policy),
    ("api.rbac.v1.RoleRef", |role| default_text(role, "apiGroup", RBAC)),
    ("api.rbac.v1.Subject", subject),
    ("api.resource.v1.DeviceSubRequest", device_request),
    ("api.resource.v1.ExactDeviceRequest", device_request),
    ("api.scheduling.v1.PriorityClass", |class| default(class, "preemptionPolicy", "PreemptLowerPriority")),
    ("api.storage.v1.CSIDriverSpec", csi_driver),
    ("api.storage.v1.StorageClass", storage_class),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition", definition),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps", crate::crd::props::normalize),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.ServiceReference", https),
    ("kube-aggregator.pkg.apis.apiregistration.v1.ServiceReference", https),
];

fn https(reference: &mut Value) {
    default(reference, "port", 443);
}

fn fail(spec: &mut Value) {
    default(spec, "failurePolicy", "Fail");
}

fn all_scopes(rule: &mut Value) {
    default(rule, "scope", "*");
}

fn match_resources(resources: &mut Value) {
    default(resources, "matchPolicy", "Equivalent");
    default(resources, "namespaceSelector", json!({}));
    default(resources, "objectSelector", json!({}));
}

fn webhook(webhook: &mut Value) {
    fail(webhook);
    match_resources(webhook);
    default(webhook, "timeoutSeconds", 10);
}

fn mutating_webhook(hook: &mut Value) {
    webhook(hook);
    default(hook, "reinvocationPolicy", "Never");
}

fn endpoint_port(port: &mut Value) {
    default(port, "name", "");
    default(port, "protocol", "TCP");
}

fn positive(object: &mut Value, field: &str, value: i64) {
    if int(object, field).unwrap_or(0) == 0 {
        object[field] = value.into();
    }
}

fn shares(level: &mut Value, shares: i64) {
    default(level, "nominalConcurrencyShares", shares);
    default(level, "lendablePercent", 0);
}

fn queuing(queuing: &mut Value) {
    positive(queuing, "handSize", 8);
    positive(queuing, "queues", 64);
    positive(queuing, "queueLengthLimit", 50);
}

fn network_policy(spec: &mut Value) {
    if items(spec, "policyTypes").is_empty() {
        let egress = !items(spec, "egress").is_empty();
        spec["policyTypes"] = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
}

fn subject(subject: &mut Value) {
    if ["User", "Group"].contains(&text(subject, "kind")) {
        default_text(subject, "apiGroup", RBAC);
    }
}

fn device_request(request: &mut Value) {
    default_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        positive(request, "count", 1);
    }
}

fn csi_driver(spec: &mut Value) {
    default(spec, "attachRequired", true);
    for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        default(spec, field, false);
    }
    default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if items(spec, "volumeLifecycleModes").is_empty() {
        spec["volumeLifecycleModes"] = json!(["Persistent"]);
    }
}

fn storage_class(class: &mut Value) {
    default(class, "reclaimPolicy", "Delete");
    default(class, "volumeBindingMode", "Immediate");
}

fn definition(definition: &mut Value) {
    let spec = object_mut(definition, "spec");
    let names = object_mut(spec, "names");
    let kind = text(names, "kind").to_owned();
    default_text(names, "singular", &kind.to_lowercase());
    if !kind.is_empty() {
        default_text(names, "listKind", &format!("{kind}List"));
    }
    if get(spec, "conversion").is_none() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    let storage = items(spec, "versions").iter().find(|version| crate::tree::flag(version, "storage"));
    let storage = storage.map(|version| version["name"].clone());
    let status = object_mut(definition, "status");
    if let Some(storage) = storage.filter(|_| items(status, "storedVersions").is_empty()) {
        status["storedVersions"] = json!([storage]);
    }
}
