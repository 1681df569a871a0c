//! Objects that upstream's modules ship: one of each kind with every field set
//! (`k8s.io/api/testdata`) and what its end-to-end tests deploy.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use carrack_api::kinds;
use serde_json::Value;

use super::super::case::{Case, PROTOBUF, Target, json, raw};
use super::super::objects::{documents, types};
use crate::machine::run;
use crate::paths;

/// Namespace of objects that name none.
const NAMESPACE: &str = "d-manifests";

/// The cases; modules are found where Go keeps them.
///
/// # Errors
/// Go does not know the modules, or a file cannot be read.
pub fn cases() -> Result<Vec<Case>> {
    let mut cases = vec![namespace()];
    let samples = module("k8s.io/api")?.join("testdata/HEAD");
    let kinds = kinds::builtin();
    for kind in kinds.iter() {
        for version in 0..kind.versions.len() {
            let group = if kind.group.is_empty() { "core" } else { &kind.group };
            let stem = format!("{group}.{}.{}", kind.versions[version].name, kind.kind);
            let target = target(kind, version, "");
            for (ending, content_type) in
                [("json", "application/json"), ("yaml", "application/yaml"), ("pb", PROTOBUF)]
            {
                let Ok(body) = std::fs::read(samples.join(format!("{stem}.{ending}"))) else { continue };
                let request = raw("POST", target.collection(), content_type, body).query("dryRun=All");
                cases.push(target.case("create", format!("{stem}.{ending}")).then(request.clone()));
                let request = Request { path: request.path.replace(NAMESPACE, "namespaceValue"), ..request };
                cases.push(target.case("create", format!("{stem}.{ending} in its namespace")).then(request));
            }
        }
    }
    for file in files(&module("k8s.io/kubernetes")?.join("test/e2e/testing-manifests"))? {
        let text = std::fs::read_to_string(&file)?;
        // Some are templates.
        let Ok(objects) = documents(&text) else { continue };
        for (at, object) in objects.iter().enumerate() {
            let (api_version, kind) = types(object);
            let (group, version) = carrack_api::kind::group_version(&api_version);
            let Some((kind, version)) = kinds.kind(group, version, &kind) else { continue };
            let target = target(kind, version, object["metadata"]["namespace"].as_str().unwrap_or_default());
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let request = json("POST", target.collection(), object).query("dryRun=All");
            let case = target.case("create", format!("{name}, document {at}"));
            cases.push(case.then(request.query("fieldValidation=Strict")));
        }
    }
    Ok(cases)
}

use crate::https::Request;

fn namespace() -> Case {
    let made = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let account: Value =
        serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    Case::new("", "", "namespace of manifests")
        .prepared(json("POST", "/api/v1/namespaces", &made))
        .prepared(json("POST", format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"), &account))
}

fn target<'k>(kind: &'k carrack_api::Kind, version: usize, namespace: &str) -> Target<'k> {
    let namespace = match (kind.namespaced, namespace) {
        (false, _) => "",
        (true, "") => NAMESPACE,
        (true, namespace) => namespace,
    };
    Target { kind, version, namespace: namespace.to_owned() }
}

fn module(path: &str) -> Result<PathBuf> {
    let mut go = Command::new("go");
    go.args(["list", "-m", "-f", "{{.Dir}}", path]).current_dir(paths::repository().join("tests/upstream"));
    let dir = run(go, Duration::from_secs(120)).context("asking Go where a module lies")?;
    Ok(dir.trim().into())
}

/// YAML files below a directory, in a fixed order.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
