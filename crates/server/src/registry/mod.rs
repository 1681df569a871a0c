//! Every verb, once, for every kind.
//!
//! A write runs: decode (at the edge) → prepare → defaults → admission → validation →
//! allocation → managed fields → record → compare-and-set on the store. Reads splice
//! records and decode nothing. Kinds differ only by their [`Kind`](carrack_api::Kind) row, the facts
//! behind its schema, and a [`Strategy`] where they must. Built-in and custom kinds
//! pass through the very same code; the table of kinds may be swapped at run time.
//!
//! Nothing here knows HTTP; authorization has happened before.

mod apply;
mod behaviour;
mod binding;
mod call;
pub(crate) mod certificates;
mod components;
mod create;
mod delete;
mod devices;
mod eviction;
mod expiry;
pub(crate) mod meta;
mod pages;
mod patch;
mod read;
mod scale;
pub(crate) mod strategies;
mod update;
mod watch;
mod write;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use carrack_api::status::Status;
use carrack_api::{Kinds, Record, managed};
use carrack_store::Store;
use jiff::Timestamp;
use tokio::sync::watch as watch_channel;

pub(crate) use behaviour::uncached;
pub(crate) use call::Sent;
pub use call::{Call, FieldValidation, Options, Warnings};
pub use components::Component;
pub use delete::{DeleteOptions, Deleted, Propagation};
pub use expiry::expire_events;
pub use patch::PatchType;
pub use read::{Items, ListOptions, Listed, Scope, VersionMatch};
pub(crate) use watch::too_old;
pub use watch::{Item, Seen, Start, Watcher};
pub(crate) use write::{check_fields, not_stored, settle, to_version};

use crate::clock::Clock;
use crate::request::User;
use crate::seams::{Action, Admission, Strategy};
use pages::Pages;

/// The registry. Share it by `Arc`.
pub struct Registry {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    kinds: ArcSwap<Kinds>,
    kinds_changed: watch_channel::Sender<()>,
    strategies: HashMap<Box<str>, Arc<dyn Strategy>>,
    actions: HashMap<Box<str>, Arc<dyn Action>>,
    admission: Vec<Arc<dyn Admission>>,
    components: Vec<Component>,
    pages: Pages,
    outlines: managed::Memo,
}

/// Key in a Status's details that the edge moves to `metadata.continue`.
pub(crate) const CONTINUE: &str = "continue";

/// The parts a registry is made of.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) strategies: HashMap<Box<str>, Arc<dyn Strategy>>,
    pub(crate) actions: HashMap<Box<str>, Arc<dyn Action>>,
    pub(crate) admission: Vec<Arc<dyn Admission>>,
    pub(crate) components: Vec<Component>,
}

/// What a write did.
#[derive(Debug, Clone)]
pub struct Written {
    /// The object as it now is (on a dry run: as it would be). Its revision is 0 when
    /// it was never stored.
    pub record: Arc<Record>,
    /// Whether the object is new.
    pub created: bool,
}

impl Registry {
    pub(crate) fn new(parts: Parts, page_snapshots: usize) -> Self {
        let Parts { store, clock, kinds, strategies, actions, admission, components } = parts;
        let (kinds, pages) = (ArcSwap::new(kinds), Pages::new(page_snapshots));
        let kinds_changed = watch_channel::Sender::new(());
        let outlines = managed::Memo::default();
        Self {
            store,
            clock,
            kinds,
            kinds_changed,
            strategies,
            actions,
            admission,
            components,
            pages,
            outlines,
        }
    }

    /// The store below. Writing to it goes past admission and validation: only for
    /// what is not an object of a kind.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The table of kinds, as it is now.
    pub fn kinds(&self) -> Arc<Kinds> {
        self.kinds.load_full()
    }

    /// Replaces the table of kinds by what `change` makes of it.
    pub fn change_kinds(&self, change: impl FnMut(&Kinds) -> Kinds) {
        let mut change = change;
        self.kinds.rcu(|kinds| change(kinds));
        self.kinds_changed.send_replace(());
    }

    /// Marked whenever the table of kinds changes.
    pub fn kinds_changed(&self) -> watch_channel::Receiver<()> {
        self.kinds_changed.subscribe()
    }

    /// A call by machinery inside the server; `resource` is `pods`, `deployments.apps`.
    ///
    /// # Errors
    /// 404 when no such kind is served.
    pub fn call(&self, user: User, resource: &str, namespace: &str, name: &str) -> Result<Call, Status> {
        let kinds = self.kinds.load();
        let kind = kinds.stored(resource).cloned();
        let kind = kind.ok_or_else(no_such_resource)?;
        Ok(Call::internal(user, kind, namespace, name, self.now()))
    }

    /// What a POST to a resource that is not stored, or to an acting subresource, does.
    pub(crate) fn action(&self, resource: &str) -> Option<&Arc<dyn Action>> {
        self.actions.get(resource)
    }
}

/// 404 for a path that no kind serves.
pub(crate) fn no_such_resource() -> Status {
    Status::of_route(404, "NotFound", "the server could not find the requested resource")
}
