//! Upstream's kubectl against `carrack server`, with the answers that upstream's
//! kube-apiserver gave to the same script. `RECORD_UPSTREAM=1` records them anew (after
//! `make target/upstream/kube-apiserver target/upstream/etcd`).

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use carrack_lab::bench::servers::{self, Running};
use carrack_lab::{paths, script};

/// Commands whose answers differ, each with the reason. Everything else is the same.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "patch deployment web --type=json -p '[{\"op\":\"test\",\"path\":\"/spec/paused\",\"value\":true},{\"op\":\"remove\",\"path\":\"/spec/paused\"}]'",
        "says which operation fails and why",
    ),
    (
        "patch deployment web --type=json -p '[{\"op\":\"remove\",\"path\":\"/spec/nothing\"}]'",
        "says which operation fails and why",
    ),
    ("explain pod.spec.restartPolicy", ENUM),
    ("explain pod.spec.containers.ports", ENUM),
    ("explain service.spec.type", ENUM),
    ("get componentstatuses -o name", "no components run apart, so none is asked how it is"),
    ("create -f $M", "a Service that exists is AlreadyExists, before anyone looks at its address"),
];

const ENUM: &str = "lists the values under ENUM only, not again in the description";

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

/// A kubeconfig for a server of the bench, in a directory of its own.
fn kubeconfig(server: &Running, dir: &Path) -> PathBuf {
    let credentials = match &server.credentials[..] {
        [_, token] => format!("token: {token}"),
        [_, cert, _, key] => format!("client-certificate: {cert}, client-key: {key}"),
        other => panic!("{other:?}"),
    };
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, \
         clusters: [{{name: c, cluster: {{server: '{}', insecure-skip-tls-verify: true}}}}], \
         users: [{{name: u, user: {{{credentials}}}}}], contexts: [{{name: c, context: {{cluster: c, user: u}}}}]}}\n",
        server.url
    );
    let path = dir.join("kubeconfig");
    std::fs::write(&path, text).unwrap();
    path
}

fn said_by(server: &Running, file: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let config = kubeconfig(server, dir.path());
    let kubectl = paths::upstream("kubectl").unwrap();
    let text = std::fs::read_to_string(golden(file)).unwrap();
    script::transcript(&text, |line| {
        let mut command = Command::new("bash");
        command.args(["-c", "set -B +B; eval \"$0\"", &line.replace("$K", "\"$K\"")]);
        command.env("K", &kubectl).env("KUBECONFIG", &config).env("HOME", dir.path());
        command.env("M", golden("manifests.yaml")).env("KUBECTL_EXTERNAL_DIFF", "diff -u0");
        Ok(command)
    })
    .unwrap()
}

/// Runs a script against Carrack, and holds the transcript to the recorded one.
fn check(script: &str, recorded: &str) {
    if std::env::var_os("RECORD_UPSTREAM").is_some() {
        std::fs::write(golden(recorded), said_by(&servers::upstream(&[]).unwrap(), script)).unwrap();
    }
    let said = said_by(&servers::carrack(&["--disable", "controllers,scheduler"]).unwrap(), script);
    let different = script::compare(&golden(recorded), &said).unwrap();
    let unexplained: Vec<&str> = different
        .split("--- wanted\n")
        .filter(|part| !part.trim().is_empty())
        .filter(|part| {
            !DIFFERENCES.iter().any(|(command, _)| part.starts_with(&format!("$ kubectl {command}\n")))
        })
        .collect();
    assert!(
        unexplained.is_empty(),
        "{} answers differ:\n{}",
        unexplained.len(),
        unexplained.join("--- wanted\n")
    );
}

#[test]
fn answers_as_upstream_does() {
    check("api.script", "api.txt");
}

#[test]
fn applies_on_the_server_as_upstream_does() {
    check("server-side.script", "server-side.txt");
}

#[test]
fn creates_as_upstream_does() {
    check("create.script", "create.txt");
}

#[test]
fn guards_as_upstream_does() {
    check("access.script", "access.txt");
}

#[test]
fn changes_as_upstream_does() {
    check("changes.script", "changes.txt");
}

#[test]
fn keeps_nodes_as_upstream_does() {
    check("nodes.script", "nodes.txt");
}

#[test]
fn prints_as_upstream_does() {
    check("output.script", "output.txt");
}

#[test]
fn prunes_as_upstream_does() {
    check("prune.script", "prune.txt");
}
