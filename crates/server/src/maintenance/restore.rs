//! Taking in a backup: read whole and checked first, then put in place in one step.
//!
//! Every object gets a new revision, above all that were ever told to anyone, and every
//! watch expires: clients list again, as after a long time away.

use std::path::Path;
use std::sync::Arc;

use carrack_api::{Content, Key, Revision};
use carrack_store::backup::{About, BackupError, Entry, Reader, StoredError};
use carrack_store::{CommitError, Local, Store, Transform};

use crate::encryption::{Encryption, KEY_FILE};

/// By how much revisions jump when nobody knows how far the lost server had come.
const JUMP: Revision = 1_000_000_000;

/// What is to happen to what cannot be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// Leave out records whose key is lost.
    pub without_sealed: bool,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Objects that are there now.
    pub objects: usize,
    /// Objects that were left out, for want of their key.
    pub left_out: usize,
    /// The revision from which the server goes on.
    pub revision: Revision,
    /// What the backup says of itself.
    pub about: About,
}

/// Why a backup was not restored. Nothing has changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RestoreError {
    /// It cannot be read.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A record does not hold together.
    #[error("the backup is damaged ({key}: {what})")]
    Record {
        /// Which one.
        key: Key,
        /// What is wrong.
        what: String,
    },
    /// Records are encrypted, and their key is not at hand.
    #[error(
        "{records} records of the backup cannot be read, the first of them {key}: {why}. The backup was \
         made without keys: put the {KEY_FILE} of the old data directory into this one and try again, or \
         leave those records out with --without-sealed"
    )]
    Sealed {
        /// How many.
        records: usize,
        /// The first of them.
        key: Key,
        /// What is missing.
        why: Arc<str>,
    },
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] CommitError),
}

/// A backup that is being taken in.
pub struct Restore {
    store: Arc<Local>,
    encryption: Arc<Encryption>,
    /// Keys that came with the backup.
    own: Option<Encryption>,
    options: RestoreOptions,
    reader: Reader,
    about: Option<About>,
    objects: Vec<(Key, Content)>,
    sealed: usize,
    first_sealed: Option<(Key, Arc<str>)>,
}

impl Restore {
    pub(super) fn new(store: Arc<Local>, encryption: Arc<Encryption>, options: RestoreOptions) -> Self {
        Self {
            store,
            encryption,
            own: None,
            options,
            reader: Reader::default(),
            about: None,
            objects: Vec::new(),
            sealed: 0,
            first_sealed: None,
        }
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    /// They are not of a backup, or it is damaged.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.reader.push(bytes);
        while let Some(entry) = self.reader.next()? {
            match entry {
                Entry::About(about) => self.about = Some(about),
                Entry::File(name, content) if name == KEY_FILE => {
                    let text = String::from_utf8_lossy(&content);
                    let own = Encryption::from_text(Path::new("the backup"), &text);
                    self.own = own.inspect_err(|error| tracing::warn!(%error, "keys left aside")).ok();
                }
                Entry::File(..) => {}
                Entry::Record(stored) => {
                    let mut transforms: Vec<&dyn Transform> = vec![&*self.encryption];
                    transforms.extend(self.own.as_ref().map(|own| own as &dyn Transform));
                    match stored.open(&transforms) {
                        Ok(content) => self.objects.push((stored.key, content)),
                        Err(StoredError::Sealed(why)) => {
                            self.sealed += 1;
                            self.first_sealed.get_or_insert((stored.key, why));
                        }
                        Err(StoredError::Damaged(what)) => {
                            return Err(RestoreError::Record { key: stored.key, what });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts everything in place, once all bytes have been taken in.
    ///
    /// # Errors
    /// The backup is not whole, or cannot be read or stored. Nothing has changed then.
    pub async fn finish(self) -> Result<Restored, RestoreError> {
        let records = self.reader.finish()?;
        let about = self.about.ok_or(BackupError::Cut(records))?;
        if let Some((key, why)) = self.first_sealed.filter(|_| !self.options.without_sealed) {
            return Err(RestoreError::Sealed { records: self.sealed, key, why });
        }
        // A store that is not what became of the backup's own says nothing about how far
        // that one had come.
        let successor = self.store.revision() >= about.revision;
        let above = if successor { about.revision } else { about.revision + JUMP };
        let objects = self.objects.len();
        let revision = self.store.replace(self.objects, above).await?;
        Ok(Restored { objects, left_out: self.sealed, revision, about })
    }
}
