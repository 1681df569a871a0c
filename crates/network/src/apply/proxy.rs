//! Placeholder being filled: the public shape of the rules' shell.
use crate::plan::Ruleset;
use core::time::Duration;

/// How the proxy behaves.
#[derive(Debug, Clone, Default)]
pub struct ProxyConfig {}

/// What a sync did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rules, chains and elements that were sent.
    pub updates: usize,
    /// The table was made from nothing (first sync, or its state was unknown).
    pub from_scratch: bool,
    /// Connection tracking entries of vanished endpoints that were deleted.
    pub connections_ended: usize,
    /// From the call until the kernel had accepted the batch.
    pub took: Duration,
}

/// Why the kernel does not hold the ruleset.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel refused.
    #[error("nf_tables refused {step}: {source}")]
    Refused {
        /// What was asked.
        step: String,
        /// Its answer.
        source: std::io::Error,
    },
}

/// Keeps the table `inet carrack`.
#[derive(Debug)]
pub struct Proxy {}

impl Proxy {
    /// Opens the sockets, in the network namespace of the calling thread.
    pub fn new(_config: ProxyConfig) -> Result<Self, ApplyError> {
        Ok(Self {})
    }
    /// Returns when the kernel has accepted the batch.
    pub async fn sync(&mut self, _desired: &Ruleset) -> Result<Report, ApplyError> {
        Ok(Report::default())
    }
    /// Removes the table.
    pub fn cleanup(&mut self) -> Result<(), ApplyError> {
        Ok(())
    }
}
