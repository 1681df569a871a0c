//! Deletion: preconditions, grace, finalizers, collections.
//! (After apimachinery's `rest.BeforeDelete` and the generic store's `Delete`.)

use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Record, Value, validation};
use carrack_store::Expect;
use jiff::SignedDuration;

use super::call::Call;
use super::read::{Items, ListOptions, Listed};
use super::{Registry, behaviour, meta};
use crate::seams::{Operation, Removal};

/// How often a deletion is tried against a moving object.
const ATTEMPTS: usize = 10;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without owner.
    Orphan,
    /// They go after the object.
    Background,
    /// They go before the object.
    Foreground,
}

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`.
    pub grace: Option<i64>,
    /// `propagationPolicy`, or what `orphanDependents` says.
    pub propagation: Option<Propagation>,
    /// `orphanDependents`, the old form of it.
    pub orphan: Option<bool>,
    /// `preconditions.uid`.
    pub uid: Option<Box<str>>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<Box<str>>,
}

/// What a deletion did.
#[derive(Debug, Clone)]
pub struct Deleted {
    /// The last state of the object, or the one in which it waits to go.
    pub record: Arc<Record>,
    /// Whether it is gone; otherwise grace or finalizers hold it.
    pub gone: bool,
}

impl Registry {
    /// Deletes an object, or marks it when grace or finalizers hold it.
    ///
    /// # Errors
    /// What a client would be answered.
    pub async fn delete(&self, call: &Call, options: &DeleteOptions) -> Result<Deleted, Status> {
        if let Some(why) = validation::validate_delete(&call.kind, &call.name) {
            return Err(call.forbidden(why));
        }
        self.delete_one(call, options).await
    }

    async fn delete_one(&self, call: &Call, options: &DeleteOptions) -> Result<Deleted, Status> {
        for _ in 0..ATTEMPTS {
            let current = self.store.get(&call.key()).ok_or_else(|| call.not_found())?;
            check_preconditions(call, options, &current)?;
            if let Some(deleted) = self.try_delete(call, options, &current).await? {
                return Ok(deleted);
            }
        }
        Err(call.modified())
    }

    /// Deletes every object that the list options select; returns them as they were, and
    /// where to go on if they set a limit.
    ///
    /// # Errors
    /// The first failure but 404; what was deleted until then stays deleted.
    pub async fn delete_collection(
        &self,
        call: &Call,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Listed, Status> {
        let listed = self.list(call, list).await?;
        let mut deleted = Vec::new();
        for record in listed.all() {
            let mut each = call.clone();
            each.namespace = record.key.namespace().into();
            each.name = record.key.name().into();
            match self.delete_one(&each, options).await {
                Ok(_) => deleted.push(record),
                Err(status) if status.code == 404 => deleted.push(record),
                Err(status) => return Err(status),
            }
        }
        let (revision, continue_token) = (self.store().revision(), listed.continue_token);
        Ok(Listed { revision, continue_token, remaining: listed.remaining, items: Items::Page(deleted) })
    }

    /// One round; `None` is a conflict.
    async fn try_delete(
        &self,
        call: &Call,
        options: &DeleteOptions,
        current: &Arc<Record>,
    ) -> Result<Option<Deleted>, Status> {
        let mut object = self.lean_in_version(call, current)?;
        self.admit(call, Operation::Delete, Some(&object), None).await?;
        let stays = Ok(Some(Deleted { record: current.clone(), gone: false }));
        match self.plan(call, options, &mut object) {
            Outcome::AlreadyGoing => return stays,
            Outcome::Marked => {}
            Outcome::Now => return self.remove(call, current, &object).await,
        }
        if !current.content.managed().is_empty() {
            let managed = serde_json::from_slice(current.content.managed()).map_err(Status::internal)?;
            meta::of(&mut object).insert("managedFields".into(), managed);
        }
        let content = self.content(call, object)?;
        if content == current.content {
            return stays;
        }
        if call.options.dry_run {
            let record = Record { key: current.key.clone(), revision: current.revision, content };
            return Ok(Some(Deleted { record: Arc::new(record), gone: false }));
        }
        let expect = Expect::At(current.revision);
        let committed = self.commit(call, &call.name, expect, Some(content)).await?;
        Ok(committed.ok().map(|done| Deleted { record: done.record, gone: false }))
    }

    /// Removes what `object` is about to be. Who asks is told of the deletion as it would
    /// have been stored, which may have changed metadata.
    async fn remove(
        &self,
        call: &Call,
        current: &Arc<Record>,
        object: &Value,
    ) -> Result<Option<Deleted>, Status> {
        if !call.options.dry_run {
            if self.commit(call, &call.name, Expect::At(current.revision), None).await?.is_err() {
                return Ok(None);
            }
            self.deleted(call, object).await;
        }
        let content = object["metadata"].as_object().and_then(|meta| current.content.with_meta(meta));
        let record = match content.filter(|content| content.meta() != current.content.meta()) {
            Some(content) => Arc::new(Record { content, ..Record::clone(current) }),
            None => current.clone(),
        };
        Ok(Some(Deleted { record, gone: true }))
    }

    /// What the deletion makes of the object.
    fn plan(&self, call: &Call, options: &DeleteOptions, object: &mut Value) -> Outcome {
        let asked = options.grace.map(|grace| if grace < 0 { 1 } else { grace });
        let already = meta::deleting(object);
        let pending = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        let removal = match self.strategy(&call.kind) {
            Some(strategy) => strategy.removal(call, object, asked),
            None => Removal::Now,
        };
        if already && pending > 0 {
            // Only a shorter grace may be asked for.
            match asked {
                Some(asked) if asked < pending => shorten(call, object, pending, asked),
                _ => return Outcome::AlreadyGoing,
            }
        } else if removal != Removal::Held || !behaviour::held_without_collector(&call.kind) {
            // (Whoever asks again may say otherwise, until the collector has acted.)
            adjust_finalizers(call, options, object);
        }
        let grace = match removal {
            Removal::Graceful(grace) if already => grace.min(asked.unwrap_or(0)),
            Removal::Graceful(grace) => grace,
            Removal::Now | Removal::Held => 0,
        };
        if grace == 0 && removal != Removal::Held && !meta::has_finalizers(object) {
            if !already && matches!(removal, Removal::Graceful(_)) {
                meta::mark_deleted(object, call.now, 0);
                if object["metadata"]["generation"].as_i64().unwrap_or(0) > 0 {
                    meta::bump_generation(object);
                }
            }
            return Outcome::Now;
        }
        if !already {
            let at = call.now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(call.now);
            if removal == Removal::Held {
                // The mark alone: neither a grace nor a new generation.
                meta::of(object).insert("deletionTimestamp".into(), crate::clock::rfc3339(at).into());
                return Outcome::Marked;
            }
            meta::mark_deleted(object, at, grace);
            if object["metadata"]["generation"].as_i64().unwrap_or(0) > 0 {
                meta::bump_generation(object);
            }
        }
        Outcome::Marked
    }
}

enum Outcome {
    Now,
    Marked,
    AlreadyGoing,
}

/// Moves the deletion time forward to a shorter grace, but not into the past.
fn shorten(call: &Call, object: &mut Value, pending: i64, asked: i64) {
    let at: Option<jiff::Timestamp> = meta::text(object, "deletionTimestamp").parse().ok();
    let at = at.and_then(|at| at.checked_add(SignedDuration::from_secs(asked - pending)).ok());
    match at {
        Some(at) if at >= call.now => meta::mark_deleted(object, at, asked),
        _ => meta::mark_deleted(object, call.now, asked.min(1)),
    }
}

/// Sets the finalizers by which the garbage collector learns what is to become of
/// dependents.
fn adjust_finalizers(call: &Call, options: &DeleteOptions, object: &mut Value) {
    if matches!(&*call.kind.resource, "events") {
        return; // Nothing depends on them, and the collector leaves them alone.
    }
    let has = |wanted: &str| meta::finalizers(object).any(|finalizer| finalizer == wanted);
    let wanted = match options.propagation {
        Some(Propagation::Orphan) => Some(ORPHAN),
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Background) => None,
        None if has(ORPHAN) => Some(ORPHAN),
        None if has(FOREGROUND) => Some(FOREGROUND),
        None => behaviour::orphans_by_default(&call.kind).then_some(ORPHAN),
    };
    let mut finalizers: Vec<Value> =
        meta::finalizers(object).filter(|f| ![ORPHAN, FOREGROUND].contains(f)).map(Into::into).collect();
    finalizers.extend(wanted.map(Into::into));
    let meta = meta::of(object);
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".into(), finalizers.into());
    }
}

/// Namespaces have a check, and words, of their own.
fn check_namespace(call: &Call, options: &DeleteOptions, current: &Record) -> Result<(), Status> {
    let version = current.revision.to_string();
    let checks = [
        ("UID", &options.uid, &*current.header().uid),
        ("ResourceVersion", &options.resource_version, &version),
    ];
    for (what, wanted, actual) in checks {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| ***wanted != *actual) {
            let detail = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}"
            );
            return Err(Status::conflict("", "namespaces", &call.name, &detail));
        }
    }
    Ok(())
}

fn check_preconditions(call: &Call, options: &DeleteOptions, current: &Record) -> Result<(), Status> {
    if &*call.kind.resource == "namespaces" {
        return check_namespace(call, options, current);
    }
    let conflict =
        |detail: String| Err(Status::conflict(&call.kind.stored_group, &call.kind.kind, &call.name, &detail));
    let uid = &current.header().uid;
    if let Some(wanted) = options.uid.as_ref().filter(|wanted| *wanted != uid) {
        return conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). \
             The object might have been deleted and then recreated"
        ));
    }
    let version = current.revision.to_string();
    if let Some(wanted) = options.resource_version.as_ref().filter(|wanted| ***wanted != *version) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        ));
    }
    Ok(())
}
