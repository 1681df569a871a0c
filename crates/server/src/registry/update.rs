//! Updates of every sort: PUT, PATCH, and read-change-write by machinery in the
//! server. All of them are one loop: read, change, check, commit; on a conflict
//! again, unless the caller named the version that it meant.

use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Content, Record, Value, defaults, managed, prepare};
use carrack_store::Expect;

use super::call::Call;
use super::write::{forget_empty, prepared};
use super::{Registry, Written, behaviour, meta};
use crate::seams::{Finish, Operation};

/// How often a write is tried against a moving object before the conflict is the
/// caller's.
const ATTEMPTS: usize = 5;

/// How an update makes the new object from the old one (both of the call's version,
/// canonical and defaulted).
pub(crate) type Change<'a> = &'a mut (dyn FnMut(&Value) -> Result<Value, Status> + Send);

/// What a loop has come to.
enum Step {
    Done(Written),
    Conflict,
}

impl Registry {
    /// Replaces an object (PUT) by a tree of the call's version.
    ///
    /// # Errors
    /// What a client would be answered.
    pub async fn update(&self, call: &Call, object: Value) -> Result<Written, Status> {
        let object = self.canonical(call, object)?;
        self.update_canonical(call, object).await
    }

    /// Whether a PUT of the call would create its object.
    pub(crate) fn would_create(&self, call: &Call) -> bool {
        call.subresource.is_empty()
            && behaviour::create_on_update(&call.kind)
            && self.store.get(&call.key()).is_none()
    }

    /// Replaces an object by a decoded and defaulted one.
    pub(crate) async fn update_canonical(&self, call: &Call, mut object: Value) -> Result<Written, Status> {
        meta::settle_namespace(call, &mut object)?;
        meta::check_name(call, &object)?;
        if self.store.get(&call.key()).is_none() && call.subresource.is_empty() {
            if !behaviour::create_on_update(&call.kind) || !call.options.may_create {
                return Err(call.not_found());
            }
            if !meta::text(&object, "uid").is_empty() || !meta::text(&object, "resourceVersion").is_empty() {
                return Err(call.not_found());
            }
            return self.create_canonical(call, object).await;
        }
        let current = self.store.get(&call.key()).ok_or_else(|| call.not_found())?;
        meta::check_uid(call, &object, &current.header().uid)?;
        self.change(call, &mut |_| Ok(object.clone())).await
    }

    /// Reads an object, lets `change` alter it, and writes it back; again on conflict.
    ///
    /// # Errors
    /// What a client would be answered, and what `change` returns.
    pub async fn modify(
        &self,
        call: &Call,
        mut change: impl FnMut(&mut Value) -> Result<(), Status> + Send,
    ) -> Result<Written, Status> {
        self.change(call, &mut |old| {
            let mut new = old.clone();
            change(&mut new)?;
            Ok(new)
        })
        .await
    }

    /// The loop. An object that names a resourceVersion fails its check on the second
    /// round, so that such a conflict is final.
    pub(crate) async fn change(&self, call: &Call, change: Change<'_>) -> Result<Written, Status> {
        for _ in 0..ATTEMPTS {
            let current = self.store.get(&call.key()).ok_or_else(|| call.not_found())?;
            match self.try_change(call, &current, change).await? {
                Step::Done(written) => return Ok(written),
                Step::Conflict => {}
            }
        }
        Err(call.modified())
    }

    async fn try_change(
        &self,
        call: &Call,
        current: &Arc<Record>,
        change: Change<'_>,
    ) -> Result<Step, Status> {
        let old = self.in_version(call, current)?;
        let mut new = change(&old)?;
        meta::check_replacement(call, &new, current)?;
        self.manage(call, Some(&old), &mut new);
        forget_empty(call, &mut new);
        self.mutate(call, Operation::Update, Some(&old), &mut new).await?;
        self.prepare_update(call, &mut new, &old);
        let finish = match self.strategy(&call.kind).filter(|_| call.subresource.is_empty()) {
            Some(strategy) => strategy.begin_update(call, self, &mut new, &old).await?,
            None => Finish::NOTHING,
        };
        let result = self.finish_change(call, current, &old, new).await;
        let committed = matches!(result, Ok(Step::Done(_))) && !call.options.dry_run;
        finish.end(committed).await;
        result
    }

    async fn finish_change(
        &self,
        call: &Call,
        current: &Arc<Record>,
        old: &Value,
        mut new: Value,
    ) -> Result<Step, Status> {
        self.validate(call, &new, Some(old))?;
        self.admit(call, Operation::Update, Some(old), Some(&new)).await?;
        let reserved = self.reserve(call, Operation::Update, Some(old), &new).await?;
        prepare::read_back(&call.kind, &mut new);
        let result = self.store_change(call, current, old, new).await;
        reserved.end(matches!(result, Ok(Step::Done(_))) && !call.options.dry_run).await;
        result
    }

