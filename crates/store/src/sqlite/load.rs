//! Reading a database into a head, checking every row on the way.

use std::path::Path;
use std::sync::Arc;

use carrack_api::{Key, Revision};
use rusqlite::{Connection, Row};

use super::layout::OpenError;
use crate::Limits;
use crate::head::{Loading, Shared};
use crate::history::Event;
use crate::transform::Transform;
use crate::value::{self, ValueError};

/// What a database held.
pub(super) struct Loaded {
    pub(super) shared: Arc<Shared>,
    pub(super) reserved: Revision,
    /// Events that did not fit into the history.
    pub(super) gone: Vec<Arc<Event>>,
    /// Whether some values have not the form that they would be given today.
    pub(super) unfit: bool,
}

/// The only row of `state`.
struct State {
    revision: Revision,
    reserved: Revision,
    floor: Revision,
}

/// A row of `log`.
struct Stored {
    revision: Revision,
    replaced: Revision,
    key: String,
    sum: u32,
    value: Option<Vec<u8>>,
}

/// Values that cannot be opened: how many, and the first with its reason.
#[derive(Default)]
struct Sealed {
    records: usize,
    first: Option<(Key, Arc<str>)>,
}

pub(super) fn load(
    db: &Connection,
    path: &Path,
    limits: Limits,
    transform: &dyn Transform,
) -> Result<Loaded, OpenError> {
    let failed = |source| OpenError::sqlite(path, source);
    let damaged = |what: String| OpenError::Damaged { path: path.into(), what };
    let state = state(db).map_err(failed)?;
    let mut loading = Loading::new(state.floor, limits);
    for (resource, since) in floors(db).map_err(failed)? {
        loading.since(&resource, since);
    }
    let mut statement = db
        .prepare("SELECT revision, replaced, key, sum, value FROM log ORDER BY revision")
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let (mut sealed, mut unfit) = (Sealed::default(), false);
    while let Some(row) = rows.next().map_err(failed)? {
        let row = stored(row).map_err(failed)?;
        let Stored { revision, replaced, key, sum, value } = row;
        if sum != value::checksum(revision, replaced, &key, value.as_deref()) {
            return Err(damaged(format!("the checksum of {key} at revision {revision} is wrong")));
        }
        let key = Key::parse(&key).ok_or_else(|| damaged(format!("{key:?} is not a key")))?;
        let content = match value.map(|value| (value::open(transform, &key, &value), value)) {
            None => None,
            Some((Ok(content), value)) => {
                unfit |= !transform.fits(&key, &value);
                Some(content)
            }
            Some((Err(ValueError::Sealed(why)), _)) => {
                sealed.note(key, why);
                continue;
            }
            Some((Err(error), _)) => return Err(damaged(format!("{key}: {error}"))),
        };
        let name = key.clone();
        if sealed.records == 0 && !loading.write(key, revision, replaced, content) {
            return Err(damaged(format!("revision {revision} of {name} does not follow the one before")));
        }
    }
    if let Some((key, why)) = sealed.first {
        return Err(OpenError::Sealed { path: path.into(), records: sealed.records, key, why });
    }
    let known = state.revision.max(loading.revision());
    let (shared, gone) = loading.finish(known, known.max(state.reserved));
    Ok(Loaded { shared, reserved: state.reserved, gone, unfit })
}

impl Sealed {
    fn note(&mut self, key: Key, why: Arc<str>) {
        self.records += 1;
        self.first.get_or_insert((key, why));
    }
}

fn state(db: &Connection) -> rusqlite::Result<State> {
    db.query_row("SELECT revision, reserved, floor FROM state", [], |row| {
        let number = |column| row.get::<_, i64>(column).map(|n| n as Revision);
        Ok(State { revision: number(0)?, reserved: number(1)?, floor: number(2)? })
    })
}

fn floors(db: &Connection) -> rusqlite::Result<Vec<(String, Revision)>> {
    db.prepare("SELECT resource, since FROM floors")?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as Revision)))?
        .collect()
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        revision: row.get::<_, i64>(0)? as Revision,
        replaced: row.get::<_, i64>(1)? as Revision,
        key: row.get(2)?,
        sum: row.get(3)?,
        value: row.get(4)?,
    })
}
