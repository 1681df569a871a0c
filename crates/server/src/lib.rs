//! The API server: the one door through which everything is written and, but for
//! components of the same process, read.
//!
//! `registry/` holds every verb, once, for every kind; `http/` turns requests into
//! calls on it. What plugs in between (identity, rights, admission, allocation) does
//! so through the traits of [`seams`]. Nothing else in the house touches the store.

pub mod admission;
pub mod allocate;
pub mod auth;
pub mod bootstrap;
pub mod clock;
mod conditions;
pub mod crd;
pub mod encryption;
pub mod files;
pub mod flow;
pub mod http;
pub mod maintenance;
pub mod pki;
pub mod quota;
pub mod registry;
pub mod request;
pub mod seams;
mod server;

pub use clock::{Clock, SystemClock};
pub use registry::{Call, Registry};
pub use request::{Attributes, PeerCertificates, RequestInfo, User};
pub use server::{Config, Server, ServerBuilder};
