//! The garbage collector: deletes what has lost all its owners, deletes dependents
//! before owners in the foreground, and orphans them where asked.
//!
//! The graph is what the caches of all kinds hold: owners by name, dependents by the
//! index of owner uids. Before anything is deleted, the object and its owners are
//! looked up on the server, and the deletion holds for that uid and revision only.

pub mod decide;

use std::sync::Arc;
use std::time::Duration;

use carrack_api::record::{Header, Owner};
use carrack_api::{Key, Record, Value};
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::{Cache, Client, DeleteOptions, EventRecorder, Patch, Reference, WorkQueue};
use jiff::Timestamp;
use serde_json::json;

use crate::Context;
use crate::all_kinds::AllKinds;
use crate::shell::{self, Shared};
use decide::{Dependent, FOREGROUND, Judgement, ORPHAN, Plan, Seen, Verdict, View};

/// The controller.
struct Garbage {
    client: Client,
    events: EventRecorder,
    kinds: Arc<AllKinds>,
    queue: Arc<WorkQueue<Key>>,
}

/// Starts it.
pub(crate) fn start(shared: &Shared, context: &Context) {
    let (client, events) = shared.identity("generic-garbage-collector");
    let queue = shell::queue();
    // The handlers look up dependents in all caches, themselves included.
    let kinds = Arc::new_cyclic(|kinds: &std::sync::Weak<AllKinds>| {
        let (kinds, queue) = (kinds.clone(), queue.clone());
        let on_kind = Box::new(move |cache: &Arc<Cache>| {
            let (kinds, queue) = (kinds.clone(), queue.clone());
            cache.add_handler(Box::new(move |old, new| {
                if let Some(kinds) = kinds.upgrade() {
                    wake(&kinds, &queue, old, new);
                }
            }));
        });
        AllKinds::new(context.informers.clone(), on_kind)
    });
    kinds.set(&context.resources.borrow());
    shared.spawn(kinds.clone().follow(context.resources.clone()));
    let clock = shared.clock.clone();
    shared.spawn(async move {
        kinds.wait_synced().await;
        let garbage = Garbage { client, events, kinds, queue: queue.clone() };
        carrack_client::controller::run(Arc::new(garbage), queue, 8, clock).await;
    });
}

/// Whom a change concerns.
fn wake(kinds: &AllKinds, queue: &WorkQueue<Key>, old: Option<&Arc<Record>>, new: Option<&Arc<Record>>) {
    let Some(record) = new.or(old) else { return };
    let header = record.header();
    // Owners in the foreground wait for this object.
    for owner in old.into_iter().chain(new).flat_map(|record| &record.header().owners) {
        if let Some(owner) = find_owner(kinds, record, owner).filter(|owner| owner.header().deleting) {
            queue.add(owner.key.clone());
        }
    }
    if new.is_none() {
        for dependent in dependents(kinds, &header.uid) {
            queue.add(dependent.key);
        }
        return;
    }
    let before = old.map(|old| old.header());
    let changed = before.is_none_or(|old| {
        old.owners != header.owners || old.deleting != header.deleting || old.finalizers != header.finalizers
    });
    if changed && (header.deleting || !header.owners.is_empty()) {
        queue.add(record.key.clone());
    }
}

/// The owner of a record, if the caches know it: the same uid under that name.
fn find_owner(kinds: &AllKinds, record: &Record, owner: &Owner) -> Option<Arc<Record>> {
    let cache = kinds.of_kind(&owner.api_version, &owner.kind)?;
    let namespace = if cache.resource().namespaced { record.key.namespace() } else { "" };
    cache.find(namespace, &owner.name).filter(|found| found.header().uid == owner.uid)
}

fn dependents(kinds: &AllKinds, uid: &str) -> Vec<Dependent> {
    let records = kinds.caches().into_iter().flat_map(|cache| cache.owned_by(uid));
    let dependent = |record: Arc<Record>| {
        let header = record.header();
        let blocks = header.owners.iter().any(|owner| &*owner.uid == uid && owner.block_owner_deletion);
        Dependent { key: record.key.clone(), blocks, foreground: waits(header) }
    };
    records.map(dependent).collect()
}

/// Whether an object waits for its dependents.
fn waits(header: &Header) -> bool {
    header.deleting && header.finalizers.iter().any(|finalizer| &**finalizer == FOREGROUND)
}