    /// Keeps the subresources apart, carries over what is the server's, counts.
    fn prepare_update(&self, call: &Call, new: &mut Value, old: &Value) {
        let managed = meta::of(new).remove("managedFields");
        isolate(call, new, old);
        meta::set(new, "managedFields", managed);
        meta::stamp_update(new, old);
        let early = behaviour::counts_gated(&call.kind);
        if early {
            meta::raise_generation(call, new, old);
        }
        defaults::drop_gated(&call.kind, call.version, new);
        prepared(call, |request| prepare::update(&call.kind, request, new, old));
        if let Some(strategy) = self.strategy(&call.kind) {
            strategy.prepare_update(call, new, old);
        }
        if !early && !matches!(&*call.subresource, "status" | "approval" | "binding") {
            meta::raise_generation(call, new, old);
        }
    }

    async fn store_change(
        &self,
        call: &Call,
        current: &Arc<Record>,
        old: &Value,
        new: Value,
    ) -> Result<Step, Status> {
        let released = meta::has_finalizers(old) || &*call.subresource == "finalize";
        if released && meta::deleting(&new) && !meta::has_finalizers(&new) && self.may_go(call, &new) {
            return self.remove_finalized(call, current, new).await;
        }
        let content = self.content(call, new)?;
        if content == current.content || only_times_differ(&content, &current.content) {
            return Ok(Step::Done(Written { record: current.clone(), created: false }));
        }
        if call.options.dry_run {
            let record = Record { key: current.key.clone(), revision: current.revision, content };
            return Ok(Step::Done(Written { record: Arc::new(record), created: false }));
        }
        let expect = Expect::At(current.revision);
        Ok(match self.commit(call, &call.name, expect, Some(content)).await? {
            Ok(done) => Step::Done(Written { record: done.record, created: false }),
            Err(_) => Step::Conflict,
        })
    }

    /// Whether nothing but finalizers kept an object: its grace is over or was none.
    fn may_go(&self, call: &Call, object: &Value) -> bool {
        let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        let finalized = &*call.kind.resource != "namespaces"
            || object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        grace == 0 && finalized
    }

    /// The last finalizer of an object that is being deleted is gone, and so is it.
    async fn remove_finalized(&self, call: &Call, current: &Arc<Record>, new: Value) -> Result<Step, Status> {
        let last = new.clone();
        let content = self.content(call, new)?;
        let record = Record { key: current.key.clone(), revision: current.revision, content };
        if !call.options.dry_run {
            if self.commit(call, &call.name, Expect::At(current.revision), None).await?.is_err() {
                return Ok(Step::Conflict);
            }
            self.deleted(call, &last).await;
        }
        Ok(Step::Done(Written { record: Arc::new(record), created: false }))
    }

    /// Tells the kind's strategy that an object is gone.
    pub(crate) async fn deleted(&self, call: &Call, object: &Value) {
        if let Some(strategy) = self.strategy(&call.kind) {
            strategy.after_delete(call, self, object).await;
        }
    }
}

/// Whether nothing but times of managedFields would be written, which is not worth it.
fn only_times_differ(new: &Content, old: &Content) -> bool {
    let read = |content: &Content| serde_json::from_slice::<Value>(content.managed()).ok();
    new.meta() == old.meta()
        && new.rest() == old.rest()
        && read(new).zip(read(old)).is_some_and(|(new, old)| managed::same_but_times(&new, &old))
}

/// Keeps an update of the object off its status, and one of the status off the rest.
fn isolate(call: &Call, new: &mut Value, old: &Value) {
    let has_status = call.kind.subresource_of(call.version, "status").is_some();
    match &*call.subresource {
        "status" | "approval" => {
            keep_rest(new, old, &["status", "metadata"]);
            if call.kind.custom {
                new["metadata"] = old["metadata"].clone();
            }
            keep_labels(call, new, old);
        }
        // Binding sets a condition besides the node.
        "binding" => {}
        "finalize" => keep(new, old, "status"),
        "ephemeralcontainers" => {
            let containers = new["spec"].get_mut("ephemeralContainers").map(Value::take);
            *new = old.clone();
            if let Some(containers) = containers {
                new["spec"]["ephemeralContainers"] = containers;
            }
        }
        _ if has_status => keep(new, old, "status"),
        _ => {}
    }
}

/// Gives `new` the field as it stands in `old`.
fn keep(new: &mut Value, old: &Value, field: &str) {
    // Mostly nothing has to be copied.
    if new.get(field) == old.get(field) {
        return;
    }
    let Some(top) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => top.insert(field.into(), value.clone()),
        None => top.remove(field),
    };
}

/// Gives `new` all fields as they stand in `old`, but some.
fn keep_rest(new: &mut Value, old: &Value, but: &[&str]) {
    let Some(top) = new.as_object_mut() else { return };
    top.retain(|field, _| but.contains(&field.as_str()) || old.get(field).is_some());
    for field in old.as_object().into_iter().flat_map(|old| old.keys()) {
        if !but.contains(&field.as_str()) {
            keep(new, old, field);
        }
    }
}

/// A status update of the workload kinds cannot change labels; of pods, no owners.
fn keep_labels(call: &Call, new: &mut Value, old: &Value) {
    let field = match &*call.kind.resource {
        "deployments.apps" => "labels",
        "pods" => "ownerReferences",
        _ => return,
    };
    let meta = meta::of(new);
    match old["metadata"].get(field) {
        Some(value) => meta.insert(field.into(), value.clone()),
        None => meta.remove(field),
    };
}
