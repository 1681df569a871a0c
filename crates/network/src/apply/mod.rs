//! Makes the kernel's table agree with a ruleset.
pub mod proxy;
pub use proxy::{ApplyError, Proxy, ProxyConfig, Report};