impl Controller for Garbage {
    type Plan = (Arc<Record>, Plan);

    fn name(&self) -> &'static str {
        "garbage"
    }

    /// Only those that are synced: one kind that cannot be listed stops nothing.
    fn caches(&self) -> Vec<Arc<Cache>> {
        self.kinds.caches().into_iter().filter(|cache| cache.synced()).collect()
    }

    fn decide(&self, key: &Key, _: Timestamp) -> Option<Self::Plan> {
        let record = self.kinds.of_key(key)?.get(key)?;
        let header = record.header();
        let seen = |owner: &Owner| match find_owner(&self.kinds, &record, owner) {
            Some(found) if waits(found.header()) => Seen::Waiting,
            Some(_) => Seen::Solid,
            None => Seen::Unsure,
        };
        let view = View {
            deleting: header.deleting,
            finalizers: header.finalizers.iter().map(ToString::to_string).collect(),
            owners: header.owners.iter().map(|owner| (owner.clone(), seen(owner))).collect(),
            dependents: if header.deleting { dependents(&self.kinds, &header.uid) } else { Vec::new() },
        };
        match decide::decide(&view) {
            Plan::Rest => None,
            plan => Some((record, plan)),
        }
    }

    async fn act(
        &self,
        _: &Key,
        (record, plan): Self::Plan,
        writes: &Writes,
    ) -> Result<Option<Duration>, Error> {
        match plan {
            Plan::Rest => {}
            Plan::Wake(keys) => keys.into_iter().for_each(|key| self.queue.add(key)),
            Plan::Release => self.remove_finalizer(&record, FOREGROUND, writes).await?,
            Plan::Orphan(keys) => {
                for key in keys {
                    let dependent = self.kinds.of_key(&key).and_then(|cache| cache.get(&key));
                    if let Some(dependent) = dependent {
                        self.unlink(&dependent, &[record.header().uid.to_string()], writes).await?;
                    }
                }
                self.remove_finalizer(&record, ORPHAN, writes).await?;
            }
            Plan::LookUp => self.look_up(&record, writes).await?,
        }
        Ok(None)
    }
}

