//! The namespace controller: empties a namespace that is being deleted, pods first,
//! and lets it go when nothing is left.
//!
//! What is left is always listed live, never taken from a cache: once the namespace
//! is terminating nothing new can come, so an empty list is final. It is woken by
//! each object that goes, and otherwise looks again when the pods' grace says so.

pub mod decide;

use std::sync::Arc;
use std::time::Duration;

use carrack_api::{Key, Record, Value};
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{NAMESPACES, PODS};
use carrack_client::{Cache, Client, Clock, DeleteOptions, Resource};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::Context;
use crate::all_kinds::AllKinds;
use crate::common::Condition;
use crate::shell::{self, Shared};
use decide::{FINALIZER, FINALIZER_ESTIMATE, Remaining};

/// Objects asked for in one page.
const PAGE: usize = 500;

struct Namespaces {
    client: Client,
    clock: Arc<dyn Clock>,
    namespaces: Arc<Cache>,
    resources: watch::Receiver<Arc<[Resource]>>,
}

/// Starts it.
pub(crate) fn start(shared: &Shared, context: &Context) {
    let client = shared.client("namespace-controller");
    let queue = shell::queue();
    let namespaces = shared.informers.cache(&NAMESPACES);
    shell::enqueue_changes(&namespaces, &queue);
    let (all, wake) = (namespaces.clone(), queue.clone());
    let on_kind = Box::new(move |cache: &Arc<Cache>| {
        let (all, wake) = (all.clone(), wake.clone());
        cache.add_handler(Box::new(move |old, new| {
            let Some(gone) = old.filter(|_| new.is_none()) else { return };
            let namespace = all.find("", gone.key.namespace());
            if let Some(namespace) = namespace.filter(|namespace| namespace.header().deleting) {
                wake.add(namespace.key.clone());
            }
        }));
    });
    let kinds = Arc::new(AllKinds::new(context.informers.clone(), on_kind));
    kinds.set(&context.resources.borrow());
    shared.spawn(kinds.follow(context.resources.clone()));
    let (clock, resources) = (shared.clock.clone(), context.resources.clone());
    shared.run(Namespaces { client, clock, namespaces, resources }, queue, 4);
}

impl Controller for Namespaces {
    type Plan = Arc<Record>;

    fn name(&self) -> &'static str {
        "namespace"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.namespaces.clone()]
    }

    fn decide(&self, key: &Key, _: Timestamp) -> Option<Arc<Record>> {
        self.namespaces.get(key).filter(|namespace| namespace.header().deleting)
    }

    async fn act(&self, _: &Key, record: Arc<Record>, writes: &Writes) -> Result<Option<Duration>, Error> {
        let name = record.key.name();
        let mut object = match self.client.get(&NAMESPACES, "", name).await {
            Ok(latest) => latest.decode::<Value>()?,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if object["metadata"]["deletionTimestamp"].is_null() {
            return Ok(None);
        }
        if object["status"]["phase"] != "Terminating" {
            object["status"]["phase"] = "Terminating".into();
            object = self.write(&object, "status", writes).await?;
        }
        let finalizers = object["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
        if finalizers.is_empty() {
            return Ok(None);
        }
        let remaining = self.empty(name).await;
        let before = object["status"]["conditions"].clone();
        let before: Vec<Condition> = serde_json::from_value(before).unwrap_or_default();
        let plan = decide::decide(&before, &remaining, self.clock.now());
        if let Some(conditions) = &plan.conditions {
            object["status"]["conditions"] = shell::to_value(conditions);
            object = self.write(&object, "status", writes).await?;
        }
        if plan.finalize {
            let rest = finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER);
            object["spec"]["finalizers"] = rest.collect();
            // Its revision may never be seen: it is gone with that.
            self.write(&object, "finalize", &Writes::default()).await?;
        }
        Ok(plan.look_again.map(Duration::from_secs))
    }
}

