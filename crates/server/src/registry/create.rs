//! Creation.

use std::sync::Arc;

use carrack_api::schema::Ty;
use carrack_api::status::Status;
use carrack_api::{Record, Value, decode, defaults, prepare};
use carrack_store::Expect;
use serde_json::{Map, json};

use super::call::Call;
use super::write::{forget_empty, prepared};
use super::{Registry, Written, behaviour, meta};
use crate::seams::{Finish, Operation};

/// Names tried for one `generateName`.
const GENERATED_NAMES: usize = 8;

impl Registry {
    /// Creates an object from a tree of the call's version.
    ///
    /// # Errors
    /// What a client would be answered.
    pub async fn create(&self, call: &Call, object: Value) -> Result<Written, Status> {
        let object = self.canonical(call, object)?;
        self.create_canonical(call, object).await
    }

    /// Creates a decoded and defaulted object.
    pub(crate) async fn create_canonical(&self, call: &Call, mut object: Value) -> Result<Written, Status> {
        meta::settle_namespace(call, &mut object)?;
        let generate = meta::text(&object, "generateName").to_owned();
        let generated = meta::text(&object, "name").is_empty() && !generate.is_empty();
        if generated {
            meta::of(&mut object).insert("name".into(), meta::generated_name(&generate).into());
        }
        if !call.name.is_empty() {
            meta::settle_name(call, &mut object)?;
        }
        // What nobody can own, because it will be wiped.
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            meta::of(&mut object).remove(field);
        }
        let managed = self.manage_new(call, &mut object);
        forget_empty(call, &mut object);
        if call.kind.definition.as_ref().is_some_and(|definition| definition.terminating) {
            let detail = "create not allowed while custom resource definition is terminating";
            let name = meta::text(&object, "name");
            return Err(Status::forbidden(&call.kind.group, &call.kind.plural, name, detail));
        }
        self.mutate(call, Operation::Create, None, &mut object).await?;
        let revision = meta::text(&object, "resourceVersion").parse::<u64>().unwrap_or(0);
        if revision != 0 && !call.options.dry_run {
            // Without a reason, as upstream's storage says it.
            return Err(Status::other(500, "", "resourceVersion should not be set on objects to be created"));
        }
        self.prepare_new(call, &mut object);
        let finish = match self.strategy(&call.kind) {
            Some(strategy) => strategy.begin_create(call, self, &mut object).await?,
            None => Finish::NOTHING,
        };
        let new = New { object, generate: generated.then_some(&*generate), managed: managed.as_deref() };
        let result = self.finish_create(call, new).await;
        finish.end(result.is_ok() && !call.options.dry_run).await;
        result
    }

    async fn finish_create(&self, call: &Call, mut new: New<'_>) -> Result<Written, Status> {
        self.validate(call, &new.object, None)?;
        self.admit(call, Operation::Create, None, Some(&new.object)).await?;
        let reserved = self.reserve(call, Operation::Create, None, &new.object).await?;
        prepare::read_back(&call.kind, &mut new.object);
        let result = self.store_new(call, new).await;
        reserved.end(result.is_ok() && !call.options.dry_run).await;
        result
    }

    fn prepare_new(&self, call: &Call, object: &mut Value) {
        meta::stamp_new(call, object);
        if call.kind.subresource_of(call.version, "status").is_some()
            && !behaviour::keeps_status_on_create(&call.kind)
        {
            reset_status(call, object);
        }
        defaults::drop_gated(&call.kind, call.version, object);
        prepared(call, |request| prepare::create(&call.kind, request, object));
        if let Some(strategy) = self.strategy(&call.kind) {
            strategy.prepare_create(call, object);
        }
    }

    async fn store_new(&self, call: &Call, new: New<'_>) -> Result<Written, Status> {
        let New { mut object, generate, managed } = new;
        let mut attempt = 1;
        loop {
            let name = meta::text(&object, "name").to_owned();
            let again = generate.filter(|_| attempt < GENERATED_NAMES);
            let next = again.map(|_| object.clone());
            let content = self.content_managed(call, object, managed)?;
            if call.options.dry_run {
                let key = carrack_api::Key::new(&call.kind.resource, &call.namespace, &name);
                if self.store.get(&key).is_some() {
                    return Err(exists(call, &name));
                }
                return Ok(Written { record: Arc::new(Record { key, revision: 0, content }), created: true });
            }
            match self.commit(call, &name, Expect::Absent, Some(content)).await? {
                Ok(done) => return Ok(Written { record: done.record, created: true }),
                Err(_) => match (next, again) {
                    (Some(next), Some(base)) => {
                        object = next;
                        meta::of(&mut object).insert("name".into(), meta::generated_name(base).into());
                        attempt += 1;
                    }
                    _ => return Err(exists(call, &name)),
                },
            }
        }
    }
}

/// An object on its way into the store.
struct New<'a> {
    object: Value,
    /// `generateName`, where the name was made of it.
    generate: Option<&'a str>,
    /// managedFields that do not stand in the object.
    managed: Option<&'a [u8]>,
}

fn exists(call: &Call, name: &str) -> Status {
    Status::already_exists(&call.kind.group, &call.kind.plural, name)
}

/// Puts the status of a new object in place: what its type says of an empty one.
fn reset_status(call: &Call, object: &mut Value) {
    let version = &call.kind.versions[call.version];
    let Some(top) = object.as_object_mut() else { return };
    if top.remove("status").is_none() {
        return;
    }
    let Some(field) = version.schema.object(version.root).field("status") else { return };
    if let Ty::Object(ty) = &field.ty
        && !call.kind.custom
        && let Ok(decoded) = decode::value(&version.schema, *ty, Value::Object(Map::new()))
    {
        use carrack_api::schema::Presence;
        let empty = decoded.value == json!({});
        if field.presence == Presence::Always || !(empty && field.presence == Presence::NonZero) {
            top.insert("status".into(), decoded.value);
        }
    }
}
