//! Images: references, archives, the store on disk, registries.
//!
//! What always holds: an image is usable only when all its layers are unpacked and every
//! digest has been checked. Which image a pod needs, and when it may be pulled, is the
//! agent's decision.

mod archive;
pub mod build;
mod config;
mod reference;
mod registry;
mod store;
mod unpack;

pub use archive::import;
pub use reference::Reference;
pub use registry::{Registries, RegistryConfig};
pub use store::{Image, ImageStore};
