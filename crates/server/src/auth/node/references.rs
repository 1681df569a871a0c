//! What a pod or a persistent volume refers to. Pure.
//!
//! Follows upstream's `podutil.VisitPodSecretNames`, `VisitPodConfigmapNames` and
//! `VisitPVSecretNames`: the list of places where a name can stand is complete, for a
//! place forgotten here is a secret that its node cannot read.

use carrack_api::{Value, tree};

/// Marks a pod that a node made from a file of its own.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Whether a pod is a node's image of a file of its own.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get(MIRROR).is_some())
}

/// Names of the secrets that a pod refers to, repeated ones included.
pub(crate) fn secrets(pod: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        items(pod, "/spec/imagePullSecrets").filter_map(|r| text(r, "/name")).collect();
    environment(pod, "secretKeyRef", "secretRef", &mut names);
    for volume in items(pod, "/spec/volumes") {
        const PLACES: [&str; 11] = [
            "/secret/secretName",
            "/azureFile/secretName",
            "/cephfs/secretRef/name",
            "/cinder/secretRef/name",
            "/flexVolume/secretRef/name",
            "/rbd/secretRef/name",
            "/scaleIO/secretRef/name",
            "/iscsi/secretRef/name",
            "/storageos/secretRef/name",
            "/csi/nodePublishSecretRef/name",
            "/csi/nodeStageSecretRef/name",
        ];
        names.extend(PLACES.iter().filter_map(|place| text(volume, place)));
        names.extend(items(volume, "/projected/sources").filter_map(|source| text(source, "/secret/name")));
    }
    names
}

/// Names of the config maps that a pod refers to.
pub(crate) fn config_maps(pod: &Value) -> Vec<&str> {
    let mut names = Vec::new();
    environment(pod, "configMapKeyRef", "configMapRef", &mut names);
    for volume in items(pod, "/spec/volumes") {
        names.extend(text(volume, "/configMap/name"));
        names
            .extend(items(volume, "/projected/sources").filter_map(|source| text(source, "/configMap/name")));
    }
    names
}

/// Names of the claims that a pod's volumes are made of, those of ephemeral volumes
/// (`pod-volume`) included.
pub(crate) fn volume_claims(pod: &Value) -> Vec<String> {
    let pod_name = text(pod, "/metadata/name").unwrap_or_default();
    let claim = |volume: &Value| {
        let named = text(volume, "/persistentVolumeClaim/claimName").map(str::to_owned);
        let ephemeral = || {
            volume.get("ephemeral").filter(|e| !e.is_null())?;
            Some(format!("{pod_name}-{}", text(volume, "/name")?))
        };
        named.or_else(ephemeral)
    };
    items(pod, "/spec/volumes").filter_map(claim).collect()
}

/// Names of the resource claims of a pod, so far as they exist.
pub(crate) fn resource_claims(pod: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        items(pod, "/spec/resourceClaims").filter_map(|claim| text(claim, "/resourceClaimName")).collect();
    let statuses = items(pod, "/status/resourceClaimStatuses");
    names.extend(statuses.filter_map(|claim| text(claim, "/resourceClaimName")));
    names.extend(text(pod, "/status/extendedResourceClaimStatus/resourceClaimName"));
    names
}

/// Namespace and name of the secrets that a node needs to mount a persistent volume.
pub(crate) fn volume_secrets(volume: &Value) -> Vec<(&str, &str)> {
    let claim = text(volume, "/spec/claimRef/namespace").unwrap_or_default();
    let spec = volume.get("spec").unwrap_or(&Value::Null);
    let mut secrets = Vec::new();
    if let Some(name) = text(spec, "/azureFile/secretName") {
        secrets.push((text(spec, "/azureFile/secretNamespace").unwrap_or(claim), name));
    }
    for place in ["cephfs", "flexVolume", "rbd", "scaleIO", "iscsi", "cinder", "storageos"] {
        let Some(reference) = spec.pointer(&format!("/{place}/secretRef")) else { continue };
        let own = if matches!(place, "cinder" | "storageos") { "" } else { claim };
        secrets.extend(text(reference, "/name").map(|n| (text(reference, "/namespace").unwrap_or(own), n)));
    }
    for place in ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"] {
        let Some(reference) = spec.pointer(&format!("/csi/{place}")) else { continue };
        secrets.extend(text(reference, "/name").map(|n| (text(reference, "/namespace").unwrap_or(""), n)));
    }
    secrets
}

/// The first reference of a pod to another API object, in the words of upstream's
/// `HasAPIObjectReference`; a volume of a kind unknown here counts as one.
pub(crate) fn api_object(pod: &Value) -> Option<&'static str> {
    if text(pod, "/spec/serviceAccountName").is_some() {
        return Some("serviceaccounts");
    }
    if !secrets(pod).is_empty() {
        return Some("secrets");
    }
    if !config_maps(pod).is_empty() {
        return Some("configmaps");
    }
    if items(pod, "/spec/resourceClaims").next().is_some() {
        return Some("resourceclaims");
    }
    items(pod, "/spec/volumes").find_map(volume_object)
}

fn volume_object(volume: &Value) -> Option<&'static str> {
    let fields = volume.as_object()?;
    let source = fields.iter().find(|(name, value)| *name != "name" && !value.is_null());
    // No source at all is an emptyDir by default.
    let (source, value) = source?;
    Some(match source.as_str() {
        "awsElasticBlockStore"
        | "azureDisk"
        | "cephfs"
        | "cinder"
        | "downwardAPI"
        | "emptyDir"
        | "fc"
        | "flexVolume"
        | "flocker"
        | "gcePersistentDisk"
        | "gitRepo"
        | "hostPath"
        | "image"
        | "iscsi"
        | "nfs"
        | "photonPersistentDisk"
        | "portworxVolume"
        | "quobyte"
        | "rbd"
        | "scaleIO"
        | "storageos"
        | "vsphereVolume" => return None,
        "configMap" => "configmaps (via configmap volumes)",
        "secret" => "secrets (via secret volumes)",
        "csi" => "csidrivers (via CSI volumes)",
        "glusterfs" => "endpoints (via glusterFS volumes)",
        "persistentVolumeClaim" => "persistentvolumeclaims",
        "ephemeral" => "persistentvolumeclaims (via ephemeral volumes)",
        "azureFile" => "secrets (via azureFile volumes)",
        "projected" => return items(value, "/sources").find_map(projected_object),
        _ => "unknown volumes",
    })
}

fn projected_object(source: &Value) -> Option<&'static str> {
    let (kind, _) = source.as_object()?.iter().find(|(_, value)| !value.is_null())?;
    Some(match kind.as_str() {
        "downwardAPI" => return None,
        "configMap" => "configmaps (via projected volumes)",
        "secret" => "secrets (via projected volumes)",
        "serviceAccountToken" => "serviceaccounts (via projected volumes)",
        "clusterTrustBundle" => "clustertrustbundles",
        "podCertificate" => "podcertificates",
        _ => "unknown projected sources",
    })
}

fn environment<'a>(pod: &'a Value, key: &str, whole: &str, names: &mut Vec<&'a str>) {
    for list in CONTAINERS {
        for container in items(pod, &format!("/spec/{list}")) {
            let from = items(container, "/envFrom").filter_map(|f| text(f, &format!("/{whole}/name")));
            names.extend(from);
            let keys = items(container, "/env").filter_map(|e| text(e, &format!("/valueFrom/{key}/name")));
            names.extend(keys);
        }
    }
}

/// The items of the list at a pointer.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    tree::pointer(value, pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The text at a pointer, unless it is empty.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    tree::pointer(value, pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}
