//! CustomResourceDefinitions at work: the table of kinds follows them, their status
//! says which names they have, and their objects go before they do.
//!
//! The table is made from what is stored, at the start ([`load`]) and at every change
//! ([`run`]); nothing else is remembered. Decisions are `carrack_api::crd::names`.

mod finalize;
mod strategy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use carrack_api::crd::{self, RESOURCE, names};
use carrack_api::status::Status;
use carrack_api::{Record, Value};
use serde_json::json;
use tokio::task::JoinSet;

use crate::clock::rfc3339;
use crate::registry::{Call, Item, Registry, Seen, Start, Watcher};
use crate::request::User;

pub(crate) use strategy::Definitions;

/// How long to wait after something failed.
const RETRY: Duration = Duration::from_secs(1);

/// The server itself.
fn server() -> User {
    User::new("system:apiserver", ["system:masters", "system:authenticated"])
}

/// A call on the definition of a name.
fn call(registry: &Registry, name: &str) -> Result<Call, Status> {
    registry.call(server(), RESOURCE, "", name)
}

/// Puts the kinds of all stored definitions into the table.
pub(crate) fn load(registry: &Registry) {
    let snapshot = registry.store().snapshot(RESOURCE);
    let kinds: Vec<_> = snapshot
        .range(&format!("{RESOURCE}/"), None)
        .filter_map(|record| crd::kind(&record.decode()))
        .filter(|kind| may_serve(registry, kind))
        .collect();
    if !kinds.is_empty() {
        registry
            .change_kinds(|table| kinds.iter().cloned().fold(table.clone(), |table, kind| table.with(kind)));
    }
}

/// A definition cannot take a built-in kind's place.
fn may_serve(registry: &Registry, kind: &carrack_api::Kind) -> bool {
    registry.kinds().stored(&kind.resource).is_none_or(|known| known.definition.is_some())
}

