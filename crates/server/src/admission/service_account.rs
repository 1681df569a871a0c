//! ServiceAccount: every pod runs as one that exists, and has its token at hand.
//!
//! Follows upstream's `plugin/pkg/admission/serviceaccount`.

use std::sync::Arc;
use std::time::Duration;

use carrack_api::status::Status;
use carrack_api::validation::names;
use carrack_api::{Value, tree};
use carrack_store::Store;
use futures::future::BoxFuture;
use serde_json::json;

use super::{list_mut, look_up, refuse};
use crate::auth::node::references::{self, items, text};
use crate::seams::{Admission, AdmissionRequest, Operation};

const DEFAULT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// How long a pod waits for its namespace's default account, which a controller makes.
const PATIENCE: Duration = Duration::from_secs(2);
/// Alphabet of generated names: no vowels, so no words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The plugin.
pub struct ServiceAccount {
    store: Arc<dyn Store>,
}

impl ServiceAccount {
    /// Looks at the service accounts of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    async fn admit(&self, request: &AdmissionRequest<'_>, pod: &mut Value) -> Result<(), Status> {
        if references::is_mirror(pod) {
            return check_mirror(pod).map_err(|detail| refuse(request, Some(pod), detail));
        }
        // Both fields name it; the newer one wins, and both are always shown.
        let named = text(pod, "/spec/serviceAccountName").or_else(|| text(pod, "/spec/serviceAccount"));
        let name = named.unwrap_or(DEFAULT).to_owned();
        pod["spec"]["serviceAccountName"] = name.as_str().into();
        pod["spec"]["serviceAccount"] = name.as_str().into();
        let account = self.account(request, pod, &name).await?;
        let flag = |object: &Value, pointer: &str| tree::pointer(object, pointer).and_then(Value::as_bool);
        let mounts = flag(pod, "/spec/automountServiceAccountToken")
            .or_else(|| flag(&account, "/automountServiceAccountToken"))
            .unwrap_or(true);
        if mounts {
            mount_token(pod);
        }
        if items(pod, "/spec/imagePullSecrets").next().is_none() {
            let secrets: Vec<Value> =
                items(&account, "/imagePullSecrets").map(|secret| json!({"name": secret["name"]})).collect();
            if !secrets.is_empty() {
                pod["spec"]["imagePullSecrets"] = secrets.into();
            }
        }
        Ok(())
    }

    async fn check(&self, request: &AdmissionRequest<'_>, pod: &Value) -> Result<(), Status> {
        if references::is_mirror(pod) && request.operation == Operation::Create {
            return check_mirror(pod).map_err(|detail| refuse(request, Some(pod), detail));
        }
        let Some(name) = text(pod, "/spec/serviceAccountName") else {
            let name = text(pod, "/metadata/name").unwrap_or_default();
            let detail = format!("no service account specified for pod {}/{name}", request.call.namespace);
            return Err(refuse(request, Some(pod), &detail));
        };
        let account = self.account(request, pod, name).await?;
        let enforced =
            tree::pointer(&account, "/metadata/annotations").and_then(|a| a.get(ENFORCE)?.as_str());
        if !enforced.is_some_and(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")) {
            return Ok(());
        }
        check_references(pod, &account, name, request.operation == Operation::Update)
            .map_err(|detail| refuse(request, Some(pod), &detail))
    }

    async fn account(
        &self,
        request: &AdmissionRequest<'_>,
        pod: &Value,
        name: &str,
    ) -> Result<Arc<Value>, Status> {
        let namespace = &*request.call.namespace;
        let mut found = look_up(&self.store, "serviceaccounts", namespace, name);
        if found.is_none() && name == DEFAULT {
            found = tokio::time::timeout(PATIENCE, self.appears(namespace)).await.ok();
        }
        let Some(record) = found else {
            // No object has such a name, and the path of a request could not say it.
            let why = match names::path_segment(name) {
                unfit if unfit.is_empty() => format!("serviceaccount {name:?} not found"),
                unfit => format!("invalid resource name {name:?}: [{}]", unfit.join(" ")),
            };
            let detail = format!("error looking up service account {namespace}/{name}: {why}");
            return Err(refuse(request, Some(pod), &detail));
        };
        Ok(record.projection().unwrap_or_else(|_| Arc::new(record.decode())))
    }

    /// The default account of a namespace, once it is there.
    async fn appears(&self, namespace: &str) -> Arc<carrack_api::Record> {
        loop {
            let revision = self.store.revision();
            if let Some(record) = look_up(&self.store, "serviceaccounts", namespace, DEFAULT) {
                return record;
            }
            match self.store.watch("serviceaccounts", revision) {
                // Whatever it says, the account is looked up again.
                Ok(mut watch) => _ = watch.next().await,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

impl Admission for ServiceAccount {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        match request.operation {
            Operation::Create => request.is("pods", ""),
            Operation::Update => request.is("pods", "ephemeralcontainers"),
            _ => false,
        }
    }

    fn mutate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        pod: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            match request.operation {
                Operation::Create => self.admit(request, pod).await,
                _ => Ok(()),
            }
        })
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            match object {
                Some(pod) => self.check(request, pod).await,
                None => Ok(()),
            }
        })
    }
}

