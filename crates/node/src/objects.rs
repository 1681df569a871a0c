//! The ConfigMaps and Secrets that pods of this node refer to, each watched by name
//! for as long as a pod needs it.
//!
//! What always holds: an object is watched once, however many pods use it; a node
//! never lists a namespace's secrets (the Node authorizer would refuse it); the
//! number of watches is bounded by what the pods here name.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_api::Record;
use carrack_client::{Resource, Scope, Source, Update, resource};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::spec::Objects;
use crate::spec::refs::References;

/// How long a step waits for the first answer about an object.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Told the uid of a pod one of whose objects has changed.
pub type Notify = Arc<dyn Fn(&str) + Send + Sync>;

type Name = (Kind, String, String);
type State = Option<Option<Arc<Record>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    ConfigMap,
    Secret,
}

struct Entry {
    users: HashSet<String>,
    state: watch::Receiver<State>,
    feed: JoinHandle<()>,
}

/// Watches by name, shared by the pods of this node.
pub struct Watched {
    source: Arc<dyn Source>,
    notify: Notify,
    entries: Arc<Mutex<HashMap<Name, Entry>>>,
}

// === impl Watched ===

impl Watched {
    /// Over a source; `notify` hears of changes.
    pub fn new(source: Arc<dyn Source>, notify: Notify) -> Self {
        Self { source, notify, entries: Arc::default() }
    }

    /// Has a pod need just these objects (none when it ends).
    pub fn hold(&self, uid: &str, namespace: &str, refs: &References) {
        let wanted: HashSet<Name> = names(namespace, refs).collect();
        let mut entries = self.entries.lock().expect("nobody panics with the entries locked");
        entries.retain(|name, entry| {
            if !wanted.contains(name) && entry.users.remove(uid) && entry.users.is_empty() {
                entry.feed.abort();
                return false;
            }
            true
        });
        for name in wanted {
            let entry = entries.entry(name.clone()).or_insert_with(|| self.watch(name));
            entry.users.insert(uid.to_owned());
        }
    }

    /// What the objects are now; waits for the first answer about each. An error names
    /// an object about which the server has not answered.
    pub async fn load(&self, namespace: &str, refs: &References) -> Result<Objects, String> {
        let mut objects = Objects::default();
        for name in names(namespace, refs) {
            let receiver = {
                let entries = self.entries.lock().expect("nobody panics with the entries locked");
                entries.get(&name).map(|entry| entry.state.clone())
            };
            let (kind, _, object) = &name;
            let timed_out = || format!("timed out waiting for the API server to answer for {object:?}");
            let Some(mut receiver) = receiver else { return Err(timed_out()) };
            let answer = tokio::time::timeout(FIRST_ANSWER, receiver.wait_for(Option::is_some)).await;
            let record = match answer {
                Ok(Ok(state)) => state.clone().flatten(),
                _ => return Err(timed_out()),
            };
            let unreadable = |error: serde_json::Error| format!("cannot read {object:?}: {error}");
            match kind {
                Kind::ConfigMap => {
                    let map = record.map(|r| r.decode_as::<ConfigMap>()).transpose().map_err(unreadable)?;
                    objects.config_maps.insert(object.clone(), map);
                }
                Kind::Secret => {
                    let secret = record.map(|r| r.decode_as::<Secret>()).transpose().map_err(unreadable)?;
                    objects.secrets.insert(object.clone(), secret);
                }
            }
        }
        Ok(objects)
    }

    fn watch(&self, name: Name) -> Entry {
        let (sender, state) = watch::channel(None);
        let (source, notify, entries) = (self.source.clone(), self.notify.clone(), self.entries.clone());
        let feed = tokio::spawn(async move {
            let (kind, namespace, object) = &name;
            let scope = Scope {
                namespace: Some(namespace.clone()),
                fields: Some(format!("metadata.name={object}")),
                ..Scope::default()
            };
            let mut updates = source.subscribe(resource_of(*kind), scope);
            while let Some(update) = updates.next().await {
                let now = match update {
                    Update::Reset { records, .. } => records.into_iter().find(|r| r.key.name() == object),
                    Update::Changed { record, .. } if record.key.name() == object => Some(record),
                    Update::Deleted { record, .. } if record.key.name() == object => None,
                    _ => continue,
                };
                let first = sender.borrow().is_none();
                let changed = sender.send_if_modified(|state| {
                    let same = state.as_ref().is_some_and(|old: &Option<Arc<Record>>| {
                        old.as_ref().map(|r: &Arc<Record>| r.revision) == now.as_ref().map(|r| r.revision)
                    });
                    if !same {
                        *state = Some(now);
                    }
                    !same
                });
                if changed && !first {
                    let users: Vec<String> = {
                        let entries = entries.lock().expect("nobody panics with the entries locked");
                        entries.get(&name).into_iter().flat_map(|e| e.users.iter().cloned()).collect()
                    };
                    users.iter().for_each(|uid| notify(uid));
                }
            }
        });
        Entry { users: HashSet::new(), state, feed }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Ok(entries) = self.entries.lock() {
            entries.values().for_each(|entry| entry.feed.abort());
        }
    }
}

fn resource_of(kind: Kind) -> &'static Resource {
    match kind {
        Kind::ConfigMap => &resource::CONFIG_MAPS,
        Kind::Secret => &resource::SECRETS,
    }
}

fn names<'a>(namespace: &'a str, refs: &'a References) -> impl Iterator<Item = Name> + 'a {
    let maps = refs.config_maps.iter().map(move |n| (Kind::ConfigMap, namespace.to_owned(), n.clone()));
    maps.chain(refs.secrets.iter().map(move |n| (Kind::Secret, namespace.to_owned(), n.clone())))
}
