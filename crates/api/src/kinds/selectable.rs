//! Field selectors of the built-in kinds, beyond `metadata.name` and
//! `metadata.namespace` (upstream's field label conversions): the label that a client
//! writes, and the expression that finds its value in a stored object, see
//! [`Kind::field_paths`](crate::Kind).

/// Label and expression.
type Row = (&'static str, &'static str);

const PODS: &[Row] = &[
    ("spec.nodeName", "spec.nodeName"),
    ("spec.restartPolicy", "spec.restartPolicy"),
    ("spec.schedulerName", "spec.schedulerName"),
    ("spec.serviceAccountName", "spec.serviceAccountName"),
    ("spec.hostNetwork", "spec.hostNetwork=false"),
    ("status.phase", "status.phase"),
    ("status.podIP", "status.podIP"),
    ("status.nominatedNodeName", "status.nominatedNodeName"),
];

const EVENTS: &[Row] = &[
    ("involvedObject.kind", "involvedObject.kind"),
    ("involvedObject.namespace", "involvedObject.namespace"),
    ("involvedObject.name", "involvedObject.name"),
    ("involvedObject.uid", "involvedObject.uid"),
    ("involvedObject.apiVersion", "involvedObject.apiVersion"),
    ("involvedObject.resourceVersion", "involvedObject.resourceVersion"),
    ("involvedObject.fieldPath", "involvedObject.fieldPath"),
    ("reason", "reason"),
    ("reportingComponent", "reportingComponent"),
    ("type", "type"),
    ("source", "source.component|reportingComponent"),
];

/// The same values under the names of `events.k8s.io`, whose objects are stored in
/// the core group's form.
const NEW_EVENTS: &[Row] = &[
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reason", "reason"),
    ("reportingController", "reportingComponent"),
    ("type", "type"),
    // Not a label here, but stored with the others.
    ("", "source.component|reportingComponent"),
];

/// The rows of a resource, in the order of [`Header::fields`](crate::Header).
pub(super) fn rows(group: &str, plural: &str) -> &'static [Row] {
    match (group, plural) {
        ("", "pods") => PODS,
        ("", "events") => EVENTS,
        ("events.k8s.io", "events") => NEW_EVENTS,
        ("", "namespaces") => &[("status.phase", "status.phase")],
        ("", "nodes") => &[("spec.unschedulable", "spec.unschedulable=false")],
        ("", "replicationcontrollers") => &[("status.replicas", "status.replicas=0")],
        ("", "secrets") => &[("type", "type")],
        ("", "services") => &[("spec.clusterIP", "spec.clusterIP"), ("spec.type", "spec.type")],
        ("batch", "jobs") => &[("status.successful", "status.succeeded=0")],
        ("certificates.k8s.io", "certificatesigningrequests") => &[("spec.signerName", "spec.signerName")],
        ("resource.k8s.io", "resourceslices") => {
            &[("spec.nodeName", "spec.nodeName"), ("spec.driver", "spec.driver")]
        }
        _ => &[],
    }
}

/// The rows of the objects that a store keeps under `resource` (`pods`, `jobs.batch`).
fn stored(resource: &str) -> &'static [Row] {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    rows(group, plural)
}

/// Where [`Header::fields`](crate::Header) of a built-in resource's objects has `label`.
pub(crate) fn position(resource: &str, label: &str) -> Option<usize> {
    stored(resource).iter().position(|row| row.0 == label)
}

/// Whether a built-in resource's objects can be selected by `label` as they are stored:
/// then [`Record::field`](crate::Record::field) has its value.
pub fn is_field(resource: &str, label: &str) -> bool {
    position(resource, label).is_some()
}

/// The expressions of a built-in resource's selectable fields, for making records of
/// objects that come from another server; `resource` as in [`Key::new`](crate::Key::new).
pub fn field_paths(resource: &str) -> Vec<&'static str> {
    stored(resource).iter().map(|row| row.1).collect()
}
