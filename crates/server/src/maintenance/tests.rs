//! Backup and restore with and without keys, over a store that goes on.

use std::path::Path;
use std::sync::Arc;

use carrack_api::{Content, Key};
use carrack_store::{Expect, Limits, Local, Store, Write};
use serde_json::json;

use super::*;

struct Place {
    dir: tempfile::TempDir,
    store: Arc<Local>,
    keeper: Keeper,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let encryption = Arc::new(Encryption::open_or_create(&dir.path().join(KEY_FILE)).unwrap());
    let path = dir.path().join("carrack.db");
    let store = Arc::new(Local::sqlite_with(&path, Limits::default(), encryption.clone()).unwrap());
    let keeper = Keeper::new(store.clone(), encryption, dir.path());
    Place { dir, store, keeper }
}

async fn write(store: &Local, resource: &str, name: &str) {
    let key = Key::new(resource, "default", name);
    let content = Content::encode(&json!({"metadata": {"name": name}, "data": {"x": "hunter2"}}), &[""; 0]);
    store.commit(Write { key, expect: Expect::Absent, content, unsynced: false }).await.unwrap();
}

fn backup(keeper: &Keeper, with_keys: bool) -> Vec<u8> {
    keeper.backup(with_keys).unwrap().flat_map(|piece| piece.unwrap()).collect()
}

async fn restore(keeper: &Keeper, bytes: &[u8], without_sealed: bool) -> Result<Restored, RestoreError> {
    let mut restore = keeper.restore(RestoreOptions { without_sealed });
    bytes.chunks(100).try_for_each(|piece| restore.push(piece))?;
    restore.finish().await
}

fn names(store: &Local) -> Vec<String> {
    let all = ["configmaps", "secrets"].map(|resource| store.snapshot(resource));
    all.iter().flat_map(|snapshot| snapshot.iter()).map(|record| record.key.to_string()).collect()
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn a_running_store_goes_back_and_revisions_go_on() {
    let place = place();
    write(&place.store, "configmaps", "a").await;
    write(&place.store, "secrets", "s").await;
    let kept = names(&place.store);
    let bytes = backup(&place.keeper, false);
    let secret = std::fs::read_to_string(place.dir.path().join(KEY_FILE)).unwrap();
    let secret = secret.split("\"secret\": \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(!holds(&bytes, b"secret\":") && !holds(&bytes, secret.as_bytes()), "the keys stay");
    assert!(holds(&backup(&place.keeper, true), secret.as_bytes()));
    write(&place.store, "configmaps", "later").await;
    let before = place.store.revision();
    let mut watch = place.store.watch("configmaps", before).unwrap();

    let done = restore(&place.keeper, &bytes, false).await.unwrap();
    assert_eq!((done.objects, done.left_out), (2, 0));
    assert_eq!(names(&place.store), kept);
    let revisions = place.store.snapshot("secrets").iter().map(|r| r.revision).min().unwrap();
    assert!(revisions > before && done.revision < before + 100);
    assert!(watch.try_next().is_err());

    assert!(restore(&place.keeper, &bytes[..bytes.len() - 3], false).await.is_err());
    assert_eq!(names(&place.store), kept, "what is not whole changes nothing");
}

#[tokio::test]
async fn another_place_needs_the_keys() {
    let old = place();
    write(&old.store, "configmaps", "a").await;
    write(&old.store, "secrets", "s").await;
    let (without, with) = (backup(&old.keeper, false), backup(&old.keeper, true));
    let kept = names(&old.store);

    let new = place();
    let error = restore(&new.keeper, &without, false).await.unwrap_err().to_string();
    for part in ["1 records of the backup cannot be read", "secrets/default/s", KEY_FILE, "--without-sealed"]
    {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(names(&new.store), [""; 0]);
    let done = restore(&new.keeper, &without, true).await.unwrap();
    assert_eq!((done.objects, done.left_out), (1, 1));
    assert!(done.revision > old.store.revision() + 100_000, "nobody knows how far the old one came");

    let new = place();
    restore(&new.keeper, &with, false).await.unwrap();
    assert_eq!(names(&new.store), kept);
    drop(new.keeper);
    drop(new.store);
    assert!(!on_disk_under(new.dir.path(), b"hunter2-only-in-secrets"));
    let encryption = Arc::new(Encryption::open_or_create(&new.dir.path().join(KEY_FILE)).unwrap());
    let store =
        Local::sqlite_with(&new.dir.path().join("carrack.db"), Limits::default(), encryption).unwrap();
    assert_eq!(names(&store), kept, "stored under the new place's own key");
}

fn on_disk_under(dir: &Path, text: &[u8]) -> bool {
    std::fs::read_dir(dir)
        .unwrap()
        .any(|file| holds(&std::fs::read(file.unwrap().path()).unwrap_or_default(), text))
}

#[tokio::test]
async fn keys_are_rotated_and_retired_while_the_store_is_in_use() {
    let place = place();
    write(&place.store, "secrets", "s").await;
    assert_eq!(place.keeper.rotate().await.unwrap(), "key2");
    assert_eq!(place.keeper.describe()[0].reads, ["key1"]);
    assert_eq!(place.keeper.retire().await.unwrap(), ["key1"]);
    assert_eq!(place.keeper.describe()[0].encrypts.as_deref(), Some("key2"));
    let path = place.dir.path().join(KEY_FILE);
    let text = std::fs::read_to_string(&path).unwrap().replace("\"secrets\"", "\"secrets\", \"configmaps\"");
    std::fs::write(&path, text).unwrap();
    write(&place.store, "configmaps", "a").await;
    assert!(on_disk_under(place.dir.path(), b"hunter2"));
    place.keeper.reload().await.unwrap();
    assert!(!on_disk_under(place.dir.path(), b"hunter2"), "what is now to be encrypted is");
}
