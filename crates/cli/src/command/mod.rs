//! One file a command.

pub mod agent;
pub mod backup;
pub mod check;
pub mod down;
pub mod encryption;
pub mod image;
pub mod kubeconfig;
pub mod restore;
pub mod server;
pub mod up;
