//! Netlink, as much of it as is needed: [`message`] builds and reads messages (pure),
//! [`socket`] sends them and collects the kernel's answers.
//!
//! One small encoder serves nf_tables, ctnetlink and rtnetlink, because all three are the
//! same nested attributes, and because several rtnetlink requests in one system call are
//! what makes attaching a pod fast. The crates for it were weighed: `netlink-packet-netfilter`
//! 0.4 lacks the NAT, masquerade, numgen, hash, conntrack and reject expressions; `rtnetlink`
//! awaits one answer per request and cannot send a batch.
//!
//! Not here: what the attributes mean; see [`crate::apply`] and [`crate::pod`].

pub mod message;
pub mod socket;

pub use message::{Attributes, Messages};
pub use socket::{Answer, Protocol, Socket};
