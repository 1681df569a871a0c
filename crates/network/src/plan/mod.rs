//! From Services and endpoints to a ruleset, as a value. Pure.
//!
//! [`plan`] is total: hostile or contradictory input (two Services that claim one
//! port, an external IP that is really the node's) gives a ruleset all the same,
//! with [`Ruleset::notes`] saying what was left out and why. The same input gives
//! the same ruleset. [`diff()`] says what turns one ruleset into another: the change
//! of one endpoint is a handful of map elements.
//!
//! Not here: how the kernel is told (see [`crate::apply`]).

pub mod diff;
pub mod input;
pub mod prefix;
pub mod render;
pub mod rules;
pub mod ruleset;
mod services;

pub use diff::{Update, diff};
pub use input::*;
pub use prefix::Prefix;
pub use ruleset::{Endpoint, Frontend, FrontendKey, Ruleset, View};
pub use services::{local_ports, plan};
