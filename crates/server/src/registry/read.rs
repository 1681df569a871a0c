//! Get and list. A list is a snapshot and hands out records as they are; the edge
//! splices them.

use std::sync::Arc;
use std::time::Duration;

use carrack_api::selector::{Fields, Labels};
use carrack_api::status::Status;
use carrack_api::{Kind, Record, Revision};
use carrack_store::Snapshot;

use super::Registry;
use super::behaviour;
use super::call::Call;
use super::pages::{self, Token};

/// How long a read waits for a revision that the store has not reached.
const FRESHNESS_WAIT: Duration = Duration::from_secs(3);

/// Which objects of a kind.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The kind; `None` selects nothing.
    pub kind: Option<Arc<Kind>>,
    /// Namespace; empty for all.
    pub namespace: Box<str>,
    /// Label selector.
    pub labels: Option<Labels>,
    /// Field selector.
    pub fields: Option<Fields>,
}

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionMatch {
    /// At least as new.
    NotOlderThan,
    /// Exactly that one.
    Exact,
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Label selector; none selects everything.
    pub labels: Option<Labels>,
    /// Field selector; none selects everything.
    pub fields: Option<Fields>,
    /// Objects on a page at most; 0 is all of them.
    pub limit: usize,
    /// Token of the next page.
    pub continue_token: Box<str>,
    /// Minimal or exact revision; `None` is "the newest", 0 "any".
    pub revision: Option<Revision>,
    /// How `revision` is meant.
    pub revision_match: Option<VersionMatch>,
}

/// A list, or a page of one.
#[derive(Clone)]
pub struct Listed {
    /// Revision of the snapshot; 0 of what is stored nowhere.
    pub revision: Revision,
    /// Token of the next page; empty on the last.
    pub continue_token: String,
    /// How many objects come after this page, where that is known.
    pub remaining: Option<usize>,
    /// The objects.
    pub items: Items,
}

/// The objects of a list: picked ones, or all that a snapshot holds in a scope.
#[derive(Clone)]
pub enum Items {
    /// A page.
    Page(Vec<Arc<Record>>),
    /// Everything in scope, to be walked piece by piece.
    All(Snapshot, Scope),
}

impl Scope {
    /// Start of the keys in scope.
    pub fn prefix(&self) -> String {
        let resource = self.kind.as_ref().map_or("", |kind| &*kind.resource);
        match &*self.namespace {
            "" => format!("{resource}/"),
            namespace => format!("{resource}/{namespace}/"),
        }
    }

    /// The records of a snapshot that are in scope and come after `after`, in key order;
    /// `prefix` is this scope's.
    pub fn records<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Record>> {
        snapshot.candidates(self.labels.as_ref(), prefix, after).filter(|record| self.matches(record))
    }

    /// Whether selectors choose among the objects.
    pub fn selects(&self) -> bool {
        self.labels.is_some() || self.fields.is_some()
    }

    /// Whether a record is selected (its namespace is not looked at).
    pub fn matches(&self, record: &Record) -> bool {
        match self.kind.as_ref().filter(|kind| self.fields.is_some() && !kind.is_settled(record.header())) {
            None => self.matches_header(record, record.header()),
            // Its header was made for another definition.
            Some(kind) => {
                let mut object = record.decode();
                super::settle(kind, kind.storage, record, &mut object);
                let content = carrack_api::Content::encode(&object, &kind.field_paths);
                content.is_some_and(|content| self.matches_header(record, &content.header))
            }
        }
    }

    /// As `matches`, with another header of the same object.
    pub fn matches_header(&self, record: &Record, header: &carrack_api::Header) -> bool {
        let selectable = self.kind.as_ref().map_or(&[][..], |kind| &kind.selectable);
        self.labels.as_ref().is_none_or(|labels| labels.matches(header))
            && self.fields.as_ref().is_none_or(|fields| {
                fields.matches_header(record.key.namespace(), record.key.name(), header, selectable)
            })
    }
}

