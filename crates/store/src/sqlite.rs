//! The default backend: one SQLite database, one writer, one synced transaction a batch.
//!
//! A row's id is the revision that created the object, so inserts append, and the
//! only B-tree is the table itself; the key → id map lives in memory. WAL mode with
//! `synchronous=FULL` syncs each commit; a batch of nothing but unsynced writes
//! commits with `synchronous=NORMAL`, which leaves the sync to a later one. Revisions
//! are reserved in blocks, so that those of lost unsynced writes are never given out
//! again. The lock is exclusive: two servers on one database cannot happen.

use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use carrack_api::{Content, Header, Key, Record, Revision};
use rusqlite::{Connection, OptionalExtension, params};

use crate::Change;
use crate::engine::Engine;
use crate::head::Accepted;

/// Version of the layout below, in `PRAGMA user_version`.
const FORMAT: i64 = 1;
/// Marks the file as ours, in `PRAGMA application_id` ("CRCK").
const APPLICATION: i64 = 0x4352_434b;
/// Revisions reserved at a time for unsynced writes.
const RESERVE: Revision = 10_000;

const LAYOUT: &str = "
    CREATE TABLE records (
        id INTEGER PRIMARY KEY,        -- revision of the creation
        key TEXT NOT NULL,
        revision INTEGER NOT NULL,     -- revision of the last write
        managed_at INTEGER NOT NULL,   -- where the second and third segment begin
        rest_at INTEGER NOT NULL,
        header BLOB NOT NULL,          -- postcard
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE state (
        only INTEGER PRIMARY KEY CHECK (only = 0),
        revision INTEGER NOT NULL,     -- newest revision stored
        reserved INTEGER NOT NULL      -- no revision above it was ever handed out
    ) STRICT;
    INSERT INTO state VALUES (0, 1, 1);
";

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0} is in use by another carrack server; stop it, or use another data directory")]
    InUse(PathBuf),
    /// Written by a newer version of this program.
    #[error(
        "{path} has format {found}, this binary knows up to {FORMAT}; use the newer carrack that wrote it"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// Some other program's file.
    #[error("{0} is a database of another program; use another data directory")]
    Foreign(PathBuf),
    /// Its contents do not hold together.
    #[error("{path} is damaged ({what}); restore a backup, or move the file away to start empty")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The file cannot be made.
    #[error("cannot create {path}: {source}")]
    Io {
        /// The database.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite's own error.
    #[error("cannot open {path}: {source}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// The open database.
pub(crate) struct Sqlite {
    db: Connection,
    ids: HashMap<Key, i64>,
    reserved: Revision,
    full: bool,
}

/// Opens or creates a database; returns it with its records and the revision from
/// which to go on.
pub(crate) fn open(path: &Path) -> Result<(Sqlite, Vec<Record>, Revision), OpenError> {
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            OpenError::InUse(path.into())
        }
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::Foreign(path.into()),
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path: path.into(), what: source.to_string() }
        }
        _ => OpenError::Sqlite { path: path.into(), source },
    };
    private(path).map_err(|source| OpenError::Io { path: path.into(), source })?;
    let db = Connection::open(path).map_err(failed)?;
    prepare(&db).map_err(failed)?;
    check_format(&db, path, failed)?;
    let (revision, reserved): (Revision, Revision) = db
        .query_row("SELECT revision, reserved FROM state", [], |row| {
            Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64))
        })
        .map_err(failed)?;
    let records = load(&db, path, failed)?;
    let ids: HashMap<Key, i64> = records.iter().map(|(id, record)| (record.key.clone(), *id)).collect();
    if ids.len() != records.len() {
        return Err(OpenError::Damaged { path: path.into(), what: "a key is stored twice".into() });
    }
    let revision = revision.max(reserved);
    let mut engine = Sqlite { db, ids, reserved, full: true };
    engine.reserve(revision).map_err(failed)?;
    Ok((engine, records.into_iter().map(|(_, record)| record).collect(), revision))
}

/// Makes the file, if it is not there, for its owner only; SQLite gives the files that
/// it puts beside it the same mode.
fn private(path: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(std::time::Duration::from_millis(200))?;
    for (name, value) in [
        ("page_size", "8192"),
        ("locking_mode", "EXCLUSIVE"),
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("wal_autocheckpoint", "2000"),
        ("journal_size_limit", "67108864"),
        ("cache_size", "-4096"),
        ("temp_store", "MEMORY"),
    ] {
        db.pragma_update(None, name, value)?;
    }
    // Takes the exclusive lock now rather than at the first write.
    db.execute_batch("BEGIN IMMEDIATE; COMMIT;")
}

fn check_format(
    db: &Connection,
    path: &Path,
    failed: impl Fn(rusqlite::Error) -> OpenError,
) -> Result<(), OpenError> {
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(&failed);
    let (format, application) = (pragma("user_version")?, pragma("application_id")?);
    let tables: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(&failed)?;
    match (application, format, tables) {
        (0, 0, 0) => {
            let script = format!(
                "BEGIN; {LAYOUT} PRAGMA user_version={FORMAT}; PRAGMA application_id={APPLICATION}; COMMIT;"
            );
            db.execute_batch(&script).map_err(&failed)
        }
        (APPLICATION, found, _) if found > FORMAT => Err(OpenError::Newer { path: path.into(), found }),
        (APPLICATION, FORMAT, _) => Ok(()),
        _ => Err(OpenError::Foreign(path.into())),
    }
}

