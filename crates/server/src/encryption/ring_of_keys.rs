//! Keys made ready for use: the envelope around a value, sealing and opening.

use std::path::Path;
use std::sync::Arc;

use carrack_api::Key;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use super::config::{Config, NamedKey};

/// Before the key's name.
const PREFIX: &str = "k8s:enc:aesgcm:v1:";

/// Everything in a configuration, made ready.
pub(super) struct Ring {
    pub(super) config: Config,
    /// Per rule, its keys in order.
    keys: Vec<Vec<Arc<ReadyKey>>>,
}

/// A key made ready.
pub(super) struct ReadyKey {
    /// How everything sealed with it begins.
    pub(super) prefix: Vec<u8>,
    name: String,
    key: LessSafeKey,
}

impl Ring {
    pub(super) fn new(config: Config) -> Self {
        let ready = |key: &NamedKey| Arc::new(ReadyKey::new(key));
        let keys = config.rules.iter().map(|rule| rule.keys.iter().map(ready).collect()).collect();
        Self { config, keys }
    }

    /// The key that encrypts a resource now; `None` when it is stored in clear.
    pub(super) fn writer(&self, resource: &str) -> Option<Arc<ReadyKey>> {
        let rule = self.config.rule(resource).filter(|rule| rule.encrypts)?;
        let at = self.config.rules.iter().position(|other| std::ptr::eq(other, rule))?;
        self.keys[at].first().cloned()
    }

    /// Opens what any of the keys has sealed.
    pub(super) fn open(&self, key: &Key, stored: &[u8], path: &Path) -> Result<Vec<u8>, Arc<str>> {
        let name = sealed_with(stored).ok_or("it is encrypted in a way that is not known")?;
        let mut tried = false;
        // Two rules may have keys of the same name; only the right one opens it.
        for ready in self.keys.iter().flatten().filter(|ready| ready.name == name) {
            tried = true;
            if let Some(plain) = ready.open(key, &stored[ready.prefix.len()..]) {
                return Ok(plain);
            }
        }
        let path = path.display();
        Err(if tried {
            format!("it is damaged, or the key {name:?} in {path} is not the one that it was encrypted with")
        } else {
            format!("it is encrypted with key {name:?}, which is not in {path}; put that key back there")
        }
        .into())
    }
}

/// The name of the key that a value was sealed with.
pub(super) fn sealed_with(stored: &[u8]) -> Option<&str> {
    let rest = stored.strip_prefix(PREFIX.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b':')?;
    std::str::from_utf8(&rest[..end]).ok()
}

impl ReadyKey {
    fn new(key: &NamedKey) -> Self {
        let unbound = UnboundKey::new(&AES_256_GCM, &key.secret).expect("a key of 32 bytes");
        let prefix = format!("{PREFIX}{}:", key.name).into_bytes();
        Self { prefix, name: key.name.clone(), key: LessSafeKey::new(unbound) }
    }

    pub(super) fn seal(&self, random: &SystemRandom, key: &Key, plain: &[u8]) -> Result<Vec<u8>, Arc<str>> {
        let failed = |_| Arc::from("it cannot be encrypted");
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce).map_err(failed)?;
        let mut out = Vec::with_capacity(self.prefix.len() + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(key.as_str().as_bytes());
        let tag = self.key.seal_in_place_separate_tag(nonce, aad, &mut out[start..]).map_err(failed)?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    fn open(&self, key: &Key, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let length =
            self.key.open_in_place(nonce, Aad::from(key.as_str().as_bytes()), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}
