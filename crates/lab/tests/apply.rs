//! Server-side apply and ownership, with the answers that upstream's kube-apiserver gave
//! to the same scripts. `RECORD_UPSTREAM=1` records them anew (after
//! `make target/upstream/kube-apiserver target/upstream/etcd`).
//!
//! A script is a list of scenarios (`= what it is about`), each a list of requests: a
//! verb and a path, and the body on the next line (`AWAIT` waits until a path is served). `@core` and `@apps` stand for the
//! namespace `default` in those groups; `⏎` in a body is a new line.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use carrack_lab::bench::servers::{self, Running};
use carrack_lab::https::{Answer, Client, Request};
use carrack_lab::machine::until;
use serde_json::Value;

/// Requests whose answers differ, each by scenario and number, with the reason. Everything
/// else is the same.
const DIFFERENCES: &[(&str, usize, &str)] = &[
    ("a custom kind with a schema", 21, "null is nothing, as it is in every other body (upstream: 422)"),
    ("a custom kind with a schema", 27, "scales (upstream: 500, it cannot convert a Scale of a custom kind)"),
];

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

struct Step<'a> {
    verb: &'a str,
    path: String,
    body: &'a str,
}

/// The scenarios of a script.
fn scenarios(text: &str) -> Vec<(&str, Vec<Step<'_>>)> {
    let mut all: Vec<(&str, Vec<Step<'_>>)> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("= ") {
            all.push((title, Vec::new()));
        } else if let Some((verb, path)) = line.split_once(' ') {
            let path = path.replace("@core", "/api/v1/namespaces/default");
            let path = path.replace("@apps", "/apis/apps/v1/namespaces/default");
            let body = if matches!(verb, "GET" | "AWAIT") { "" } else { lines.next().unwrap_or_default() };
            all.last_mut().expect("a title comes first").1.push(Step { verb, path, body });
        }
    }
    all
}

fn request(step: &Step<'_>) -> Request {
    let (method, content_type) = match step.verb {
        "APPLY" => ("PATCH", "application/apply-patch+yaml"),
        "MERGE" => ("PATCH", "application/merge-patch+json"),
        "STRATEGIC" => ("PATCH", "application/strategic-merge-patch+json"),
        "JSONPATCH" => ("PATCH", "application/json-patch+json"),
        other => (other, "application/json"),
    };
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Request {
        method: method.into(),
        path: step.path.clone(),
        headers: vec![
            header("Content-Type", content_type),
            header("Accept", "application/json"),
            header("User-Agent", "scripted/1 (linux)"),
        ],
        body: step.body.replace('⏎', "\n").into_bytes(),
    }
}

/// What is known of objects that went by: their resourceVersions.
type Seen = HashMap<String, String>;

/// Code and warnings; of a Status what says why; of an object all but what differs from
/// run to run, whether it was written, and who owns what.
fn shown(answer: &Answer, seen: &mut Seen) -> String {
    let mut text = format!("{}\n", answer.code);
    // What kinds warn of is not this test's.
    for warning in answer.warnings().into_iter().filter(|warning| warning.contains("already set in map")) {
        let _ = writeln!(text, "Warning: {warning}");
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(&answer.body) else {
        let _ = writeln!(text, "{}", String::from_utf8_lossy(&answer.body).trim_end());
        return text;
    };
    if value["kind"] == "Status" {
        let fields = value.as_object_mut().unwrap();
        fields.retain(|name, value| {
            matches!(name.as_str(), "message" | "reason" | "details") && *value != serde_json::json!({})
        });
        if let Some(message) = value["message"].as_str() {
            let _ = writeln!(text, "{}", sorted_findings(message));
        }
        let details = causes_sorted(value["details"].take());
        let _ = writeln!(text, "{} {details}", value["reason"]);
        return text;
    }
    let meta = value["metadata"].as_object_mut().unwrap();
    let id = format!("{} {}", meta["uid"], answer.code == 200 || answer.code == 201);
    let version = meta.get("resourceVersion").map(Value::to_string).unwrap_or_default();
    let known = seen.insert(id, version.clone());
    let written = match known {
        Some(known) if known == version => "as before",
        _ => "written",
    };
    let managed = meta.remove("managedFields");
    let namespace = meta.get("namespace").is_some();
    meta.retain(|name, _| {
        !matches!(name.as_str(), "uid" | "resourceVersion" | "creationTimestamp" | "namespace")
    });
    let _ = writeln!(text, "{written}{}\n{value}", if namespace { ", namespaced" } else { "" });
    let mut entries: Vec<String> = Vec::new();
    for entry in managed.iter().filter_map(Value::as_array).flatten() {
        let part = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let timed = if part("time").is_empty() { " without a time" } else { "" };
        let (operation, manager, version) = (part("operation"), part("manager"), part("apiVersion"));
        let sub = part("subresource");
        let sub = if sub.is_empty() { String::new() } else { format!(" through {sub}") };
        let kind = part("fieldsType");
        entries.push(format!("- {operation} {manager} {version}{sub}{timed}: {kind} {}", entry["fieldsV1"]));
    }
    entries.sort();
    for entry in entries {
        let _ = writeln!(text, "{entry}");
    }
    text
}

/// A text without the random names of volumes that hold tokens.
fn constant(text: &str) -> String {
    const TOKEN: &str = "kube-api-access-";
    let mut parts = text.split(TOKEN);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + TOKEN + "…" + part.get(5..).unwrap_or_default())
}

