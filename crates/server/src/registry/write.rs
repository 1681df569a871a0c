//! What every write shares: the tree's forms, admission, validation, and the commit.

use std::borrow::Cow;
use std::sync::Arc;

use carrack_api::decode::Empties;
use carrack_api::field::{Error, Errors};
use carrack_api::status::Status;
use carrack_api::{
    Content, Kind, Record, Value, convert, crd, decode, defaults, managed, prepare, validation, warnings,
};
use carrack_store::{CommitError, Committed, Expect, Write};

use super::call::{Call, FieldValidation};
use super::{Registry, behaviour, meta};
use crate::clock::rfc3339;
use crate::seams::{AdmissionRequest, Finish, Operation, Strategy};

/// Warnings about a body's fields that are sent at most.
const FIELD_WARNINGS: usize = 100;

/// Seconds after which to try a write again that found the disk full.
const FULL_RETRY_SECONDS: u32 = 5;

/// What admission has taken for a write.
pub(crate) struct Reserved(Vec<Finish>);

impl Reserved {
    /// Ends it: the write was committed, or was not.
    pub(crate) async fn end(self, committed: bool) {
        for finish in self.0 {
            finish.end(committed).await;
        }
    }
}

/// Makes null of what is empty and will be read back as null. (Custom kinds keep it.)
pub(super) fn forget_empty(call: &Call, object: &mut Value) {
    if call.kind.definition.is_none() {
        let version = &call.kind.versions[call.version];
        decode::forget_empty(&version.schema, version.root, object);
    }
}

impl Registry {
    /// Brings a tree (of the call's version) into canonical form, with defaults, as a
    /// request body is. Unknown fields are dropped, in silence.
    ///
    /// # Errors
    /// 400 for a field of a wrong type.
    pub fn canonical(&self, call: &Call, object: Value) -> Result<Value, Status> {
        let version = &call.kind.versions[call.version];
        let decoded = decode::object_value(&call.kind, call.version, object)
            .map_err(|error| error.to_status(&call.kind.kind, &version.name))?;
        Ok(self.defaulted(call, decoded.value, decoded.empties))
    }

    /// Fills in defaults of a decoded object of the call's version, and remembers what was
    /// empty in its body.
    pub(crate) fn defaulted(&self, call: &Call, mut object: Value, empties: Empties) -> Value {
        call.empties.set(empties);
        if let Some(top) = object.as_object_mut() {
            top.insert("apiVersion".into(), call.api_version().into());
            top.insert("kind".into(), (&*call.kind.kind).into());
        }
        match call.kind.facts(call.version) {
            Some(facts) => crd::prune::default(&mut object, &facts.schema),
            None => {
                defaults::default_object(&call.kind, call.version, &mut object);
                defaults::stamp(&call.kind, || rfc3339(call.now), &mut object);
            }
        }
        object
    }

    /// The stored object in the call's version.
    pub(crate) fn in_version(&self, call: &Call, record: &Record) -> Result<Value, Status> {
        self.settled_in_version(call, record, record.decode())
    }

    /// As [`in_version`](Self::in_version), without managedFields.
    pub(crate) fn lean_in_version(&self, call: &Call, record: &Record) -> Result<Value, Status> {
        self.settled_in_version(call, record, record.decode_lean())
    }

    fn settled_in_version(&self, call: &Call, record: &Record, object: Value) -> Result<Value, Status> {
        let mut object = to_version(&call.kind, &call.api_version(), object)?;
        settle(&call.kind, call.version, record, &mut object);
        Ok(object)
    }

    pub(crate) fn strategy(&self, kind: &Kind) -> Option<&Arc<dyn Strategy>> {
        self.strategies.get(&kind.resource)
    }

    /// Mutating admission.
    pub(crate) async fn mutate(
        &self,
        call: &Call,
        operation: Operation,
        old: Option<&Value>,
        object: &mut Value,
    ) -> Result<(), Status> {
        let request = AdmissionRequest { operation, call, old, registry: self };
        for plugin in self.admission.iter().filter(|plugin| plugin.handles(&request)) {
            plugin.mutate(&request, object).await?;
        }
        Ok(())
    }

