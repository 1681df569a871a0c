//! Watches: what a list in scope would show, kept up to date event by event.
//!
//! An event is told as seen through the scope's selectors: an object that starts to
//! match is ADDED, one that ceases to is DELETED, whatever happened to it in the
//! store. (After upstream's watch cache.) The edge turns items into frames; the
//! in-process `Source` hands the records out as they are.

use std::collections::VecDeque;
use std::sync::Arc;

use carrack_api::kinds::is_field;
use carrack_api::status::Status;
use carrack_api::{Record, Revision};
use carrack_store::{Change, Event, Expired, Field, Snapshot, Watch};

use super::Registry;
use super::read::Scope;

/// Records of the initial state that are handed out at once at most.
const INITIAL_BATCH: usize = 256;

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With every object there is (as new as any acknowledged write, when `fresh`),
    /// told as ADDED, then changes.
    Initial {
        /// Whether to wait for every acknowledged write first.
        fresh: bool,
    },
    /// With the changes after a revision.
    After(Revision),
}

/// What happened, as seen through the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The object came into view.
    Added,
    /// It changed in view.
    Modified,
    /// It went out of view.
    Deleted,
}

/// One thing that a watch tells.
#[derive(Debug, Clone)]
pub enum Item {
    /// An object of the initial state.
    Initial(Arc<Record>),
    /// The initial state is complete as of a revision.
    InitialEnd(Revision),
    /// A change.
    Event(Seen, Arc<Event>),
}

/// A running watch of a scope.
pub struct Watcher {
    scope: Scope,
    prefix: String,
    initial: Option<Initial>,
    watch: Watch,
    after: Revision,
}

struct Initial {
    snapshot: Snapshot,
    last: Option<String>,
}

impl Registry {
    /// Watches a scope. Whoever calls has been authorized for it.
    ///
    /// # Errors
    /// 410 when history does not reach back to where the watch would start.
    pub async fn watch(&self, scope: Scope, start: Start) -> Result<Watcher, Status> {
        let resource = scope.kind.as_ref().map(|kind| kind.resource.clone()).unwrap_or_default();
        let (initial, after) = match start {
            Start::After(revision) => (None, revision),
            Start::Initial { fresh } => {
                if fresh {
                    self.store.read_barrier().await.map_err(Status::internal)?;
                }
                let snapshot = self.store.snapshot(&resource);
                let revision = snapshot.revision;
                (Some(Initial { snapshot, last: None }), revision)
            }
        };
        let watch = match scope.narrowest() {
            Some(field) => self.store.watch_field(&resource, after, field),
            None => self.store.watch(&resource, after),
        };
        let watch = watch.map_err(|expired| too_old(&expired))?;
        let prefix = scope.prefix();
        Ok(Watcher { scope, prefix, initial, watch, after })
    }

    /// For components of this process: the records of a kind and every change after
    /// them. `resource` is `pods`, `deployments.apps`; an empty namespace is all.
    /// Authorize the subscriber once, before calling.
    ///
    /// # Errors
    /// 404 for an unknown kind, 410 when history does not reach back.
    pub async fn subscribe(&self, resource: &str, namespace: &str, start: Start) -> Result<Watcher, Status> {
        let kind = self.kinds().stored(resource).cloned().ok_or_else(super::no_such_resource)?;
        let scope = Scope { kind: Some(kind), namespace: namespace.into(), ..Scope::default() };
        self.watch(scope, start).await
    }
}

impl Scope {
    /// The field by which the store is to tell what concerns this scope, if it asks for one
    /// exactly: the fewer objects share its value, the better.
    fn narrowest(&self) -> Option<Field> {
        let field = |name: &str, value: &str| Field { name: name.into(), value: value.into() };
        let exact = |name: &str| Some(field(name, self.fields.as_ref()?.exact(name)?));
        // What a custom kind lets select by may change with its definition.
        let built_in = self.kind.as_ref().filter(|kind| kind.definition.is_none());
        let selectable =
            built_in.into_iter().flat_map(|kind| kind.selectable.iter().map(move |at| (kind, at)));
        let mut stored = selectable.filter(|(kind, name)| is_field(&kind.resource, name));
        let namespace = || (!self.namespace.is_empty()).then(|| field("metadata.namespace", &self.namespace));
        exact("metadata.name").or_else(|| stored.find_map(|(_, name)| exact(name))).or_else(namespace)
    }
}

impl Watcher {
    /// The next items, at least one. Cancel-safe.
    ///
    /// # Errors
    /// [`Expired`] once the watcher has fallen out of the history.
    pub async fn next(&mut self) -> Result<VecDeque<Item>, Expired> {
        if let Some(items) = self.next_initial() {
            return Ok(items);
        }
        loop {
            let events = self.watch.next().await?;
            let items: VecDeque<Item> = events.into_iter().filter_map(|event| self.see(event)).collect();
            if !items.is_empty() {
                return Ok(items);
            }
        }
    }

    /// What has come meanwhile, without waiting; afterwards [`revision`](Self::revision)
    /// is as new as the store, also when nothing in scope has changed for long.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub fn catch_up(&mut self) -> Result<VecDeque<Item>, Expired> {
        if self.initial.is_some() {
            return Ok(VecDeque::new());
        }
        let events = self.watch.try_next()?;
        Ok(events.into_iter().filter_map(|event| self.see(event)).collect())
    }

    /// Everything up to here has been told: what a bookmark may say.
    pub fn revision(&self) -> Revision {
        self.watch.revision().max(self.after)
    }

    fn next_initial(&mut self) -> Option<VecDeque<Item>> {
        let Initial { snapshot, last } = self.initial.as_mut()?;
        let scope = &self.scope;
        let found: VecDeque<Item> = scope
            .records(snapshot, &self.prefix, last.as_deref())
            .take(INITIAL_BATCH)
            .map(|record| Item::Initial(record.clone()))
            .collect();
        if let (INITIAL_BATCH, Some(Item::Initial(record))) = (found.len(), found.back()) {
            *last = Some(record.key.to_string());
            return Some(found);
        }
        let revision = snapshot.revision;
        self.initial = None;
        let mut found = found;
        found.push_back(Item::InitialEnd(revision));
        Some(found)
    }

    /// An event as the scope sees it, if it does.
    fn see(&self, event: Arc<Event>) -> Option<Item> {
        if event.revision <= self.after || !event.record.key.as_str().starts_with(&self.prefix) {
            return None;
        }
        let record = &event.record;
        let now = event.change != Change::Deleted && self.scope.matches(record);
        let before = match &event.previous {
            _ if event.change == Change::Created => false,
            Some(before) => self.scope.matches(before),
            None => self.scope.matches(record),
        };
        let seen = match (before, now) {
            (false, false) => return None,
            (false, true) => Seen::Added,
            (true, true) => Seen::Modified,
            (true, false) => Seen::Deleted,
        };
        Some(Item::Event(seen, event))
    }
}

/// 410, worded as upstream's watch cache does.
pub(crate) fn too_old(expired: &Expired) -> Status {
    Status::expired(format!("too old resource version: {} ({})", expired.from, expired.oldest))
}
