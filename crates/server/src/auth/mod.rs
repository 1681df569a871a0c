//! Who someone is and what they may do.
//!
//! Authentication: client certificates of our CA, service-account and bootstrap tokens; nobody else,
//! but for the health endpoints, which answer anyone. Authorization: `system:masters`,
//! then the Node authorizer, then RBAC; who is named by none of them is forbidden.
//!
//! The authorizers keep indexes of stored objects, brought up to date with the store
//! on use ([`follow`]): a right granted or revoked counts from the next request on, an
//! idle server does nothing. Tokens and keys never reach a log.

pub mod bootstrap_token;
pub mod certificate;
pub(crate) mod follow;
pub mod impersonate;
pub mod node;
pub mod rbac;
pub mod reviews;
#[cfg(test)]
pub(crate) mod testing;
pub mod token;
mod union;

pub use bootstrap_token::BootstrapTokens;
pub use certificate::{Anonymous, CertificateAuthenticator};
pub use union::{Authorizers, forbidden};

/// The group that may do anything, without any rule saying so.
pub const MASTERS: &str = "system:masters";
/// Everyone who said who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Every node's agent.
pub const NODES: &str = "system:nodes";
/// Every service account.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// The node that a user is: `Some("")` when it claims to be one but does not say which.
/// (Upstream: `nodeidentifier`.)
pub fn node_identity(user: &crate::User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.in_group(NODES).then_some(name)
}
