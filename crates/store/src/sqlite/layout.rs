//! The database's layout, its format version, and what can be wrong with a file.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use carrack_api::{Content, Header, Key};
use rusqlite::{Connection, ErrorCode, Transaction, params};

use crate::value;

/// Version of the layout below, in `PRAGMA user_version`. It rises with every change of
/// what is stored, also with one of [`Header`], which is part of every value.
const FORMAT: i64 = 3;
/// Marks the file as ours, in `PRAGMA application_id` ("CRCK").
const APPLICATION: i64 = 0x4352_434b;

const LAYOUT: &str = "
    CREATE TABLE log (
        revision INTEGER PRIMARY KEY,
        replaced INTEGER NOT NULL,     -- revision of the row whose place this one takes; 0: none
        key TEXT NOT NULL,
        sum INTEGER NOT NULL,          -- CRC-32 of the other columns
        value BLOB                     -- the record, plain or sealed; NULL: deleted
    ) STRICT;
    CREATE TABLE floors (
        resource TEXT PRIMARY KEY,
        since INTEGER NOT NULL         -- every change after it is in the log
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE state (
        only INTEGER PRIMARY KEY CHECK (only = 0),
        revision INTEGER NOT NULL,     -- every write up to here is in the log, or compacted
        reserved INTEGER NOT NULL,     -- no revision above it was ever handed out
        floor INTEGER NOT NULL         -- since, for resources that are not in floors
    ) STRICT;
    INSERT INTO state VALUES (0, 1, 1, 1);
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
    #[error(
        "{path} is damaged ({what}); `carrack restore` takes a backup, or move the file away to start empty"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Records are encrypted, and their key is not at hand.
    #[error("{path}: {records} records cannot be read, the first of them {key}: {why}")]
    Sealed {
        /// The database.
        path: PathBuf,
        /// How many.
        records: usize,
        /// The first of them.
        key: Key,
        /// What is missing.
        why: Arc<str>,
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

impl OpenError {
    pub(super) fn sqlite(path: &Path, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse(path.into()),
            Some(ErrorCode::NotADatabase) => Self::Foreign(path.into()),
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path: path.into(), what: source.to_string() },
            _ => Self::Sqlite { path: path.into(), source },
        }
    }
}

/// Makes the file, if it is not there, for its owner only; SQLite gives the files that
/// it puts beside it the same mode.
pub(super) fn private(path: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

pub(super) fn prepare(db: &Connection) -> rusqlite::Result<()> {
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

/// Sees to it that the file is ours and has this layout: makes it, or brings an older
/// one up to it.
pub(super) fn check_format(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::sqlite(path, source);
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    let (format, application) = (pragma("user_version")?, pragma("application_id")?);
    let tables: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    match (application, format, tables) {
        (0, 0, 0) => {
            let script = format!(
                "BEGIN; {LAYOUT} PRAGMA user_version={FORMAT}; PRAGMA application_id={APPLICATION}; COMMIT;"
            );
            db.execute_batch(&script).map_err(failed)
        }
        (APPLICATION, found, _) if found > FORMAT => Err(OpenError::Newer { path: path.into(), found }),
        (APPLICATION, FORMAT, _) => Ok(()),
        (APPLICATION, 1, _) => from_first_format(db, path),
        // Format 2 compressed nothing; what it holds reads as before.
        (APPLICATION, 2, _) => db.pragma_update(None, "user_version", FORMAT).map_err(failed),
        _ => Err(OpenError::Foreign(path.into())),
    }
}

/// Format 1 kept only the newest state of every object, in clear. All of it, or nothing,
/// is taken over; what it leaves behind is overwritten.
fn from_first_format(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::sqlite(path, source);
    let damaged = |key: &str| OpenError::Damaged { path: path.into(), what: format!("{key} cannot be read") };
    let transaction = db.transaction().map_err(failed)?;
    let (revision, reserved): (i64, i64) = transaction
        .query_row("SELECT revision, reserved FROM state", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(failed)?;
    transaction.execute_batch(&format!("DROP TABLE state; {LAYOUT}")).map_err(failed)?;
    for (key, revision, content) in first_records(&transaction).map_err(failed)? {
        let content = content.ok_or_else(|| damaged(&key))?;
        let value = value::encode(&content);
        let sum = value::checksum(revision as u64, 0, &key, Some(&value));
        transaction
            .execute(
                "INSERT INTO log (revision, replaced, key, sum, value) VALUES (?1, 0, ?2, ?3, ?4)",
                params![revision, key, sum, value],
            )
            .map_err(failed)?;
    }
    transaction
        .execute("UPDATE state SET revision = ?1, floor = ?1, reserved = ?2", [revision, reserved])
        .map_err(failed)?;
    transaction
        .execute_batch(&format!("DROP TABLE records; PRAGMA user_version={FORMAT};"))
        .map_err(failed)?;
    transaction.commit().map_err(failed)?;
    // Nothing of the old table stays behind in free pages.
    db.execute_batch("VACUUM").map_err(failed)?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)
}

fn first_records(db: &Transaction<'_>) -> rusqlite::Result<Vec<(String, i64, Option<Content>)>> {
    db.prepare("SELECT key, revision, managed_at, rest_at, header, body FROM records")?
        .query_map([], |row| {
            let (header, body): (Vec<u8>, Vec<u8>) = (row.get(4)?, row.get(5)?);
            let content = postcard::from_bytes::<Header>(&header).ok();
            let (managed_at, rest_at) = (row.get(2)?, row.get(3)?);
            let content = content
                .and_then(|header| Content::from_parts(header, Bytes::from(body), managed_at, rest_at));
            Ok((row.get(0)?, row.get(1)?, content))
        })?
        .collect()
}
