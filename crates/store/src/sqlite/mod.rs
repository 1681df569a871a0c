//! The default backend: one SQLite database, one writer, one synced transaction a batch.
//!
//! The database is a log: every write appends a row whose id is its revision, so inserts
//! go to the end of the only B-tree, and what a row replaces stays until the history has
//! let go of it. That is what lets a watch go on after a restart. Replaced rows are then
//! removed in small steps, between batches.
//!
//! WAL mode with `synchronous=FULL` syncs each commit; a batch of nothing but unsynced
//! writes commits with `synchronous=NORMAL` and is synced within a second. Revisions are
//! reserved in blocks, so that those of lost unsynced writes are never given out again.
//! The lock is exclusive: two servers on one database cannot happen.

mod layout;
mod load;
mod sync;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use carrack_api::{Key, Record, Revision};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::engine::{Engine, Failure};
use crate::head::{Accepted, Shared};
use crate::history::Event;
use crate::transform::{Transform, is_clear};
use crate::value;
use crate::{Change, Limits};
use sync::LateSync;

pub use layout::OpenError;

/// Revisions reserved at a time.
const RESERVE: Revision = 10_000;
/// Forgotten events that make a step of compaction worth its transaction.
const COMPACT_FROM: usize = 64;
/// Forgotten events that one step of compaction takes at least and at most.
const COMPACT_STEP: std::ops::RangeInclusive<usize> = 128..=1024;
/// Rows that one step of rewriting looks at.
const REWRITE_STEP: usize = 128;
/// Bytes of a value by which a transform knows its form.
const FORM: usize = 64;

/// The open database.
pub(crate) struct Sqlite {
    db: Connection,
    transform: Arc<dyn Transform>,
    reserved: Revision,
    /// Whether commits are synced just now.
    full: bool,
    /// Why nothing more is stored: a failed sync leaves unknown what the disk holds.
    broken: Option<Arc<str>>,
    doomed: VecDeque<Doomed>,
    /// Where rewriting stands, while it goes on.
    rewriting: Option<Revision>,
    /// Whether values in clear have been rewritten, which leave traces in free space.
    traces: bool,
    /// How the last rewriting ended.
    rewritten: Result<(), Arc<str>>,
    late: LateSync,
}

/// What may go from the database, since an event is no longer in the history.
struct Doomed {
    resource: Box<str>,
    /// The event's revision: where the resource's history begins once this is gone.
    since: Revision,
    /// The row that the event replaced; 0 when there was none.
    replaced: Revision,
    /// Whether the event's own row only says that the object was deleted.
    tombstone: bool,
}

/// Opens or creates a database; returns it with the head that it holds.
pub(crate) fn open(
    path: &Path,
    limits: Limits,
    transform: Arc<dyn Transform>,
) -> Result<(Sqlite, Arc<Shared>), OpenError> {
    let failed = |source| OpenError::sqlite(path, source);
    layout::private(path).map_err(|source| OpenError::Io { path: path.into(), source })?;
    let mut db = Connection::open(path).map_err(failed)?;
    layout::prepare(&db).map_err(failed)?;
    layout::check_format(&mut db, path)?;
    if let Some(pages) = limits.database_pages {
        db.pragma_update(None, "max_page_count", pages).map_err(failed)?;
    }
    let loaded = load::load(&db, path, limits, &*transform)?;
    let late = LateSync::start(wal(path));
    let mut engine = Sqlite {
        db,
        transform,
        reserved: loaded.reserved,
        full: true,
        broken: None,
        doomed: VecDeque::new(),
        rewriting: None,
        traces: false,
        rewritten: Ok(()),
        late,
    };
    engine.forget(&loaded.gone);
    if loaded.unfit {
        engine.rewrite();
    }
    match engine.reserve(loaded.shared.revision()) {
        // The first batch reserves again before it uses anything.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            tracing::warn!(path = %path.display(), "the disk is full; reads go on, writes wait for space");
        }
        reserved => reserved.map_err(failed)?,
    }
    Ok((engine, loaded.shared))
}

/// Has SQLite look through every page.
pub(crate) fn check_pages(engine: &mut Sqlite, path: &Path) -> Result<(), OpenError> {
    let found: String = engine
        .db
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|source| OpenError::sqlite(path, source))?;
    if found == "ok" { Ok(()) } else { Err(OpenError::Damaged { path: path.into(), what: found }) }
}

/// The write-ahead log beside a database.
fn wal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

// === impl Sqlite ===

impl Sqlite {
    /// Stores, synced, that revisions up to a block after `revision` may be in use.
    fn reserve(&mut self, revision: Revision) -> rusqlite::Result<()> {
        self.synchronous(true)?;
        let reserved = revision + RESERVE;
        self.db.execute(STATE, params![revision as i64, reserved as i64])?;
        self.reserved = reserved;
        Ok(())
    }

