//! What the disk holds, and what a full one does: Secrets and tokens appear in no file but
//! those for keys, and writes resume by themselves once there is space.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use carrack_client::connect::{Credentials, connect};
use carrack_lab::machine::{run, until};
use carrack_lab::server::Server;
use carrack_lab::writes::{MAPS, credentials, next, send};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const MANY: usize = 1000;

/// Finds any of many texts.
struct Needles {
    texts: Vec<Vec<u8>>,
    /// Which texts begin with these three bytes.
    heads: std::collections::HashMap<[u8; 3], Vec<usize>>,
    /// Whether any does: most places end here.
    any: Vec<bool>,
}

impl Needles {
    /// Plain, hexadecimal and base64 forms, the last as they look within something longer.
    fn new(secrets: &[String]) -> Self {
        let mut texts: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            texts.push(secret.clone().into_bytes());
            texts.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
            for shift in 0..3 {
                let padded = [&b"\0\0"[..shift], secret.as_bytes()].concat();
                for form in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
                    // The first and last characters depend on the neighbours.
                    let form = &form.as_bytes()[(shift * 8).div_ceil(6)..form.len() - 1];
                    texts.push(form.to_vec());
                }
            }
        }
        texts.sort();
        texts.dedup();
        let (mut heads, mut any) = (std::collections::HashMap::<_, Vec<_>>::new(), vec![false; 1 << 24]);
        for (at, text) in texts.iter().enumerate() {
            let head = [text[0], text[1], text[2]];
            heads.entry(head).or_default().push(at);
            any[number(&head)] = true;
        }
        Self { texts, heads, any }
    }

    /// How many of them a file holds.
    fn found(&self, path: &Path) -> usize {
        let bytes = std::fs::read(path).unwrap_or_default();
        let begins = |at: usize| {
            let head = &bytes[at..at + 3];
            self.any[number(head)]
                && self
                    .heads
                    .get(head)
                    .is_some_and(|texts| texts.iter().any(|text| bytes[at..].starts_with(&self.texts[*text])))
        };
        (0..bytes.len().saturating_sub(2)).filter(|at| begins(*at)).count()
    }
}

fn number(head: &[u8]) -> usize {
    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
}

/// 32 letters and digits.
fn random(seed: &mut u64) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    (0..32).map(|_| LETTERS[(next(seed) >> 20) as usize % LETTERS.len()] as char).collect()
}

/// Writes Secrets, asks for tokens and uses them. Returns what must be found nowhere.
async fn use_secrets(server: &Server) -> Vec<String> {
    let client = server.client().unwrap();
    let kubeconfig = std::fs::read_to_string(server.log().with_file_name("data/kubeconfig")).unwrap();
    let (endpoint, _) = credentials(&kubeconfig).unwrap();
    assert_eq!(send(&client, "POST", ACCOUNTS, &json!({"metadata": {"name": "a"}})).await.unwrap().0, 201);
    let (mut seed, mut secrets) = (0x9e37_79b9_7f4a_7c15, Vec::new());
    for n in 0..MANY {
        let (secret, name) = (random(&mut seed), format!("s{n}"));
        let body = json!({
            "metadata": {"name": name, "annotations": {"last-applied": format!("{{\"password\":\"{secret}\"}}")}},
            "data": {"password": STANDARD.encode(&secret)},
        });
        assert_eq!(send(&client, "POST", SECRETS, &body).await.unwrap().0, 201);
        if n % 10 == 0 {
            let changed = random(&mut seed);
            let patch = json!({"stringData": {"password": changed}});
            assert_eq!(send(&client, "PATCH", &format!("{SECRETS}/{name}"), &patch).await.unwrap().0, 200);
            secrets.push(changed);
        }
        secrets.push(secret);
        let asked = json!({"spec": {"expirationSeconds": 3600}});
        let (code, token) = send(&client, "POST", &format!("{ACCOUNTS}/a/token"), &asked).await.unwrap();
        assert_eq!(code, 201, "{token}");
        let token = token["status"]["token"].as_str().unwrap().to_owned();
        if n % 50 == 0 {
            // Used over a connection of its own; that it may do nothing is as good a use.
            let bearer = token.clone();
            let own = Credentials::Token(std::sync::Arc::new(move || bearer.clone()));
            let client = connect(&endpoint, &own).unwrap();
            let code = send(&client, "GET", SECRETS, &Value::Null).await.map(|(code, _)| code);
            assert_eq!(code, Some(403));
        }
        // What cannot be guessed of a token is its signature.
        secrets.push(token.rsplit('.').next().unwrap().to_owned());
    }
    secrets
}

