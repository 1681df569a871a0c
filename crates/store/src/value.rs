//! A record as bytes: what engines and backups keep, and the checksum over it.
//!
//! Revision and key are kept beside a value, not in it, so that the same value can be
//! given another revision by a restore.

use bytes::Bytes;
use carrack_api::{Content, Header, Key, Revision};

use crate::transform::{PACKED, PLAIN, Transform};

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
/// A value of fewer bytes is not worth compressing.
const PACK_FROM: usize = 512;
/// What stands before the compressed bytes: the tag, and how many there were.
const PACK_HEAD: usize = 5;
/// More bytes than any object has: what claims to unpack to more is damaged.
const UNPACKED_MOST: usize = 64 << 20;

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

/// A plain value, compressed (LZ4 block): JSON goes to about a third, and what an engine
/// writes and syncs with it. `None` where that gains little.
fn pack(plain: &[u8]) -> Option<Vec<u8>> {
    if plain.len() < PACK_FROM {
        return None;
    }
    let mut out = vec![0; PACK_HEAD + lz4_flex::block::get_maximum_output_size(plain.len())];
    let packed = lz4_flex::block::compress_into(plain, &mut out[PACK_HEAD..]).ok()?;
    if packed > plain.len() / 8 * 7 {
        return None;
    }
    out[0] = PACKED;
    out[1..PACK_HEAD].copy_from_slice(&u32::try_from(plain.len()).ok()?.to_le_bytes());
    out.truncate(PACK_HEAD + packed);
    Some(out)
}

fn unpack(stored: &[u8]) -> Option<Vec<u8>> {
    let (head, packed) = stored.split_at_checked(PACK_HEAD)?;
    let length = u32::from_le_bytes(head[1..].try_into().ok()?) as usize;
    if length > UNPACKED_MOST {
        return None;
    }
    lz4_flex::block::decompress(packed, length).ok()
}

/// The stored form of a content. What is sealed is not compressed: its length would tell
/// of what is in it.
///
/// # Errors
/// The transform's reason.
pub(crate) fn seal(
    transform: &dyn Transform,
    key: &Key,
    content: &Content,
) -> Result<Vec<u8>, std::sync::Arc<str>> {
    let plain = encode(content);
    if let Some(sealed) = transform.seal(key, &plain)? {
        return Ok(sealed);
    }
    Ok(pack(&plain).unwrap_or(plain))
}

/// The content in a stored form.
///
/// # Errors
/// It cannot be opened, or is damaged.
pub(crate) fn open(transform: &dyn Transform, key: &Key, stored: &[u8]) -> Result<Content, ValueError> {
    let damaged = || ValueError::Damaged("its segments do not fit".into());
    match stored.first() {
        Some(&PLAIN) => decode(stored).ok_or_else(damaged),
        Some(&PACKED) => unpack(stored).and_then(|plain| decode(&plain)).ok_or_else(damaged),
        _ => {
            let plain = transform.open(key, stored).map_err(ValueError::Sealed)?;
            decode(&plain).ok_or_else(damaged)
        }
    }
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

    /// A ConfigMap with so many letters, which repeat themselves after a while.
    fn letters(many: usize) -> Content {
        let text: String = (0..many).map(|at| char::from(b'a' + (at * at % 23) as u8)).collect();
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"text": text},
        });
        Content::encode(&object, &[""; 0]).unwrap()
    }

    #[test]
    fn large_values_are_compressed() {
        let key = Key::new("configmaps", "default", "a");
        for (letters, tag) in [(0, PLAIN), (100, PLAIN), (2_000, PACKED), (3_000_000, PACKED)] {
            let content = self::letters(letters);
            let stored = seal(&Untransformed, &key, &content).unwrap();
            assert_eq!(stored[0], tag, "{letters} letters");
            assert_eq!(open(&Untransformed, &key, &stored).unwrap(), content, "{letters} letters");
            assert!(tag == PLAIN || stored.len() < content.size(), "{letters} letters");
            assert!(Untransformed.fits(&key, &stored));
        }
        let mut bomb = seal(&Untransformed, &key, &letters(2_000)).unwrap();
        bomb[1..PACK_HEAD].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(open(&Untransformed, &key, &bomb).is_err());
    }

    #[test]
    fn values_read_back_and_damage_is_noticed() {
        let (key, content) = (Key::new("configmaps", "default", "a"), content("a", 1));
        let stored = seal(&Untransformed, &key, &content).unwrap();
        for stored in [&stored, &seal(&Untransformed, &key, &letters(2_000)).unwrap()] {
            for cut in [0, 1, 12, 20, 60] {
                assert!(open(&Untransformed, &key, &stored[..cut]).is_err(), "cut at {cut}");
            }
        }
        assert_eq!(open(&Untransformed, &key, &stored).unwrap(), content);
        let sum = checksum(3, 2, key.as_str(), Some(&stored));
        assert_ne!(sum, checksum(3, 1, key.as_str(), Some(&stored)));
        assert_ne!(sum, checksum(3, 2, key.as_str(), Some(&stored[1..])));
        assert_ne!(checksum(3, 2, "k", None), checksum(3, 2, "k", Some(&[])));
    }
}
