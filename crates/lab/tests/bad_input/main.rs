//! Bad input as raw JSON and YAML, with the answers that upstream's kube-apiserver gave to
//! the same requests. `RECORD_UPSTREAM=1` records them anew (after
//! `make target/upstream/kube-apiserver target/upstream/etcd`).
//!
//! Each answer's time and what the server's memory grew by meanwhile are printed, not
//! asserted: the machine is shared.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

mod cases;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use carrack_lab::bench::servers::{self, Running};
use carrack_lab::https::{Answer, Client, Request};
use serde_json::Value;

/// Requests whose answers differ, each with the reason. Everything else is the same.
const DIFFERENCES: &[(&str, &str)] = &[
    ("syntax: 20,000 levels", "the first misfit is said, before anyone counts levels"),
    ("syntax: YAML, alias to itself", YAML),
    ("syntax: YAML, unknown alias", YAML),
    ("syntax: YAML, 100,000 levels", YAML),
    ("syntax: YAML, a tab", YAML),
    ("syntax: YAML, indentation", YAML),
    ("syntax: JSON patch, unknown operation", "says which operation fails and why"),
    ("syntax: unknown patch", "says which patches there are"),
    ("type: a truth value for a port", "the path does not name Go's embedded struct"),
    ("type: another version", "does not quote a line of upstream's source"),
    ("type: strategic merge patch", "says which field does not fit"),
    ("conflict: no revision", "400: the mistake is the client's, not the server's (500)"),
    ("conflict: another uid", "quotes a key of the store, and keys differ"),
    ("conflict: gone", "404: who names a revision means an object that was there"),
];

/// Another parser words its errors its own way.
const YAML: &str = "400 with the same frame; what the YAML parser says is its own";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bad_input.txt")
}

/// A figure of the newest process of `server` in KiB, such as `VmRSS` and `VmHWM`.
fn memory(server: &Running, figure: &str) -> i64 {
    let pid = server.pids().rsplit(',').next().unwrap_or_default().to_owned();
    if figure == "VmRSS" {
        // 5 sets the peak, VmHWM, back to what is resident now (proc(5)).
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// What golden files hold of an answer: code, warnings, and of a Status all but what is
/// always the same. Of an object only that it came.
fn shown(answer: &Answer) -> String {
    let mut text = format!("{}\n", answer.code);
    for warning in answer.warnings() {
        let _ = writeln!(text, "Warning: {warning}");
    }
    match serde_json::from_slice::<Value>(&answer.body) {
        Ok(mut value) if value["kind"] == "Status" => {
            let fields = value.as_object_mut().unwrap();
            fields.retain(|name, _| matches!(name.as_str(), "message" | "reason" | "details"));
            // Upstream writes an empty object where nothing is to be said.
            fields.retain(|_, value| *value != serde_json::json!({}));
            strings(&mut value, &|text| *text = normal(text));
            let _ = writeln!(text, "{}", serde_json::to_string_pretty(&value).unwrap());
        }
        Ok(_) => {}
        Err(_) => {
            let _ = writeln!(text, "{}", String::from_utf8_lossy(&answer.body).trim_end());
        }
    }
    text
}

fn strings(value: &mut Value, change: &dyn Fn(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| strings(item, change)),
        Value::Object(fields) => fields.values_mut().for_each(|field| strings(field, change)),
        _ => {}
    }
}

/// A message without what differs from run to run: the whole object that errors about
/// patches quote, and the uid of the object that is there.
fn normal(text: &str) -> String {
    let quoted = text.find("Invalid value: \"{").zip(text.rfind("}\": "));
    if let Some((start, end)) = quoted {
        return format!("{}Invalid value: \"{{…{}", &text[..start], &text[end..]);
    }
    for before in ["UID in object meta: ", "UID in record ("] {
        if let Some((head, tail)) = text.split_once(before) {
            return format!("{head}{before}…{}", tail.get(36..).unwrap_or_default());
        }
    }
    text.to_owned()
}

/// One section for each request.
fn said_by(server: &Running) -> Vec<(String, String)> {
    let client = Client::new(server).unwrap();
    let (mut slowest, mut largest) = ((0.0, String::new()), (0, String::new()));
    let start = memory(server, "VmRSS");
    let mut sections = Vec::new();
    for case in cases::all() {
        let before = memory(server, "VmRSS");
        let headers = [("Accept", "application/json"), ("Content-Type", case.content_type)];
        let request = Request {
            method: case.method.into(),
            path: case.path.clone(),
            headers: headers.map(|(name, value)| (name.into(), value.into())).into(),
            body: case.body.clone(),
        };
        let answer = client.send(&request).unwrap();
        let grown = memory(server, "VmHWM") - before;
        let time = answer.time.as_secs_f64() * 1000.0;
        eprintln!("{time:8.1} ms {grown:8} KiB  {} {}", answer.code, case.name);
        if time > slowest.0 {
            slowest = (time, case.name.clone());
        }
        if grown > largest.0 {
            largest = (grown, case.name.clone());
        }
        sections.push((case.name, shown(&answer)));
    }
    eprintln!("{}: slowest {:.1} ms ({})", server.name, slowest.0, slowest.1);
    let rest = memory(server, "VmRSS") - start;
    eprintln!("{}: peak +{} KiB ({}); after all +{rest} KiB", server.name, largest.0, largest.1);
    sections
}

fn text(sections: &[(String, String)]) -> String {
    let parts = sections.iter().map(|(name, said)| format!("== {name}\n{said}"));
    parts.collect::<Vec<_>>().join("\n")
}

#[test]
fn bad_input_is_answered_as_upstream_does() {
    if std::env::var_os("RECORD_UPSTREAM").is_some() {
        std::fs::write(golden(), text(&said_by(&servers::upstream(&[]).unwrap()))).unwrap();
    }
    let wanted = std::fs::read_to_string(golden()).unwrap();
    let flags = ["--disable", "controllers,scheduler", "--store", "memory"];
    let said = said_by(&servers::carrack(&flags).unwrap());
    let mut wrong = String::new();
    for (name, said) in &said {
        let head = format!("== {name}\n");
        let after = wanted.split(&head).nth(1).unwrap_or_default();
        let wanted = after.split("\n== ").next().unwrap_or_default().trim_end();
        let explained = DIFFERENCES.iter().any(|(differs, _)| differs == name);
        if said.trim_end() != wanted && !explained {
            let _ = writeln!(wrong, "{head}-- wanted\n{wanted}\n-- said\n{}\n", said.trim_end());
        }
    }
    assert!(wrong.is_empty(), "answers differ:\n{wrong}");
}
