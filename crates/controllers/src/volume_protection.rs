//! Takes the finalizers of storage objects away once nothing uses them: of claims that
//! no scheduled pod mounts, of volumes that are not bound, of attribute classes that no
//! claim or volume names. Admission puts the finalizers on.

use std::sync::Arc;
use std::time::Duration;

use carrack_api::{Key, Record, Value};
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{
    PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTRIBUTES_CLASSES,
};
use carrack_client::{Cache, Client, Resource};
use jiff::Timestamp;
use serde_json::json;

use crate::shell::{self, Shared};

/// Index of pods by the claims that they mount.
const BY_CLAIM: &str = "claim";

/// One kind and who uses it.
struct Protection {
    name: &'static str,
    resource: &'static Resource,
    finalizer: &'static str,
    client: Client,
    objects: Arc<Cache>,
    /// Where users are looked for; empty when the object itself says.
    users: Vec<Arc<Cache>>,
    used: fn(&Protection, &Record) -> bool,
}

/// What to do about an object.
pub enum Plan {
    /// Put the finalizer on.
    Add(Arc<Record>),
    /// Nothing seems to use it: make sure, and take the finalizer off.
    Remove(Arc<Record>),
}

/// Starts the three of them.
pub(crate) fn start(shared: &Shared) {
    let (pods, claims) = (shared.informers.cache(&PODS), shared.informers.cache(&PERSISTENT_VOLUME_CLAIMS));
    let volumes = shared.informers.cache(&PERSISTENT_VOLUMES);
    pods.add_index(BY_CLAIM, claim_keys);
    let wake_claims = |queue: &Arc<carrack_client::WorkQueue<Key>>| {
        let queue = queue.clone();
        pods.add_handler(Box::new(move |old, new| {
            for pod in [old, new].into_iter().flatten() {
                for claim in claims_in(pod) {
                    queue.add(PERSISTENT_VOLUME_CLAIMS.key(pod.key.namespace(), &claim));
                }
            }
        }));
    };
    let run = |name, resource: &'static Resource, finalizer, identity: &str, users, used| {
        let queue = shell::queue();
        let objects = shared.informers.cache(resource);
        shell::enqueue_changes(&objects, &queue);
        let client = shared.client(identity);
        (queue, Protection { name, resource, finalizer, client, objects, users, used })
    };
    let (queue, claim) = run(
        "pvc-protection",
        &PERSISTENT_VOLUME_CLAIMS,
        "kubernetes.io/pvc-protection",
        "pvc-protection-controller",
        vec![pods.clone()],
        |this: &Protection, claim: &Record| {
            let index = format!("{}/{}", claim.key.namespace(), claim.key.name());
            this.users[0].indexed(BY_CLAIM, &index).iter().any(|pod| mounts(&pod.decode(), &claim.decode()))
        },
    );
    wake_claims(&queue);
    shared.run(claim, queue, 2);
    let (queue, volume) = run(
        "pv-protection",
        &PERSISTENT_VOLUMES,
        "kubernetes.io/pv-protection",
        "pv-protection-controller",
        Vec::new(),
        |_: &Protection, volume: &Record| volume.decode()["status"]["phase"] == "Bound",
    );
    shared.run(volume, queue, 1);
    let (queue, class) = run(
        "vac-protection",
        &VOLUME_ATTRIBUTES_CLASSES,
        "kubernetes.io/vac-protection",
        "volumeattributesclass-protection-controller",
        vec![claims.clone(), volumes.clone()],
        |this: &Protection, class: &Record| {
            let names = |object: &Record| classes_of(&object.decode()).any(|name| name == class.key.name());
            this.users.iter().any(|cache| cache.all().iter().any(|object| names(object)))
        },
    );
    for cache in [&claims, &volumes] {
        let wake = queue.clone();
        cache.add_handler(Box::new(move |old, _| {
            for object in old.into_iter() {
                classes_of(&object.decode())
                    .for_each(|name| wake.add(VOLUME_ATTRIBUTES_CLASSES.key("", &name)));
            }
        }));
    }
    shared.run(class, queue, 1);
}

/// Names of the claims that a pod's volumes are made of.
fn claims_of(pod: &Value) -> Vec<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let claim = |volume: &Value| {
        let named = volume["persistentVolumeClaim"]["claimName"].as_str().map(str::to_owned);
        let own = || {
            let volume_name = volume["name"].as_str().filter(|_| volume["ephemeral"].is_object())?;
            Some(format!("{name}-{volume_name}"))
        };
        named.or_else(own)
    };
    volumes.filter_map(claim).collect()
}

