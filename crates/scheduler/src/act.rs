//! What the scheduler writes: bindings, volumes, conditions, evictions. No decision is
//! made here; each function does what a plan says and tells what became of it.

use std::sync::Arc;
use std::time::Duration;

use carrack_client::backoff::Backoff;
use carrack_client::clock::rfc3339;
use carrack_client::resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS};
use carrack_client::{Client, Clock, DeleteOptions, Error, EventRecorder, Patch, Reference};
use serde_json::{Value, json};

use crate::decide::{Eviction, PodInfo, VolumePlan};

/// Longest note of an event.
const NOTE_LIMIT: usize = 1024;

/// What everything that writes has.
#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) events: EventRecorder,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Writer {
    /// Binds a pod to a node.
    pub(crate) async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), Error> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": &*pod.namespace, "uid": &*pod.uid},
            "target": {"kind": "Node", "name": node},
        });
        match self.client.create_sub(&PODS, at(pod), "binding", &binding).await {
            Ok(_) => Ok(()),
            Err(error @ Error::Transport(_)) => self.settle(pod, node, error).await,
            Err(error) => Err(error),
        }
    }

    /// After a binding that was not answered: did it take effect? Until that is known
    /// the pod keeps its room on the node.
    async fn settle(&self, pod: &PodInfo, node: &str, error: Error) -> Result<(), Error> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), 0);
        loop {
            match self.client.get(&PODS, &pod.namespace, &pod.name).await {
                Ok(found) => {
                    let object: Value = found.decode()?;
                    let bound = *found.uid == *pod.uid && object["spec"]["nodeName"] == node;
                    return if bound { Ok(()) } else { Err(error) };
                }
                Err(Error::Transport(_)) => tokio::time::sleep(backoff.next_delay()).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Binds volumes to claims, and asks for volumes on a node.
    pub(crate) async fn volumes(&self, plan: &VolumePlan, node: &str) -> Result<(), Error> {
        for (volume, claim) in &plan.bind {
            let patch = json!({
                "metadata": {"resourceVersion": volume.revision.to_string(),
                    "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
                "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "namespace": &*claim.namespace, "name": &*claim.name, "uid": &*claim.uid,
                    "resourceVersion": claim.revision.to_string()}},
            });
            self.client.patch(&PERSISTENT_VOLUMES, ("", &volume.name), "", &Patch::Merge(patch)).await?;
        }
        for claim in &plan.provision {
            let patch = json!({"metadata": {"resourceVersion": claim.revision.to_string(),
                "annotations": {"volume.kubernetes.io/selected-node": node}}});
            let at = (&*claim.namespace, &*claim.name);
            self.client.patch(&PERSISTENT_VOLUME_CLAIMS, at, "", &Patch::Merge(patch)).await?;
        }
        Ok(())
    }

    /// Says in an event and in the PodScheduled condition why a pod waits. `nominated`
    /// also sets the node that is kept for it; an empty one clears it.
    pub(crate) fn report(&self, pod: &PodInfo, reason: &str, message: &str, nominated: Option<&str>) {
        self.events.warning(&reference(pod), "FailedScheduling", shorten(message));
        let now_is = |(status, was, text): &(String, String, String)| {
            status == "False" && was == reason && text == message
        };
        let mut status = json!({});
        if !pod.condition.as_ref().is_some_and(now_is) {
            let mut condition = json!({
                "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
                "lastProbeTime": null, "observedGeneration": pod.generation,
            });
            if pod.condition.as_ref().is_none_or(|(status, ..)| status != "False") {
                condition["lastTransitionTime"] = rfc3339(self.clock.now()).into();
            }
            status["conditions"] = json!([condition]);
        }
        if let Some(node) = nominated.filter(|node| *node != pod.nominated) {
            status["nominatedNodeName"] = if node.is_empty() { Value::Null } else { node.into() };
        }
        if status.as_object().is_none_or(serde_json::Map::is_empty) {
            return;
        }
        let (writer, pod) = (self.clone(), pod.clone());
        tokio::spawn(async move {
            if let Err(error) = writer.patch_status(&pod, status).await {
                tracing::debug!(pod = %pod.key(), %error, "condition not written");
            }
        });
    }

    /// Makes room for a pod: nodes are kept for nobody of lower priority, then the
    /// victims are told and deleted.
    pub(crate) async fn evict(&self, pod: &PodInfo, eviction: &Eviction) -> Result<(), Error> {
        for displaced in eviction.displaced.iter().filter(|other| !other.nominated.is_empty()) {
            ignore_gone(self.patch_status(displaced, json!({"nominatedNodeName": null})).await)?;
        }
        for victim in eviction.victims.iter().filter(|victim| !victim.deleting) {
            let scheduler = &pod.scheduler;
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
                "lastProbeTime": null, "lastTransitionTime": rfc3339(self.clock.now()),
                "observedGeneration": victim.generation,
            });
            if ignore_gone(self.patch_status(victim, json!({"conditions": [condition]})).await)?.is_none() {
                continue;
            }
            let options = DeleteOptions::of_uid(&victim.uid);
            let deleted = self.client.delete(&PODS, at(victim), &options).await;
            if ignore_gone(deleted.map(drop))?.is_some() {
                let note = format!("Preempted by pod {} on node {}", pod.uid, eviction.node);
                self.events.normal(&reference(victim), "Preempted", note);
            }
        }
        Ok(())
    }

    /// Says that a pod was bound.
    pub(crate) fn bound(&self, pod: &PodInfo, node: &str) {
        let (namespace, name) = (&pod.namespace, &pod.name);
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        self.events.normal(&reference(pod), "Scheduled", message);
    }

    async fn patch_status(&self, pod: &PodInfo, status: Value) -> Result<(), Error> {
        let patch = Patch::Strategic(json!({"metadata": {"uid": &*pod.uid}, "status": status}));
        self.client.patch(&PODS, at(pod), "status", &patch).await.map(drop)
    }
}

/// What is gone, or is another by now, need not be written.
fn ignore_gone(result: Result<(), Error>) -> Result<Option<()>, Error> {
    match result {
        Ok(()) => Ok(Some(())),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(None),
        Err(error) => Err(error),
    }
}

fn at(pod: &PodInfo) -> (&str, &str) {
    (&pod.namespace, &pod.name)
}

fn reference(pod: &PodInfo) -> Reference {
    Reference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.namespace.to_string(),
        name: pod.name.clone(),
        uid: pod.uid.to_string(),
        resource_version: pod.revision.to_string(),
        field_path: String::new(),
    }
}

fn shorten(message: &str) -> String {
    if message.len() <= NOTE_LIMIT {
        return message.to_owned();
    }
    let mut end = NOTE_LIMIT - 4;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ...", &message[..end])
}