/// Findings come in the order of Go's maps, which is none. What follows on a rule about
/// pods shows Go's structs.
fn sorted_findings(message: &str) -> String {
    let message = message.split("\n@@").next().unwrap_or_default();
    match message.split_once("errors:\n") {
        Some((head, rest)) => {
            let mut lines: Vec<&str> = rest.lines().collect();
            lines.sort_unstable();
            format!("{head}errors:\n{}", lines.join("\n"))
        }
        None => message.to_owned(),
    }
}

fn causes_sorted(mut details: Value) -> Value {
    if let Some(causes) = details.get_mut("causes").and_then(Value::as_array_mut) {
        for cause in causes.iter_mut() {
            cause["message"] = sorted_findings(cause["message"].as_str().unwrap_or_default()).into();
        }
        causes.sort_by_key(Value::to_string);
        // Upstream says things as often as it checks them.
        causes.dedup();
    }
    details
}

/// Waits until a path is answered.
fn served(client: &Client, path: &str) {
    let request = Request { method: "GET".into(), path: path.into(), ..Request::default() };
    let ready = until(Duration::from_secs(30), || match client.send(&request)?.code {
        200 => Ok(()),
        code => bail!("{path}: {code}"),
    });
    ready.unwrap();
}

/// One section for each request.
fn said_by(server: &Running, script: &str) -> Vec<(String, usize, String)> {
    let client = Client::new(server).unwrap();
    served(&client, "/api/v1/namespaces/default");
    let mut seen = Seen::new();
    let mut sections = Vec::new();
    for (title, steps) in scenarios(script) {
        for (at, step) in steps.iter().enumerate() {
            if step.verb == "AWAIT" {
                served(&client, &step.path);
                continue;
            }
            let answer = client.send(&request(step)).unwrap();
            sections.push((title.to_owned(), at + 1, constant(&shown(&answer, &mut seen))));
        }
    }
    sections
}

fn head(title: &str, at: usize) -> String {
    format!("== {title}: {at}\n")
}

#[test]
fn ownership_is_as_upstreams() {
    let script = std::fs::read_to_string(golden("apply.script")).unwrap();
    let file = golden("apply.txt");
    if std::env::var_os("RECORD_UPSTREAM").is_some() {
        let said = said_by(&servers::upstream(&[]).unwrap(), &script);
        let parts = said.iter().map(|(title, at, said)| format!("{}{said}", head(title, *at)));
        std::fs::write(&file, parts.collect::<Vec<_>>().join("\n")).unwrap();
    }
    let wanted = std::fs::read_to_string(&file).unwrap();
    let said = said_by(
        &servers::carrack(&["--disable", "controllers,scheduler", "--store", "memory"]).unwrap(),
        &script,
    );
    let mut wrong = String::new();
    let mut count = 0;
    for (title, at, said) in &said {
        let head = head(title, *at);
        let wanted = wanted.split(&head).nth(1).unwrap_or_default();
        let wanted = wanted.split("\n== ").next().unwrap_or_default().trim_end();
        let explained = DIFFERENCES.iter().any(|(t, a, _)| t == title && a == at);
        if said.trim_end() != wanted && !explained {
            let _ = writeln!(wrong, "{head}-- wanted\n{wanted}\n-- said\n{}\n", said.trim_end());
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{count} of {} answers differ:\n{wrong}", said.len());
}
