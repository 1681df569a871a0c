//! The agent of a node (kubelet's and kube-proxy's work): pods, volumes, probes,
//! status, Node object and Lease, Service rules and names, and the endpoint for logs
//! and exec.
//!
//! Pure: [`decide`] (what a pod needs next), [`status`] (what is reported), [`spec`]
//! (what the runtime is asked for), [`volumes::plan`], [`machine::object`] and
//! [`network::project`]. The rest is shell around them.
//!
//! What always holds: stopping the agent stops no container ([`purge`] does); after a
//! start it takes up what runs; it reaches the API only as its own identity, through
//! `carrack_client`. It decides nothing about where pods run.

pub mod agent;
pub mod decide;
pub mod machine;
pub mod network;
mod objects;
pub mod shared;
pub mod simulate;
pub mod spec;
mod start;
pub mod status;
pub mod stream;
mod sys;
pub mod tls;
pub mod volumes;
pub mod worker;

pub use machine::facts::default_name;
pub use start::{Context, Node, NodeError, Options, purge, start};
