//! The store's contract over a real etcd: proof that the trait promises no more than
//! it can keep. The adapter here is for this test; the backend itself comes later.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use carrack_api::{Content, Header, Key, Record, Revision};
use carrack_lab::{machine::until, paths};
use carrack_store::{
    CommitError, Committed, Expect, Expired, Field, Limits, Mirror, Snapshot, Store, Watch, Write, contract,
};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

/// etcd's API in JSON, as its own gateway serves it.
#[derive(Clone, Copy)]
struct Gateway(SocketAddr);

impl Gateway {
    async fn open(self, path: &str, body: Value) -> Result<Incoming> {
        let stream = tokio::net::TcpStream::connect(self.0).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = hyper::Request::post(path)
            .header("host", "etcd")
            .body(Full::new(Bytes::from(body.to_string())))?;
        Ok(sender.send_request(request).await?.into_body())
    }

    async fn call(self, path: &str, body: Value) -> Result<Value> {
        let body = self.open(path, body).await?.collect().await?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    }
}

/// A store over one prefix of an etcd.
struct Etcd {
    gateway: Gateway,
    prefix: String,
    mirror: Arc<Mirror>,
    feed: tokio::task::JoinHandle<Result<()>>,
}

impl Etcd {
    async fn open(gateway: Gateway, prefix: &str) -> Result<Self> {
        let (from, to) = (BASE64.encode(prefix), BASE64.encode(after(prefix)));
        let all = gateway.call("/v3/kv/range", json!({"key": from, "range_end": to})).await?;
        let start = revision(&all["header"]["revision"]);
        let kvs = all["kvs"].as_array().into_iter().flatten();
        let records = kvs.filter_map(|kv| decode(prefix, kv)).collect();
        let mirror = Arc::new(Mirror::new(records, start, Limits::default()));
        let watch = json!({"create_request": {"key": from, "range_end": to, "start_revision": start + 1}});
        let mut changes = gateway.open("/v3/watch", watch).await?;
        let (fed, under) = (mirror.clone(), prefix.to_owned());
        let feed = tokio::spawn(async move {
            let mut buffer = Vec::new();
            while let Some(frame) = changes.frame().await {
                buffer.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = buffer.drain(..=end).collect();
                    follow(&fed, &under, &serde_json::from_slice(&line)?);
                }
            }
            Ok(())
        });
        Ok(Self { gateway, prefix: prefix.to_owned(), mirror, feed })
    }

    async fn write(&self, write: Write) -> Result<Committed, CommitError> {
        let path = BASE64.encode(format!("{}{}", self.prefix, write.key));
        let expected = match write.expect {
            Expect::Absent => json!({"key": path, "target": "CREATE", "create_revision": "0"}),
            Expect::At(at) => json!({"key": path, "target": "MOD", "mod_revision": at.to_string()}),
        };
        let operation = match &write.content {
            Some(content) => json!({"request_put": {"key": path, "value": BASE64.encode(encode(content))}}),
            None => json!({"request_delete_range": {"key": path}}),
        };
        let before = self.mirror.get(&write.key);
        let found = json!({"request_range": {"key": path}});
        let txn = json!({"compare": [expected], "success": [operation], "failure": [found]});
        let done = self.gateway.call("/v3/kv/txn", txn).await.map_err(unavailable)?;
        if done["succeeded"] != true {
            let there = &done["responses"][0]["response_range"]["kvs"][0];
            return Err(CommitError::Conflict(decode(&self.prefix, there).map(Arc::new)));
        }
        let revision = revision(&done["header"]["revision"]);
        self.mirror.reached(revision).await;
        let record = match write.content {
            Some(content) => Arc::new(Record { key: write.key, revision, content }),
            None => before.expect("what was deleted had been there"),
        };
        Ok(Committed { revision, record })
    }

    /// A linearizable read tells which write of ours was the last; the head has to
    /// have seen that one.
    async fn barrier(&self) -> Result<Revision, CommitError> {
        let (from, to) = (BASE64.encode(&self.prefix), BASE64.encode(after(&self.prefix)));
        let newest = json!({"key": from, "range_end": to, "limit": "1", "keys_only": true,
            "sort_target": "MOD", "sort_order": "DESCEND"});
        let newest = self.gateway.call("/v3/kv/range", newest).await.map_err(unavailable)?;
        self.mirror.reached(revision(&newest["kvs"][0]["mod_revision"])).await;
        Ok(self.mirror.revision())
    }
}

