//! One file a command.

pub mod agent;
pub mod down;
pub mod image;
pub mod kubeconfig;
pub mod server;
pub mod up;
