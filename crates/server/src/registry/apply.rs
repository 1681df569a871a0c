//! Server-side apply: an applied configuration merged into the object that is there, or
//! made into a new one, and written by the loop of `update` with the managedFields that
//! the merge gives.

use carrack_api::managed::{self, Config, Types};
use carrack_api::status::Status;
use carrack_api::{Value, decode};

use super::call::Call;
use super::{FieldValidation, Registry, Written, meta};
use crate::clock::rfc3339;

/// How often an apply finds the object gone that it would change, or there that it would
/// create, before that is the caller's.
const ATTEMPTS: usize = 5;

impl Registry {
    /// Whether an apply of the call would create its object.
    pub(crate) fn would_apply_create(&self, call: &Call) -> bool {
        call.subresource.is_empty() && self.store.get(&call.key()).is_none()
    }

    /// Applies a configuration to an object or its subresource.
    ///
    /// # Errors
    /// What a client would be answered.
    pub(crate) async fn apply(&self, call: &Call, body: &[u8]) -> Result<Written, Status> {
        if !call.subresource.is_empty() && self.store.get(&call.key()).is_none() {
            return Err(call.not_found());
        }
        let config = Config::read(body).map_err(|why| Status::bad_request(why.to_string()))?;
        let call = &call.clone().tracked();
        let mut done = Err(call.modified());
        for _ in 0..ATTEMPTS {
            done = if self.would_apply_create(call) && call.options.may_create {
                let object = self.applied(call, &config, None)?;
                self.create_canonical(call, object).await
            } else {
                self.change(call, &mut |old| self.applied(call, &config, Some(old))).await
            };
            match &done {
                Err(status) if matches!(status.reason, "AlreadyExists" | "NotFound") => {}
                _ => break,
            }
        }
        done
    }

    /// The object after an apply, canonical and defaulted, with its managedFields.
    fn applied(&self, call: &Call, config: &Config, old: Option<&Value>) -> Result<Value, Status> {
        let api_version = call.api_version();
        let types = Types::of(&call.kind, call.version, &api_version, &call.subresource);
        let time = rfc3339(call.now);
        let write = call.managed_write(&api_version, &time);
        let applied = managed::apply(&types, &write, old, &config.object, call.options.force)?;
        check_duplicates(call, config)?;
        let mut object = match (applied.object, old) {
            (None, Some(old)) => old.clone(),
            (merged, _) => self.decoded(call, config, merged.unwrap_or_else(|| config.object.clone()))?,
        };
        if let Some(text) = applied.last_applied {
            managed::set_last_applied(&mut object, text);
        }
        meta::set(&mut object, "managedFields", applied.managed);
        if old.is_none() && !meta::text(&object, "uid").is_empty() {
            let kind = &call.kind;
            let detail = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                meta::text(&object, "uid")
            );
            return Err(Status::conflict(&kind.group, &kind.plural, &call.name, &detail));
        }
        if old.is_none() {
            meta::of(&mut object).remove("resourceVersion");
        }
        meta::settle_namespace(call, &mut object)?;
        if meta::text(&object, "name").is_empty() {
            return Err(Status::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                call.name
            )));
        }
        meta::settle_name(call, &mut object)?;
        Ok(object)
    }

    fn decoded(&self, call: &Call, config: &Config, merged: Value) -> Result<Value, Status> {
        let decoded = decode::object_value(&call.kind, call.version, merged).map_err(|why| {
            let (api_version, kind) = (call.api_version(), &call.kind.kind);
            let at = if call.kind.group.is_empty() { "/" } else { "" };
            let ty = format!("{at}{api_version}, Kind={kind}");
            let text = |field: &str| config.object["metadata"][field].as_str().unwrap_or_default();
            let name = format!("{}/{}", text("namespace"), text("name"));
            let message = format!(
                "failed to convert new object ({name}; {ty}) to proper version: unable to convert \
                 unstructured object to {ty}: {why}"
            );
            Status::other(500, "", message)
        })?;
        Ok(self.defaulted(call, decoded.value, decoded.empties))
    }
}

/// Does with keys that came twice what the caller asked for.
pub(super) fn check_duplicates(call: &Call, config: &Config) -> Result<(), Status> {
    match call.options.field_validation {
        _ if config.duplicates.is_empty() => {}
        FieldValidation::Ignore => {}
        FieldValidation::Warn => config.duplicates.iter().for_each(|line| call.warnings.add(line)),
        FieldValidation::Strict => {
            return Err(Status::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
                config.duplicates.join("\n  ")
            )));
        }
    }
    Ok(())
}
