//! `kill -9` of an API server at random moments of a load of writes: no acknowledged write
//! is lost, revisions only rise, watches go on or get 410, and no address or port is held
//! twice. `KILLS=n` kills so often (20), `SEED=n` repeats a run; `make test-crash` kills
//! 200 times.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrack_lab::follow::Followed;
use carrack_lab::machine::run;
use carrack_lab::server::Server;
use carrack_lab::services::{Allocated, SERVICES};
use carrack_lab::writes::{Acknowledged, MAPS, beat, next, prepare, send, writer};
use serde_json::Value;

const WRITERS: usize = 4;

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
        prepare(number, &client).await.unwrap();
    }
    let (noted, stop) = (Arc::new(Acknowledged::default()), Arc::new(AtomicBool::new(false)));
    let (followed, allocated) = (Arc::new(Followed::default()), Arc::new(Allocated::default()));
    let mut load: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(writer(n, server.client().unwrap(), noted.clone(), stop.clone())))
        .collect();
    load.push(tokio::spawn(allocated.clone().allocate(server.client().unwrap(), stop.clone())));
    load.push(tokio::spawn(beat(server.client().unwrap(), noted.clone(), stop.clone())));
    let follower = tokio::spawn(followed.clone().follow(server.client().unwrap()));

    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(next(&mut seed) % 400)).await;
        server.kill().unwrap();
        slowest = slowest.max(server.start().unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::SeqCst);
    for part in load {
        part.await.unwrap();
    }

    let (_, list) = send(&client, "GET", MAPS, &Value::Null).await.expect("answers");
    println!("{kills} kills, the slowest start took {slowest:?}; {}", noted.verify(&list, 20).unwrap());
    let (_, all) = send(&client, "GET", SERVICES, &Value::Null).await.expect("answers");
    println!("{}", allocated.verify(&all).unwrap());
    let (events, lists) = followed.verify(&list, Duration::from_secs(10)).await.unwrap();
    follower.abort();
    assert!(events > 20, "{events} events");
    println!("{events} events over {lists} lists");
    server.stop().unwrap();
    let said = run(server.carrack(&["check"]).unwrap(), Duration::from_secs(60)).unwrap();
    assert!(said.contains("everything is well"), "{said}");
}