fn claim_keys(pod: &Record) -> Vec<String> {
    let namespace = pod.key.namespace();
    claims_in(pod).into_iter().map(|claim| format!("{namespace}/{claim}")).collect()
}

/// As [`claims_of`], without decoding the many pods that have none.
fn claims_in(pod: &Record) -> Vec<String> {
    let any = pod.mentions("\"persistentVolumeClaim\"") || pod.mentions("\"ephemeral\"");
    if any { claims_of(&pod.decode()) } else { Vec::new() }
}

/// Whether a pod that has a node keeps a claim: by name, or because the claim was made
/// for it.
pub fn mounts(pod: &Value, claim: &Value) -> bool {
    if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        return false;
    }
    let name = claim["metadata"]["name"].as_str().unwrap_or_default();
    let owned = || {
        let owners = claim["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        owners.into_iter().any(|owner| owner["controller"] == true && owner["uid"] == pod["metadata"]["uid"])
    };
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.into_iter().any(|volume| {
        volume["persistentVolumeClaim"]["claimName"] == name
            || volume["ephemeral"].is_object() && {
                let own = format!(
                    "{}-{}",
                    pod["metadata"]["name"].as_str().unwrap_or_default(),
                    volume["name"].as_str().unwrap_or_default()
                );
                own == name && owned()
            }
    })
}

/// Names of the attribute classes that a claim or a volume refers to.
fn classes_of(object: &Value) -> impl Iterator<Item = String> + use<> {
    let named = [
        &object["spec"]["volumeAttributesClassName"],
        &object["status"]["currentVolumeAttributesClassName"],
        &object["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ];
    let names: Vec<String> = named.iter().filter_map(|name| name.as_str()).map(str::to_owned).collect();
    names.into_iter()
}

impl Controller for Protection {
    type Plan = Plan;

    fn name(&self) -> &'static str {
        self.name
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        std::iter::once(self.objects.clone()).chain(self.users.iter().cloned()).collect()
    }

    fn decide(&self, key: &Key, _: Timestamp) -> Option<Plan> {
        let record = self.objects.get(key)?;
        let header = record.header();
        let protected = header.finalizers.iter().any(|finalizer| **finalizer == *self.finalizer);
        match (header.deleting, protected) {
            (false, false) => Some(Plan::Add(record)),
            (true, true) if !(self.used)(self, &record) => Some(Plan::Remove(record)),
            _ => None,
        }
    }

    async fn act(&self, key: &Key, plan: Plan, writes: &Writes) -> Result<Option<Duration>, Error> {
        let (record, add) = match plan {
            Plan::Add(record) => (record, true),
            Plan::Remove(record) => (record, false),
        };
        let mut object = record.decode();
        if !add && self.used_by_pod_now(&object, key).await? {
            return Ok(None);
        }
        let finalizers = &mut object["metadata"]["finalizers"];
        if !finalizers.is_array() {
            *finalizers = json!([]);
        }
        if let Some(finalizers) = finalizers.as_array_mut() {
            finalizers.retain(|finalizer| finalizer != self.finalizer);
            if add {
                finalizers.push(self.finalizer.into());
            }
        }
        match self.client.replace(self.resource, (key.namespace(), key.name()), "", &object).await {
            Ok(_) if !add => writes.deleted(key, &record.header().uid),
            Ok(written) => writes.wrote(&written),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }
}

impl Protection {
    /// Whether a pod that the cache may not know yet mounts a claim.
    async fn used_by_pod_now(&self, claim: &Value, key: &Key) -> Result<bool, Error> {
        if *self.resource != PERSISTENT_VOLUME_CLAIMS {
            return Ok(false);
        }
        let body = self.client.get_path(&PODS.collection_path(key.namespace())).await?;
        let list: Value = serde_json::from_slice(&body).map_err(|error| Error::Other(error.to_string()))?;
        let pods = list["items"].as_array().into_iter().flatten();
        Ok(pods.into_iter().any(|pod| mounts(pod, claim)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_keep_what_they_mount() {
        let claim =
            json!({"metadata": {"name": "p-v", "ownerReferences": [{"controller": true, "uid": "u"}]}});
        let pod = |node: &str, volume: Value| json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": node, "volumes": [volume]}});
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "p-v"}});
        let own = json!({"name": "v", "ephemeral": {}});
        assert!(mounts(&pod("n", named.clone()), &claim));
        assert!(!mounts(&pod("", named), &claim));
        assert!(mounts(&pod("n", own.clone()), &claim));
        let other = json!({"metadata": {"name": "p-v"}});
        assert!(!mounts(&pod("n", own.clone()), &other));
        assert_eq!(claims_of(&pod("n", own)), ["p-v"]);
    }
}
