//! What SQLite keeps across a restart, a power cut, a restore; and how it stays small.
//! Cases of docs/hardening.md carry their names.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use carrack_api::{Key, Revision};
use carrack_store::contract::{content, delete, noise, put};
use carrack_store::{Change, CommitError, Event, Expect, Limits, Local, OpenError, Store, Write};

const MAPS: &str = "configmaps";

fn open(path: &Path) -> Local {
    Local::sqlite(path, Limits::default()).unwrap()
}

fn small(path: &Path, events: usize) -> Local {
    Local::sqlite(path, Limits { history_events: events, ..Limits::default() }).unwrap()
}

async fn unsynced(store: &Local, name: &str) -> Revision {
    let key = Key::new("events", "default", name);
    let write = Write { key, expect: Expect::Absent, content: Some(content(name, 1)), unsynced: true };
    store.commit(write).await.unwrap().revision
}

/// Creates, updates, deletes and creates again; returns the revisions.
async fn history(store: &Local) -> Vec<Revision> {
    let mut all = vec![put(store, "a", Expect::Absent, 1).await.unwrap().revision];
    all.push(put(store, "a", Expect::At(all[0]), 2).await.unwrap().revision);
    all.push(put(store, "b", Expect::Absent, 3).await.unwrap().revision);
    all.push(delete(store, "a", all[1]).await.unwrap().revision);
    all.push(put(store, "a", Expect::Absent, 4).await.unwrap().revision);
    all
}

/// Change, name, value, value before.
type Told = (Revision, Change, String, String, Option<String>);

fn told(events: &[Arc<Event>]) -> Vec<Told> {
    let value = |record: &carrack_api::Record| record.decode()["data"]["value"].as_str().unwrap().to_owned();
    let one = |e: &Arc<Event>| {
        let (name, before) = (e.record.key.name().to_owned(), e.previous.as_deref().map(value));
        (e.revision, e.change, name, value(&e.record), before)
    };
    events.iter().map(one).collect()
}

fn after(store: &Local, from: Revision) -> Option<Vec<Told>> {
    store.watch(MAPS, from).ok().map(|mut watch| told(&watch.try_next().unwrap()))
}

fn rows(path: &Path, what: &str) -> i64 {
    let db = rusqlite::Connection::open(path).unwrap();
    db.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn watch_resume_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    let store = open(&path);
    let start = store.revision();
    let all = history(&store).await;
    let before: Vec<_> = all.iter().map(|from| after(&store, *from)).collect();
    let from_start = after(&store, start).unwrap();
    assert_eq!(from_start.len(), all.len());
    drop(store);
    for _ in 0..2 {
        let store = open(&path);
        assert_eq!(after(&store, start), Some(from_start.clone()), "each event once, in order");
        let again: Vec<_> = all.iter().map(|from| after(&store, *from)).collect();
        assert_eq!(again, before);
        assert!(store.watch(MAPS, start - 1).is_err(), "older than the database");
    }
}

#[tokio::test]
async fn old_revisions_can_be_read_within_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    let store = small(&path, 4);
    let all = history(&store).await;
    drop(store);
    let store = small(&path, 4);
    let at = |revision| {
        let snapshot = store.snapshot_at(MAPS, revision).ok()?;
        assert_eq!(snapshot.revision, revision);
        let value = |record: &Arc<carrack_api::Record>| record.decode()["data"]["value"].to_string();
        Some(snapshot.iter().map(value).collect::<Vec<_>>().join(" "))
    };
    let seen: Vec<_> = all.iter().map(|revision| at(*revision)).collect();
    let expect = [Some("\"1\""), Some("\"2\""), Some("\"2\" \"3\""), Some("\"3\""), Some("\"4\" \"3\"")];
    assert_eq!(seen, expect.map(|text| text.map(str::to_owned)));
    assert_eq!(at(all[0] - 1), None, "what the window no longer holds is 410");
    assert!(store.snapshot_at("nothing", store.revision()).unwrap().is_empty());
}