/// What a pod that a node made from a file of its own may not do.
fn check_mirror(pod: &Value) -> Result<(), &'static str> {
    if text(pod, "/spec/serviceAccountName").is_some() {
        return Err("a mirror pod may not reference service accounts");
    }
    if !references::secrets(pod).is_empty() {
        return Err("a mirror pod may not reference secrets");
    }
    let token = |volume: &Value| {
        items(volume, "/projected/sources")
            .any(|source| source.get("serviceAccountToken").is_some_and(|token| !token.is_null()))
    };
    if items(pod, "/spec/volumes").any(token) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// Mounts the account's token, the cluster's CA and the namespace's name into every
/// container that does not mount something there already.
fn mount_token(pod: &mut Value) {
    let existing = items(pod, "/spec/volumes")
        .filter_map(|volume| text(volume, "/name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let name = existing.clone().unwrap_or_else(generated_name);
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if items(container, "/volumeMounts").any(|mount| text(mount, "/mountPath") == Some(MOUNT_PATH)) {
                continue;
            }
            if let Some(mounts) = list_mut(container, "volumeMounts") {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                needed = true;
            }
        }
    }
    if needed
        && existing.is_none()
        && let Some(volumes) = list_mut(&mut pod["spec"], "volumes")
    {
        volumes.push(json!({"name": name, "projected": token_source()}));
    }
}

/// The projected volume of every pod (upstream: `TokenVolumeSource`).
fn token_source() -> Value {
    json!({
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ],
    })
}

fn generated_name() -> String {
    let random = *uuid::Uuid::new_v4().as_bytes();
    let suffix = random[..5].iter().map(|byte| LETTERS[*byte as usize % LETTERS.len()] as char);
    VOLUME_PREFIX.chars().chain(suffix).collect()
}

/// With the account's annotation, a pod refers only to secrets that its account lists.
fn check_references(pod: &Value, account: &Value, name: &str, ephemeral: bool) -> Result<(), String> {
    let listed =
        |list: &str, secret: &str| items(account, list).any(|own| text(own, "/name") == Some(secret));
    let because = format!("is not allowed because service account {name} does not reference that secret");
    let lists: &[(&str, &str)] = match ephemeral {
        true => &[("ephemeralContainers", "ephemeral container")],
        false => &[("initContainers", "init container"), ("containers", "container")],
    };
    let volumes = if ephemeral { None } else { Some(items(pod, "/spec/volumes")) };
    for secret in volumes.into_iter().flatten().filter_map(|volume| text(volume, "/secret/secretName")) {
        if !listed("/secrets", secret) {
            return Err(format!("volume with secret.secretName=\"{secret}\" {because}"));
        }
    }
    for (list, word) in lists {
        for container in items(pod, &format!("/spec/{list}")) {
            let own = text(container, "/name").unwrap_or_default();
            for env in items(container, "/env") {
                match text(env, "/valueFrom/secretKeyRef/name") {
                    Some(secret) if !listed("/secrets", secret) => {
                        let variable = text(env, "/name").unwrap_or_default();
                        return Err(format!(
                            "{word} {own} with envVar {variable} referencing secret.secretName=\"{secret}\" {because}"
                        ));
                    }
                    _ => {}
                }
            }
            let from = items(container, "/envFrom").filter_map(|from| text(from, "/secretRef/name"));
            if let Some(secret) = from.into_iter().find(|secret| !listed("/secrets", secret)) {
                return Err(format!(
                    "{word} {own} with envFrom referencing secret.secretName=\"{secret}\" {because}"
                ));
            }
        }
    }
    let pulls = if ephemeral { None } else { Some(items(pod, "/spec/imagePullSecrets")) };
    for (at, secret) in pulls.into_iter().flatten().enumerate() {
        let secret = text(secret, "/name").unwrap_or_default();
        if !listed("/imagePullSecrets", secret) {
            return Err(format!(
                "imagePullSecrets[{at}].name=\"{secret}\" is not allowed because service account {name} does \
                 not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}
