//! Backups: everything a store holds at one revision, as a stream of frames.
//!
//! ```text
//! "carrack backup 2\n"  frame…    frame = length (u32), CRC-32 (u32), tag (u8), payload
//! ```
//!
//! First what it is about, then files that go with it, then records, then their number;
//! a stream that was cut says so by lacking that. Values are in the form in which they
//! are stored, so that what is sealed there is sealed here. Taking one blocks nobody: it
//! walks immutable snapshots.

use std::sync::Arc;

use bytes::Bytes;
use carrack_api::{Content, Key, Revision};

use crate::snapshot::Snapshot;
use crate::transform::Transform;
use crate::value::{self, ValueError};

const MAGIC: &[u8] = b"carrack backup 2\n";
/// A backup from before values were compressed, which reads the same; as long as [`MAGIC`].
const FIRST: &[u8] = b"carrack backup 1\n";
/// What all versions of the format begin with.
const ANY_VERSION: &[u8] = b"carrack backup ";
/// Bytes of one frame at most: a record and then some.
const MOST: usize = 64 << 20;
/// Bytes that are handed over at once, about.
const CHUNK: usize = 64 << 10;

const ABOUT: u8 = 0;
const FILE: u8 = 1;
const RECORD: u8 = 2;
const END: u8 = 3;

/// What a store held at a revision.
pub struct Backup {
    /// The revision.
    pub revision: Revision,
    snapshots: Vec<Snapshot>,
}

/// What a backup is about, in its first frame.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct About {
    /// The store's revision when it was taken.
    pub revision: Revision,
    /// When, for people.
    pub time: String,
    /// Version of the program that took it.
    pub version: String,
}

/// One thing in a backup.
#[derive(Debug)]
pub enum Entry {
    /// What it is about; always the first.
    About(About),
    /// A file that goes with it, such as the keys.
    File(String, Vec<u8>),
    /// A record.
    Record(Stored),
}

/// A record as it is stored.
#[derive(Debug)]
pub struct Stored {
    /// Where.
    pub key: Key,
    value: Vec<u8>,
}

/// Why a backup cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Something else.
    #[error("this is not a backup of carrack")]
    Foreign,
    /// Written by a newer version of this program.
    #[error("this backup has a newer format; use the newer carrack that wrote it")]
    Newer,
    /// A frame is broken.
    #[error("the backup is damaged after {records} records ({what})")]
    Damaged {
        /// Records read before.
        records: u64,
        /// What was found.
        what: &'static str,
    },
    /// It ends before its end.
    #[error("the backup ends early, after {0} records; it was cut while it was written or copied")]
    Cut(u64),
}

/// Why a record of a backup cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// It is sealed, and none of the transforms can open it.
    #[error("{0}")]
    Sealed(Arc<str>),
    /// It does not hold together.
    #[error("{0}")]
    Damaged(String),
}

impl Backup {
    pub(crate) fn new(revision: Revision, snapshots: Vec<Snapshot>) -> Self {
        Self { revision, snapshots }
    }

    /// The stream, piece by piece; an error is the transform's. `files` are names and
    /// contents.
    pub fn stream(
        self,
        about: &About,
        files: &[(String, Vec<u8>)],
        transform: Arc<dyn Transform>,
    ) -> impl Iterator<Item = Result<Bytes, Arc<str>>> + Send + use<> {
        let mut open = MAGIC.to_vec();
        frame(&mut open, ABOUT, &[&serde_json::to_vec(about).expect("plain fields always encode")]);
        for (name, content) in files {
            frame(&mut open, FILE, &[&(name.len() as u16).to_le_bytes(), name.as_bytes(), content]);
        }
        let mut records = self.snapshots.into_iter().flat_map(Snapshot::into_records);
        let (mut written, mut ended) = (0u64, false);
        std::iter::from_fn(move || {
            while open.len() < CHUNK && !ended {
                let Some(record) = records.next() else {
                    frame(&mut open, END, &[&written.to_le_bytes()]);
                    ended = true;
                    break;
                };
                let key = record.key.as_str();
                match value::seal(&*transform, &record.key, &record.content) {
                    Ok(value) => {
                        frame(
                            &mut open,
                            RECORD,
                            &[&(key.len() as u16).to_le_bytes(), key.as_bytes(), &value],
                        );
                    }
                    Err(why) => {
                        ended = true;
                        open.clear();
                        return Some(Err(why));
                    }
                }
                written += 1;
            }
            (!open.is_empty()).then(|| Ok(Bytes::from(std::mem::take(&mut open))))
        })
    }
}