impl Listed {
    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        match &self.items {
            Items::Page(records) => records.is_empty(),
            Items::All(snapshot, scope) => scope.records(snapshot, &scope.prefix(), None).next().is_none(),
        }
    }

    /// All records at once.
    pub fn all(&self) -> Vec<Arc<Record>> {
        match &self.items {
            Items::Page(records) => records.clone(),
            Items::All(snapshot, scope) => scope.records(snapshot, &scope.prefix(), None).cloned().collect(),
        }
    }
}

impl Registry {
    /// The named object, as new as any acknowledged write.
    ///
    /// # Errors
    /// 404; 504 when `at_least` is not reached in time.
    pub async fn get(&self, call: &Call, at_least: Option<Revision>) -> Result<Arc<Record>, Status> {
        if Self::is_of_components(call) {
            return self.component(call).await;
        }
        self.fresh_of(&call.kind, at_least).await?;
        self.store.get(&call.key()).ok_or_else(|| call.not_found())
    }

    /// The objects of the call's kind and namespace.
    ///
    /// # Errors
    /// 400 for options that do not go together, 410 for a page or revision that is
    /// gone, 504 for one that does not come.
    pub async fn list(&self, call: &Call, options: &ListOptions) -> Result<Listed, Status> {
        if Self::is_of_components(call) {
            return Ok(self.component_list(call, options).await);
        }
        let scope = Scope {
            kind: Some(call.kind.clone()),
            namespace: call.namespace.clone(),
            labels: options.labels.clone().filter(|labels| !labels.is_everything()),
            fields: options.fields.clone().filter(|fields| !fields.is_everything()),
        };
        if !options.continue_token.is_empty() {
            let token = Token::decode(&options.continue_token, &scope.prefix())?;
            if options.revision.is_some_and(|revision| revision > 0) {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let snapshot = match token.revision {
                None => self.newest(&call.kind).await?,
                Some(revision) => Some(revision)
                    .filter(|_| !token.is_old(self.now()))
                    .and_then(|revision| self.snapshot_at(&call.kind.resource, revision))
                    .ok_or_else(|| pages::expired(&token, &scope.prefix()))?,
            };
            return Ok(self.page(snapshot, scope, options.limit, Some(token)));
        }
        let snapshot = self.snapshot(call, options).await?;
        if let Some(name) = scope.fields.as_ref().and_then(|fields| fields.exact("metadata.name")) {
            return Ok(one(&snapshot, &scope, name));
        }
        if options.limit == 0 {
            let exact = options.revision.filter(|_| options.revision_match == Some(VersionMatch::Exact));
            let revision = exact.unwrap_or(snapshot.revision);
            let items = Items::All(snapshot, scope);
            return Ok(Listed { revision, continue_token: String::new(), remaining: None, items });
        }
        Ok(self.page(snapshot, scope, options.limit, None))
    }

    /// The snapshot that resourceVersion and resourceVersionMatch ask for.
    async fn snapshot(&self, call: &Call, options: &ListOptions) -> Result<Snapshot, Status> {
        let resource = &call.kind.resource;
        match (options.revision, options.revision_match) {
            (Some(revision), Some(VersionMatch::Exact)) => {
                self.fresh_of(&call.kind, Some(revision)).await?;
                let too_old = || Status::expired("The resourceVersion for the provided list is too old.");
                self.snapshot_at(resource, revision).ok_or_else(too_old)
            }
            (Some(0), _) => Ok(self.store.snapshot(resource)),
            (Some(revision), _) => {
                self.fresh_of(&call.kind, Some(revision)).await?;
                Ok(self.store.snapshot(resource))
            }
            (None, _) => self.newest(&call.kind).await,
        }
    }

    /// A resource as it was: a snapshot that is kept for pages, or what the history says.
    fn snapshot_at(&self, resource: &str, revision: Revision) -> Option<Snapshot> {
        self.pages.get(resource, revision).or_else(|| self.store.snapshot_at(resource, revision).ok())
    }

    async fn newest(&self, kind: &Kind) -> Result<Snapshot, Status> {
        self.store.read_barrier().await.map_err(Status::internal)?;
        Ok(self.store.snapshot(&kind.resource))
    }

    /// Waits until the store has reached a revision; `None` is "every acknowledged write".
    async fn fresh_of(&self, kind: &Kind, at_least: Option<Revision>) -> Result<(), Status> {
        let mut result = self.fresh(at_least).await;
        if let Err(status) = &mut result
            && behaviour::uncached(kind)
        {
            // No cache will have caught up in a second.
            status.details.as_object_mut().map(|details| details.remove("retryAfterSeconds"));
        }
        result
    }

    pub(crate) async fn fresh(&self, at_least: Option<Revision>) -> Result<(), Status> {
        let Some(revision) = at_least else {
            self.store.read_barrier().await.map_err(Status::internal)?;
            return Ok(());
        };
        let step = Duration::from_millis(50);
        let mut waited = Duration::ZERO;
        while self.store.revision() < revision {
            if waited >= FRESHNESS_WAIT {
                return Err(too_large(revision, self.store.revision()));
            }
            tokio::time::sleep(step).await;
            waited += step;
        }
        Ok(())
    }

    fn page(&self, snapshot: Snapshot, scope: Scope, limit: usize, token: Option<Token>) -> Listed {
        let prefix = scope.prefix();
        let after = token.as_ref().map(|token| token.after.as_str());
        let mut found = scope.records(&snapshot, &prefix, after);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let items: Vec<_> = found.by_ref().take(limit).cloned().collect();
        // Who selects is told of a next page as long as there is anything to look through.
        let more = items.len() == limit
            && items
                .last()
                .is_some_and(|last| snapshot.range(&prefix, Some(&last.key.to_string())).next().is_some());
        // Counted once, on the first page, and carried in the token from then on.
        let remaining = match token.as_ref().and_then(|token| token.remaining) {
            Some(before) => Some(before.saturating_sub(items.len())),
            None if !more || scope.selects() => None,
            None if token.is_none() => {
                let all = match &*scope.namespace {
                    "" => snapshot.len(),
                    namespace => snapshot.len_in(namespace),
                };
                Some(all.saturating_sub(items.len()))
            }
            None => Some(found.count()),
        };
        let mut next = String::new();
        if let Some(last) = items.last().filter(|_| more) {
            let begun = token.as_ref().filter(|token| token.revision.is_some()).map(|token| token.since);
            let since = begun.unwrap_or_else(|| self.now().as_second());
            let (revision, after) = (Some(snapshot.revision), last.key.to_string());
            let token = Token { revision, after, remaining, since };
            next = token.encode(&prefix);
            let resource = scope.kind.as_ref().map_or("", |kind| &*kind.resource);
            self.pages.keep(resource, &snapshot);
        }
        let remaining = remaining.filter(|_| more && !scope.selects());
        Listed { revision: snapshot.revision, continue_token: next, remaining, items: Items::Page(items) }
    }
}

/// A list by name is a look-up.
fn one(snapshot: &Snapshot, scope: &Scope, name: &str) -> Listed {
    let prefix = scope.prefix();
    let items: Vec<_> = if scope.namespace.is_empty() && scope.kind.as_ref().is_some_and(|k| k.namespaced) {
        scope.records(snapshot, &prefix, None).cloned().collect()
    } else {
        let kind = scope.kind.as_ref().map_or("", |kind| &*kind.resource);
        let key = carrack_api::Key::new(kind, &scope.namespace, name);
        snapshot.get(&key).filter(|record| scope.matches(record)).cloned().into_iter().collect()
    };
    let revision = snapshot.revision;
    Listed { revision, continue_token: String::new(), remaining: None, items: Items::Page(items) }
}

/// 504 for a revision that the store has not reached.
fn too_large(wanted: Revision, current: Revision) -> Status {
    let mut status =
        Status::timeout(format!("Timeout: Too large resource version: {wanted}, current: {current}"));
    status.details = serde_json::json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    });
    status
}
