//! A pod's volumes: what they hold ([`plan`], pure), and how that gets onto the node
//! ([`setup`], [`writer`]).
//!
//! What always holds: contents change atomically (a `..data` symlink is swapped);
//! Secrets and tokens are only ever on a tmpfs; nothing in a volume is followed
//! outside it; removing a pod's directory never crosses a mount.

pub mod plan;
pub mod setup;
pub mod writer;

pub use plan::{File, Payload, TokenRequest, Wanted};
pub use setup::{Paths, VolumeError};
