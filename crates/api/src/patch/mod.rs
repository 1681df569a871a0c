//! The patches that change a tree: JSON Patch (RFC 6902, with evanphx/json-patch's
//! quirks), JSON merge patch (RFC 7386) and strategic merge patch. Each takes the
//! current object and gives the patched one, which the caller decodes again
//! ([`crate::decode::value`]), as upstream does.

use serde_json::Value;

use crate::schema::{Schema, TypeId};
use crate::status::Status;

/// Operations that one JSON Patch may hold.
pub const MAX_OPERATIONS: usize = 10_000;

/// A patched object.
#[derive(Debug, Clone, PartialEq)]
pub struct Patched {
    /// The object after the patch.
    pub value: Value,
    /// Strictness findings in the patch itself, as in [`crate::decode::Decoded::strict`].
    pub strict: Vec<String>,
}

/// Why a patch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// 400: the patch cannot be read or does not fit the object's shape.
    #[error("{0}")]
    Bad(String),
    /// 413: more than [`MAX_OPERATIONS`].
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooMany(usize),
    /// 422: the patch is well-formed but does not apply, such as a failed test.
    #[error("{0}")]
    Unprocessable(String),
}

impl Error {
    /// The failure as it leaves the house.
    pub fn to_status(&self) -> Status {
        match self {
            Self::Bad(message) => Status::bad_request(message),
            Self::TooMany(_) => Status::too_large(self.to_string()),
            Self::Unprocessable(message) => Status::other(422, "Invalid", message),
        }
    }
}

/// Applies a JSON Patch.
pub fn json(object: Value, patch: &[u8]) -> Result<Patched, Error> {
    let _ = (object, patch);
    Err(Error::Bad("JSON patch is not supported".into()))
}

/// Applies a JSON merge patch.
pub fn merge(object: Value, patch: &[u8]) -> Result<Patched, Error> {
    let _ = (object, patch);
    Err(Error::Bad("JSON merge patch is not supported".into()))
}

/// Applies a strategic merge patch to an object of the type `root`. Custom kinds
/// have none: their caller answers 415.
pub fn strategic(schema: &Schema, root: TypeId, object: Value, patch: &[u8]) -> Result<Patched, Error> {
    let _ = (schema, root, object, patch);
    Err(Error::Bad("strategic merge patch is not supported".into()))
}
