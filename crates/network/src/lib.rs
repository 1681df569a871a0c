//! The network of a node: Services, pod interfaces and names.
//!
//! - [`plan`] turns Services and endpoints into a [`plan::Ruleset`], a value (pure).
//! - [`apply`] makes the kernel's nf_tables agree with that value, over netlink.
//! - [`pod`] gives a pod its interface, its addresses and its routes.
//! - [`forward`] makes node ports reachable on localhost, where rules cannot.
//! - [`dns`] answers for services and pods, and forwards what is not ours.
//!
//! Invariants: everything in the kernel that is ours carries our name (the table
//! `inet carrack`, links that begin with `ck`, the link `carrack0`, routes of our
//! protocol number), so that it can be removed without asking anyone, and nothing
//! that belongs to someone else is ever read as a promise or changed. No program
//! is run: the kernel is spoken to directly.
//!
//! Not here: watching the API (crate `node` hands in plain inputs), the HTTP
//! gateway, routes between nodes.

pub mod apply;
pub mod dns;
pub mod forward;
pub mod netlink;
pub mod plan;
pub mod pod;
mod sys;
