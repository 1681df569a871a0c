//! What is around messages: `runtime.Unknown`, lists and watch frames.

use std::convert::Infallible;

use serde_json::Value;

use super::wire::{Item, Reader, put_bytes, put_message, put_number};
use crate::decode::Error;

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
    let message = body.strip_prefix(MAGIC).ok_or_else(|| {
        let prefix = MAGIC.map(|byte| byte.to_string()).join(" ");
        Error::Unfit(format!(
            "provided data does not appear to be a protobuf message, expected prefix [{prefix}]"
        ))
    })?;
    let mut envelope = Envelope::default();
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next()? {
        match field {
            (1, Item::Bytes(types)) => {
                let mut types = Reader::new(types);
                while let Some(field) = types.next()? {
                    match field {
                        (1, Item::Bytes(text)) => envelope.api_version = utf8(text)?,
                        (2, Item::Bytes(text)) => envelope.kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Item::Bytes(raw)) => envelope.raw = raw,
            (3, Item::Bytes(encoding)) if !encoding.is_empty() => {
                return Err(Error::Unfit("protobuf bodies must not be encoded".into()));
            }
            _ => {}
        }
    }
    Ok(envelope)
}

fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Unfit("proto: field contains invalid UTF-8".into()))
}

/// Puts a message into an envelope.
pub fn wrap(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + api_version.len() + kind.len() + 24);
    out.extend_from_slice(MAGIC);
    let types = |out: &mut Vec<u8>| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
        Ok::<(), Infallible>(())
    };
    let Ok(()) = put_message(&mut out, 1, types);
    put_bytes(&mut out, 2, raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// A `PartialObjectMetadata`, which no table holds: an object's metadata alone, given as
/// a message of its own. Without envelope.
pub fn metadata(meta: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(meta.len() + 4);
    put_bytes(&mut raw, 1, meta);
    raw
}

/// A list body with its envelope. `meta` is the list's metadata (resourceVersion,
/// continue, remainingItemCount), `items` are messages without envelopes.
pub fn list<'a>(
    api_version: &str,
    kind: &str,
    meta: &Value,
    items: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut raw = Vec::new();
    let text = |field: &str| meta.get(field).and_then(Value::as_str).unwrap_or_default();
    let list_meta = |out: &mut Vec<u8>| {
        put_bytes(out, 1, text("selfLink").as_bytes());
        put_bytes(out, 2, text("resourceVersion").as_bytes());
        put_bytes(out, 3, text("continue").as_bytes());
        if let Some(count) = meta.get("remainingItemCount").and_then(Value::as_i64) {
            put_number(out, 4, count as u64);
        }
        Ok::<(), Infallible>(())
    };
    let Ok(()) = put_message(&mut raw, 1, list_meta);
    for item in items {
        put_bytes(&mut raw, 2, item);
    }
    wrap(api_version, kind, &raw)
}

/// One frame of a watch: four bytes of length, then `metav1.WatchEvent` in no
/// envelope around the enveloped `object`. `event` is `ADDED`, `MODIFIED`, ….
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + event.len() + 24);
    out.extend_from_slice(&[0; 4]);
    put_bytes(&mut out, 1, event.as_bytes());
    let raw_extension = |out: &mut Vec<u8>| {
        put_bytes(out, 1, object);
        Ok::<(), Infallible>(())
    };
    let Ok(()) = put_message(&mut out, 2, raw_extension);
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}
