//! What upstream publishes of a type besides what the facts say: names of untyped values,
//! unions, a few defaults. Fields are named by the end of their type's name.

/// Untyped values that have a name: type, field, the name's package and name.
pub(super) const NAMED: &[(&str, &str, &str)] = &[
    ("meta.v1.ManagedFieldsEntry", "fieldsV1", "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"),
    ("meta.v1.WatchEvent", "object", RAW),
    ("apps.v1.ControllerRevision", "data", RAW),
    ("resource.v1.AllocatedDeviceStatus", "data", RAW),
    ("resource.v1.OpaqueDeviceConfiguration", "parameters", RAW),
    ("apiextensions.v1.JSONSchemaProps", "default", JSON),
    ("apiextensions.v1.JSONSchemaProps", "enum", JSON),
    ("apiextensions.v1.JSONSchemaProps", "example", JSON),
    (
        "apiextensions.v1.JSONSchemaProps",
        "items",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    ),
    ("apiextensions.v1.JSONSchemaProps", "additionalItems", OR_BOOL),
    ("apiextensions.v1.JSONSchemaProps", "additionalProperties", OR_BOOL),
    (
        "apiextensions.v1.JSONSchemaProps",
        "dependencies",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
    ),
];

const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";
const OR_BOOL: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool";

/// Named values that may be anything; the others are objects.
pub(super) fn is_anything(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|name| name.starts_with("JSON"))
}

/// Members of a union with the discriminator's values.
type Members = &'static [(&'static str, &'static str)];

/// Unions: type, discriminator, members.
pub(super) const UNIONS: &[(&str, &str, Members)] = &[
    ("core.v1.AppArmorProfile", "type", &[("localhostProfile", "LocalhostProfile")]),
    ("core.v1.PodSchedulingGroup", "", &[("podGroupName", "PodGroupName")]),
    ("core.v1.SeccompProfile", "type", &[("localhostProfile", "LocalhostProfile")]),
    ("flowcontrol.v1.LimitResponse", "type", &[("queuing", "Queuing")]),
    (
        "flowcontrol.v1.PriorityLevelConfigurationSpec",
        "type",
        &[("exempt", "Exempt"), ("limited", "Limited")],
    ),
    (
        "flowcontrol.v1.Subject",
        "kind",
        &[("group", "Group"), ("serviceAccount", "ServiceAccount"), ("user", "User")],
    ),
];

/// Defaults that OpenAPI 3.0 has and defaulting does not need: type, field, JSON.
pub(super) const DEFAULTS: &[(&str, &str, &str)] = &[
    ("autoscaling.v1.ScaleSpec", "replicas", "0"),
    ("autoscaling.v1.ScaleStatus", "replicas", "0"),
    ("core.v1.AzureDiskVolumeSource", "readOnly", "false"),
    ("core.v1.FileKeySelector", "optional", "false"),
    ("core.v1.GRPCAction", "service", "\"\""),
    ("core.v1.LocalObjectReference", "name", "\"\""),
    ("core.v1.ReplicationControllerSpec", "minReadySeconds", "0"),
];

/// What the values of a map may be: type, field, values.
pub(super) const VALUES: &[(&str, &str, &[&str])] = &[(
    "core.v1.PersistentVolumeClaimStatus",
    "allocatedResourceStatuses",
    &[
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ],
)];

/// Bytes that are declared as an atomic list.
pub(super) const ATOMIC: &[(&str, &str)] = &[("apiregistration.v1.APIServiceSpec", "caBundle")];

/// Fields without a description.
pub(super) const UNDESCRIBED: &[(&str, &str)] = &[
    ("networking.v1.IngressRule", "http"),
    ("apiextensions.v1.JSONSchemaProps", "additionalItems"),
    ("apiextensions.v1.JSONSchemaProps", "additionalProperties"),
    ("apiextensions.v1.JSONSchemaProps", "example"),
    ("apiextensions.v1.JSONSchemaProps", "externalDocs"),
    ("apiextensions.v1.JSONSchemaProps", "items"),
    ("apiextensions.v1.JSONSchemaProps", "not"),
];

/// Maps whose members are owned one by one.
pub(super) const GRANULAR: &[(&str, &str)] = &[
    ("core.v1.PersistentVolumeClaimStatus", "allocatedResourceStatuses"),
    ("core.v1.PersistentVolumeSpec", "claimRef"),
];

/// The groups and versions that upstream's programs know, served or not: a Swagger 2.0
/// document says that options and events are of every one of them.
const KNOWN: &[(&str, &[&str])] = &[
    ("", &["v1"]),
    ("admission.k8s.io", &["v1", "v1beta1"]),
    ("admissionregistration.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("apiextensions.k8s.io", &["v1", "v1beta1"]),
    ("apiregistration.k8s.io", &["v1", "v1beta1"]),
    ("apps", &["v1", "v1beta1", "v1beta2"]),
    ("authentication.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("authorization.k8s.io", &["v1", "v1beta1"]),
    ("autoscaling", &["v1", "v2"]),
    ("batch", &["v1", "v1beta1"]),
    ("certificates.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("coordination.k8s.io", &["v1", "v1alpha2", "v1beta1"]),
    ("discovery.k8s.io", &["v1", "v1beta1"]),
    ("events.k8s.io", &["v1", "v1beta1"]),
    ("extensions", &["v1beta1"]),
    ("flowcontrol.apiserver.k8s.io", &["v1", "v1beta1", "v1beta2", "v1beta3"]),
    ("imagepolicy.k8s.io", &["v1alpha1"]),
    ("internal.apiserver.k8s.io", &["v1alpha1"]),
    ("networking.k8s.io", &["v1", "v1beta1"]),
    ("node.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("policy", &["v1", "v1beta1"]),
    ("rbac.authorization.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("resource.k8s.io", &["v1", "v1alpha3", "v1beta1", "v1beta2"]),
    ("scheduling.k8s.io", &["v1", "v1alpha2", "v1beta1"]),
    ("storage.k8s.io", &["v1", "v1alpha1", "v1beta1"]),
    ("storagemigration.k8s.io", &["v1beta1"]),
];

/// Each group that upstream's programs know, with each version of it.
pub(super) fn known() -> impl Iterator<Item = (&'static str, &'static str)> {
    KNOWN.iter().flat_map(|(group, versions)| versions.iter().map(move |version| (*group, *version)))
}

/// Whether a type's whole name ends with one of the short ones above.
pub(super) fn is(whole: &str, short: &str) -> bool {
    whole.strip_suffix(short).is_some_and(|head| head.ends_with('.'))
}
