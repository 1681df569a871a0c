//! Which rules the built-in kinds have, and in which order an update runs them.
//!
//! Upstream repeats itself: an update may check metadata up to four times, and every
//! time is a cause of its own in the answer. So the order and the repetitions are
//! facts about a kind and stand here; what the rules say stands in the groups' files.

use serde_json::Value;

use super::{
    admission, apps, autoscaling, batch, certificates, core, definition, devices, flow, network, networking,
    pods, policy, quota, rbac, scheduling, services, storage, volumes,
};
use crate::Kind;
use crate::field::{Errors, Path};

/// A part of the rules of an update.
pub enum Step {
    /// The metadata rules of a new object.
    Metadata,
    /// The metadata rules of a change.
    Changed,
    /// The rules of a new object.
    Create,
    /// Rules that compare old and new.
    Own(fn(&Value, &Value, &mut Errors)),
}

/// A kind's rules beyond those that every kind has.
pub struct Rules {
    /// Of a new object, metadata aside.
    pub create: fn(&Value, &mut Errors),
    /// Of an update.
    pub update: &'static [Step],
    /// Of a status that replaces another.
    pub status: fn(&Value, &Value, &mut Errors),
    /// Whether those of a status include metadata.
    pub status_metadata: bool,
    /// Whether a new object's metadata is looked at last, and only if all else is well.
    pub late_metadata: bool,
}

const NOTHING: Rules = Rules {
    create: |_, _| {},
    update: &[Step::Changed],
    status: |_, _, _| {},
    status_metadata: true,
    late_metadata: false,
};

/// Metadata's changes, then what holds of every object.
const CHANGED_CREATE: &[Step] = &[Step::Changed, Step::Create];

macro_rules! rules {
    ($($field:ident: $value:expr),* $(,)?) => {{
        #[allow(clippy::needless_update, reason = "a kind may fill in every field")]
        const RULES: Rules = Rules { $($field: $value,)* ..NOTHING };
        Some(&RULES)
    }};
}

