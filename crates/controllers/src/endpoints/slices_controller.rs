//! The shell of the EndpointSlice controller.

use std::sync::Arc;
use std::time::Duration;

use carrack_api::{Key, Record, Value};
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{ENDPOINT_SLICES, SERVICES};
use carrack_client::{Cache, Client, DeleteOptions, EventRecorder, Reference};
use jiff::Timestamp;
use serde_json::json;

use super::Caches;
use super::decide::slices::{self, MANAGED_BY, MANAGER, Plan, SERVICE_NAME, Slice};
use crate::shell::{self, Shared};

/// How soon to look again for a node that is not known yet.
const NODE_RETRY: Duration = Duration::from_secs(1);

struct EndpointSlices {
    client: Client,
    events: EventRecorder,
    caches: Caches,
    slices: Arc<Cache>,
}

/// A plan with what it is about.
struct Work {
    record: Arc<Record>,
    plan: Plan,
}

pub(super) fn start(shared: &Shared) {
    let (client, events) = shared.identity("endpointslice-controller");
    let queue = shell::queue();
    let caches = Caches::new(&shared.informers);
    caches.wake(&queue);
    let slices = shared.informers.cache(&ENDPOINT_SLICES);
    let wake = queue.clone();
    slices.add_handler(Box::new(move |old, new| {
        for slice in [old, new].into_iter().flatten() {
            if let (Some(MANAGER), Some(service)) =
                (slice.header().label(MANAGED_BY), slice.header().label(SERVICE_NAME))
            {
                wake.add(SERVICES.key(slice.key.namespace(), service));
            }
        }
    }));
    shared.run(EndpointSlices { client, events, caches, slices }, queue, 5);
}

impl Controller for EndpointSlices {
    type Plan = Work;

    fn name(&self) -> &'static str {
        "endpointslice"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        let mut caches = self.caches.all();
        caches.push(self.slices.clone());
        caches
    }

    fn decide(&self, key: &Key, _: Timestamp) -> Option<Work> {
        let record = self.caches.services.get(key)?;
        let view = self.caches.view(&record, |pod| self.caches.zone(pod))?;
        let ours = |slice: &Arc<Record>| {
            let header = slice.header();
            header.label(SERVICE_NAME) == Some(key.name())
                && header.label(MANAGED_BY) == Some(MANAGER)
                && !header.deleting
        };
        let existing = self.slices.owned_by(&view.service.metadata.uid).into_iter().filter(ours);
        let existing: Vec<Slice> = existing.filter_map(|slice| shell::read(&slice)).collect();
        Some(Work { record, plan: slices::decide(&view, &existing) })
    }

    async fn act(&self, _: &Key, work: Work, writes: &Writes) -> Result<Option<Duration>, Error> {
        let Work { record, plan } = work;
        let missing = plan.node_missing;
        if let Err(error) = self.write(&record, plan, writes).await {
            let (namespace, name) = (record.key.namespace(), record.key.name());
            let message = format!("Error updating Endpoint Slices for Service {namespace}/{name}: {error}");
            if !matches!(&error, Error::Api(error) if error.is_conflict()) {
                self.events.warning(&Reference::of(&record), "FailedToUpdateEndpointSlices", message);
            }
            return Err(error);
        }
        Ok(missing.then_some(NODE_RETRY))
    }
}

impl EndpointSlices {
    async fn write(&self, service: &Record, plan: Plan, writes: &Writes) -> Result<(), Error> {
        let namespace = service.key.namespace();
        for slice in &plan.create {
            match self.client.create(&ENDPOINT_SLICES, namespace, &new_object(service, slice)).await {
                Ok(written) => writes.wrote(&written),
                Err(error) if error.is_namespace_terminating() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        for slice in &plan.update {
            let Some(record) = self.slices.find(namespace, &slice.metadata.name) else { continue };
            let mut object = record.decode();
            object["metadata"]["labels"] = shell::to_value(&slice.metadata.labels);
            object["ports"] = shell::to_value(&slice.ports);
            object["endpoints"] = shell::to_value(&slice.endpoints);
            let at = (namespace, slice.metadata.name.as_str());
            writes.wrote(&self.client.replace(&ENDPOINT_SLICES, at, "", &object).await?);
        }
        for (name, uid) in &plan.delete {
            let options = DeleteOptions::of_uid(uid);
            match self.client.delete(&ENDPOINT_SLICES, (namespace, name), &options).await {
                Ok(written) => writes.deleted(&written.key, uid),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn new_object(service: &Record, slice: &Slice) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{}-", service.key.name()),
            "namespace": service.key.namespace(),
            "labels": slice.metadata.labels,
            "ownerReferences": slice.metadata.owner_references,
        },
        "addressType": slice.address_type, "ports": slice.ports, "endpoints": slice.endpoints,
    })
}
