//! Makes the kernel's table `inet carrack` agree with a ruleset.
//!
//! [`proxy`] decides nothing: it diffs against what it last sent, sends the difference as
//! one transaction, and starts from scratch whenever it cannot be sure what the kernel
//! holds. [`encode`] and [`expressions`] turn updates into nf_tables messages,
//! [`conntrack`] ends UDP flows to endpoints that are gone.
//!
//! Not here: any table, chain or set but our own.

pub mod conntrack;
pub mod encode;
pub mod expressions;
pub mod proxy;

pub use proxy::{ApplyError, Proxy, ProxyConfig, Report};
