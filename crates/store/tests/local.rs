//! The contract over the local backends, and what only SQLite promises. What survives a
//! restart, and how the database stays small, is in `durability.rs`.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use carrack_api::Key;
use carrack_store::contract::{content, delete, put};
use carrack_store::{Expect, Limits, Local, OpenError, Store, Write, contract};

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract::run(|| async { Arc::new(Local::memory(Limits::default())) as Arc<dyn Store> }).await;
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let mut number = 0;
    contract::run(|| {
        number += 1;
        let path = dir.path().join(format!("{number}.db"));
        async move { Arc::new(Local::sqlite(&path, Limits::default()).unwrap()) as Arc<dyn Store> }
    })
    .await;
}

#[tokio::test]
async fn sqlite_remembers_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    let store = Local::sqlite(&path, Limits::default()).unwrap();
    let a = put(&store, "a", Expect::Absent, 1).await.unwrap().revision;
    let a = put(&store, "a", Expect::At(a), 2).await.unwrap().revision;
    let b = put(&store, "b", Expect::Absent, 1).await.unwrap().revision;
    let last = delete(&store, "b", b).await.unwrap().revision;
    assert!(matches!(Local::sqlite(&path, Limits::default()), Err(OpenError::InUse(_))));
    for file in ["carrack.db", "carrack.db-wal"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file} is its owner's only");
    }
    drop(store);

    let store = Local::sqlite(&path, Limits::default()).unwrap();
    assert!(store.revision() >= last, "revisions never go back");
    let record = store.get(&Key::new("configmaps", "default", "a")).unwrap();
    assert_eq!((record.revision, record.content.clone()), (a, content("a", 2)));
    assert!(store.get(&Key::new("configmaps", "default", "b")).is_none());
    assert!(put(&store, "a", Expect::At(a), 3).await.unwrap().revision > last);
}

#[tokio::test]
async fn a_lost_unsynced_write_does_not_give_its_revision_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("carrack.db");
    let store = Local::sqlite(&path, Limits::default()).unwrap();
    put(&store, "a", Expect::Absent, 1).await.unwrap();
    // What the disk holds if power fails now: everything up to the last sync.
    std::fs::copy(&path, dir.path().join("cut.db")).unwrap();
    std::fs::copy(dir.path().join("carrack.db-wal"), dir.path().join("cut.db-wal")).unwrap();
    let key = Key::new("events", "default", "e");
    let write = Write { key, expect: Expect::Absent, content: Some(content("e", 1)), unsynced: true };
    let lost = store.commit(write).await.unwrap().revision;
    let cut = Local::sqlite(&dir.path().join("cut.db"), Limits::default()).unwrap();
    assert!(put(&cut, "b", Expect::Absent, 1).await.unwrap().revision > lost);
}

#[test]
fn refuses_what_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, script: &str| {
        let path = dir.path().join(name);
        rusqlite::Connection::open(&path).unwrap().execute_batch(script).unwrap();
        Local::sqlite(&path, Limits::default()).err().expect("refused").to_string()
    };
    assert!(refused("foreign", "CREATE TABLE t (x)").contains("database of another program"));
    let newer = "CREATE TABLE t (x); PRAGMA application_id=1129464651; PRAGMA user_version=9";
    assert!(refused("newer", newer).contains("format 9, this binary knows up to 3"));
    std::fs::write(dir.path().join("text"), "not a database, but long enough to be read as one".repeat(20))
        .unwrap();
    let error = Local::sqlite(&dir.path().join("text"), Limits::default()).err().expect("refused");
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told() {
    let limits = Limits { history_events: 3, ..Limits::default() };
    let store = Local::memory(limits);
    let mut watch = store.watch("configmaps", store.revision()).unwrap();
    let mut at = put(&store, "a", Expect::Absent, 0).await.unwrap().revision;
    for n in 1..5 {
        at = put(&store, "a", Expect::At(at), n).await.unwrap().revision;
    }
    let expired = watch.next().await.unwrap_err();
    assert!(expired.oldest > expired.from);
    assert!(store.watch("configmaps", expired.oldest).is_ok());
}
