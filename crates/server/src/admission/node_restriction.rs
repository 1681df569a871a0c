//! NodeRestriction: what the Node authorizer cannot see, because it is in the object. A
//! node writes itself, its Lease, and the pods bound to it; it makes mirror pods that
//! refer to nothing, and asks for tokens of its own pods only.
//!
//! Follows upstream's `plugin/pkg/admission/noderestriction`, with the fixes of
//! CVE-2025-4563 (resource claims of mirror pods) and CVE-2025-5187 (a node's owners).

use std::collections::BTreeSet;
use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Record, Value};
use carrack_store::Store;
use futures::future::BoxFuture;

use super::{look_up, refuse};
use crate::auth::node::LEASES;
use crate::auth::node::references::{self, items, text};
use crate::auth::{Authorizers, node_identity};
use crate::request::Attributes;
use crate::seams::{Admission, AdmissionRequest, Decision, Operation};

/// The plugin.
pub struct NodeRestriction {
    store: Arc<dyn Store>,
    authorizers: Arc<Authorizers>,
}

/// `Err`: why not.
type Answer = Result<(), Refusal>;

/// A refusal: a sentence about the object, or a whole answer (404).
enum Refusal {
    Detail(String),
    Status(Status),
}

impl<T: Into<String>> From<T> for Refusal {
    fn from(detail: T) -> Self {
        Self::Detail(detail.into())
    }
}

fn refused<T>(detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Detail(detail.into()))
}

impl NodeRestriction {
    /// Looks at a store's pods and nodes, and asks `authorizers` about audiences.
    pub fn new(store: Arc<dyn Store>, authorizers: Arc<Authorizers>) -> Self {
        Self { store, authorizers }
    }

    fn check(&self, request: &AdmissionRequest<'_>, object: Option<&Value>) -> Result<(), Status> {
        let answer = match node_identity(&request.call.user) {
            None => return Ok(()),
            Some("") => refused(format!("could not determine node from user {:?}", request.call.user.name)),
            Some(node) => self.decide(node, request, object.unwrap_or(&Value::Null)),
        };
        answer.map_err(|refusal| match refusal {
            Refusal::Detail(detail) => refuse(request, object, &detail),
            Refusal::Status(status) => status,
        })
    }

    fn decide(&self, node: &str, request: &AdmissionRequest<'_>, object: &Value) -> Answer {
        let call = request.call;
        match (&*call.kind.resource, &*call.subresource) {
            ("pods", "") => self.pod(node, request, object),
            ("pods", "status") => pod_status(node, request, object),
            ("pods", "eviction") => self.own_pod(node, request, &format!("node {node} can only evict pods")),
            ("pods", other) => refused(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
            ("nodes", _) => own_node(node, request, object),
            ("persistentvolumeclaims", "status") => claim_status(node, request, object),
            ("persistentvolumeclaims", _) => refused("may only update PVC status"),
            ("serviceaccounts", "token") if request.operation == Operation::Create => {
                self.token(node, request, object)
            }
            ("leases.coordination.k8s.io", _) if &*call.namespace != LEASES => {
                refused(format!("can only access leases in the {LEASES:?} system namespace"))
            }
            ("leases.coordination.k8s.io", _) => own_name(node, request, object, "node lease"),
            ("csinodes.storage.k8s.io", _) => own_name(node, request, object, "CSINode"),
            ("resourceslices.resource.k8s.io", _) => slice(node, request, object),
            ("certificatesigningrequests.certificates.k8s.io", "") => signing_request(request, object),
            _ => Ok(()),
        }
    }

    fn pod(&self, node: &str, request: &AdmissionRequest<'_>, object: &Value) -> Answer {
        match request.operation {
            Operation::Create => self.mirror_pod(node, object),
            Operation::Delete => self.own_pod(node, request, &format!("node {node:?} can only delete pods")),
            other => refused(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                format!("{other:?}").to_uppercase()
            )),
        }
    }

