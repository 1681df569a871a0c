//! The one writer of a local store.
//!
//! Whatever is waiting becomes one batch: each write is checked against the head
//! (and the batch so far) and given its revision; the engine stores the batch with
//! one sync; the head is published, watchers wake, everyone is answered. Throughput
//! comes from batching, latency from one sync.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use carrack_api::{Key, Record};
use tokio::sync::{mpsc, oneshot};

use crate::engine::Engine;
use crate::head::{Accepted, Shared, accept};
use crate::{Change, CommitError, Committed, Write};

/// A write and where its answer goes.
pub(crate) struct Waiting {
    pub(crate) write: Write,
    pub(crate) answer: oneshot::Sender<Result<Committed, CommitError>>,
}

/// Starts the committer's thread. It ends, closing the engine, when every sender of
/// the queue is gone.
pub(crate) fn start(
    shared: Arc<Shared>,
    mut engine: Box<dyn Engine>,
) -> (mpsc::Sender<Waiting>, JoinHandle<()>) {
    let (sender, mut queue) = mpsc::channel(shared.limits().queue);
    let thread = std::thread::Builder::new()
        .name("committer".into())
        .spawn(move || {
            let mut batch = Vec::new();
            while queue.blocking_recv_many(&mut batch, shared.limits().batch) > 0 {
                commit(&shared, &mut *engine, std::mem::take(&mut batch));
            }
            engine.close(shared.revision());
        })
        .expect("a process that cannot start one thread cannot run a store");
    (sender, thread)
}

fn commit(shared: &Shared, engine: &mut dyn Engine, batch: Vec<Waiting>) {
    let mut accepted: Vec<Accepted> = Vec::with_capacity(batch.len());
    let mut answers = Vec::with_capacity(batch.len());
    let mut overlay: HashMap<Key, Option<Arc<Record>>> = HashMap::new();
    let mut next = shared.revision() + 1;
    let mut sync = false;
    for Waiting { write, answer } in batch {
        let unsynced = write.unsynced;
        let current = match overlay.get(&write.key) {
            Some(current) => current.clone(),
            None => shared.get(&write.key),
        };
        match accept(write, current.as_ref(), next) {
            Ok(entry) => {
                let left = (entry.change != Change::Deleted).then(|| entry.record.clone());
                overlay.insert(entry.record.key.clone(), left);
                answers.push((answer, Ok(Committed { revision: next, record: entry.record.clone() })));
                accepted.push(entry);
                next += 1;
                sync |= !unsynced;
            }
            Err(refused) => answers.push((answer, Err(refused))),
        }
    }
    let stored = if accepted.is_empty() { Ok(()) } else { engine.persist(&accepted, sync) };
    match stored {
        Ok(()) => shared.publish(&accepted),
        Err(reason) => {
            tracing::error!(%reason, writes = accepted.len(), "cannot make writes durable");
            for (_, answer) in &mut answers {
                // A conflict may have been with a write of this very batch.
                *answer = Err(CommitError::Unavailable(reason.clone()));
            }
        }
    }
    for (sender, answer) in answers {
        // Whoever gave up waiting does not need the answer; the write stands.
        let _ = sender.send(answer);
    }
}