/// A row of `records`: id, key, revision, where the two segments of the body start, header, body.
type Columns = (i64, String, i64, u32, u32, Vec<u8>, Vec<u8>);

fn load(
    db: &Connection,
    path: &Path,
    failed: impl Fn(rusqlite::Error) -> OpenError,
) -> Result<Vec<(i64, Record)>, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.into(), what };
    let mut statement = db
        .prepare("SELECT id, key, revision, managed_at, rest_at, header, body FROM records")
        .map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        let read = || -> rusqlite::Result<Columns> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
        };
        let (id, key, revision, managed_at, rest_at, header, body) = read().map_err(&failed)?;
        let header: Header = postcard::from_bytes(&header).map_err(|e| damaged(format!("{key}: {e}")))?;
        let content = Content::from_parts(header, Bytes::from(body), managed_at, rest_at)
            .ok_or_else(|| damaged(format!("{key}: segments out of range")))?;
        let key = Key::parse(&key).ok_or_else(|| damaged(format!("{key:?} is not a key")))?;
        records.push((id, Record { key, revision: revision as Revision, content }));
    }
    Ok(records)
}

// === impl Sqlite ===

impl Sqlite {
    /// Stores, synced, that revisions up to a block after `revision` may be in use.
    fn reserve(&mut self, revision: Revision) -> rusqlite::Result<()> {
        self.synchronous(true)?;
        let reserved = revision + RESERVE;
        self.db.execute(
            "UPDATE state SET revision = ?1, reserved = ?2",
            params![revision as i64, reserved as i64],
        )?;
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

    fn store(&mut self, batch: &[Accepted], sync: bool) -> rusqlite::Result<()> {
        let newest = batch.last().map_or(0, |entry| entry.revision);
        let reserve = newest > self.reserved;
        self.synchronous(sync || reserve)?;
        let reserved = if reserve { newest + RESERVE } else { self.reserved };
        let mut created: HashMap<&Key, i64> = HashMap::new();
        let transaction = self.db.transaction()?;
        for entry in batch {
            let record = &entry.record;
            let id = created.get(&record.key).or_else(|| self.ids.get(&record.key)).copied();
            match (entry.change, id) {
                (Change::Created, _) => {
                    insert(&transaction, record)?;
                    created.insert(&record.key, record.revision as i64);
                }
                (Change::Updated, Some(id)) => update(&transaction, id, record)?,
                (Change::Deleted, Some(id)) => {
                    transaction.prepare_cached("DELETE FROM records WHERE id = ?1")?.execute([id])?;
                }
                (Change::Updated | Change::Deleted, None) => {
                    return Err(rusqlite::Error::QueryReturnedNoRows);
                }
            }
        }
        transaction
            .prepare_cached("UPDATE state SET revision = ?1, reserved = ?2")?
            .execute([newest as i64, reserved as i64])?;
        transaction.commit()?;
        self.reserved = reserved;
        Ok(())
    }

    /// Brings the map of ids up to a batch that has been stored.
    fn remember(&mut self, batch: &[Accepted]) {
        for entry in batch {
            let key = &entry.record.key;
            match entry.change {
                Change::Created => {
                    self.ids.insert(key.clone(), entry.revision as i64);
                }
                Change::Deleted => {
                    self.ids.remove(key);
                }
                Change::Updated => {}
            }
        }
    }
}

fn encode(record: &Record) -> Vec<u8> {
    postcard::to_allocvec(record.header()).expect("a header of strings always encodes")
}

fn insert(db: &Connection, record: &Record) -> rusqlite::Result<()> {
    let (body, managed_at, rest_at) = record.content.parts();
    let mut statement = db.prepare_cached(
        "INSERT INTO records (id, key, revision, managed_at, rest_at, header, body) VALUES (?1, ?2, ?1, ?3, ?4, ?5, ?6)",
    )?;
    let revision = record.revision as i64;
    statement.execute(params![
        revision,
        record.key.as_str(),
        managed_at,
        rest_at,
        encode(record),
        &body[..]
    ])?;
    Ok(())
}

fn update(db: &Connection, id: i64, record: &Record) -> rusqlite::Result<()> {
    let (body, managed_at, rest_at) = record.content.parts();
    let mut statement = db.prepare_cached(
        "UPDATE records SET revision = ?2, managed_at = ?3, rest_at = ?4, header = ?5, body = ?6 WHERE id = ?1",
    )?;
    let revision = record.revision as i64;
    statement.execute(params![id, revision, managed_at, rest_at, encode(record), &body[..]])?;
    Ok(())
}

impl Engine for Sqlite {
    fn persist(&mut self, batch: &[Accepted], sync: bool) -> Result<(), Arc<str>> {
        match self.store(batch, sync) {
            Ok(()) => {
                self.remember(batch);
                Ok(())
            }
            Err(error) => {
                // A failed COMMIT may leave the transaction open.
                if !self.db.is_autocommit() {
                    let _ = self.db.execute_batch("ROLLBACK");
                }
                Err(error.to_string().into())
            }
        }
    }

    fn close(&mut self, revision: Revision) {
        let tidy = || -> rusqlite::Result<()> {
            self.synchronous(true)?;
            self.db.execute("UPDATE state SET revision = ?1, reserved = ?1", [revision as i64])?;
            self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).optional()?;
            Ok(())
        };
        if let Err(error) = { tidy }() {
            tracing::warn!(%error, "could not tidy the database up; the next start will");
        }
    }
}
