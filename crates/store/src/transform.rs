//! What stands between a record and the disk: encryption at rest, made above this crate.
//!
//! The head holds records as they are; a transform sees each value once, on its way to
//! the disk, and once when it is loaded. It knows values only as bytes.

use std::sync::Arc;

use carrack_api::Key;

/// Turns values into what is stored, and back. Called by one thread at a time.
pub trait Transform: Send + Sync + 'static {
    /// The stored form of a value; `None` leaves it in clear. No stored form
    /// [`is_clear`].
    ///
    /// # Errors
    /// Says why it cannot be sealed; the write fails then.
    fn seal(&self, key: &Key, plain: &[u8]) -> Result<Option<Vec<u8>>, Arc<str>>;

    /// The value in a stored form that [`seal`](Self::seal) made.
    ///
    /// # Errors
    /// Says what is missing, such as the key that it was sealed with.
    fn open(&self, key: &Key, stored: &[u8]) -> Result<Vec<u8>, Arc<str>>;

    /// Whether a stored form is the one that [`seal`](Self::seal) makes now: not so
    /// after a key was rotated, or once a resource is no longer to be sealed.
    fn fits(&self, key: &Key, stored: &[u8]) -> bool;
}

/// First byte of every value that is stored as it is.
pub(crate) const PLAIN: u8 = 1;
/// First byte of every value that is stored in clear, but compressed.
pub(crate) const PACKED: u8 = 2;

/// Whether a stored form is one that anybody can read.
pub fn is_clear(stored: &[u8]) -> bool {
    matches!(stored.first(), Some(&(PLAIN | PACKED)))
}

/// Stores everything in clear.
pub struct Untransformed;

impl Transform for Untransformed {
    fn seal(&self, _: &Key, _: &[u8]) -> Result<Option<Vec<u8>>, Arc<str>> {
        Ok(None)
    }

    fn open(&self, _: &Key, _: &[u8]) -> Result<Vec<u8>, Arc<str>> {
        Err("it is encrypted, and no keys are configured".into())
    }

    fn fits(&self, _: &Key, stored: &[u8]) -> bool {
        is_clear(stored)
    }
}