impl Namespaces {
    /// Deletes what is in the namespace and counts what is left.
    async fn empty(&self, namespace: &str) -> Remaining {
        let mut remaining = Remaining::default();
        if let Err(error) = self.empty_kind(&PODS, namespace, &mut remaining).await {
            remaining.errors.push(format!("failed to delete pods for namespace: {namespace}, err: {error}"));
        }
        if !remaining.objects.is_empty() {
            // NetworkPolicies and the like must outlive the pods (CVE-2024-7598).
            remaining.pods_only = true;
            return remaining;
        }
        let resources = self.resources.borrow().clone();
        let mut done = vec![PODS.store.clone()];
        for resource in resources.iter().filter(|resource| resource.namespaced) {
            if done.contains(&resource.store) {
                continue;
            }
            done.push(resource.store.clone());
            if let Err(error) = self.empty_kind(resource, namespace, &mut remaining).await {
                remaining.errors.push(error.to_string());
            }
        }
        remaining
    }

    async fn empty_kind(
        &self,
        resource: &Resource,
        namespace: &str,
        remaining: &mut Remaining,
    ) -> Result<(), Error> {
        let items = self.list(resource, namespace).await?;
        if items.is_empty() {
            return Ok(());
        }
        let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::default() };
        if let Err(error) = self.client.delete_collection(resource, namespace, &options).await {
            if !matches!(error.code(), 404 | 405) {
                return Err(error.into());
            }
            for item in &items {
                let name = item["metadata"]["name"].as_str().unwrap_or_default();
                match self.client.delete(resource, (namespace, name), &options).await {
                    Err(error) if !matches!(error.code(), 404 | 405) => return Err(error.into()),
                    _ => {}
                }
            }
        }
        let left = self.list(resource, namespace).await?;
        if left.is_empty() {
            return Ok(());
        }
        remaining.objects.insert(format!("{}.{}", resource.plural, resource.group), left.len());
        let mut held = false;
        for finalizer in left.iter().flat_map(|item| item["metadata"]["finalizers"].as_array()).flatten() {
            held = true;
            let name = finalizer.as_str().unwrap_or_default().to_owned();
            *remaining.finalizers.entry(name).or_default() += 1;
        }
        let grace = left
            .iter()
            .filter(|item| !matches!(item["status"]["phase"].as_str(), Some("Succeeded" | "Failed")));
        let grace = grace.filter_map(|item| item["spec"]["terminationGracePeriodSeconds"].as_i64()).max();
        let estimate = if resource.store == PODS.store { grace.unwrap_or(0) } else { 0 };
        let estimate = if held { estimate.max(FINALIZER_ESTIMATE) } else { estimate };
        remaining.estimate = remaining.estimate.max(estimate);
        Ok(())
    }

    /// Everything of a kind in the namespace; nothing if the kind cannot be listed.
    async fn list(&self, resource: &Resource, namespace: &str) -> Result<Vec<Value>, Error> {
        let (mut items, mut token) = (Vec::new(), String::new());
        loop {
            let mut path = format!("{}?limit={PAGE}", resource.collection_path(namespace));
            if !token.is_empty() {
                path = format!("{path}&continue={token}");
            }
            let body = match self.client.get_path(&path).await {
                Ok(body) => body,
                Err(error) if matches!(error.code(), 404 | 405) => return Ok(items),
                Err(error) => return Err(error.into()),
            };
            let mut page: Value =
                serde_json::from_slice(&body).map_err(|error| Error::Other(error.to_string()))?;
            if let Value::Array(mut list) = page["items"].take() {
                items.append(&mut list);
            }
            token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                return Ok(items);
            }
        }
    }

    async fn write(&self, object: &Value, subresource: &str, writes: &Writes) -> Result<Value, Error> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        match self.client.replace(&NAMESPACES, ("", name), subresource, object).await {
            Ok(written) => {
                writes.wrote(&written);
                Ok(written.decode()?)
            }
            Err(error) if error.is_not_found() => Ok(object.clone()),
            Err(error) => Err(error.into()),
        }
    }
}
