//! The one writer of a local store.
//!
//! Whatever is waiting becomes one batch: each write is checked against the head
//! (and the batch so far) and given its revision; the engine stores the batch with
//! one sync; the head is published, watchers wake, everyone is answered. Throughput
//! comes from batching, latency from one sync. Housekeeping goes in small steps between
//! batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use carrack_api::{Content, Key, Record, Revision};
use tokio::sync::{mpsc, oneshot};

use crate::engine::{Engine, Failure};
use crate::head::{Accepted, Shared, accept};
use crate::{Change, CommitError, Committed, Write};

/// What the committer is asked to do.
pub(crate) enum Job {
    /// A write.
    Write(Waiting),
    /// To replace everything.
    Replace(Replacement),
    /// To store everything anew in the form of today, in small steps; answered at the end.
    Rewrite(oneshot::Sender<Result<(), CommitError>>),
}

/// A write and where its answer goes.
pub(crate) struct Waiting {
    pub(crate) write: Write,
    pub(crate) answer: oneshot::Sender<Result<Committed, CommitError>>,
}

/// Everything that is to be there, and where the new revision is told.
pub(crate) struct Replacement {
    pub(crate) objects: Vec<(Key, Content)>,
    /// The new revisions are above this one too.
    pub(crate) above: Revision,
    pub(crate) answer: oneshot::Sender<Result<Revision, CommitError>>,
}

/// Starts the committer's thread. It ends, closing the engine, when every sender of
/// the queue is gone.
pub(crate) fn start(shared: Arc<Shared>, engine: Box<dyn Engine>) -> (mpsc::Sender<Job>, JoinHandle<()>) {
    let (sender, mut queue) = mpsc::channel::<Job>(shared.limits().queue);
    let thread = std::thread::Builder::new()
        .name("committer".into())
        .spawn(move || {
            let mut committer = Committer { shared, engine, rewriting: Vec::new(), batches: 0 };
            committer.run(&mut queue);
            committer.engine.close(committer.shared.revision());
        })
        .expect("a process that cannot start one thread cannot run a store");
    (sender, thread)
}

/// Lets those go first who are about to write, where the processors have more to do than they
/// can: a larger batch costs no more syncs. With a processor to spare this takes no time.
fn gather(queue: &mut mpsc::Receiver<Job>, jobs: &mut Vec<Job>, most: usize) {
    std::thread::yield_now();
    while jobs.len() < most
        && let Ok(job) = queue.try_recv()
    {
        jobs.push(job);
    }
}

/// Batches after which rewriting goes on although writes are waiting.
const REWRITE_EVERY: u32 = 16;

struct Committer {
    shared: Arc<Shared>,
    engine: Box<dyn Engine>,
    /// Who waits for the end of rewriting.
    rewriting: Vec<oneshot::Sender<Result<(), CommitError>>>,
    batches: u32,
}

impl Committer {
    fn run(&mut self, queue: &mut mpsc::Receiver<Job>) {
        let (most, mut jobs, mut more) = (self.shared.limits().batch, Vec::new(), true);
        loop {
            if more && queue.is_empty() && !queue.is_closed() {
                more = self.tidy(true);
                continue;
            }
            if queue.blocking_recv_many(&mut jobs, most) == 0 {
                return;
            }
            gather(queue, &mut jobs, most);
            self.work(&mut jobs);
            self.batches = self.batches.wrapping_add(1);
            more = self.tidy(self.batches.is_multiple_of(REWRITE_EVERY));
        }
    }

    fn tidy(&mut self, idle: bool) -> bool {
        let more = self.engine.tidy(idle);
        if let Some(outcome) = self.engine.rewritten() {
            for answer in self.rewriting.drain(..) {
                // Whoever gave up waiting does not need the answer.
                let _ = answer.send(outcome.clone().map_err(CommitError::Unavailable));
            }
        }
        more
    }

    /// Does what is asked, in order; neighbouring writes make one batch.
    fn work(&mut self, jobs: &mut Vec<Job>) {
        let (shared, engine) = (&*self.shared, &mut *self.engine);
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match job {
                Job::Write(waiting) => batch.push(waiting),
                Job::Replace(replacement) => {
                    commit(shared, engine, std::mem::take(&mut batch));
                    replace(shared, engine, replacement);
                }
                Job::Rewrite(answer) => {
                    engine.rewrite();
                    self.rewriting.push(answer);
                }
            }
        }
        commit(shared, engine, batch);
    }
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
    let mut gone = Vec::new();
    let stored = if accepted.is_empty() { Ok(()) } else { engine.persist(&accepted, sync) };
    match stored {
        Ok(()) => gone = shared.publish(&accepted),
        Err(failure) => {
            let error = refusal(failure, accepted.len());
            for (_, answer) in &mut answers {
                // A conflict may have been with a write of this very batch.
                *answer = Err(error.clone());
            }
        }
    }
    for (sender, answer) in answers {
        // Whoever gave up waiting does not need the answer; the write stands.
        let _ = sender.send(answer);
    }
    engine.forget(&gone);
}

fn replace(shared: &Shared, engine: &mut dyn Engine, replacement: Replacement) {
    let Replacement { objects, above, answer } = replacement;
    let first = shared.revision().max(above) + 1;
    let record = |(at, (key, content))| Arc::new(Record { key, revision: first + at as Revision, content });
    let records: Vec<_> = objects.into_iter().enumerate().map(record).collect();
    let revision = first + records.len() as Revision;
    let done = match engine.replace(&records, revision) {
        Ok(()) => {
            shared.replace(records, revision);
            Ok(revision)
        }
        Err(failure) => Err(refusal(failure, records.len())),
    };
    // Whoever gave up waiting will find it done.
    let _ = answer.send(done);
}

fn refusal(failure: Failure, writes: usize) -> CommitError {
    match failure {
        Failure::Full => {
            tracing::error!(writes, "the disk is full; writes are refused until there is space");
            CommitError::Full
        }
        Failure::Other(reason) => {
            tracing::error!(%reason, writes, "cannot make writes durable");
            CommitError::Unavailable(reason)
        }
    }
}
