//! What an administrator does to the store as a whole: backup, restore, keys.
//!
//! The same for a running server, which reaches it under `/carrack/v1/` (see `http`),
//! and for a command on a data directory that nobody serves. A backup holds records as
//! they are stored, so that what is encrypted stays so; keys go with it only on demand.

mod restore;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use carrack_store::backup::About;
use carrack_store::{CommitError, Local};

use crate::clock::{Clock, SystemClock, rfc3339};
use crate::encryption::{Described, Encryption, EncryptionError, KEY_FILE};
pub use restore::{Restore, RestoreError, RestoreOptions, Restored};

/// The file with the cluster's keys, below the data directory.
const PKI_FILE: &str = "pki/cluster.pem";

/// Files that a backup with keys holds, by their path below the data directory.
pub const KEY_FILES: [&str; 2] = [KEY_FILE, PKI_FILE];

/// Why maintenance failed.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// Keys cannot be had or changed.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] CommitError),
    /// A file of keys cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A store with the keys that it is encrypted with.
#[derive(Clone)]
pub struct Keeper {
    store: Arc<Local>,
    encryption: Arc<Encryption>,
    dir: PathBuf,
}

impl Keeper {
    /// `dir` is the data directory, in which the key files lie.
    pub fn new(store: Arc<Local>, encryption: Arc<Encryption>, dir: &Path) -> Self {
        Self { store, encryption, dir: dir.to_owned() }
    }

    /// A backup as of now, piece by piece. An error in the middle leaves it without its
    /// end, which a reader notices.
    ///
    /// # Errors
    /// The keys cannot be read.
    pub fn backup(
        &self,
        with_keys: bool,
    ) -> Result<impl Iterator<Item = Result<Bytes, Arc<str>>> + Send + use<>, MaintenanceError> {
        let mut files = Vec::new();
        for name in KEY_FILES.into_iter().filter(|_| with_keys) {
            let path = self.dir.join(name);
            match std::fs::read(&path) {
                Ok(content) => files.push((name.to_owned(), content)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(MaintenanceError::Io { path, source }),
            }
        }
        let backup = self.store.backup();
        let about = About {
            revision: backup.revision,
            time: rfc3339(SystemClock.now()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok(backup.stream(&about, &files, self.encryption.clone()))
    }

    /// Begins to take in a backup; nothing changes before [`Restore::finish`].
    pub fn restore(&self, options: RestoreOptions) -> Restore {
        Restore::new(self.store.clone(), self.encryption.clone(), options)
    }

    /// Makes a new key, and stores everything anew that is to be encrypted. Returns the
    /// key's name.
    ///
    /// # Errors
    /// The key cannot be written; or not everything could be rewritten, which the next
    /// start goes on with.
    pub async fn rotate(&self) -> Result<String, MaintenanceError> {
        let encryption = self.encryption.clone();
        let name = blocking(move || encryption.rotate()).await?;
        self.store.rewrite().await?;
        Ok(name)
    }

    /// Sees to it that nothing is stored under old keys, and removes those. Returns
    /// their names.
    ///
    /// # Errors
    /// As for [`rotate`](Self::rotate); no key is removed then.
    pub async fn retire(&self) -> Result<Vec<String>, MaintenanceError> {
        self.store.rewrite().await?;
        let encryption = self.encryption.clone();
        Ok(blocking(move || encryption.retire()).await?)
    }

    /// Takes in what was changed in the key file by hand, and rewrites what is stored
    /// accordingly.
    ///
    /// # Errors
    /// As for [`rotate`](Self::rotate).
    pub async fn reload(&self) -> Result<(), MaintenanceError> {
        let encryption = self.encryption.clone();
        blocking(move || encryption.reload()).await?;
        Ok(self.store.rewrite().await?)
    }

    /// What encrypts what.
    pub fn describe(&self) -> Vec<Described> {
        self.encryption.describe()
    }
}

/// Runs what waits for a disk where that disturbs nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

#[cfg(test)]
mod tests;
