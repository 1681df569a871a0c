//! How every component reaches the API: reads through a [`Source`] and a [`Cache`],
//! writes through a [`Client`], work through a [`WorkQueue`] and the shared
//! [`controller`] loop, events through an [`EventRecorder`].
//!
//! It knows objects (`carrack_api`) and HTTP, and neither store nor server: within
//! the server's process `cli` injects a `Source` that shares the server's records
//! and a tower `Service` for writes; elsewhere both go over HTTPS.

pub mod backoff;
pub mod cache;
pub mod client;
pub mod clock;
pub mod connect;
pub mod controller;
#[cfg(test)]
mod controller_tests;
pub mod events;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod http_source;
pub mod informers;
pub mod queue;
pub mod resource;
pub mod source;
mod waiters;

pub use cache::Cache;
pub use client::{Client, Clients, DeleteOptions, Error, Identity, Patch, Written};
pub use clock::{Clock, SystemClock};
pub use events::{EventKind, EventRecorder, Reference};
pub use http_source::HttpSource;
pub use informers::Informers;
pub use queue::WorkQueue;
pub use resource::Resource;
pub use source::{Scope, Source, Update};
