//! What objects are, and nothing else: the record, the table of kinds, schemas,
//! defaults, validation, conversion, selectors, quantities and patches.
//!
//! Pure: no I/O, no clock, no randomness, no tokio. Whatever depends on time or
//! chance takes it as an argument. Every other crate may lean on this one; it
//! leans on none of them.

pub mod budget;
pub mod cel;
pub mod columns;
pub mod convert;
pub mod crd;
pub mod cron;
pub mod decode;
pub mod defaults;
pub mod facts;
pub mod field;
pub mod go;
pub mod jsonpath;
pub mod key;
pub mod kind;
pub mod kinds;
pub mod managed;
pub mod patch;
pub mod prepare;
pub mod proto;
pub mod quantity;
pub mod quota;
pub mod record;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod tree;
mod unified;
pub mod validation;
pub mod warnings;
mod wire;
pub mod yaml;

pub use key::Key;
pub use kind::{Kind, Kinds};
pub use record::{Content, Header, Record, Revision};

/// The one tree that every write passes through, for built-in and custom kinds alike.
pub use serde_json::Value;
