//! Container runtime of a Carrack node: trait [`Runtime`], shaped like the CRI, and
//! its `builtin` implementation: OCI images on overlayfs, containers launched from an
//! OCI bundle under one small shim process a pod.
//!
//! What always holds: containers and shims outlive the agent; `unsafe` is only in
//! `sys`. This crate knows nothing of the API server, probes, volumes or Services.

mod builtin;
mod bundle;
mod cgroup;
mod error;
pub mod image;
pub mod logs;
mod seccomp;
mod shim;
mod spec;
mod sys;
mod traits;

pub use builtin::{Builtin, BuiltinConfig};
pub use error::{Result, RuntimeError};
pub use shim::{SHIM_COMMAND, shim_main};
pub use spec::*;
pub use traits::*;