    fn synchronous(&mut self, full: bool) -> rusqlite::Result<()> {
        if self.full != full {
            self.db.pragma_update(None, "synchronous", if full { "FULL" } else { "NORMAL" })?;
            self.full = full;
        }
        Ok(())
    }

    fn store(&mut self, batch: &[Accepted], sync: bool) -> Result<(), StoreError> {
        let newest = batch.last().map_or(0, |entry| entry.revision);
        let reserve = newest > self.reserved;
        self.synchronous(sync || reserve)?;
        let transaction = self.db.transaction()?;
        for entry in batch {
            let key = &entry.record.key;
            let stored = match entry.change {
                Change::Deleted => None,
                _ => Some(value::seal(&*self.transform, key, &entry.record.content)?),
            };
            append(&transaction, entry.revision, entry.replaced, key, stored.as_deref())?;
        }
        if reserve {
            let reserved = newest + RESERVE;
            transaction.prepare_cached(STATE)?.execute([newest as i64, reserved as i64])?;
        }
        transaction.commit()?;
        if reserve {
            self.reserved = newest + RESERVE;
        }
        if !sync && !reserve {
            self.late.wanted();
        }
        Ok(())
    }

    /// Removes what the oldest forgotten events kept.
    fn compact(&mut self, events: usize) -> rusqlite::Result<()> {
        self.synchronous(false)?;
        let step: Vec<&Doomed> = self.doomed.iter().take(events).collect();
        let transaction = self.db.transaction()?;
        let mut since: HashMap<&str, Revision> = HashMap::new();
        for doomed in &step {
            let mut delete = transaction.prepare_cached("DELETE FROM log WHERE revision = ?1")?;
            if doomed.replaced != 0 {
                delete.execute([doomed.replaced as i64])?;
            }
            if doomed.tombstone {
                delete.execute([doomed.since as i64])?;
            }
            since.insert(&doomed.resource, doomed.since);
        }
        for (resource, since) in since {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO floors (resource, since) VALUES (?1, ?2)")?
                .execute(params![resource, since as i64])?;
        }
        transaction.commit()?;
        let done = step.len();
        self.doomed.drain(..done);
        Ok(())
    }

    /// Looks at the next rows and stores those anew that have not the form of today.
    /// Returns where it has come to; `None` at the end.
    fn rewrite_step(&mut self, after: Revision) -> Result<Option<Revision>, StoreError> {
        self.synchronous(false)?;
        let transaction = self.db.transaction()?;
        let rows: Vec<(i64, i64, String, Vec<u8>)> = transaction
            .prepare_cached(
                "SELECT revision, replaced, key, substr(value, 1, ?2) FROM log
                 WHERE revision > ?1 AND value IS NOT NULL ORDER BY revision LIMIT ?3",
            )?
            .query_map(params![after as i64, FORM as i64, REWRITE_STEP as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<Result<_, _>>()?;
        let mut traces = self.traces;
        for (revision, replaced, key, form) in &rows {
            let Some(key) = Key::parse(key) else { continue };
            if self.transform.fits(&key, form) {
                continue;
            }
            traces |= is_clear(form);
            let stored: Vec<u8> = transaction
                .prepare_cached("SELECT value FROM log WHERE revision = ?1")?
                .query_row([revision], |row| row.get(0))?;
            let content = value::open(&*self.transform, &key, &stored)
                .map_err(|e| StoreError::Seal(e.to_string().into()))?;
            let sealed = value::seal(&*self.transform, &key, &content)?;
            let sum = value::checksum(*revision as u64, *replaced as u64, key.as_str(), Some(&sealed));
            transaction
                .prepare_cached("UPDATE log SET value = ?2, sum = ?3 WHERE revision = ?1")?
                .execute(params![revision, sealed, sum])?;
        }
        transaction.commit()?;
        self.traces = traces;
        Ok(rows.last().filter(|_| rows.len() == REWRITE_STEP).map(|row| row.0 as Revision))
    }

    fn go_on_rewriting(&mut self, after: Revision) {
        match self.rewrite_step(after) {
            Ok(Some(next)) => self.rewriting = Some(next),
            Ok(None) => {
                self.rewriting = None;
                if self.traces
                    && let Err(error) = self.remove_traces()
                {
                    tracing::warn!(%error, "free space of the database still holds what is now encrypted");
                    self.rewritten = Err(error.to_string().into());
                    return;
                }
                tracing::info!("every record is stored in today's form");
            }
            Err(error) => {
                self.rewriting = None;
                let reason = match self.failure(error) {
                    Failure::Full => "the disk is full".into(),
                    Failure::Other(reason) => reason,
                };
                tracing::error!(%reason, "stopped rewriting records; the next start goes on");
                self.rewritten = Err(reason);
            }
        }
    }

    /// Builds the database anew: pages keep shreds of what they held in clear. Writes wait
    /// meanwhile; it happens once, when a resource is to be encrypted that was not.
    fn remove_traces(&mut self) -> rusqlite::Result<()> {
        self.synchronous(true)?;
        self.db.execute_batch("VACUUM")?;
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).optional()?;
        self.traces = false;
        Ok(())
    }

    /// What to tell those who wait; afterwards no transaction is open.
    fn failure(&mut self, error: StoreError) -> Failure {
        if !self.db.is_autocommit() {
            // A failed COMMIT may leave the transaction open.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        let error = match error {
            StoreError::Seal(why) => return Failure::Other(why),
            StoreError::Sqlite(error) => error,
        };
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            return Failure::Full;
        }
        let reason: Arc<str> = error.to_string().into();
        if let rusqlite::Error::SqliteFailure(code, _) = &error
            && code.extended_code == rusqlite::ffi::SQLITE_IOERR_FSYNC
        {
            let broken: Arc<str> = format!(
                "the disk failed to sync ({reason}), so that nobody knows what it holds; check it, then restart the server"
            )
            .into();
            self.broken = Some(broken.clone());
            return Failure::Other(broken);
        }
        Failure::Other(reason)
    }