/// The rules of a built-in kind.
pub fn of(kind: &Kind) -> Option<&'static Rules> {
    use Step::{Changed, Create, Metadata, Own};
    if kind.custom {
        return None;
    }
    match (&*kind.group, &*kind.kind) {
        ("apiextensions.k8s.io", "CustomResourceDefinition") => rules!(
            create: definition::create,
            update: &[
                Own(super::meta::changes),
                Own(definition::update),
            ],
            status: |new, old, errors| {
                super::meta::changes(new, old, errors);
                definition::status(new, old, errors);
            },
            status_metadata: false,
        ),
        ("", "Pod") => rules!(
            create: pods::create,
            update: &[Changed, Metadata, Own(pods::update)],
            status: pods::status_update,
        ),
        ("", "PodTemplate") => rules!(
            create: |object, errors| {
                pods::template(&object["template"], &Path::ROOT.child("template"), errors);
            },
            update: CHANGED_CREATE,
        ),
        ("", "ReplicationController") => rules!(
            create: quota::replication_controller,
            update: CHANGED_CREATE,
            status: |new, old, errors| apps::status("ReplicationController", new, old, errors),
        ),
        ("", "LimitRange") => rules!(create: quota::limit_range, update: &[Metadata, Create]),
        ("", "ResourceQuota") => rules!(
            create: quota::resource_quota,
            update: &[Changed, Own(quota::resource_quota_update)],
            status: quota::resource_quota_status,
        ),
        ("", "PersistentVolume") => rules!(
            create: |volume, errors| {
                volumes::volume(volume, errors);
                volumes::mount_options(volume, errors);
            },
            update: &[
                Metadata,
                Create,
                Metadata,
                Own(|new, _, errors| volumes::volume(new, errors)),
                Own(volumes::volume_update),
            ],
        ),
        ("", "PersistentVolumeClaim") => rules!(
            create: volumes::claim,
            update: &[Changed, Metadata, Create, Own(volumes::claim_update)],
            status: volumes::claim_status,
        ),
        ("", "Event") => {
            rules!(update: &[Own(|new, _, errors| core::any_event(new, false, errors))])
        }
        ("events.k8s.io", "Event") => rules!(
            create: |object, errors| core::new_event(&super::stored_event(object), errors),
            update: &[
                Own(|new, _, errors| core::any_event(&super::stored_event(new), true, errors)),
                Changed,
                Own(|new, old, errors| {
                    core::event_update(&super::stored_event(new), &super::stored_event(old), errors);
                }),
            ],
        ),
        ("", "Secret") => rules!(
            create: core::secret,
            update: &[Changed, Own(core::secret_update), Metadata, Create],
        ),
        ("", "ConfigMap") => rules!(
            create: core::config_map,
            update: &[
                Changed,
                Own(|new, old, errors| core::sealed(new, old, &["data", "binaryData"], errors)),
                Metadata,
                Create,
            ],
        ),
        ("", "ServiceAccount") => rules!(update: &[Changed, Metadata]),
        ("", "Namespace") => rules!(
            create: core::namespace,
            update: &[Metadata, Changed],
            status: |new, _, errors| core::namespace_status(new, errors),
        ),
        ("", "Service") => rules!(
            create: services::create,
            update: &[Changed, Own(services::update), Create],
            status: |new, _, errors| services::status(new, errors),
        ),
        ("", "Endpoints") => rules!(
            create: network::endpoints,
            update: &[Changed, Metadata, Own(|new, old, errors| {
                if !crate::tree::same_field(new, old, "subsets") {
                    network::endpoints(new, errors);
                }
            })],
        ),
        ("", "Node") => rules!(
            create: core::node,
            update: &[
                Metadata,
                Create,
                Changed,
                Own(core::node_update),
            ],
            status: core::node_update,
        ),
        ("coordination.k8s.io", "Lease") => rules!(create: core::lease, update: CHANGED_CREATE),
        ("discovery.k8s.io", "EndpointSlice") => rules!(
            create: |slice, errors| network::endpoint_slice(slice, None, errors),
            update: &[
                Metadata,
                Own(|new, old, errors| network::endpoint_slice(new, Some(old), errors)),
                Own(network::endpoint_slice_update),
            ],
        ),
        ("networking.k8s.io", "IPAddress") => rules!(
            create: network::ip_address,
            update: &[Metadata, Create, Changed, Own(network::ip_address_update)],
        ),
        ("networking.k8s.io", "ServiceCIDR") => rules!(
            create: network::service_cidr,
            update: &[Changed, Own(network::service_cidr_update)],
        ),
        ("rbac.authorization.k8s.io", "Role") => rules!(
            create: |object, errors| rbac::create("Role", object, errors),
            update: &[Metadata, Create, Changed],
        ),
        ("rbac.authorization.k8s.io", "ClusterRole") => rules!(
            create: |object, errors| rbac::create("ClusterRole", object, errors),
            update: &[Metadata, Create, Changed],
        ),
        ("rbac.authorization.k8s.io", "RoleBinding") => rules!(
            create: |object, errors| rbac::create("RoleBinding", object, errors),
            update: &[Metadata, Create, Changed, Own(|new, old, e| rbac::update("RoleBinding", new, old, e))],
        ),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => rules!(
            create: |object, errors| rbac::create("ClusterRoleBinding", object, errors),
            update: &[
                Metadata,
                Create,
                Changed,
                Own(|new, old, e| rbac::update("ClusterRoleBinding", new, old, e)),
            ],
        ),
        ("apps", kind) => apps_rules(kind),
        ("batch", "Job") => rules!(
            create: batch::job,
            update: &[Metadata, Own(batch::job_again), Changed, Own(batch::job_update)],
            status: batch::job_status,
        ),
        ("batch", "CronJob") => rules!(
            create: |object, errors| batch::cron_job(object, None, errors),
            update: &[Changed, Own(|new, old, errors| batch::cron_job(new, Some(old), errors))],
            status_metadata: false,
        ),
        ("autoscaling", "HorizontalPodAutoscaler") => rules!(
            create: autoscaling::create,
            update: &[Changed, Own(autoscaling::update)],
            status: autoscaling::status,
        ),
        ("policy", "PodDisruptionBudget") => rules!(
            create: policy::create,
            update: &[Create],
            status: policy::status,
            status_metadata: false,
            late_metadata: true,
        ),
        ("scheduling.k8s.io", "PriorityClass") => rules!(
            create: scheduling::create,
            update: &[Changed, Own(scheduling::update)],
        ),
        ("node.k8s.io", "RuntimeClass") => rules!(
            create: scheduling::runtime_class,
            update: &[Metadata, Create, Changed, Own(scheduling::runtime_class_update)],
        ),
        ("networking.k8s.io", "NetworkPolicy") => rules!(
            create: |object, errors| networking::policy(object, None, errors),
            update: &[Changed, Own(|new, old, errors| networking::policy(new, Some(old), errors))],
        ),
        ("networking.k8s.io", "Ingress") => rules!(
            create: networking::ingress,
            update: &[Changed, Metadata, Own(networking::ingress_update)],
            status: networking::ingress_status,
        ),
        ("networking.k8s.io", "IngressClass") => rules!(
            create: networking::class,
            update: &[Changed, Own(networking::class_update), Metadata, Create],
        ),
        ("storage.k8s.io", kind) => storage_rules(kind),
        ("admissionregistration.k8s.io", kind) => admission_rules(kind),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => rules!(
            create: flow::schema,
            update: &[Metadata, Create],
            status: flow::status,
            status_metadata: false,
        ),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => rules!(
            create: flow::level,
            update: &[Metadata, Create],
            status: flow::status,
            status_metadata: false,
        ),
        ("certificates.k8s.io", "CertificateSigningRequest") => rules!(
            create: certificates::create,
            update: &[Metadata, Own(certificates::update), Changed],
            status: certificates::status,
        ),
        ("resource.k8s.io", "ResourceClaim") => rules!(
            create: devices::claim,
            update: &[Metadata, Changed, Own(devices::claim_update)],
            status: devices::claim_status,
        ),
        ("resource.k8s.io", "ResourceClaimTemplate") => rules!(
            create: devices::template,
            update: &[Metadata, Create, Changed, Own(devices::template_update)],
        ),
        ("resource.k8s.io", "DeviceClass") => rules!(
            create: devices::class,
            update: &[Metadata, Changed, Create],
        ),
        ("resource.k8s.io", "ResourceSlice") => rules!(
            create: devices::slice,
            update: &[Changed, Own(devices::slice_update)],
        ),
        ("apiregistration.k8s.io", "APIService") => rules!(
            create: certificates::api_service,
            update: &[Changed, Metadata, Create],
            status: certificates::api_service_status,
        ),
        _ => None,
    }
}

