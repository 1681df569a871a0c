//! The agent of a node (kubelet's and kube-proxy's work).
#![allow(missing_docs)]
pub mod decide;
pub mod spec;
pub mod status;