impl Garbage {
    async fn look_up(&self, record: &Record, writes: &Writes) -> Result<(), Error> {
        let Some(cache) = self.kinds.of_key(&record.key) else { return Ok(()) };
        let at = (record.key.namespace(), record.key.name());
        let latest = match self.client.get(cache.resource(), at.0, at.1).await {
            Ok(latest) if latest.uid == *record.header().uid => latest,
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let tree: Value = latest.decode()?;
        let read = Record::from_wire::<&str>(record.key.resource(), &tree, &[]);
        let Some(latest) = read else { return Ok(()) };
        let header = latest.header();
        if header.deleting {
            return Ok(());
        }
        let mut owners = Vec::new();
        for owner in &header.owners {
            match self.verdict(&latest, owner).await? {
                Some(verdict) => owners.push((owner.clone(), verdict)),
                // An owner that cannot be: the object is left alone.
                None => return Ok(()),
            }
        }
        let finalizers: Vec<String> = header.finalizers.iter().map(ToString::to_string).collect();
        let dependents = dependents(&self.kinds, &header.uid);
        match decide::judge(&owners, &finalizers, &dependents) {
            Judgement::Keep => Ok(()),
            Judgement::Unlink(uids) => self.unlink(&latest, &uids, writes).await,
            Judgement::Delete { policy, unblock } => {
                self.report_misplaced(&latest);
                let mut revision = latest.revision;
                if unblock {
                    revision = self.unblock(&latest, writes).await?;
                }
                let options = DeleteOptions {
                    uid: Some(header.uid.to_string()),
                    revision: Some(revision),
                    propagation: Some(policy),
                    grace_seconds: None,
                };
                tracing::debug!(key = %latest.key, policy, "deleting: no owner is left");
                match self.client.delete(cache.resource(), at, &options).await {
                    Ok(written) => writes.deleted(&written.key, &header.uid),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(())
            }
        }
    }

    /// Looks an owner up; `None` if such an owner can never be.
    async fn verdict(&self, item: &Record, owner: &Owner) -> Result<Option<Verdict>, Error> {
        let Some(cache) = self.kinds.of_kind(&owner.api_version, &owner.kind) else {
            let (version, kind) = (&owner.api_version, &owner.kind);
            return Err(Error::Other(format!("no resource is known for owner {version}, kind {kind}")));
        };
        let resource = cache.resource();
        if resource.namespaced && item.key.namespace().is_empty() {
            self.report(item, owner);
            return Ok(None);
        }
        let namespace = if resource.namespaced { item.key.namespace() } else { "" };
        let found = match self.client.get(resource, namespace, &owner.name).await {
            Ok(found) if found.uid == *owner.uid => found.decode::<Value>()?,
            Ok(_) => return Ok(Some(Verdict::Dangling)),
            Err(error) if error.is_not_found() => return Ok(Some(Verdict::Dangling)),
            Err(error) => return Err(error.into()),
        };
        let meta = &found["metadata"];
        let finalizers = meta["finalizers"].as_array().into_iter().flatten();
        let foreground = finalizers.into_iter().any(|finalizer| finalizer == FOREGROUND);
        let waiting = !meta["deletionTimestamp"].is_null() && foreground;
        Ok(Some(if waiting { Verdict::Waiting } else { Verdict::Solid }))
    }

    /// Takes references to owners out of an object.
    async fn unlink(&self, item: &Record, uids: &[String], writes: &Writes) -> Result<(), Error> {
        let tree = item.decode();
        let mut owners = tree["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        owners.retain(|owner| !uids.iter().any(|uid| owner["uid"] == **uid));
        let owners = if owners.is_empty() { Value::Null } else { owners.into() };
        self.patch(item, json!({ "ownerReferences": owners }), writes).await.map(drop)
    }

    async fn unblock(&self, item: &Record, writes: &Writes) -> Result<u64, Error> {
        let tree = item.decode();
        let mut owners = tree["metadata"]["ownerReferences"].clone();
        for owner in owners.as_array_mut().into_iter().flatten() {
            owner["blockOwnerDeletion"] = false.into();
        }
        self.patch(item, json!({ "ownerReferences": owners }), writes).await
    }

    async fn remove_finalizer(&self, item: &Record, finalizer: &str, writes: &Writes) -> Result<(), Error> {
        let rest = item.header().finalizers.iter().filter(|one| &***one != finalizer);
        let rest: Vec<&str> = rest.map(|one| &**one).collect();
        let rest = if rest.is_empty() { Value::Null } else { json!(rest) };
        self.patch(item, json!({ "finalizers": rest }), writes).await?;
        // It may be gone with that, so its revision may never be seen.
        writes.deleted(&item.key, &item.header().uid);
        Ok(())
    }

    /// Patches metadata of exactly this state of an object; returns the new revision.
    async fn patch(&self, item: &Record, mut meta: Value, writes: &Writes) -> Result<u64, Error> {
        let Some(cache) = self.kinds.of_key(&item.key) else { return Ok(item.revision) };
        meta["uid"] = (*item.header().uid).into();
        meta["resourceVersion"] = item.revision.to_string().into();
        let at = (item.key.namespace(), item.key.name());
        let patch = Patch::Merge(json!({ "metadata": meta }));
        match self.client.patch(cache.resource(), at, "", &patch).await {
            Ok(written) => {
                // An object that its last finalizer held is gone now.
                if !item.header().deleting {
                    writes.wrote(&written);
                }
                Ok(written.revision)
            }
            Err(error) if error.is_not_found() => Ok(item.revision),
            Err(error) => Err(error.into()),
        }
    }

    /// Says so if the owner of what is deleted exists, but in another namespace.
    fn report_misplaced(&self, item: &Record) {
        for owner in &item.header().owners {
            let Some(cache) = self.kinds.of_kind(&owner.api_version, &owner.kind) else { continue };
            let elsewhere =
                |r: &Arc<Record>| r.header().uid == owner.uid && r.key.namespace() != item.key.namespace();
            if cache.resource().namespaced && cache.all().iter().any(elsewhere) {
                self.report(item, owner);
            }
        }
    }

    fn report(&self, item: &Record, owner: &Owner) {
        let Owner { api_version, kind, name, uid, .. } = owner;
        let namespace = item.key.namespace();
        let message = format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] \
             does not exist in namespace {namespace:?}"
        );
        self.events.warning(&Reference::of(item), "OwnerRefInvalidNamespace", message);
    }
}