/// One message of the watch.
fn follow(mirror: &Mirror, prefix: &str, message: &Value) {
    let message = &message["result"];
    for event in message["events"].as_array().into_iter().flatten() {
        let kv = &event["kv"];
        if event["type"] == "DELETE" {
            mirror.delete(&key(prefix, kv), revision(&kv["mod_revision"]));
        } else {
            mirror.put(decode(prefix, kv).expect("only we write here"));
        }
    }
    mirror.advance(revision(&message["header"]["revision"]));
}

fn unavailable(error: anyhow::Error) -> CommitError {
    CommitError::Unavailable(format!("{error:#}").into())
}

/// The gateway writes 64-bit numbers as text.
fn revision(value: &Value) -> Revision {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The end of the range of keys that start with a prefix.
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix is not empty") += 1;
    end
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

impl Store for Etcd {
    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.write(write))
    }

    fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.mirror.get(key)
    }

    fn snapshot(&self, resource: &str) -> Snapshot {
        self.mirror.snapshot(resource)
    }

    fn snapshot_at(&self, resource: &str, revision: Revision) -> Result<Snapshot, Expired> {
        self.mirror.snapshot_at(resource, revision)
    }

    fn watch(&self, resource: &str, from: Revision) -> Result<Watch, Expired> {
        self.mirror.watch(resource, from)
    }

    fn watch_field(&self, resource: &str, from: Revision, field: Field) -> Result<Watch, Expired> {
        self.mirror.watch_field(resource, from, field)
    }

    fn revision(&self) -> Revision {
        self.mirror.revision()
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<Revision, CommitError>> {
        Box::pin(self.barrier())
    }
}

fn key(prefix: &str, kv: &Value) -> Key {
    let path = BASE64.decode(kv["key"].as_str().expect("an event is about a key")).expect("base64");
    let path = String::from_utf8(path).expect("keys are text");
    Key::parse(path.strip_prefix(prefix).expect("below the prefix")).expect("only we write here")
}

/// Header, offsets and body as JSON and bytes: plain, since only this test reads it.
fn encode(content: &Content) -> Vec<u8> {
    let (body, managed_at, rest_at) = content.parts();
    let head = json!({"header": &*content.header, "managedAt": managed_at, "restAt": rest_at});
    [head.to_string().as_bytes(), b"\n", body].concat()
}

fn decode(prefix: &str, kv: &Value) -> Option<Record> {
    let value = BASE64.decode(kv["value"].as_str()?).ok()?;
    let at = value.iter().position(|byte| *byte == b'\n')?;
    let mut head: Value = serde_json::from_slice(&value[..at]).ok()?;
    let header: Header = serde_json::from_value(head["header"].take()).ok()?;
    let offset = |field: &str| head[field].as_u64().map(|n| n as u32);
    let body = value[at + 1..].to_vec().into();
    let content = Content::from_parts(header, body, offset("managedAt")?, offset("restAt")?)?;
    Some(Record { key: key(prefix, kv), revision: revision(&kv["mod_revision"]), content })
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(dir: &Path) -> Result<(Server, SocketAddr)> {
    let free = || -> Result<SocketAddr> { Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?) };
    let (client, peer) = (free()?, free()?);
    let flags = [
        format!("--data-dir={}", dir.display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=default=http://{peer}"),
        "--log-level=error".into(),
    ];
    let mut command = Command::new(paths::upstream("etcd")?);
    let child = command.args(flags).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("etcd")?;
    let server = Server(child);
    until(Duration::from_secs(30), || Ok(std::net::TcpStream::connect(client)?))?;
    Ok((server, client))
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, address) = serve(dir.path()).unwrap();
    let number = AtomicUsize::new(0);
    let checks = contract::run(|| {
        let prefix = format!("/carrack-{}/", number.fetch_add(1, Ordering::Relaxed));
        async move { Arc::new(Etcd::open(Gateway(address), &prefix).await.unwrap()) as Arc<dyn Store> }
    });
    tokio::time::timeout(Duration::from_secs(60), checks).await.expect("the contract takes seconds");
}