    /// Validating admission.
    pub(crate) async fn admit(
        &self,
        call: &Call,
        operation: Operation,
        old: Option<&Value>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        let request = AdmissionRequest { operation, call, old, registry: self };
        for plugin in self.admission.iter().filter(|plugin| plugin.handles(&request)) {
            plugin.validate(&request, object).await?;
        }
        Ok(())
    }

    /// Has admission take what the write uses up.
    pub(crate) async fn reserve(
        &self,
        call: &Call,
        operation: Operation,
        old: Option<&Value>,
        object: &Value,
    ) -> Result<Reserved, Status> {
        let request = AdmissionRequest { operation, call, old, registry: self };
        let mut reserved = Reserved(Vec::new());
        for plugin in self.admission.iter().filter(|plugin| plugin.handles(&request)) {
            match plugin.reserve(&request, object).await {
                Ok(finish) => reserved.0.push(finish),
                Err(status) => {
                    reserved.end(false).await;
                    return Err(status);
                }
            }
        }
        Ok(reserved)
    }

    /// The rules of the kind.
    pub(crate) fn validate(&self, call: &Call, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        let kind = &*call.kind;
        if matches!(&*call.subresource, "binding" | "finalize") {
            // Each changes one field, which it has checked.
            return Ok(());
        }
        if kind.definition.is_some() {
            return self.validate_custom(call, object, old);
        }
        // Rules are about the stored form.
        let old = old.map(|old| stored_form(kind, old)).transpose()?;
        let (stored, old) = (&*stored_form(kind, object)?, old.as_deref());
        let mut errors = self.broken(call, stored, old);
        if errors.is_empty() {
            if call.subresource.is_empty() {
                warnings::of(kind, stored, old).into_iter().for_each(|warning| call.warnings.add(warning));
            }
            return Ok(());
        }
        // Upstream forgets what is empty only when it stores it, so its answers still show it.
        if let Some(sent) = call.empties.put_back(object) {
            reword(&mut errors, self.broken(call, &*stored_form(kind, &sent)?, old));
        }
        Err(Status::invalid(&kind.stored_group, &kind.kind, meta::text(object, "name"), &errors))
    }

    /// What rules an object breaks.
    fn broken(&self, call: &Call, object: &Value, old: Option<&Value>) -> Errors {
        let kind = &*call.kind;
        let strategy = self.strategy(kind);
        let mut errors = strategy.map_or(Errors::new(), |all| all.authorize(self, call, object, old));
        errors.extend(match old {
            None => validation::validate_create(kind, object),
            Some(old) if &*call.subresource == "status" => {
                validation::validate_status_update(kind, object, old)
            }
            Some(old) if &*call.subresource == "ephemeralcontainers" => {
                validation::validate_ephemeral_containers(kind, object, old)
            }
            Some(old) if &*call.subresource == "resize" => validation::validate_resize(kind, object, old),
            Some(old) if &*call.subresource == "approval" => validation::validate_approval(kind, object, old),
            Some(old) => validation::validate_update(kind, object, old),
        });
        if let Some(strategy) = strategy {
            errors.extend(strategy.validate(call, object, old));
        }
        errors
    }

    /// The rules of a custom kind, which are those of the request's version.
    fn validate_custom(&self, call: &Call, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        let kind = &*call.kind;
        let errors = match old {
            None => validation::custom::create(kind, call.version, object),
            Some(old) if &*call.subresource == "status" => {
                validation::custom::status_update(kind, call.version, object, old)
            }
            Some(old) => validation::custom::update(kind, call.version, object, old),
        };
        if errors.is_empty() {
            if call.subresource.is_empty() {
                let warnings = validation::custom::finalizer_warnings(object, old);
                warnings.into_iter().for_each(|warning| call.warnings.add(warning));
            }
            return Ok(());
        }
        Err(Status::invalid(&kind.group, &kind.kind, meta::text(object, "name"), &errors))
    }

