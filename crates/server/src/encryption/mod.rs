//! Encryption at rest: records of chosen resources reach the disk only as ciphertext.
//!
//! A stored value is `k8s:enc:aesgcm:v1:<key name>:`, a nonce of 12 random bytes, and the
//! record (header, managedFields and all) under AES-256-GCM; the record's key in the store
//! is authenticated with it, so that no value can be moved to another name. This is the
//! form of upstream's `aesgcm` provider. With random nonces a key is good for 2^32 writes.
//!
//! Keys lie in a file of their own beside the database. They are never logged.

mod config;
mod ring_of_keys;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use carrack_api::Key;
use carrack_store::{Transform, is_clear};
use ring::rand::{SecureRandom, SystemRandom};

use crate::files;
use config::{Config, KEY_BYTES, NamedKey};
use ring_of_keys::Ring;

/// The key file's name in the data directory.
pub const KEY_FILE: &str = "encryption.yaml";

/// Why keys cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// The key file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key file is there and cannot be understood. It is never replaced.
    #[error("{}: {detail}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and where.
        detail: String,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// The keys, and what they are for.
pub struct Encryption {
    path: PathBuf,
    ring: ArcSwap<Ring>,
    /// Held while the file is being changed.
    changing: Mutex<()>,
    random: SystemRandom,
}

/// What encrypts which resources; no secrets.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Described {
    /// Resources, such as `secrets`.
    pub resources: Vec<String>,
    /// The name of the key that encrypts; `None` when they are stored in clear.
    pub encrypts: Option<String>,
    /// Names of keys that only read.
    pub reads: Vec<String>,
}

impl Encryption {
    /// Reads the key file, or makes one that encrypts Secrets.
    ///
    /// # Errors
    /// [`EncryptionError`]; a file that cannot be understood is never replaced.
    pub fn open_or_create(path: &Path) -> Result<Self, EncryptionError> {
        let random = SystemRandom::new();
        let config = match std::fs::read_to_string(path) {
            Ok(text) => parse(path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let config = Config::first(secret(&random)?);
                write(path, &config)?;
                config
            }
            Err(source) => return Err(EncryptionError::Io { path: path.into(), source }),
        };
        Ok(Self::new(path, config, random))
    }

    /// Keys from a file's text, such as a backup holds; `path` is what messages name.
    ///
    /// # Errors
    /// The text cannot be understood.
    pub fn from_text(path: &Path, text: &str) -> Result<Self, EncryptionError> {
        Ok(Self::new(path, parse(path, text)?, SystemRandom::new()))
    }

    fn new(path: &Path, config: Config, random: SystemRandom) -> Self {
        let ring = ArcSwap::from_pointee(Ring::new(config));
        Self { path: path.into(), ring, changing: Mutex::default(), random }
    }

    /// Makes a new first key for everything that is encrypted; the others still read.
    /// What is stored has to be rewritten afterwards. Returns the new key's name.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub fn rotate(&self) -> Result<String, EncryptionError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = self.current()?;
        let number = |key: &NamedKey| key.name.strip_prefix("key").and_then(|n| n.parse::<u64>().ok());
        let newest = config.rules.iter().flat_map(|rule| &rule.keys).filter_map(number).max();
        let name = format!("key{}", newest.unwrap_or(0) + 1);
        for rule in config.rules.iter_mut().filter(|rule| rule.encrypts) {
            rule.keys.insert(0, NamedKey { name: name.clone(), secret: secret(&self.random)? });
        }
        self.change(config)?;
        Ok(name)
    }

    /// Removes the keys that only read. Everything has been rewritten before. Returns
    /// their names.
    ///
    /// # Errors
    /// The file cannot be written; then nothing has changed.
    pub fn retire(&self) -> Result<Vec<String>, EncryptionError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = self.current()?;
        let mut gone = Vec::new();
        for rule in &mut config.rules {
            let keep = usize::from(rule.encrypts).min(rule.keys.len());
            gone.extend(rule.keys.drain(keep..).map(|key| key.name));
        }
        self.change(config)?;
        Ok(gone)
    }

    /// Takes in what was changed in the file by hand.
    ///
    /// # Errors
    /// The file cannot be read; then nothing has changed.
    pub fn reload(&self) -> Result<(), EncryptionError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.ring.store(Arc::new(Ring::new(self.current()?)));
        Ok(())
    }

    /// What encrypts what.
    pub fn describe(&self) -> Vec<Described> {
        let ring = self.ring.load();
        let rules = ring.config.rules.iter().map(|rule| {
            let mut names = rule.keys.iter().map(|key| key.name.clone());
            let encrypts = if rule.encrypts { names.next() } else { None };
            Described { resources: rule.resources.clone(), encrypts, reads: names.collect() }
        });
        rules.collect()
    }

    /// The key file's text: the keys themselves.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn text(&self) -> Result<String, EncryptionError> {
        let failed = |source| EncryptionError::Io { path: self.path.clone(), source };
        std::fs::read_to_string(&self.path).map_err(failed)
    }

    /// What the file says now, which may have been changed by hand.
    fn current(&self) -> Result<Config, EncryptionError> {
        parse(&self.path, &self.text()?)
    }

    fn change(&self, config: Config) -> Result<(), EncryptionError> {
        write(&self.path, &config)?;
        self.ring.store(Arc::new(Ring::new(config)));
        Ok(())
    }
}

fn parse(path: &Path, text: &str) -> Result<Config, EncryptionError> {
    Config::parse(text).map_err(|detail| EncryptionError::Malformed { path: path.into(), detail })
}

fn write(path: &Path, config: &Config) -> Result<(), EncryptionError> {
    let failed = |source| EncryptionError::Io { path: path.into(), source };
    files::write(path, config.render().as_bytes()).map_err(failed)
}

fn secret(random: &SystemRandom) -> Result<[u8; KEY_BYTES], EncryptionError> {
    let mut secret = [0; KEY_BYTES];
    random.fill(&mut secret).map_err(|_| EncryptionError::Random)?;
    Ok(secret)
}

impl Transform for Encryption {
    fn seal(&self, key: &Key, plain: &[u8]) -> Result<Option<Vec<u8>>, Arc<str>> {
        match self.ring.load().writer(key.resource()) {
            None => Ok(None),
            Some(writer) => writer.seal(&self.random, key, plain).map(Some),
        }
    }

    fn open(&self, key: &Key, stored: &[u8]) -> Result<Vec<u8>, Arc<str>> {
        self.ring.load().open(key, stored, &self.path)
    }

    fn fits(&self, key: &Key, stored: &[u8]) -> bool {
        match self.ring.load().writer(key.resource()) {
            None => is_clear(stored),
            Some(writer) => stored.starts_with(&writer.prefix),
        }
    }
}

#[cfg(test)]
mod tests;