    fn replace_all(&mut self, records: &[Arc<Record>], revision: Revision) -> Result<(), StoreError> {
        self.synchronous(true)?;
        let transaction = self.db.transaction()?;
        transaction.execute_batch("DELETE FROM log; DELETE FROM floors;")?;
        for record in records {
            let stored = value::seal(&*self.transform, &record.key, &record.content)?;
            append(&transaction, record.revision, 0, &record.key, Some(&stored))?;
        }
        let reserved = revision + RESERVE;
        transaction.execute(
            "UPDATE state SET revision = ?1, floor = ?1, reserved = ?2",
            params![revision as i64, reserved as i64],
        )?;
        transaction.commit()?;
        self.reserved = reserved;
        self.doomed.clear();
        Ok(())
    }
}

const STATE: &str = "UPDATE state SET revision = ?1, reserved = ?2";

/// Why a batch was not stored, from within.
enum StoreError {
    Seal(Arc<str>),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Arc<str>> for StoreError {
    fn from(why: Arc<str>) -> Self {
        Self::Seal(why)
    }
}

fn append(
    db: &Connection,
    revision: Revision,
    replaced: Revision,
    key: &Key,
    stored: Option<&[u8]>,
) -> rusqlite::Result<()> {
    let sum = value::checksum(revision, replaced, key.as_str(), stored);
    db.prepare_cached("INSERT INTO log (revision, replaced, key, sum, value) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![revision as i64, replaced as i64, key.as_str(), sum, stored])?;
    Ok(())
}

impl Engine for Sqlite {
    fn persist(&mut self, batch: &[Accepted], sync: bool) -> Result<(), Failure> {
        if let Some(why) = &self.broken {
            return Err(Failure::Other(why.clone()));
        }
        self.store(batch, sync).map_err(|error| self.failure(error))
    }

    fn forget(&mut self, gone: &[Arc<Event>]) {
        self.doomed.extend(gone.iter().map(|event| Doomed {
            resource: event.record.key.resource().into(),
            since: event.revision,
            replaced: event.previous.as_ref().map_or(0, |record| record.revision),
            tombstone: event.change == Change::Deleted,
        }));
    }

    fn tidy(&mut self, idle: bool) -> bool {
        if self.broken.is_some() {
            return false;
        }
        if self.doomed.len() >= COMPACT_FROM {
            let step = (self.doomed.len() / 8).clamp(*COMPACT_STEP.start(), *COMPACT_STEP.end());
            if let Err(error) = self.compact(step) {
                let reason = self.failure(error.into());
                tracing::warn!(?reason, "could not compact; the next batch tries again");
                return false;
            }
        } else if let Some(after) = self.rewriting.filter(|_| idle) {
            self.go_on_rewriting(after);
        }
        self.rewriting.is_some() || self.doomed.len() >= COMPACT_FROM
    }

    fn rewrite(&mut self) {
        (self.rewriting, self.rewritten) = (Some(0), Ok(()));
    }

    fn rewritten(&self) -> Option<Result<(), Arc<str>>> {
        self.rewriting.is_none().then(|| self.rewritten.clone())
    }

    fn replace(&mut self, records: &[Arc<Record>], revision: Revision) -> Result<(), Failure> {
        self.replace_all(records, revision).map_err(|error| self.failure(error))
    }

    fn close(&mut self, revision: Revision) {
        if self.broken.is_some() {
            return;
        }
        let tidy = || -> rusqlite::Result<()> {
            self.synchronous(true)?;
            self.db.execute(STATE, [revision as i64, revision as i64])?;
            self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).optional()?;
            Ok(())
        };
        if let Err(error) = { tidy }() {
            tracing::warn!(%error, "could not tidy the database up; the next start will");
        }
    }
}
