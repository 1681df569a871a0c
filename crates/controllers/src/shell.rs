//! What the controllers' shells share: identities, queues, wake-ups, the run loop's
//! start, and a live check before adopting.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use carrack_api::{Key, Record, Value};
use carrack_client::controller::{self, Controller, Error};
use carrack_client::{
    Cache, Client, Clients, Clock, EventRecorder, Identity, Informers, Resource, WorkQueue,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

/// Index of records that no controller owns, by namespace.
pub(crate) const ORPHANS: &str = "orphans";

/// What every controller is started with.
pub(crate) struct Shared {
    pub(crate) informers: Arc<Informers>,
    pub(crate) clients: Clients,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Mutex<JoinSet<()>>,
}

impl Shared {
    /// Client and recorder of a service account of `kube-system`.
    pub(crate) fn identity(&self, name: &str) -> (Client, EventRecorder) {
        let client = self.client(name);
        let events = EventRecorder::new(client.clone(), name, "", self.clock.clone());
        (client, events)
    }

    /// Client of a service account of `kube-system`.
    pub(crate) fn client(&self, name: &str) -> Client {
        (self.clients)(&Identity::service_account("kube-system", name))
    }

    /// Runs a controller until all are stopped.
    pub(crate) fn run<C: Controller>(&self, controller: C, queue: Arc<WorkQueue<Key>>, workers: usize) {
        self.spawn(controller::run(Arc::new(controller), queue, workers, self.clock.clone()));
    }

    /// Runs anything until all are stopped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().expect("nobody panics while spawning").spawn(task);
    }
}

/// An empty queue of store keys.
pub(crate) fn queue() -> Arc<WorkQueue<Key>> {
    Arc::new(WorkQueue::default())
}

/// Each change of an object wakes its own key.
pub(crate) fn enqueue_changes(cache: &Cache, queue: &Arc<WorkQueue<Key>>) {
    let queue = queue.clone();
    cache.add_handler(Box::new(move |old, new| {
        if let Some(record) = new.or(old) {
            queue.add(record.key.clone());
        }
    }));
}

/// Each change of an object wakes the controllers of `resource` that own or owned it.
pub(crate) fn enqueue_controllers(cache: &Cache, queue: &Arc<WorkQueue<Key>>, resource: &Resource) {
    let (queue, resource) = (queue.clone(), resource.clone());
    cache.add_handler(Box::new(move |old, new| {
        for record in [old, new].into_iter().flatten() {
            let owner = record.header().controller().filter(|owner| *owner.kind == *resource.kind);
            if let Some(owner) = owner {
                queue.add(resource.key(record.key.namespace(), &owner.name));
            }
        }
    }));
}

/// Index function of [`ORPHANS`].
pub(crate) fn orphans(record: &Record) -> Vec<String> {
    match record.header().controller() {
        Some(_) => Vec::new(),
        None => vec![record.key.namespace().to_owned()],
    }
}

/// Index of pods by the node that they are bound to.
pub(crate) const BY_NODE: &str = "node";

/// Index function of [`BY_NODE`]: nothing for a pod that is not bound.
pub(crate) fn node_name(pod: &Record) -> Vec<String> {
    let name = pod_field(pod, "spec.nodeName");
    if name.is_empty() { Vec::new() } else { vec![name.into_owned()] }
}

/// A selectable field of a pod: out of the header where it has it.
pub(crate) fn pod_field<'a>(pod: &'a Record, label: &str) -> Cow<'a, str> {
    match pod.field(label) {
        Some(value) => value.into(),
        None => {
            let tree = pod.decode();
            let value = label.split('.').try_fold(&tree, |value, part| value.get(part));
            value.and_then(Value::as_str).unwrap_or_default().to_owned().into()
        }
    }
}

/// Decodes a record into a projection. The server stores nothing that does not fit,
/// so a failure is logged and the object left alone.
pub(crate) fn read<T: DeserializeOwned>(record: &Record) -> Option<T> {
    match record.decode_as() {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(key = %record.key, %error, "unreadable object");
            None
        }
    }
}

/// A projection as a tree.
pub(crate) fn to_value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("projections have text keys and serialise")
}

/// Before adopting: the owner must still be there, the same one, and not be deleted
/// (kubernetes#42639).
pub(crate) async fn recheck_owner(
    client: &Client,
    resource: &Resource,
    record: &Record,
) -> Result<(), Error> {
    let fresh = client.get(resource, record.key.namespace(), record.key.name()).await?;
    let value: Value = fresh.decode()?;
    let wanted = &record.header().uid;
    if fresh.uid != **wanted {
        let text = format!("original {} is gone: got uid {}, wanted {wanted}", record.key, fresh.uid);
        return Err(Error::Other(text));
    }
    if !value["metadata"]["deletionTimestamp"].is_null() {
        let at = value["metadata"]["deletionTimestamp"].as_str().unwrap_or_default();
        return Err(Error::Other(format!("{} has just been deleted at {at}", record.key)));
    }
    Ok(())
}
