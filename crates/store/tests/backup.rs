//! Backups read back, and what is wrong with one is said.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use carrack_api::{Content, Key};
use carrack_store::backup::{About, BackupError, Entry, Reader};
use carrack_store::contract::put;
use carrack_store::{Expect, Limits, Local, Store, Untransformed};

async fn store() -> Local {
    let store = Local::memory(Limits::default());
    for n in 0..300 {
        put(&store, &format!("n{n:03}"), Expect::Absent, n).await.unwrap();
    }
    store
}

fn about(revision: u64) -> About {
    About { revision, time: "2026-01-01T00:00:00Z".into(), version: "0.1.0".into() }
}

fn bytes(store: &Local) -> Vec<u8> {
    let backup = store.backup();
    let files = [("keys.yaml".to_owned(), b"secret".to_vec())];
    let about = about(backup.revision);
    backup.stream(&about, &files, Arc::new(Untransformed)).flat_map(|piece| piece.unwrap()).collect()
}

/// The headings of a backup, its records, and how reading it ended.
type Read = (Vec<String>, Vec<(Key, Content)>, Result<u64, BackupError>);

fn read(bytes: &[u8], piece: usize) -> Read {
    let (mut reader, mut files, mut records) = (Reader::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(Entry::About(about))) => assert_eq!(about.version, "0.1.0"),
                Ok(Some(Entry::File(name, _))) => files.push(name),
                Ok(Some(Entry::Record(stored))) => {
                    records.push((stored.key.clone(), stored.open(&[&Untransformed]).unwrap()));
                }
                Ok(None) => break,
                Err(error) => return (files, records, Err(error)),
            }
        }
    }
    (files, records, reader.finish())
}

#[tokio::test]
async fn reads_back_whatever_the_pieces() {
    let store = store().await;
    let bytes = bytes(&store);
    let expect: Vec<_> =
        store.snapshot("configmaps").iter().map(|r| (r.key.clone(), r.content.clone())).collect();
    for piece in [1 << 20, 1000, 7] {
        let (files, records, end) = read(&bytes, piece);
        assert_eq!((files, end), (vec!["keys.yaml".to_owned()], Ok(300)));
        assert_eq!(records, expect);
    }
}

#[tokio::test]
async fn says_what_is_wrong_with_it() {
    let bytes = bytes(&store().await);
    let check = |bytes: &[u8], expect: &str| {
        let error = read(bytes, 4096).2.unwrap_err().to_string();
        assert!(error.contains(expect), "{error} instead of {expect}");
    };
    check(b"", "not a backup");
    check(b"PK\x03\x04", "not a backup");
    check(b"carrack backup 3\n", "newer format");
    check(&bytes[..bytes.len() - 1], "ends early, after 300 records");
    check(&bytes[..bytes.len() / 2], "ends early, after 1");
    let first = [b"carrack backup 1\n", &bytes[17..]].concat();
    assert_eq!(read(&first, 4096).2, Ok(300), "backups of the first format are read too");
    let mut broken = bytes.clone();
    broken[bytes.len() / 2] ^= 1;
    check(&broken, "damaged after");
    check(&[&*bytes, b"x"].concat(), "something follows its end");
}