/// Keeps kinds and definitions in step, for as long as the server runs.
pub async fn run(registry: Arc<Registry>) {
    let mut keeper = Keeper {
        registry,
        known: BTreeMap::new(),
        served: BTreeMap::new(),
        finalizing: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    loop {
        match keeper.registry.subscribe(RESOURCE, "", Start::Initial { fresh: false }).await {
            Ok(watcher) => keeper.follow(watcher).await,
            Err(status) => tracing::warn!(%status, "cannot follow CustomResourceDefinitions"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

struct Keeper {
    registry: Arc<Registry>,
    /// Every definition, by name.
    known: BTreeMap<String, Value>,
    /// What was taken over into the table of kinds, by name: what of a definition shapes
    /// its kind. Other changes must not end watches.
    served: BTreeMap<String, Value>,
    /// Definitions whose objects are being deleted: name to uid.
    finalizing: BTreeMap<String, String>,
    tasks: JoinSet<(String, String)>,
}

impl Keeper {
    /// Until the watch falls out of the history.
    async fn follow(&mut self, mut watcher: Watcher) {
        let (mut initial, mut is_initial) = (BTreeSet::new(), true);
        let mut retry = false;
        loop {
            let items = tokio::select! {
                items = watcher.next() => match items {
                    Ok(items) => items,
                    Err(_) => return,
                },
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Ok((name, uid)) = done && self.finalizing.get(&name) == Some(&uid) {
                        self.finalizing.remove(&name);
                    }
                    continue;
                }
                () = tokio::time::sleep(RETRY), if retry => std::collections::VecDeque::new(),
            };
            for item in items {
                match item {
                    Item::Initial(record) => {
                        initial.insert(record.key.name().to_owned());
                        self.changed(&record);
                    }
                    Item::InitialEnd(_) => {
                        is_initial = false;
                        // What is gone since the watch before.
                        let gone = self.known.keys().filter(|name| !initial.contains(*name));
                        for name in gone.cloned().collect::<Vec<_>>() {
                            self.gone(&name);
                        }
                    }
                    Item::Event(Seen::Deleted, event) => self.gone(event.record.key.name()),
                    Item::Event(_, event) => self.changed(&event.record),
                }
            }
            if !is_initial {
                retry = !self.settle().await;
            }
        }
    }

    /// Takes a definition over into the table of kinds.
    fn changed(&mut self, record: &Record) {
        let name = record.key.name().to_owned();
        let definition = record.decode();
        if self.known.get(&name) == Some(&definition) {
            return;
        }
        self.serve(&name, &definition);
        self.known.insert(name, definition);
    }

    fn gone(&mut self, name: &str) {
        self.known.remove(name);
        self.withdraw(name);
    }

    fn serve(&mut self, name: &str, definition: &Value) {
        match crd::kind(definition).filter(|kind| may_serve(&self.registry, kind)) {
            Some(kind) => {
                let shape = shape(definition);
                if self.served.get(name) != Some(&shape) {
                    self.served.insert(name.to_owned(), shape);
                    self.registry.change_kinds(|kinds| kinds.with(kind.clone()));
                }
            }
            None => self.withdraw(name),
        }
    }

    fn withdraw(&mut self, name: &str) {
        self.served.remove(name);
        let kinds = self.registry.kinds();
        if kinds.stored(name).is_some_and(|kind| kind.definition.is_some()) {
            self.registry.change_kinds(|kinds| kinds.without(name));
        }
    }

    /// Writes the status that each definition should have, and starts to finalize those
    /// that are to go; `false` if something has to be tried again.
    async fn settle(&mut self) -> bool {
        let mut settled = true;
        let names: Vec<String> = self.known.keys().cloned().collect();
        for name in names {
            let Some(definition) = self.known.get(&name) else { continue };
            if names::is_held(definition) {
                self.finalize(&name);
                continue;
            }
            let now = rfc3339(self.registry.now());
            let mut next = definition.clone();
            match names::decide(definition, &self.taken(definition, &name), &now) {
                Some(status) => next["status"] = status,
                None => continue,
            }
            // Who sees that it is established finds it served.
            self.serve(&name, &next);
            match self.write(&name).await {
                Ok(Some(record)) => self.changed(&record),
                Ok(None) => {}
                Err(status) => {
                    tracing::warn!(%status, %name, "cannot write the status of a CustomResourceDefinition");
                    settled = false;
                }
            }
        }
        settled
    }

    fn taken(&self, definition: &Value, name: &str) -> names::Taken {
        let group = definition["spec"]["group"].as_str().unwrap_or_default();
        names::Taken::of(self.known.values(), group, name)
    }

    async fn write(&self, name: &str) -> Result<Option<Arc<Record>>, Status> {
        let call = call(&self.registry, name)?.on("status");
        let written = self.registry.modify(&call, |definition| {
            let taken = self.taken(definition, name);
            if let Some(status) = names::decide(definition, &taken, &rfc3339(call.now)) {
                definition["status"] = status;
            }
            Ok(())
        });
        match written.await {
            Ok(written) => Ok(Some(written.record)),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }

    fn finalize(&mut self, name: &str) {
        let uid = self.known[name]["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        if self.finalizing.get(name) == Some(&uid) {
            return;
        }
        self.finalizing.insert(name.to_owned(), uid.clone());
        let (registry, name) = (self.registry.clone(), name.to_owned());
        self.tasks.spawn(async move {
            finalize::run(&registry, &name, &uid).await;
            (name, uid)
        });
    }
}

/// What of a definition shapes its kind.
fn shape(definition: &Value) -> Value {
    let condition =
        |ty: &str| crd::condition(definition, ty).map(|found| found["status"].clone()).unwrap_or_default();
    json!([
        definition["metadata"]["uid"],
        definition["spec"],
        definition["status"]["acceptedNames"],
        condition("Established"),
        condition("Terminating"),
    ])
}
