//! Descriptions of built-in types, from the types of `k8s-openapi`, which carry them.
//!
//! They are made when a document is, and dropped with it: nothing stays in memory.

use k8s_openapi::schemars::SchemaGenerator;
use k8s_openapi::{api, apiextensions_apiserver, kube_aggregator};
use serde_json::{Map, Value};

/// Adds the types of a group and version to a generator.
macro_rules! roots {
    ($generator:ident, $group_version:ident: $($name:literal => [$($ty:path),* $(,)?],)*) => {
        match $group_version {
            $($name => { $($generator.subschema_for::<$ty>();)* })*
            _ => {}
        }
    };
}

/// Fills in the descriptions of a group and version's definitions and their fields.
pub(super) fn describe(group_version: &str, definitions: &mut Map<String, Value>) {
    let mut generator = SchemaGenerator::default();
    roots! { generator, group_version:
        "v1" => [api::core::v1::Binding, api::authentication::v1::TokenRequest, api::policy::v1::Eviction, api::autoscaling::v1::Scale, api::core::v1::ComponentStatus, api::core::v1::ConfigMap, api::core::v1::Endpoints, api::core::v1::Event, api::core::v1::LimitRange, api::core::v1::Namespace, api::core::v1::Node, api::core::v1::PersistentVolumeClaim, api::core::v1::PersistentVolume, api::core::v1::Pod, api::core::v1::PodTemplate, api::core::v1::ReplicationController, api::core::v1::ResourceQuota, api::core::v1::Secret, api::core::v1::ServiceAccount, api::core::v1::Service],
        "apiregistration.k8s.io/v1" => [kube_aggregator::pkg::apis::apiregistration::v1::APIService],
        "apps/v1" => [api::apps::v1::ControllerRevision, api::autoscaling::v1::Scale, api::apps::v1::DaemonSet, api::apps::v1::Deployment, api::apps::v1::ReplicaSet, api::apps::v1::StatefulSet],
        "events.k8s.io/v1" => [api::events::v1::Event],
        "authentication.k8s.io/v1" => [api::authentication::v1::SelfSubjectReview, api::authentication::v1::TokenReview],
        "authorization.k8s.io/v1" => [api::authorization::v1::LocalSubjectAccessReview, api::authorization::v1::SelfSubjectAccessReview, api::authorization::v1::SelfSubjectRulesReview, api::authorization::v1::SubjectAccessReview],
        "autoscaling/v2" => [api::autoscaling::v2::HorizontalPodAutoscaler],
        "autoscaling/v1" => [api::autoscaling::v1::HorizontalPodAutoscaler],
        "batch/v1" => [api::batch::v1::CronJob, api::batch::v1::Job],
        "certificates.k8s.io/v1" => [api::certificates::v1::CertificateSigningRequest],
        "networking.k8s.io/v1" => [api::networking::v1::IngressClass, api::networking::v1::Ingress, api::networking::v1::IPAddress, api::networking::v1::NetworkPolicy, api::networking::v1::ServiceCIDR],
        "policy/v1" => [api::policy::v1::PodDisruptionBudget],
        "rbac.authorization.k8s.io/v1" => [api::rbac::v1::ClusterRoleBinding, api::rbac::v1::ClusterRole, api::rbac::v1::RoleBinding, api::rbac::v1::Role],
        "storage.k8s.io/v1" => [api::storage::v1::CSIDriver, api::storage::v1::CSINode, api::storage::v1::CSIStorageCapacity, api::storage::v1::StorageClass, api::storage::v1::VolumeAttachment, api::storage::v1::VolumeAttributesClass],
        "admissionregistration.k8s.io/v1" => [api::admissionregistration::v1::MutatingAdmissionPolicy, api::admissionregistration::v1::MutatingAdmissionPolicyBinding, api::admissionregistration::v1::MutatingWebhookConfiguration, api::admissionregistration::v1::ValidatingAdmissionPolicy, api::admissionregistration::v1::ValidatingAdmissionPolicyBinding, api::admissionregistration::v1::ValidatingWebhookConfiguration],
        "apiextensions.k8s.io/v1" => [apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition],
        "scheduling.k8s.io/v1" => [api::scheduling::v1::PriorityClass],
        "coordination.k8s.io/v1" => [api::coordination::v1::Lease],
        "node.k8s.io/v1" => [api::node::v1::RuntimeClass],
        "discovery.k8s.io/v1" => [api::discovery::v1::EndpointSlice],
        "resource.k8s.io/v1" => [api::resource::v1::DeviceClass, api::resource::v1::ResourceClaim, api::resource::v1::ResourceClaimTemplate, api::resource::v1::ResourceSlice],
        "flowcontrol.apiserver.k8s.io/v1" => [api::flowcontrol::v1::FlowSchema, api::flowcontrol::v1::PriorityLevelConfiguration],
    }
    for (name, described) in generator.take_definitions(true) {
        if let Some(definition) = definitions.get_mut(&name) {
            copy(&described, definition);
            for (field, described) in described["properties"].as_object().into_iter().flatten() {
                if let Some(property) = definition["properties"].get_mut(field) {
                    copy(described, property);
                }
            }
        }
    }
}

/// Fills in what every custom kind has: the descriptions of its types and metadata.
/// `kinds` are the names of the kinds' own definitions.
pub(super) fn describe_custom(kinds: &[String], definitions: &mut Map<String, Value>) {
    let mut generator = SchemaGenerator::default();
    generator.subschema_for::<api::core::v1::ConfigMap>();
    let described = generator.take_definitions(true);
    let model = described.iter().find(|(name, _)| name.ends_with(".ConfigMap")).map(|(_, model)| model);
    for (name, described) in &described {
        let Some(definition) = definitions.get_mut(name) else { continue };
        copy(described, definition);
        for (field, described) in described["properties"].as_object().into_iter().flatten() {
            if let Some(property) = definition["properties"].get_mut(field) {
                copy(described, property);
            }
        }
    }
    for name in kinds {
        for field in ["apiVersion", "kind", "metadata"] {
            let property = definitions.get_mut(name).and_then(|kind| kind["properties"].get_mut(field));
            if let (Some(model), Some(property)) = (model, property) {
                copy(&model["properties"][field], property);
            }
        }
    }
}

/// Takes over a description; next to a reference, OpenAPI 3.0 allows nothing else.
fn copy(from: &Value, to: &mut Value) {
    let (Some(text), Some(object)) = (from["description"].as_str(), to.as_object_mut()) else { return };
    if let Some(reference) = object.remove("$ref") {
        object.insert("allOf".into(), serde_json::json!([{ "$ref": reference }]));
    }
    object.insert("description".into(), text.into());
}