    /// What every POST does to a body that is acted on and not stored: what only the
    /// server writes goes, and managedFields say who sent it.
    ///
    /// # Errors
    /// The body is of another namespace than the request.
    pub(crate) fn prepare_action(&self, call: &Call, object: &mut Value) -> Result<(), Status> {
        meta::settle_namespace(call, object)?;
        let system =
            ["selfLink", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
        system.iter().for_each(|field| _ = meta::of(object).remove(*field));
        self.manage(call, None, object);
        Ok(())
    }

    /// As [`manage`](Self::manage) for a new object: returns managedFields as JSON where
    /// they are remembered of others like it, or else puts them into the object.
    pub(super) fn manage_new(&self, call: &Call, object: &mut Value) -> Option<Vec<u8>> {
        if call.options.tracked || &*call.subresource == "binding" {
            return None;
        }
        let api_version = call.api_version();
        let types = managed::Types::of(&call.kind, call.version, &api_version, &call.subresource);
        let time = rfc3339(call.now);
        let write = call.managed_write(&api_version, &time);
        let remembered = self.outlines.created(&types, &write, object);
        if remembered.is_none() {
            managed::update(&types, &write, None, object);
        }
        remembered
    }

    /// Records in managedFields what the call changed. What the server itself changes
    /// later on is nobody's.
    pub(crate) fn manage(&self, call: &Call, old: Option<&Value>, object: &mut Value) {
        if call.options.tracked || &*call.subresource == "binding" {
            return;
        }
        let api_version = call.api_version();
        let types = managed::Types::of(&call.kind, call.version, &api_version, &call.subresource);
        let time = rfc3339(call.now);
        managed::update(&types, &call.managed_write(&api_version, &time), old, object);
    }

    /// The same for a body of another type than the call's kind.
    pub(crate) fn manage_body(
        &self,
        call: &Call,
        types: &managed::Types<'_>,
        api_version: &str,
        body: &mut Value,
    ) {
        let time = rfc3339(call.now);
        managed::update(types, &call.managed_write(api_version, &time), None, body);
    }

    /// The object as it will be stored.
    pub(crate) fn content(&self, call: &Call, object: Value) -> Result<Content, Status> {
        self.content_managed(call, object, None)
    }

    /// The same with managedFields that do not stand in the object.
    pub(super) fn content_managed(
        &self,
        call: &Call,
        object: Value,
        managed: Option<&[u8]>,
    ) -> Result<Content, Status> {
        let kind = &*call.kind;
        let mut object = to_version(kind, &stored_version(kind), object)?;
        let mut paths = Cow::Borrowed(&*kind.field_paths);
        if call.version != kind.storage
            && let Some(facts) = kind.facts(kind.storage)
        {
            // Another version's defaults are filled in by whoever reads it.
            crd::prune::resource(&mut object, &facts.schema);
            let mut defaulted = object.clone();
            crd::prune::default(&mut defaulted, &facts.schema);
            if defaulted != object
                && let Some(stamp) = paths.to_mut().last_mut()
            {
                *stamp = "=".into();
            }
        }
        Content::encode_managed(&object, &paths, managed)
            .ok_or_else(|| Status::bad_request("the object has no metadata"))
    }

    /// Commits a write; `Ok(Err(record))` is a conflict and holds what is there.
    pub(crate) async fn commit(
        &self,
        call: &Call,
        name: &str,
        expect: Expect,
        content: Option<Content>,
    ) -> Result<Result<Committed, Option<Arc<Record>>>, Status> {
        let key = carrack_api::Key::new(&call.kind.resource, &call.namespace, name);
        let unsynced = behaviour::unsynced(&call.kind, &call.namespace);
        match self.store.commit(Write { key, expect, content, unsynced }).await {
            Ok(committed) => Ok(Ok(committed)),
            Err(CommitError::Conflict(record)) => Ok(Err(record)),
            Err(error) => Err(not_stored(&error)),
        }
    }
}

/// Why the store did not take a write: 507 for a full disk, with a time after which to
/// try again, for it passes by itself.
pub(crate) fn not_stored(error: &CommitError) -> Status {
    match error {
        CommitError::Full => {
            let mut status = Status::other(507, "InsufficientStorage", error.to_string());
            status.details = serde_json::json!({"retryAfterSeconds": FULL_RETRY_SECONDS});
            status
        }
        error => Status::internal(error),
    }
}

/// Lets `prepare` know when and for whom it writes.
pub(crate) fn prepared(call: &Call, prepare: impl FnOnce(&prepare::Request<'_>)) {
    let mut user = serde_json::Map::new();
    // Only these objects name their user.
    if &*call.kind.group == "certificates.k8s.io" {
        user.insert("username".into(), (&*call.user.name).into());
        if !call.user.uid.is_empty() {
            user.insert("uid".into(), (&*call.user.uid).into());
        }
        if !call.user.groups.is_empty() {
            user.insert(
                "groups".into(),
                call.user.groups.iter().map(|group| Value::from(&**group)).collect(),
            );
        }
        if !call.user.extra.is_empty() {
            let values = |values: &Vec<Box<str>>| values.iter().map(|value| Value::from(&**value)).collect();
            let extra = call.user.extra.iter().map(|(key, all)| (key.to_string(), values(all)));
            user.insert("extra".into(), Value::Object(extra.collect()));
        }
    }
    let now = rfc3339(call.now);
    prepare(&prepare::Request { now: &now, subresource: &call.subresource, user: &user });
}

/// `apps/v1`: the version in which a kind's objects are stored.
pub(crate) fn stored_version(kind: &Kind) -> String {
    carrack_api::kind::api_version(&kind.stored_group, &kind.versions[kind.storage].name)
}

/// Brings an object of a custom kind, read in a version, into the form that its present
/// definition gives it, unless that is how it was stored.
pub(crate) fn settle(kind: &Kind, version: usize, record: &Record, object: &mut Value) {
    let Some(definition) = &kind.definition else { return };
    let header = record.header();
    if version == kind.storage && kind.is_settled(header) {
        return;
    }
    let (_, stored) = carrack_api::kind::group_version(&header.api_version);
    let stored = kind.versions.iter().position(|version| &*version.name == stored);
    crd::decode::from_storage(definition, stored.unwrap_or(kind.storage), version, object);
}

/// Gives errors the words of others at the same places.
fn reword(errors: &mut Errors, others: Errors) {
    let mut others: Vec<_> = others.into_iter().map(Some).collect();
    for error in errors {
        let same = |other: &&mut Option<Error>| {
            other.as_ref().is_some_and(|other| other.kind == error.kind && other.path == error.path)
        };
        if let Some(other) = others.iter_mut().find(same).and_then(Option::take) {
            *error = other;
        }
    }
}

/// The object in the version in which its kind is stored.
fn stored_form<'a>(kind: &Kind, object: &'a Value) -> Result<Cow<'a, Value>, Status> {
    let stored = stored_version(kind);
    if object["apiVersion"].as_str() == Some(&*stored) {
        return Ok(Cow::Borrowed(object));
    }
    to_version(kind, &stored, object.clone()).map(Cow::Owned)
}

