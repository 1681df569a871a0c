//! Custom kinds: a CustomResourceDefinition read into the row of a kind, and what its
//! schema does to objects: pruning, defaulting, validation, columns, OpenAPI.
//!
//! Everything is pure and follows upstream's apiextensions-apiserver to the word. Rules
//! of the definition object itself are `validation::definition`; who keeps the table of
//! kinds in step with the stored definitions is the server. `x-kubernetes-validations`
//! (CEL) are kept and published, and not evaluated yet.

mod arena;
pub mod check;
mod columns;
pub mod decode;
mod definition;
pub mod embedded;
mod formats;
pub mod lists;
pub mod names;
pub mod openapi;
pub mod pattern;
pub mod props;
pub mod prune;

pub use columns::{Column, cells};
pub use definition::{Definition, Facts, Scale, condition, kind};
pub use formats::is_known as known_format;
pub use props::Props;

/// The finalizer that holds a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// The store's name of definitions.
pub const RESOURCE: &str = "customresourcedefinitions.apiextensions.k8s.io";