#[tokio::test]
async fn compaction_keeps_the_window_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    let store = small(&path, 20);
    let mut at = Vec::new();
    for n in 0..2000i64 {
        let expect = at.last().map_or(Expect::Absent, |at| Expect::At(*at));
        at.push(put(&store, "a", expect, n).await.unwrap().revision);
    }
    let expired = store.watch(MAPS, at[1000]).err().expect("out of the window");
    assert_eq!(expired.oldest, at[1979]);
    drop(store);
    let left = rows(&path, "log");
    assert!((21..=21 + 64).contains(&left), "{left} rows of 2000 are left");

    let store = small(&path, 20);
    assert_eq!(store.watch(MAPS, at[1000]).err().map(|expired| expired.from), Some(at[1000]));
    let events = after(&store, at[1990]).unwrap();
    assert_eq!(events.iter().map(|event| event.0).collect::<Vec<_>>(), at[1991..]);
}

#[tokio::test]
async fn delete_at_compaction_is_told_or_expired() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    for restart in [false, true] {
        for window in [1, 2, 5] {
            let path = path.with_extension(format!("{restart}-{window}"));
            let mut store = small(&path, window);
            let created = put(&store, "a", Expect::Absent, 1).await.unwrap().revision;
            let gone = delete(&store, "a", created).await.unwrap().revision;
            for n in 0..100i64 {
                let name = format!("b{n}");
                let one = put(&store, &name, Expect::Absent, 1).await.unwrap().revision;
                delete(&store, &name, one).await.unwrap();
            }
            put(&store, "c", Expect::Absent, 1).await.unwrap();
            if restart {
                drop(store);
                store = small(&path, window);
            }
            assert!(after(&store, created).is_none_or(|events| events[0].0 == gone));
            assert!(after(&store, store.revision()).unwrap().is_empty());
            assert_eq!(store.snapshot(MAPS).len(), 1);
            drop(store);
            let left = rows(&path, "log");
            assert!(left < 100, "{left} rows, most of them of objects that are gone");
        }
    }
}

#[tokio::test]
async fn rv_monotonic_when_unsynced_writes_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    let store = open(&path);
    let kept = put(&store, "a", Expect::Absent, 1).await.unwrap().revision;
    // What the disk holds if power fails now: everything up to the last sync.
    for end in ["", "-wal"] {
        let copy = dir.path().join(format!("cut.db{end}"));
        std::fs::copy(dir.path().join(format!("carrack.db{end}")), copy).unwrap();
    }
    let lost = unsynced(&store, "e").await;
    let cut = open(&dir.path().join("cut.db"));
    let next = put(&cut, "b", Expect::Absent, 1).await.unwrap().revision;
    assert!(next > lost);
    assert_eq!(after(&cut, kept).map(|events| events.len()), Some(1), "nothing of this was lost");
    assert!(cut.watch("events", lost).is_err(), "who saw what was lost must list again");
    assert!(cut.snapshot_at("events", lost).is_err());
}

#[tokio::test]
async fn damage_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    let damage = |script: &str| {
        rusqlite::Connection::open(&path).unwrap().execute_batch(script).unwrap();
        match Local::sqlite(&path, Limits::default()) {
            Err(error @ OpenError::Damaged { .. }) => error.to_string(),
            other => panic!("{script}: {:?}", other.err()),
        }
    };
    let store = open(&path);
    history(&store).await;
    drop(store);
    std::fs::copy(&path, dir.path().join("good.db")).unwrap();
    for (script, what) in [
        ("UPDATE log SET value = zeroblob(20) WHERE revision = 2", "checksum of configmaps/default/a"),
        ("UPDATE log SET key = 'x/y/z' WHERE revision = 3", "checksum of x/y/z"),
        ("DELETE FROM log WHERE revision = 3", "revision 5 of configmaps/default/a does not follow"),
    ] {
        let error = damage(script);
        assert!(error.contains(what), "{error}");
        std::fs::copy(dir.path().join("good.db"), &path).unwrap();
    }
    open(&path);
}

