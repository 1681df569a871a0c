//! The shell that keeps the table.
//!
//! Invariant: `current` is what the kernel holds, or `None` if that is not certain. It is
//! set to `None` before anything is sent and back only after the kernel has accepted, so
//! a crash of the caller's future, a refusal or a lost answer lead to a fresh start, which
//! is itself one transaction: there is no moment without rules.

use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::conntrack;
use super::encode::Batch;
use crate::netlink::{Protocol, Socket};
use crate::plan::{Ruleset, diff};

/// How the proxy behaves. Nothing to choose yet.
#[derive(Debug, Clone, Default)]
pub struct ProxyConfig {}

/// What a sync did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rules, chains and elements that were sent; 0 if there was nothing to do.
    pub updates: usize,
    /// The table was made from nothing (first sync, or its state was unknown).
    pub from_scratch: bool,
    /// UDP connections to vanished endpoints that were ended.
    pub connections_ended: usize,
    /// From the call until the kernel had accepted the batch.
    pub took: Duration,
    /// The part of it that the kernel needed for the batch.
    pub kernel: Duration,
}

/// Why the kernel does not hold the ruleset.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// No socket.
    #[error("cannot speak to the kernel's netfilter (CAP_NET_ADMIN is needed): {0}")]
    Socket(#[source] io::Error),
    /// The kernel refused.
    #[error("nf_tables refused {step}: {source}")]
    Refused {
        /// What was asked.
        step: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The work was abandoned because the process is stopping.
    #[error("the sync was interrupted")]
    Interrupted,
}

/// Keeps the table `inet carrack`.
#[derive(Debug, Clone)]
pub struct Proxy {
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Opens the sockets, in the network namespace of the calling thread. Changes nothing.
    pub fn new(_config: ProxyConfig) -> Result<Self, ApplyError> {
        let socket = Socket::open(Protocol::Netfilter).map_err(ApplyError::Socket)?;
        Ok(Self { state: Arc::new(Mutex::new(State { socket, current: None, kernel: Duration::ZERO })) })
    }

    /// Brings the table to `desired`. When this returns, the kernel has accepted: no new
    /// connection goes to an endpoint that is not in `desired`.
    pub async fn sync(&mut self, desired: &Ruleset) -> Result<Report, ApplyError> {
        let (state, desired) = (Arc::clone(&self.state), desired.clone());
        let work = move || lock(&state).sync(&desired);
        tokio::task::spawn_blocking(work).await.map_err(|_| ApplyError::Interrupted)?
    }

    /// As [`Proxy::sync`], blocking; for callers without a runtime.
    pub fn sync_now(&mut self, desired: &Ruleset) -> Result<Report, ApplyError> {
        lock(&self.state).sync(desired)
    }

    /// Removes the table and all that is in it. Fine if there is none.
    pub fn cleanup(&mut self) -> Result<(), ApplyError> {
        let mut state = lock(&self.state);
        state.current = None;
        let mut batch = Batch::new();
        batch.remove_table();
        state.send(batch)
    }
}

/// A panic while it was locked leaves `current` at `None`, so the state is sound.
fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct State {
    socket: Socket,
    current: Option<Ruleset>,
    /// What the kernel needed for the last batch.
    kernel: Duration,
}

impl State {
    fn sync(&mut self, desired: &Ruleset) -> Result<Report, ApplyError> {
        let start = Instant::now();
        self.kernel = Duration::ZERO;
        if let Some(current) = self.current.take() {
            let desired = desired.arranged_after(&current);
            match self.increment(&current, &desired) {
                Ok(updates) => {
                    return Ok(self.finish(Some(&current), desired, updates, start));
                }
                Err(error) => {
                    tracing::warn!(%error, "the table is not as expected: it is made anew");
                }
            }
        }
        let updates = self.replace(desired)?;
        let report = self.finish(None, desired.clone(), updates, start);
        Ok(Report { from_scratch: true, ..report })
    }

    fn increment(&mut self, current: &Ruleset, desired: &Ruleset) -> Result<usize, ApplyError> {
        let updates = diff(current, desired);
        if !updates.is_empty() {
            let mut batch = Batch::new();
            batch.updates(&updates);
            self.send(batch)?;
        }
        Ok(updates.len())
    }

    fn replace(&mut self, desired: &Ruleset) -> Result<usize, ApplyError> {
        let updates = diff(&Ruleset::default(), desired);
        let mut batch = Batch::new();
        batch.remove_table();
        batch.add_table();
        batch.updates(&updates);
        self.send(batch)?;
        Ok(updates.len())
    }

    fn send(&mut self, batch: Batch) -> Result<(), ApplyError> {
        let (messages, about) = batch.finish();
        let start = Instant::now();
        let answers = self.socket.exchange(&messages);
        self.kernel = start.elapsed();
        let refused = |step, source| ApplyError::Refused { step, source };
        let answers = answers.map_err(|source| refused("the transaction", source))?;
        for answer in &answers {
            if let Some(source) = answer.to_error() {
                let index = answer.sequence.saturating_sub(1) as usize;
                return Err(refused(about.get(index).copied().unwrap_or("a step"), source));
            }
        }
        let acknowledged = answers.iter().any(|answer| answer.sequence + 1 == messages.count());
        if !acknowledged {
            let source = io::Error::other("no answer");
            return Err(refused("the transaction", source));
        }
        Ok(())
    }

    /// The kernel holds `new`; makes it forget what leads elsewhere.
    fn finish(&mut self, old: Option<&Ruleset>, new: Ruleset, updates: usize, start: Instant) -> Report {
        let took = start.elapsed();
        let affected = conntrack::affected(old, &new);
        let connections_ended = conntrack::end(&mut self.socket, &affected).unwrap_or_else(|error| {
            // The rules are in force; only old flows may linger until they time out.
            tracing::warn!(%error, "UDP connections to vanished endpoints were not ended");
            0
        });
        self.current = Some(new);
        let kernel = self.kernel;
        Report { updates, from_scratch: false, connections_ended, took, kernel }
    }
}
