//! The late sync: what was written unsynced reaches the disk within a second, even when
//! no synced write follows. A thread that sleeps while there is nothing to do.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// How much of unsynced writes a power cut may take.
const WITHIN: Duration = Duration::from_secs(1);

/// The way to the thread; it ends when this is dropped.
pub(super) struct LateSync(SyncSender<()>);

impl LateSync {
    /// Starts the thread for a write-ahead log.
    pub(super) fn start(log: PathBuf) -> Self {
        let (sender, wanted) = sync_channel(1);
        let started = std::thread::Builder::new().name("late-sync".into()).spawn(move || run(&log, &wanted));
        if let Err(error) = started {
            tracing::warn!(%error, "unsynced writes wait for the next synced one");
        }
        Self(sender)
    }

    /// Something was written unsynced.
    pub(super) fn wanted(&self) {
        // A full channel says that a sync is to come anyway.
        let _ = self.0.try_send(());
    }
}

fn run(log: &std::path::Path, wanted: &Receiver<()>) {
    while wanted.recv().is_ok() {
        std::thread::sleep(WITHIN);
        // A log that is gone was written into the database, synced.
        if let Ok(file) = File::open(log)
            && let Err(error) = file.sync_data()
        {
            tracing::warn!(%error, "a late sync failed");
        }
    }
}
