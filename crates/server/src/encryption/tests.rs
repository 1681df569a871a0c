//! The envelope, rotation, and a store behind it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use carrack_api::{Content, Key};
use carrack_store::{Expect, Limits, Local, OpenError, Store, Transform, Write};
use serde_json::json;

use super::{Encryption, KEY_FILE};

fn secret(name: &str) -> Key {
    Key::new("secrets", "default", name)
}

async fn write(store: &Local, key: Key, text: &str) {
    let object = json!({
        "metadata": {"name": key.name(), "annotations": {"applied": text}, "labels": {"label": "shown"},
            "managedFields": [{"manager": text}]},
        "type": text, "data": {"password": text},
    });
    // A Secret's type can be selected by, so it is in the header.
    let content = Content::encode(&object, &["type"]);
    store.commit(Write { key, expect: Expect::Absent, content, unsynced: false }).await.unwrap();
}

fn open(dir: &Path) -> (Arc<Encryption>, Result<Local, OpenError>) {
    let keys = Arc::new(Encryption::open_or_create(&dir.join(KEY_FILE)).unwrap());
    let store = Local::sqlite_with(&dir.join("carrack.db"), Limits::default(), keys.clone());
    (keys, store)
}

fn on_disk(dir: &Path, text: &str) -> bool {
    let files =
        ["carrack.db", "carrack.db-wal"].map(|file| std::fs::read(dir.join(file)).unwrap_or_default());
    files.iter().any(|file| file.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn only_the_right_key_in_the_right_place_opens() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Encryption::open_or_create(&dir.path().join(KEY_FILE)).unwrap();
    let mode = std::fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let sealed = keys.seal(&secret("a"), b"plain").unwrap().expect("secrets are sealed");
    assert!(sealed.starts_with(b"k8s:enc:aesgcm:v1:key1:"));
    assert_ne!(keys.seal(&secret("a"), b"plain").unwrap().as_ref(), Some(&sealed), "a nonce of its own");
    assert_eq!(keys.open(&secret("a"), &sealed).unwrap(), b"plain");
    assert!(keys.open(&secret("b"), &sealed).is_err(), "a value cannot be moved");
    assert!(keys.fits(&secret("a"), &sealed) && !keys.fits(&secret("a"), b"\x01plain"));
    assert_eq!(keys.seal(&Key::new("configmaps", "default", "a"), b"plain").unwrap(), None);
    for cut in [0, 10, 23, 30, sealed.len() - 1] {
        assert!(keys.open(&secret("a"), &sealed[..cut]).is_err(), "cut at {cut}");
    }
    let stranger = Encryption::open_or_create(&dir.path().join("other.yaml")).unwrap();
    assert!(stranger.open(&secret("a"), &sealed).unwrap_err().contains("not the one"));
    assert_eq!(keys.rotate().unwrap(), "key2");
    assert!(!keys.fits(&secret("a"), &sealed) && keys.open(&secret("a"), &sealed).is_ok());
    assert_eq!(keys.retire().unwrap(), ["key1"]);
    assert!(
        keys.open(&secret("a"), &sealed)
            .unwrap_err()
            .contains("encrypted with key \"key1\", which is not in")
    );
    assert_eq!(format!("{:?}", keys.describe()[0].encrypts), "Some(\"key2\")");
}

#[tokio::test]
async fn secrets_reach_the_disk_as_ciphertext_only() {
    let dir = tempfile::tempdir().unwrap();
    let (_, store) = open(dir.path());
    let store = store.unwrap();
    write(&store, secret("a"), "hunter2-hunter2").await;
    write(&store, Key::new("configmaps", "default", "b"), "in-clear").await;
    assert!(on_disk(dir.path(), "in-clear") && on_disk(dir.path(), "secrets/default/a"));
    assert!(!on_disk(dir.path(), "hunter2"));
    drop(store);
    assert!(!on_disk(dir.path(), "hunter2"));
    let (_, store) = open(dir.path());
    let record = store.unwrap().get(&secret("a")).unwrap();
    assert_eq!(record.decode()["data"]["password"], "hunter2-hunter2");
    assert_eq!(
        (record.header().label("label"), &*record.header().fields[0]),
        (Some("shown"), "hunter2-hunter2")
    );

    std::fs::rename(dir.path().join(KEY_FILE), dir.path().join("aside")).unwrap();
    let (_, store) = open(dir.path());
    let error = store.err().expect("cannot be read without the key").to_string();
    assert!(error.contains("1 records cannot be read, the first of them secrets/default/a"), "{error}");
}

#[tokio::test]
async fn rotation_rewrites_what_is_stored_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let plain = Local::sqlite(&dir.path().join("carrack.db"), Limits::default()).unwrap();
    for n in 0..300 {
        write(&plain, secret(&format!("s{n}")), &format!("hunter2-{n}")).await;
    }
    drop(plain);
    assert!(on_disk(dir.path(), "hunter2"));

    let (keys, store) = open(dir.path());
    let store = store.unwrap();
    store.rewrite().await.unwrap();
    assert!(!on_disk(dir.path(), "hunter2"), "what was stored in clear is gone, also from free pages");
    assert_eq!(keys.rotate().unwrap(), "key2");
    write(&store, secret("new"), "hunter2-new").await;
    store.rewrite().await.unwrap();
    assert_eq!(keys.retire().unwrap(), ["key1"]);
    let newest = store.revision();
    drop(store);
    let (_, store) = open(dir.path());
    let store = store.unwrap();
    assert_eq!((store.snapshot("secrets").len(), store.revision()), (301, newest));
    let record = store.get(&secret("s299")).unwrap();
    assert_eq!(record.decode()["data"]["password"], "hunter2-299");
    assert_eq!(store.watch("secrets", 1).unwrap().try_next().unwrap()[0].record.key, secret("s0"));
}