fn apps_rules(kind: &str) -> Option<&'static Rules> {
    use Step::{Changed, Create, Metadata, Own};
    match kind {
        "Deployment" => rules!(
            create: apps::deployment,
            update: &[Changed, Create, Own(apps::same_selector)],
            status: |new, old, errors| apps::status("Deployment", new, old, errors),
        ),
        "ReplicaSet" => rules!(
            create: apps::replica_set,
            update: &[Changed, Create, Own(apps::same_selector)],
            status: |new, old, errors| apps::status("ReplicaSet", new, old, errors),
        ),
        "DaemonSet" => rules!(
            create: apps::daemon_set,
            update: &[Changed, Own(apps::same_selector), Create],
            status: |new, old, errors| apps::status("DaemonSet", new, old, errors),
        ),
        "StatefulSet" => rules!(
            create: apps::stateful_set,
            update: &[Changed, Own(apps::stateful_set_update)],
            status: |new, old, errors| apps::status("StatefulSet", new, old, errors),
        ),
        "ControllerRevision" => rules!(
            create: apps::revision,
            update: &[Changed, Metadata, Own(apps::revision_update)],
        ),
        _ => None,
    }
}

fn admission_rules(kind: &str) -> Option<&'static Rules> {
    use Step::{Create, Metadata, Own};
    match kind {
        "ValidatingWebhookConfiguration" => rules!(
            create: admission::validating_hooks,
            update: &[Metadata, Own(admission::validating_hooks_update)],
        ),
        "MutatingWebhookConfiguration" => rules!(
            create: admission::mutating_hooks,
            update: &[Metadata, Own(admission::mutating_hooks_update)],
        ),
        "ValidatingAdmissionPolicy" => rules!(
            create: admission::validating,
            update: &[Metadata, Own(admission::validating_update)],
            status: admission::validating_status,
            status_metadata: false,
        ),
        "ValidatingAdmissionPolicyBinding" => rules!(create: admission::binding, update: &[Metadata, Create]),
        "MutatingAdmissionPolicy" => rules!(
            create: admission::mutating,
            update: &[Metadata, Own(admission::mutating_update)],
        ),
        "MutatingAdmissionPolicyBinding" => rules!(
            create: admission::mutating_binding,
            update: &[Metadata, Create],
        ),
        _ => None,
    }
}

fn storage_rules(kind: &str) -> Option<&'static Rules> {
    use Step::{Changed, Create, Metadata, Own};
    match kind {
        "StorageClass" => rules!(
            create: storage::class,
            update: &[Metadata, Create, Changed, Own(storage::class_update)],
        ),
        "VolumeAttachment" => rules!(
            create: storage::attachment,
            update: &[Metadata, Create, Own(storage::attachment_update)],
        ),
        "CSIDriver" => rules!(
            create: storage::driver,
            update: &[Changed, Create, Own(storage::driver_update)],
        ),
        "CSINode" => rules!(
            create: storage::node,
            update: &[Metadata, Create, Own(storage::node_update)],
        ),
        "CSIStorageCapacity" => rules!(
            create: storage::capacity,
            update: &[Metadata, Create, Changed, Own(storage::capacity_update)],
        ),
        "VolumeAttributesClass" => rules!(
            create: storage::attributes,
            update: &[Changed, Own(storage::attributes_update), Metadata, Create],
        ),
        _ => None,
    }
}
