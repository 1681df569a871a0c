//! Names: the cluster's own, and the rest of the world through the host's resolvers.
//!
//! [`zone`] is an immutable snapshot of the cluster's names, built from the same inputs as
//! the rules, and answers for them (pure; Kubernetes DNS specification 1.1.0). [`server`]
//! serves it on UDP and TCP; [`upstream`] asks others for names that are not ours, and
//! [`cache`] keeps their answers for a moment. [`mod@resolv_conf`] is what pods are told.
//!
//! Each node answers its own pods, on an address of its own link, so a name costs no hop
//! and no conntrack entry.
//!
//! Invariants: a name below the cluster's domain never leaves the node; what cannot be parsed
//! is dropped or refused; datagrams, connections, requests in flight and cached bytes are
//! bounded.

mod cache;
pub mod resolv_conf;
pub mod server;
mod upstream;
pub mod zone;

pub use server::{DnsConfig, DnsServer};
pub use zone::Zone;