    /// The request's pod is bound to the node.
    fn own_pod(&self, node: &str, request: &AdmissionRequest<'_>, only: &str) -> Answer {
        let call = request.call;
        let pod = self.pod_record(&call.namespace, &call.name)?.decode();
        if text(&pod, "/spec/nodeName") == Some(node) {
            return Ok(());
        }
        refused(format!("{only} with spec.nodeName set to itself"))
    }

    fn pod_record(&self, namespace: &str, name: &str) -> Result<Arc<Record>, Refusal> {
        look_up(&self.store, "pods", namespace, name)
            .ok_or_else(|| Refusal::Status(Status::not_found("", "pods", name)))
    }

    fn mirror_pod(&self, node: &str, pod: &Value) -> Answer {
        if !references::is_mirror(pod) {
            return refused(format!(
                "pod does not have {:?} annotation, node {node:?} can only create mirror pods",
                references::MIRROR
            ));
        }
        if text(pod, "/spec/nodeName") != Some(node) {
            return refused(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        self.mirror_owner(node, pod)?;
        match references::api_object(pod) {
            Some(kind) => refused(format!("node {node:?} can not create pods that reference {kind}")),
            None => Ok(()),
        }
    }

    /// A mirror pod is owned by its node and nobody else.
    fn mirror_owner(&self, node: &str, pod: &Value) -> Answer {
        let mut owners = items(pod, "/metadata/ownerReferences");
        let (owner, more) = (owners.next(), owners.next());
        if more.is_some() {
            let detail = "can only create pods with a single owner reference set to itself";
            return refused(format!("node {node:?} {detail}"));
        }
        let itself =
            |owner: &&Value| owner["apiVersion"] == "v1" && owner["kind"] == "Node" && owner["name"] == node;
        let Some(owner) = owner.filter(itself) else {
            return refused(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        };
        if owner["controller"] != true {
            let detail = "can only create pods with a controller owner reference set to itself";
            return refused(format!("node {node:?} {detail}"));
        }
        if owner["blockOwnerDeletion"] == true {
            return refused(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
        }
        let record = look_up(&self.store, "nodes", "", node)
            .ok_or_else(|| Refusal::Status(Status::not_found("", "nodes", node)))?;
        let (given, uid) = (text(owner, "/uid").unwrap_or_default(), &record.header().uid);
        if given != &**uid {
            return refused(format!("node {node} UID mismatch: expected {given} got {uid}"));
        }
        Ok(())
    }

    fn token(&self, node: &str, request: &AdmissionRequest<'_>, body: &Value) -> Answer {
        let reference = body.pointer("/spec/boundObjectRef").unwrap_or(&Value::Null);
        let name = text(reference, "/name").unwrap_or_default();
        if reference["apiVersion"] != "v1" || reference["kind"] != "Pod" || name.is_empty() {
            return refused("node requested token not bound to a pod");
        }
        let Some(uid) = text(reference, "/uid") else {
            return refused("node requested token with a pod binding without a uid");
        };
        let record = self.pod_record(&request.call.namespace, name)?;
        if &*record.header().uid != uid {
            return refused(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object \
                 might have been deleted and then recreated"
            ));
        }
        let pod = record.decode();
        if text(&pod, "/spec/nodeName") != Some(node) {
            return refused("node requested token bound to a pod scheduled on a different node");
        }
        self.audience(request, body, &pod)
    }

    /// A node asks only for audiences that the pod asks for.
    fn audience(&self, request: &AdmissionRequest<'_>, body: &Value, pod: &Value) -> Answer {
        let mut audiences = items(body, "/spec/audiences").filter_map(Value::as_str);
        let (audience, more) = (audiences.next().unwrap_or_default(), audiences.next());
        if more.is_some() {
            return refused("node may only request 0 or 1 audiences");
        }
        let projected = |source: &Value| {
            let token = source.get("serviceAccountToken").filter(|token| !token.is_null());
            token.is_some_and(|token| text(token, "/audience").unwrap_or_default() == audience)
        };
        let named = items(pod, "/spec/volumes").any(|volume| {
            items(volume, "/projected/sources").any(projected)
                || self.driver(request, pod, volume).is_some_and(|driver| self.asks(&driver, audience))
        });
        if named {
            return Ok(());
        }
        let call = request.call;
        let verb = "request-serviceaccounts-token-audience";
        let mut attributes = Attributes::resource(verb, "", "", &call.namespace, &call.name);
        attributes.resource = audience.into();
        match self.authorizers.decide(&call.user, &attributes) {
            Decision::Allow(_) => Ok(()),
            _ => refused(format!(
                "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for \
                 this audience",
                call.user.name
            )),
        }
    }

    /// The CSI driver behind a volume, if there is one.
    fn driver(&self, request: &AdmissionRequest<'_>, pod: &Value, volume: &Value) -> Option<String> {
        if let Some(driver) = text(volume, "/csi/driver") {
            return Some(driver.to_owned());
        }
        let pod_name = text(pod, "/metadata/name")?;
        let claim = match text(volume, "/persistentVolumeClaim/claimName") {
            Some(claim) => claim.to_owned(),
            None => {
                volume.get("ephemeral").filter(|ephemeral| !ephemeral.is_null())?;
                format!("{pod_name}-{}", text(volume, "/name")?)
            }
        };
        let claim = look_up(&self.store, "persistentvolumeclaims", &request.call.namespace, &claim)?.decode();
        let volume =
            look_up(&self.store, "persistentvolumes", "", text(&claim, "/spec/volumeName")?)?.decode();
        Some(text(&volume, "/spec/csi/driver")?.to_owned())
    }

    fn asks(&self, driver: &str, audience: &str) -> bool {
        let driver = look_up(&self.store, "csidrivers.storage.k8s.io", "", driver);
        driver.is_some_and(|driver| {
            items(&driver.decode(), "/spec/tokenRequests")
                .any(|request| text(request, "/audience").unwrap_or_default() == audience)
        })
    }
}

impl Admission for NodeRestriction {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation != Operation::Connect && node_identity(&request.call.user).is_some()
    }

    fn mutate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(self.check(request, Some(object))))
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        // Once is enough, unless nothing mutates: deletions and acting subresources.
        let once = request.operation != Operation::Delete && request.call.subresource.is_empty();
        let answer = if once { Ok(()) } else { self.check(request, object) };
        Box::pin(std::future::ready(answer))
    }
}

