//! Many pods in one server with everything on: what it takes in memory, and how long a page
//! of a list takes one client that asks for nothing else.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::servers::Running;
use super::{Programs, apiload};
use crate::https::{Client, Connection, Request};
use crate::scale::pod;

/// Where the pods are.
const NAMESPACE: &str = "large";
/// Who create them.
const CLIENTS: usize = 8;
/// Memory that the server may take, in MB.
const WANTED_MB: f64 = 1024.0;
/// How long a page may take at p50, in milliseconds.
const WANTED_MS: f64 = 10.0;

/// What was seen.
pub struct Large {
    pods: usize,
    took: Duration,
    /// Resident memory with all pods there, and after the lists.
    memory_mb: (f64, f64),
    /// apiload's JSON with one client.
    lists: Value,
}

/// Creates the pods and has them listed.
///
/// # Errors
/// A pod is refused, or the load program fails.
pub fn measure(programs: &Programs, server: &Running, pods: usize) -> Result<Large> {
    let client = Client::new(server)?;
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    send(&mut client.connection(), "/api/v1/namespaces", &namespace)?;
    let (begun, next) = (Instant::now(), AtomicUsize::new(0));
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let create = || -> Result<()> {
        let mut connection = client.connection();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= pods {
                return Ok(());
            }
            send(&mut connection, &path, &waiting(number))?;
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(create)).collect();
        let ended = clients.into_iter().map(|client| client.join());
        ended.map(|result| result.ok().context("a client panicked")?).collect::<Result<Vec<()>>>()
    })?;
    let (took, there) = (begun.elapsed(), server.memory_mb());
    let numbers = [("-n", 1), ("-c", 1), ("-watchers", 0)];
    let lists = apiload(programs, server, &numbers, &["-keep", "-namespace", NAMESPACE])?;
    Ok(Large { pods, took, memory_mb: (there, server.memory_mb()), lists })
}

/// A pod that nobody places: of the size that the load programs send.
fn waiting(number: usize) -> Value {
    let mut pod = pod(&format!("large-{number:06}"));
    pod["metadata"]["labels"]["shard"] = format!("s{}", number % 100).into();
    pod["spec"]["schedulerName"] = "nobody".into();
    pod
}

fn send(connection: &mut Connection, path: &str, object: &Value) -> Result<()> {
    let request = Request {
        method: "POST".into(),
        path: path.into(),
        headers: vec![("Content-Type".into(), "application/json".into())],
        body: serde_json::to_vec(object)?,
    };
    let answer = connection.send(&request)?;
    ensure!(answer.code == 201, "{path}: {}", String::from_utf8_lossy(&answer.body));
    Ok(())
}

// === impl Large ===

impl Large {
    /// As lines of a report.
    pub fn report(&self) -> String {
        let mut text = String::new();
        let mark = |holds: bool| if holds { "✓" } else { "✗" };
        let (there, listed) = self.memory_mb;
        let _ = writeln!(
            text,
            "{} pods created in {:.1} s: {there:.0} MB {}, {listed:.0} MB after the lists",
            self.pods,
            self.took.as_secs_f64(),
            mark(there < WANTED_MB),
        );
        for (phase, name) in [
            ("list_page_500", "a page of 500"),
            ("list_label", "one label of a hundred"),
            ("list_all", "all"),
        ] {
            let figure = |field: &str| self.lists[phase][field].as_f64().unwrap_or(f64::NAN);
            let p50 = figure("p50_ms");
            let verdict = if phase == "list_page_500" { mark(p50 < WANTED_MS) } else { "" };
            let _ = writeln!(
                text,
                "  {name}, one client: p50 {p50:.1} ms {verdict} p99 {:.1} ms, {} errors",
                figure("p99_ms"),
                figure("errors"),
            );
        }
        text
    }

    /// Everything that was measured, for keeping.
    pub fn raw(&self) -> Value {
        json!({"pods": self.pods, "seconds": self.took.as_secs_f64(),
            "memory_mb": [self.memory_mb.0, self.memory_mb.1], "lists": self.lists})
    }
}
