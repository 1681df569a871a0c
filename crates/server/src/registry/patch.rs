//! Patches. The patch is applied to the object in the request's version, the outcome
//! decoded like any body, and written by the loop of `update`.

use carrack_api::status::Status;
use carrack_api::{Value, managed, patch};

use super::call::Call;
use super::write::check_fields;
use super::{FieldValidation, Registry, Written};

/// The kinds of patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// `application/json-patch+json`.
    Json,
    /// `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml`.
    Apply,
}

impl Registry {
    /// Patches an object or its subresource.
    ///
    /// # Errors
    /// What a client would be answered.
    pub async fn patch(&self, call: &Call, ty: PatchType, body: &[u8]) -> Result<Written, Status> {
        if ty == PatchType::Apply {
            return self.apply(call, body).await;
        }
        self.change(call, &mut |old| self.patched(call, ty, body, old)).await
    }

    /// The patched object, canonical and defaulted.
    fn patched(&self, call: &Call, ty: PatchType, body: &[u8], old: &Value) -> Result<Value, Status> {
        if leaves_managed(ty, body)
            && let Ok(object) = self.patched_of(call, ty, body, managed::without_managed(old))
        {
            return Ok(object);
        }
        // A refusal shows the object, all of it.
        self.patched_of(call, ty, body, old.clone())
    }

    fn patched_of(&self, call: &Call, ty: PatchType, body: &[u8], object: Value) -> Result<Value, Status> {
        let version = &call.kind.versions[call.version];
        let patched =
            apply(&version.schema, version.root, ty, body, object).map_err(|error| about(&error))?;
        let decoded = patched.decode_as(&call.kind, call.version, strict(call))?;
        check_fields(call, decoded.strict)?;
        let mut object = self.defaulted(call, decoded.value, decoded.empties);
        super::meta::settle_namespace(call, &mut object)?;
        super::meta::check_name(call, &object)?;
        Ok(object)
    }
}

/// Whether a patch neither sees nor changes managedFields, so that they need not be patched and
/// decoded: who owns what is worked out from the old object if the new one has none.
fn leaves_managed(ty: PatchType, body: &[u8]) -> bool {
    matches!(ty, PatchType::Merge | PatchType::Strategic)
        && memchr::memmem::find(body, b"managedFields").is_none()
}

/// Whether unknown and duplicate fields are refused.
pub(super) fn strict(call: &Call) -> bool {
    call.options.field_validation == FieldValidation::Strict
}

/// Applies a patch to a tree of the type `root`.
pub(crate) fn apply(
    schema: &carrack_api::schema::Schema,
    root: carrack_api::schema::TypeId,
    ty: PatchType,
    body: &[u8],
    object: Value,
) -> Result<patch::Patched, patch::Error> {
    match ty {
        PatchType::Json => patch::json(object, body),
        PatchType::Merge => patch::merge(object, body),
        PatchType::Strategic => patch::strategic(schema, root, object, body),
        PatchType::Apply => Err(patch::Error::Bad("an applied configuration is no patch of a body".into())),
    }
}

/// A patch that does not apply, as a failure about the object.
pub(super) fn about(error: &patch::Error) -> Status {
    let mut status = error.to_status();
    if status.code == 413 {
        status.message = format!("Request entity too large: {}", status.message);
    }
    if status.code == 422 {
        // Upstream's sentence, which names no object and says no reason.
        let message = "the server rejected our request due to an error in our request";
        return Status::of_route(422, "Invalid", message);
    }
    status
}
