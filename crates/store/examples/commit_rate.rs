//! Commit rate and latency of a backend, with one and with 64 writers, and the time
//! to open a database of 10,000 objects. `cargo run --release --example commit_rate
//! -p carrack-store [DIR]`; the records are the size of a stored pod (4.7 kB).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_api::{Content, Key};
use carrack_store::{Expect, Limits, Local, Store, Write};

fn pod(name: &str) -> Content {
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": "c4b7", "labels": {"app": "load", "shard": "s1"}},
        "spec": {"nodeName": "", "pad": "x".repeat(4500)},
    });
    Content::encode(&object, &["spec.nodeName"]).expect("has metadata")
}

async fn measure(store: Arc<dyn Store>, writers: usize, writes: usize, unsynced: bool) {
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                for n in 0..writes / writers {
                    let name = format!("w{writers}-{unsynced}-{writer}-{n}");
                    let key = Key::new("pods", "default", &name);
                    let write = Write { key, expect: Expect::Absent, content: Some(pod(&name)), unsynced };
                    let begin = Instant::now();
                    store.commit(write).await.expect("commits");
                    times.push(begin.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times: Vec<Duration> = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("writer"));
    }
    let took = start.elapsed();
    times.sort();
    let at = |q: f64| times[(q * (times.len() - 1) as f64) as usize];
    println!(
        "{writers:>3} writers {}: {:>7.0} commits/s, p50 {:?}, p99 {:?}",
        if unsynced { "unsynced" } else { "synced  " },
        times.len() as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.99)
    );
}

#[tokio::main]
async fn main() {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "target".into());
    let path = Path::new(&dir).join("commit_rate.db");
    for end in ["", "-wal"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    for name in ["memory", "sqlite"] {
        println!("{name}");
        let store: Arc<dyn Store> = match name {
            "memory" => Arc::new(Local::memory(Limits::default())),
            _ => Arc::new(Local::sqlite(&path, Limits::default()).expect("opens")),
        };
        measure(store.clone(), 1, 2000, false).await;
        measure(store.clone(), 64, 8000, false).await;
        measure(store.clone(), 64, 8000, true).await;
    }
    let begin = Instant::now();
    let store = Local::sqlite(&path, Limits::default()).expect("opens");
    println!("open with {} objects: {:?}", store.snapshot("pods").len(), begin.elapsed());
}
