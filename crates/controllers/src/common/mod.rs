//! What several controllers need: small typed projections of objects, ownership,
//! conditions. Pure: shapes and rules, no I/O.

pub mod claim;
pub mod meta;
pub mod node;
pub mod pod;

pub use claim::{Claim, claim};
pub use meta::{Condition, Meta, OwnerReference};
pub use node::{Node, Taint};
pub use pod::{Pod, SharedPod};