fn frame(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[tag]);
    parts.iter().for_each(|part| sum.update(part));
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&sum.finalize().to_le_bytes());
    out.push(tag);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Reads a backup from pieces, as they come.
#[derive(Default)]
pub struct Reader {
    open: Vec<u8>,
    at: usize,
    begun: bool,
    records: u64,
    ended: bool,
}

impl Reader {
    /// Takes in the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.open.drain(..self.at);
        self.at = 0;
        self.open.extend_from_slice(bytes);
    }

    /// The next entry; `None` when more bytes are needed, or all has been read.
    ///
    /// # Errors
    /// It is no backup, or a damaged one.
    #[expect(clippy::should_implement_trait, reason = "it is fallible and goes on after None")]
    pub fn next(&mut self) -> Result<Option<Entry>, BackupError> {
        if !self.begin()? {
            return Ok(None);
        }
        let damaged = |records, what| BackupError::Damaged { records, what };
        let rest = &self.open[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        if self.ended {
            return Ok(None);
        }
        let Some((head, rest)) = rest.split_at_checked(8) else { return Ok(None) };
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let (length, sum) = (number(0) as usize, number(4));
        if !(1..=MOST).contains(&length) {
            return Err(damaged(self.records, "a length is out of range"));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        if crc32fast::hash(payload) != sum {
            return Err(damaged(self.records, "a checksum is wrong"));
        }
        let (tag, content) = (payload[0], &payload[1..]);
        let (entry, records) = match tag {
            END => {
                if content != self.records.to_le_bytes() {
                    return Err(damaged(self.records, "records are missing"));
                }
                (None, 0)
            }
            RECORD => (read_record(content), 1),
            FILE => (read_file(content), 0),
            ABOUT => (serde_json::from_slice(content).ok().map(Entry::About), 0),
            _ => return Err(BackupError::Newer),
        };
        if entry.is_none() && tag != END {
            return Err(damaged(self.records, "a frame cannot be read"));
        }
        self.at += 8 + length;
        self.records += records;
        self.ended = tag == END;
        Ok(entry)
    }

    /// How many records there were, once everything has been read.
    ///
    /// # Errors
    /// The end has not come.
    pub fn finish(&self) -> Result<u64, BackupError> {
        match (self.begun, self.ended) {
            (_, true) if self.at < self.open.len() => {
                Err(BackupError::Damaged { records: self.records, what: "something follows its end" })
            }
            (_, true) => Ok(self.records),
            (false, _) => Err(BackupError::Foreign),
            (true, false) => Err(BackupError::Cut(self.records)),
        }
    }

    /// Whether the beginning has been read.
    fn begin(&mut self) -> Result<bool, BackupError> {
        if !self.begun {
            let start = &self.open[..self.open.len().min(MAGIC.len())];
            if !MAGIC.starts_with(start) && !FIRST.starts_with(start) {
                let known = start.starts_with(ANY_VERSION);
                return Err(if known { BackupError::Newer } else { BackupError::Foreign });
            }
            if start.len() < MAGIC.len() {
                return Ok(false);
            }
            (self.begun, self.at) = (true, MAGIC.len());
        }
        Ok(true)
    }
}

fn named(content: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = content.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(u16::from_le_bytes(*length) as usize)?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

fn read_record(content: &[u8]) -> Option<Entry> {
    let (key, value) = named(content)?;
    Some(Entry::Record(Stored { key: Key::parse(key)?, value: value.to_vec() }))
}

fn read_file(content: &[u8]) -> Option<Entry> {
    let (name, content) = named(content)?;
    Some(Entry::File(name.to_owned(), content.to_vec()))
}

impl Stored {
    /// The record's content, opened by the first of the transforms that can.
    ///
    /// # Errors
    /// None can, or it is damaged.
    pub fn open(&self, transforms: &[&dyn Transform]) -> Result<Content, StoredError> {
        let mut why = StoredError::Sealed("it is encrypted".into());
        for (at, transform) in transforms.iter().enumerate() {
            match value::open(*transform, &self.key, &self.value) {
                Ok(content) => return Ok(content),
                Err(ValueError::Damaged(what)) => return Err(StoredError::Damaged(what)),
                Err(ValueError::Sealed(reason)) if at == 0 => why = StoredError::Sealed(reason),
                Err(ValueError::Sealed(_)) => {}
            }
        }
        Err(why)
    }
}