/// Converts an object, unless it already is of the version.
pub(crate) fn to_version(kind: &Kind, api_version: &str, mut object: Value) -> Result<Value, Status> {
    if object["apiVersion"].as_str() == Some(api_version) {
        return Ok(object);
    }
    if kind.custom {
        object["apiVersion"] = api_version.into();
        return Ok(object);
    }
    convert::convert(&kind.kind, api_version, object).map_err(Status::internal)
}

/// Does with strictness findings what the caller asked for.
///
/// # Errors
/// 400 under `Strict`.
pub(crate) fn check_fields(call: &Call, findings: Vec<String>) -> Result<(), Status> {
    if findings.is_empty() {
        return Ok(());
    }
    match call.options.field_validation {
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            findings.into_iter().take(FIELD_WARNINGS).for_each(|finding| {
                // What a YAML reader found comes as one finding of several lines.
                let lines = finding.trim_start_matches("yaml: unmarshal errors:\n").lines();
                lines.for_each(|line| call.warnings.add(line.trim().to_owned()));
            });
            Ok(())
        }
        FieldValidation::Strict => {
            let kind = &call.kind.kind;
            let version = &call.kind.versions[call.version].name;
            let error = decode::Error::Unfit(format!("strict decoding error: {}", findings.join(", ")));
            Err(error.to_status(kind, version))
        }
    }
}
