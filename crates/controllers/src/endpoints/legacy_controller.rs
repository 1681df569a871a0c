//! The shell of the Endpoints controller.

use std::sync::Arc;
use std::time::Duration;

use carrack_api::{Key, Record, Value};
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{ENDPOINTS, SERVICES};
use carrack_client::{Cache, Client, DeleteOptions, EventRecorder, Reference};
use jiff::Timestamp;
use serde_json::json;

use super::Caches;
use super::decide::legacy::{self, Endpoints, MANAGED_BY, MANAGER};
use crate::shell::{self, Shared};

struct LegacyEndpoints {
    client: Client,
    events: EventRecorder,
    caches: Caches,
    endpoints: Arc<Cache>,
}

/// What to do.
enum Work {
    /// The Service is gone.
    Delete(Arc<Record>),
    /// Write the object; the Service, the record that is there.
    Write(Arc<Record>, Option<Arc<Record>>, Box<Endpoints>),
}

pub(super) fn start(shared: &Shared) {
    let (client, events) = shared.identity("endpoint-controller");
    let queue = shell::queue();
    let caches = Caches::new(&shared.informers);
    caches.wake(&queue);
    let endpoints = shared.informers.cache(&ENDPOINTS);
    let wake = queue.clone();
    endpoints.add_handler(Box::new(move |old, new| {
        // Ours at any change; another's only to make up for a deletion.
        let ours = new.is_some_and(|record| record.header().label(MANAGED_BY) == Some(MANAGER));
        if let Some(record) = new.or(old).filter(|_| ours || new.is_none()) {
            wake.add(SERVICES.key(record.key.namespace(), record.key.name()));
        }
    }));
    shared.run(LegacyEndpoints { client, events, caches, endpoints }, queue, 5);
}

impl Controller for LegacyEndpoints {
    type Plan = Work;

    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        let mut caches = self.caches.all();
        caches.push(self.endpoints.clone());
        caches
    }

    fn decide(&self, key: &Key, _: Timestamp) -> Option<Work> {
        let current = self.endpoints.find(key.namespace(), key.name());
        let Some(service) = self.caches.services.get(key) else {
            return current.filter(|record| !record.header().deleting).map(Work::Delete);
        };
        let view = self.caches.view(&service, |_| None)?;
        if service.header().deleting {
            return None;
        }
        let object: Option<Endpoints> = current.as_ref().and_then(|record| shell::read(record));
        let wanted = legacy::decide(&view, object.as_ref())?;
        Some(Work::Write(service, current, Box::new(wanted)))
    }

    async fn act(&self, _: &Key, work: Work, writes: &Writes) -> Result<Option<Duration>, Error> {
        match work {
            Work::Delete(record) => {
                let (at, uid) = ((record.key.namespace(), record.key.name()), &record.header().uid);
                match self.client.delete(&ENDPOINTS, at, &DeleteOptions::of_uid(uid)).await {
                    Ok(written) => writes.deleted(&written.key, uid),
                    Err(error) if error.is_not_found() || error.is_conflict() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Work::Write(service, current, wanted) => {
                let (namespace, name) = (service.key.namespace(), service.key.name());
                let object = object(current.as_deref(), &wanted);
                let result = match current {
                    Some(_) => self.client.replace(&ENDPOINTS, (namespace, name), "", &object).await,
                    None => self.client.create(&ENDPOINTS, namespace, &object).await,
                };
                match result {
                    Ok(written) => writes.wrote(&written),
                    Err(error) if error.is_namespace_terminating() => {}
                    Err(error) => {
                        if !error.is_conflict() {
                            let text = format!("Failed to update endpoint {namespace}/{name}: {error}");
                            self.events.warning(&Reference::of(&service), "FailedToUpdateEndpoint", text);
                        }
                        return Err(error.into());
                    }
                }
            }
        }
        Ok(None)
    }
}

/// The wanted state in the tree that is there, or in a new one.
fn object(current: Option<&Record>, wanted: &Endpoints) -> Value {
    let meta = &wanted.metadata;
    let mut object = current.map(Record::decode).unwrap_or_else(|| {
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": meta.name, "namespace": meta.namespace},
        })
    });
    object["metadata"]["labels"] = shell::to_value(&meta.labels);
    if !meta.annotations.is_empty() || !object["metadata"]["annotations"].is_null() {
        object["metadata"]["annotations"] = shell::to_value(&meta.annotations);
    }
    object["subsets"] = shell::to_value(&wanted.subsets);
    object
}