fn pod_status(node: &str, request: &AdmissionRequest<'_>, pod: &Value) -> Answer {
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
        return refused("unexpected operation");
    };
    if text(old, "/spec/nodeName") != Some(node) {
        return refused(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if !same(pod, old, "/metadata/labels") {
        return refused(format!("node {node:?} cannot update labels through pod status"));
    }
    if !same(pod, old, "/status/resourceClaimStatuses") {
        return refused(format!("node {node:?} cannot update resource claim statues"));
    }
    if !same(pod, old, "/status/extendedResourceClaimStatus") {
        return refused(format!("node {node:?} cannot update extended resource claim status"));
    }
    Ok(())
}

fn own_node(node: &str, request: &AdmissionRequest<'_>, object: &Value) -> Answer {
    let given = &*request.call.name;
    let named = if given.is_empty() { text(object, "/metadata/name").unwrap_or_default() } else { given };
    if named != node {
        return refused(format!("node {node:?} is not allowed to modify node {named:?}"));
    }
    let config = object.pointer("/spec/configSource").filter(|source| !source.is_null());
    match (request.operation, request.old) {
        (Operation::Create, _) => {
            if config.is_some() {
                return refused(format!(
                    "node {node:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
            let labels = forbidden_labels(object, &Value::Null);
            if labels.is_empty() {
                return Ok(());
            }
            refused(format!(
                "node {node:?} is not allowed to set the following labels: {}",
                labels.join(", ")
            ))
        }
        (Operation::Update, Some(old)) => {
            if config.is_some() && !same(object, old, "/spec/configSource") {
                return refused(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if !same(object, old, "/spec/taints") {
                return refused(format!("node {node:?} is not allowed to modify taints"));
            }
            if !same(object, old, "/metadata/ownerReferences") {
                return refused(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            let labels = forbidden_labels(object, old);
            if labels.is_empty() {
                return Ok(());
            }
            refused(format!("is not allowed to modify labels: {}", labels.join(", ")))
        }
        _ => Ok(()),
    }
}

/// Labels that differ and that a node may not set on itself: those by which it could
/// draw other nodes' pods.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    const RESTRICTED: &str = "node-restriction.kubernetes.io";
    let labels = |object: &Value| object.pointer("/metadata/labels").and_then(Value::as_object).cloned();
    let (new, old) = (labels(new).unwrap_or_default(), labels(old).unwrap_or_default());
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let forbidden = |key: &&&String| {
        let domain = key.split_once('/').map(|(domain, _)| domain).unwrap_or_default();
        let under = |suffix: &str| {
            domain.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let kubernetes = under("kubernetes.io") || under("k8s.io");
        new.get(**key) != old.get(**key)
            && (under(RESTRICTED) || (kubernetes && !is_kubelet_label(key, &under)))
    };
    keys.iter().filter(forbidden).map(|key| (*key).clone()).collect()
}

/// Labels of the kubernetes.io domains that nodes set themselves (upstream:
/// `kubeletapis.IsKubeletLabel`).
fn is_kubelet_label(key: &str, under: &dyn Fn(&str) -> bool) -> bool {
    const OWN: [&str; 11] = [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    ];
    OWN.contains(&key) || under("kubelet.kubernetes.io") || under("node.kubernetes.io")
}

fn claim_status(node: &str, request: &AdmissionRequest<'_>, claim: &Value) -> Answer {
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
        return refused("unexpected operation");
    };
    let rest = |claim: &Value| {
        let mut rest = claim.clone();
        for (part, fields) in [
            ("metadata", &["resourceVersion", "managedFields"][..]),
            ("status", &["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"]),
        ] {
            if let Some(map) = rest.get_mut(part).and_then(Value::as_object_mut) {
                fields.iter().for_each(|field| _ = map.remove(*field));
            }
        }
        rest
    };
    if rest(claim) == rest(old) {
        return Ok(());
    }
    refused(format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    ))
}

fn own_name(node: &str, request: &AdmissionRequest<'_>, object: &Value, what: &str) -> Answer {
    let created = text(object, "/metadata/name").unwrap_or_default();
    let name = if request.operation == Operation::Create { created } else { &request.call.name };
    if name == node {
        return Ok(());
    }
    refused(format!("can only access {what} with the same name as the requesting node"))
}

fn slice(node: &str, request: &AdmissionRequest<'_>, object: &Value) -> Answer {
    let (word, slice) = match request.operation {
        Operation::Create => ("create", object),
        Operation::Delete => ("delete", request.old.unwrap_or(&Value::Null)),
        _ => return Ok(()),
    };
    if text(slice, "/spec/nodeName") == Some(node) {
        return Ok(());
    }
    refused(format!("can only {word} ResourceSlice with the same NodeName as the requesting node"))
}

fn signing_request(request: &AdmissionRequest<'_>, object: &Value) -> Answer {
    let signer = text(object, "/spec/signerName").unwrap_or_default();
    let for_nodes =
        matches!(signer, "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet");
    if request.operation != Operation::Create || !for_nodes {
        return Ok(());
    }
    let name = text(object, "/spec/request").and_then(common_name);
    if name.as_deref() == Some(&*request.call.user.name) {
        return Ok(());
    }
    refused(format!("can only create a node CSR with CN={}", request.call.user.name))
}

/// The common name in a PEM certificate request in base64.
fn common_name(request: &str) -> Option<String> {
    use base64::Engine;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};
    let pem = base64::engine::general_purpose::STANDARD.decode(request).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &request.certification_request_info.subject;
    Some(subject.iter_common_name().next()?.as_str().ok()?.to_owned())
}

/// Whether two objects hold the same at a pointer; absent, null and empty are the same.
fn same(a: &Value, b: &Value, pointer: &str) -> bool {
    let at = |object: &Value| {
        let value = object.pointer(pointer).cloned().unwrap_or(Value::Null);
        let empty = value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty);
        if empty { Value::Null } else { value }
    };
    at(a) == at(b)
}