#[tokio::test]
async fn secrets_and_tokens_are_found_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::new(&data, &["--log", "trace"]).unwrap();
    server.start().unwrap();
    let needles = Needles::new(&use_secrets(&server).await);
    let backup = dir.path().join("backup");
    let said = run(server.carrack(&["backup", backup.to_str().unwrap()]).unwrap(), Duration::from_secs(60));
    println!("{}", said.unwrap());
    let all = |files: &[PathBuf]| {
        for file in files {
            let size = std::fs::metadata(file).map_or(0, |file| file.len());
            assert_eq!(needles.found(file), 0, "{} ({size} bytes)", file.display());
            println!("nothing in {size} bytes of {}", file.display());
        }
    };
    let files = [data.join("carrack.db"), data.join("carrack.db-wal"), backup, server.log()];
    all(&files);
    server.stop().unwrap();
    all(&files);

    let control = dir.path().join("control");
    std::fs::write(&control, format!("x{}y", STANDARD.encode(format!("ab{}", "z".repeat(32))))).unwrap();
    assert_eq!(Needles::new(&["z".repeat(32)]).found(&control), 1, "the search finds what is there");
}

/// A small file system of memory, in a mount namespace of this thread's own.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, size: &str) -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(&*format!("size={size}"))).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn writes_resume_once_a_full_disk_has_space() {
    let dir = tempfile::tempdir().unwrap();
    let _small = Small::mount(dir.path(), "64m");
    let mut server = Server::new(&dir.path().join("data"), &["--disable", "controllers,scheduler"]).unwrap();
    server.start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = server.client().unwrap();
        let pad = carrack_store::contract::noise(100_000);
        let map = |name: &str| json!({"metadata": {"name": name}, "data": {"pad": pad}});
        assert_eq!(send(&client, "POST", MAPS, &map("before")).await.unwrap().0, 201);
        let filler = dir.path().join("filler");
        let mut fill = std::fs::File::create(&filler).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut fill).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

        let mut written = vec!["before".to_owned()];
        let refused = loop {
            // A log that has been written before has room for a few more.
            let name = format!("during-{}", written.len());
            match send(&client, "POST", MAPS, &map(&name)).await.expect("answers") {
                (201, _) => written.push(name),
                refused => break refused,
            }
            assert!(written.len() < 1000, "the disk is full");
        };
        assert_eq!((refused.0, &refused.1["kind"]), (507, &json!("Status")), "{}", refused.1);
        assert!(refused.1["message"].as_str().unwrap().contains("is full"), "{}", refused.1);
        let (code, list) = send(&client, "GET", MAPS, &Value::Null).await.expect("reads go on");
        assert_eq!((code, list["items"].as_array().unwrap().len()), (200, written.len()));

        server.kill().unwrap();
        server.start().unwrap();
        let (_, list) = send(&client, "GET", MAPS, &Value::Null).await.expect("starts on a full disk");
        assert_eq!(list["items"].as_array().unwrap().len(), written.len());

        drop(fill);
        std::fs::remove_file(&filler).unwrap();
        let after = send(&client, "POST", MAPS, &map("after")).await.expect("answers");
        assert_eq!(after.0, 201, "the very next write: {}", after.1);
        written.push("after".to_owned());
        server.kill().unwrap();
        server.start().unwrap();
        let list = until(Duration::from_secs(10), || server.client()).unwrap();
        let (_, list) = send(&list, "GET", MAPS, &Value::Null).await.expect("answers");
        assert_eq!(list["items"].as_array().unwrap().len(), written.len());
    });
}
