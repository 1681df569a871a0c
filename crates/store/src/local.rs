//! A store in this process: the shared head, and a committer in front of an engine.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use carrack_api::{Content, Key, Record, Revision};
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::backup::Backup;
use crate::committer::{self, Job, Replacement, Waiting};
use crate::engine::{Engine, Nothing};
use crate::head::Shared;
use crate::sqlite::{self, OpenError};
use crate::{
    CommitError, Committed, Expired, Field, Limits, Snapshot, Store, Transform, Untransformed, Watch, Write,
};

/// A store whose only writer is this process. Dropping it waits until what was
/// accepted is stored.
pub struct Local {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Job>>,
    committer: Option<JoinHandle<()>>,
}

impl Local {
    /// A store that is gone with the process.
    pub fn memory(limits: Limits) -> Self {
        Self::start(Shared::new(Vec::new(), 1, limits), Box::new(Nothing))
    }

    /// A store in a SQLite database, which is created when absent.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the file and what to do.
    pub fn sqlite(path: &Path, limits: Limits) -> Result<Self, OpenError> {
        Self::sqlite_with(path, limits, Arc::new(Untransformed))
    }

    /// Looks through a whole database that no server has open, pages and records. Returns
    /// how many objects it holds.
    ///
    /// # Errors
    /// What [`sqlite_with`](Self::sqlite_with) would say, or what else is wrong.
    pub fn check(path: &Path, transform: Arc<dyn Transform>) -> Result<usize, OpenError> {
        let (mut engine, shared) = sqlite::open(path, Limits::default(), transform)?;
        sqlite::check_pages(&mut engine, path)?;
        engine.close(shared.revision());
        Ok(shared.everything().1.iter().map(Snapshot::len).sum())
    }

    /// As [`sqlite`](Self::sqlite); what reaches the disk goes through `transform`.
    ///
    /// # Errors
    /// As for [`sqlite`](Self::sqlite).
    pub fn sqlite_with(
        path: &Path,
        limits: Limits,
        transform: Arc<dyn Transform>,
    ) -> Result<Self, OpenError> {
        let (engine, shared) = sqlite::open(path, limits, transform)?;
        Ok(Self::start(shared, Box::new(engine)))
    }

    fn start(shared: Arc<Shared>, engine: Box<dyn Engine>) -> Self {
        let (queue, committer) = committer::start(shared.clone(), engine);
        Self { shared, queue: Some(queue), committer: Some(committer) }
    }

    async fn send(&self, write: Write) -> Result<Committed, CommitError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Job::Write(Waiting { write, answer })).await?;
        answered.await.map_err(|_| stopped())?
    }

    async fn ask(&self, job: Job) -> Result<(), CommitError> {
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(job).await.map_err(|_| stopped())
    }

    /// Everything there is, at one revision. Costs nothing to take and blocks nobody.
    pub fn backup(&self) -> Backup {
        let (revision, snapshots) = self.shared.everything();
        Backup::new(revision, snapshots)
    }

    /// Replaces everything by `objects`, which get new revisions, above the newest and
    /// above `above`. Every watch has expired then; whoever followed lists again.
    /// Returns the new head's revision.
    ///
    /// # Errors
    /// It cannot be made durable; then nothing has changed.
    pub async fn replace(
        &self,
        objects: Vec<(Key, Content)>,
        above: Revision,
    ) -> Result<Revision, CommitError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Job::Replace(Replacement { objects, above, answer })).await?;
        answered.await.map_err(|_| stopped())?
    }

    /// Stores what has not the transform's form of today anew, in small steps and mostly
    /// while nobody waits. Returns once all is done.
    ///
    /// # Errors
    /// Something cannot be rewritten; the next start goes on.
    pub async fn rewrite(&self) -> Result<(), CommitError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Job::Rewrite(answer)).await?;
        answered.await.map_err(|_| stopped())?
    }
}

fn stopped() -> CommitError {
    CommitError::Unavailable("the store is shutting down".into())
}

impl Store for Local {
    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.send(write))
    }

    fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.shared.get(key)
    }

    fn snapshot(&self, resource: &str) -> Snapshot {
        self.shared.snapshot(resource)
    }

    fn snapshot_at(&self, resource: &str, revision: Revision) -> Result<Snapshot, Expired> {
        self.shared.snapshot_at(resource, revision)
    }

    fn watch(&self, resource: &str, from: Revision) -> Result<Watch, Expired> {
        self.shared.watch(resource, from, None)
    }

    fn watch_field(&self, resource: &str, from: Revision, field: Field) -> Result<Watch, Expired> {
        self.shared.watch(resource, from, Some(field))
    }

    fn revision(&self) -> Revision {
        self.shared.revision()
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<Revision, CommitError>> {
        // The head is published before a write is acknowledged, and nobody else writes.
        Box::pin(std::future::ready(Ok(self.shared.revision())))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the committer panicked; the last batch was not acknowledged");
        }
    }
}
