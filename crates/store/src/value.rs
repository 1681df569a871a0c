//! A record as bytes: what engines and backups keep, and the checksum over it.
//!
//! Revision and key are kept beside a value, not in it, so that the same value can be
//! given another revision by a restore.

use bytes::Bytes;
use carrack_api::{Content, Header, Key, Revision};

use crate::transform::{PLAIN, Transform};

/// Why a stored value cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ValueError {
    /// It is sealed, and the transform cannot open it.
    #[error("{0}")]
    Sealed(std::sync::Arc<str>),
    /// It does not hold together.
    #[error("{0}")]
    Damaged(String),
}

/// Lengths before header and body: of the header, and the two offsets into the body.
const LENGTHS: usize = 12;

/// The bytes of a record's content: [`PLAIN`], three lengths, header (postcard), body.
pub(crate) fn encode(content: &Content) -> Vec<u8> {
    let (body, managed_at, rest_at) = content.parts();
    let mut out = Vec::with_capacity(body.len() + 512);
    out.push(PLAIN);
    out.extend_from_slice(&[0; LENGTHS]);
    let mut out = postcard::to_extend(&*content.header, out).expect("a header of strings always encodes");
    let header = (out.len() - 1 - LENGTHS) as u32;
    for (at, length) in [header, managed_at, rest_at].into_iter().enumerate() {
        out[1 + 4 * at..5 + 4 * at].copy_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(body);
    out
}

fn decode(value: &[u8]) -> Option<Content> {
    let (tag, rest) = value.split_first()?;
    let (lengths, rest) = rest.split_at_checked(LENGTHS)?;
    let length = |at: usize| u32::from_le_bytes(lengths[4 * at..4 * at + 4].try_into().expect("four bytes"));
    let (header, body) = rest.split_at_checked(length(0) as usize)?;
    let header: Header = postcard::from_bytes(header).ok().filter(|_| *tag == PLAIN)?;
    Content::from_parts(header, Bytes::copy_from_slice(body), length(1), length(2))
}

/// The stored form of a content.
///
/// # Errors
/// The transform's reason.
pub(crate) fn seal(
    transform: &dyn Transform,
    key: &Key,
    content: &Content,
) -> Result<Vec<u8>, std::sync::Arc<str>> {
    let plain = encode(content);
    Ok(transform.seal(key, &plain)?.unwrap_or(plain))
}

/// The content in a stored form.
///
/// # Errors
/// It cannot be opened, or is damaged.
pub(crate) fn open(transform: &dyn Transform, key: &Key, stored: &[u8]) -> Result<Content, ValueError> {
    let damaged = || ValueError::Damaged("its segments do not fit".into());
    if stored.first() == Some(&PLAIN) {
        return decode(stored).ok_or_else(damaged);
    }
    let plain = transform.open(key, stored).map_err(ValueError::Sealed)?;
    decode(&plain).ok_or_else(damaged)
}

/// Checksum of one stored row, whatever form its value has; `None` is a deletion.
pub(crate) fn checksum(revision: Revision, replaced: Revision, key: &str, value: Option<&[u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&revision.to_le_bytes());
    hasher.update(&replaced.to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(&[u8::from(value.is_some())]);
    hasher.update(value.unwrap_or_default());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::content;
    use crate::transform::Untransformed;

    #[test]
    fn values_read_back_and_damage_is_noticed() {
        let (key, content) = (Key::new("configmaps", "default", "a"), content("a", 1));
        let stored = seal(&Untransformed, &key, &content).unwrap();
        assert_eq!(open(&Untransformed, &key, &stored).unwrap(), content);
        for cut in [0, 1, 12, 20, 60] {
            assert!(open(&Untransformed, &key, &stored[..cut]).is_err(), "cut at {cut}");
        }
        let sum = checksum(3, 2, key.as_str(), Some(&stored));
        assert_ne!(sum, checksum(3, 1, key.as_str(), Some(&stored)));
        assert_ne!(sum, checksum(3, 2, key.as_str(), Some(&stored[1..])));
        assert_ne!(checksum(3, 2, "k", None), checksum(3, 2, "k", Some(&[])));
    }
}