#[tokio::test]
async fn a_replacement_expires_watches_and_goes_above_every_revision() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    let store = open(&path);
    let all = history(&store).await;
    let mut watch = store.watch(MAPS, all[1]).unwrap();
    let mut behind = store.watch(MAPS, all[4]).unwrap();
    let objects = vec![
        (Key::new(MAPS, "default", "x"), content("x", 7)),
        (Key::new("events", "default", "y"), content("y", 8)),
    ];
    let revision = store.replace(objects, 1000).await.unwrap();
    let check = |store: &Local| {
        let record = store.get(&Key::new(MAPS, "default", "x")).unwrap();
        assert!((1001..=revision).contains(&record.revision));
        assert_eq!(record.content, content("x", 7));
        assert_eq!((store.snapshot(MAPS).len(), store.snapshot("events").len()), (1, 1));
        assert!(store.watch(MAPS, all[4]).is_err() && store.watch("other", all[4]).is_err());
        assert_eq!(after(store, revision), Some(Vec::new()));
    };
    check(&store);
    assert!(watch.try_next().is_err() && behind.next().await.is_err(), "410, never silence");
    drop((watch, behind, store));
    let store = open(&path);
    check(&store);
    assert!(put(&store, "a", Expect::Absent, 1).await.unwrap().revision > revision);
}

#[tokio::test]
async fn takes_over_the_first_format() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TABLE records (id INTEGER PRIMARY KEY, key TEXT NOT NULL, revision INTEGER NOT NULL,
            managed_at INTEGER NOT NULL, rest_at INTEGER NOT NULL, header BLOB NOT NULL, body BLOB NOT NULL) STRICT;
         CREATE TABLE state (only INTEGER PRIMARY KEY CHECK (only = 0), revision INTEGER NOT NULL,
            reserved INTEGER NOT NULL) STRICT;
         INSERT INTO state VALUES (0, 9, 20);
         PRAGMA application_id=1129464651; PRAGMA user_version=1;",
    )
    .unwrap();
    let object = content("a", 5);
    let (body, managed_at, rest_at) = object.parts();
    let header = postcard::to_allocvec(&*object.header).unwrap();
    db.execute(
        "INSERT INTO records VALUES (3, 'configmaps/default/a', 8, ?1, ?2, ?3, ?4)",
        rusqlite::params![managed_at, rest_at, header, &body[..]],
    )
    .unwrap();
    drop(db);
    for _ in 0..2 {
        let store = open(&path);
        let record = store.get(&Key::new(MAPS, "default", "a")).unwrap();
        assert_eq!((record.revision, record.content.clone()), (8, object.clone()));
        assert!(store.revision() >= 20 && store.watch(MAPS, 8).is_err());
    }
}

#[tokio::test]
async fn a_write_that_the_disk_has_no_room_for_may_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    // A database that may not grow answers as a full disk does.
    let limits = Limits { database_pages: Some(40), ..Limits::default() };
    let store = Local::sqlite(&path, limits).unwrap();
    let pad = noise(50_000);
    let big = |name: &str| {
        let object = serde_json::json!({"metadata": {"name": name}, "data": {"pad": pad}});
        carrack_api::Content::encode(&object, &[""; 0]).unwrap()
    };
    let mut written = Vec::new();
    let refused = loop {
        let name = format!("n{}", written.len());
        let key = Key::new(MAPS, "default", &name);
        let write = Write { key, expect: Expect::Absent, content: Some(big(&name)), unsynced: false };
        match store.commit(write).await {
            Ok(done) => written.push(done),
            Err(error) => break error,
        }
        assert!(written.len() < 20, "the database ends somewhere");
    };
    assert!(matches!(refused, CommitError::Full), "{refused}");
    assert_eq!(store.snapshot(MAPS).len(), written.len(), "reads go on");
    let newest = written.last().unwrap().revision;
    let small = put(&store, "small", Expect::Absent, 1).await.expect("there is room for a small one");
    assert!(small.revision > newest);
    drop(store);
    assert_eq!(open(&path).snapshot(MAPS).len(), written.len() + 1);
}
