//! `kill -9` of an API server at random moments of a load of writes: no acknowledged write
//! is lost, revisions only rise, watches go on or get 410, and no address or port is held
//! twice. `KILLS=n` kills so often (20), `SEED=n` repeats a run; `make test-crash` kills
//! 200 times.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrack_lab::machine::run;
use carrack_lab::server::Server;
use carrack_lab::writes::{Acknowledged, MAPS, next, revision, send, writer};
use http_body_util::BodyExt;
use serde_json::{Value, json};

const WRITERS: usize = 4;
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// What a watch that is taken up again and again has made of its events.
#[derive(Default)]
struct Followed {
    objects: BTreeMap<String, u64>,
    at: u64,
    events: usize,
    lists: usize,
    wrong: Vec<String>,
}

impl Followed {
    fn list(&mut self, list: &Value) {
        let entry = |item: &Value| (item["metadata"]["name"].as_str().unwrap().to_owned(), revision(item));
        self.objects = list["items"].as_array().unwrap().iter().map(entry).collect();
        self.at = revision(list);
        self.lists += 1;
    }

    /// Takes an event in; false when the watch has expired.
    fn event(&mut self, event: &Value) -> bool {
        let (kind, object) = (event["type"].as_str().unwrap_or_default(), &event["object"]);
        if kind == "ERROR" {
            if object["code"] != 410 {
                self.wrong.push(format!("an error that is not 410: {object}"));
            }
            self.at = 0;
            return false;
        }
        let at = revision(object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if at <= self.at && kind != "BOOKMARK" {
            self.wrong.push(format!("{kind} {name} at {at} after {}", self.at));
        }
        self.at = self.at.max(at);
        let fits = match kind {
            "ADDED" => self.objects.insert(name.clone(), at).is_none(),
            "MODIFIED" => self.objects.insert(name.clone(), at).is_some(),
            "DELETED" => self.objects.remove(&name).is_some(),
            "BOOKMARK" => true,
            _ => false,
        };
        if !fits {
            self.wrong.push(format!("{kind} {name} at {at} does not fit what was there"));
        }
        self.events += 1;
        true
    }
}

/// Watches ConfigMaps, taking the watch up where it broke off.
async fn follow(client: kube::Client, followed: Arc<Mutex<Followed>>) {
    loop {
        let at = followed.lock().unwrap().at;
        if at == 0 {
            match send(&client, "GET", MAPS, &Value::Null).await {
                Some((200, list)) => followed.lock().unwrap().list(&list),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            continue;
        }
        let path = format!("{MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={at}");
        let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
        let Ok(answer) = client.send(request).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (mut body, mut open) = (answer.into_body(), Vec::new());
        'watch: while let Some(Ok(frame)) = body.frame().await {
            open.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = open.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = open.drain(..=end).collect();
                if !followed.lock().unwrap().event(&serde_json::from_slice(&line).unwrap()) {
                    break 'watch;
                }
            }
        }
    }
}

/// Creates Services with node ports and deletes every other one, until told to stop.
/// Returns those that are acknowledged and not deleted, with addresses and ports.
async fn allocate(client: kube::Client, stop: Arc<AtomicBool>) -> BTreeMap<String, (String, u64)> {
    let mut kept = BTreeMap::new();
    for n in 0u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("service-{n}");
        let body = json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        match send(&client, "POST", SERVICES, &body).await {
            Some((201, made)) if n % 2 == 0 => {
                let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
                kept.insert(name, (made["spec"]["clusterIP"].as_str().unwrap().to_owned(), port));
            }
            // Whether this succeeds does not matter: it makes room, and races with kills.
            Some((201, _)) => {
                drop(send(&client, "DELETE", &format!("{SERVICES}/{name}"), &Value::Null).await);
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    kept
}

/// Nothing held twice, and what was acknowledged still held.
fn verify_services(list: &Value, kept: &BTreeMap<String, (String, u64)>) {
    let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
    let mut found = BTreeMap::new();
    for item in list["items"].as_array().unwrap() {
        let name = item["metadata"]["name"].as_str().unwrap();
        let address = item["spec"]["clusterIP"].as_str().unwrap().to_owned();
        assert!(addresses.insert(address.clone()), "{address} of {name} is held twice");
        if let Some(port) = item["spec"]["ports"][0]["nodePort"].as_u64() {
            assert!(ports.insert(port), "port {port} of {name} is held twice");
            found.insert(name.to_owned(), (address, port));
        }
    }
    for (name, held) in kept {
        assert_eq!(found.get(name), Some(held), "{name}");
    }
    println!("{} Services kept of {}, each with an address and a port of its own", kept.len(), found.len());
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_ack_and_watch_resume_over_kills() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (kills, mut seed) = (number("KILLS").unwrap_or(20), number("SEED").unwrap_or_else(|| clock() | 1));
    println!("SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::new(&dir.path().join("data"), &["--disable", "controllers,scheduler"]).unwrap();
    server.start().unwrap();
    let client = server.client().unwrap();
    for number in 0..WRITERS {
        let body = json!({"metadata": {"name": format!("own-{number}")}, "data": {"n": "0"}});
        assert_eq!(send(&client, "POST", MAPS, &body).await.map(|(code, _)| code), Some(201));
    }
    let (noted, stop) = (Arc::new(Acknowledged::default()), Arc::new(AtomicBool::new(false)));
    let followed = Arc::new(Mutex::new(Followed::default()));
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(writer(n, server.client().unwrap(), noted.clone(), stop.clone())))
        .collect();
    let services = tokio::spawn(allocate(server.client().unwrap(), stop.clone()));
    let follower = tokio::spawn(follow(server.client().unwrap(), followed.clone()));

    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(next(&mut seed) % 400)).await;
        server.kill().unwrap();
        slowest = slowest.max(server.start().unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let kept = services.await.unwrap();

    let (_, list) = send(&client, "GET", MAPS, &Value::Null).await.expect("answers");
    println!("{kills} kills, the slowest start took {slowest:?}; {}", noted.verify(&list, 20).unwrap());
    let (_, all) = send(&client, "GET", SERVICES, &Value::Null).await.expect("answers");
    verify_services(&all, &kept);
    let mut expect = Followed::default();
    expect.list(&list);
    for _ in 0..500 {
        if followed.lock().unwrap().objects == expect.objects {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    follower.abort();
    let followed = followed.lock().unwrap();
    assert_eq!(followed.wrong, [""; 0], "each event once and in order");
    assert!(followed.objects == expect.objects, "the watch made something else of its events");
    assert!(followed.events > 20, "{} events", followed.events);
    println!("{} events over {} lists", followed.events, followed.lists);
    server.stop().unwrap();
    let said = run(server.carrack(&["check"]).unwrap(), Duration::from_secs(60)).unwrap();
    assert!(said.contains("everything is well"), "{said}");
}
