//! KWOK's controller in the place of the nodes, with the definitions and the fast stages that
//! ship with its module.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{has, last_words};
use crate::machine::{run, until};
use crate::paths;
use crate::plane::{Plane, Started};

const PATIENCE: Duration = Duration::from_secs(120);

/// How long `kubectl wait` waits.
const TIMEOUT: &str = "--timeout=120s";

const NODES: [&str; 3] = ["kwok-0", "kwok-1", "kwok-2"];

const NODE: &str = r#"
---
apiVersion: v1
kind: Node
metadata:
  name: NAME
  annotations: {kwok.x-k8s.io/node: fake}
  labels: {type: kwok, kubernetes.io/hostname: NAME, kubernetes.io/os: linux}
"#;

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 30
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
"#;

/// Nodes that become ready, pods that run and are removed.
///
/// # Errors
/// Something does not come about.
pub fn kwok() -> Result<()> {
    let plane = Plane::start(&[])?;
    let shipped = module()?.join("kustomize");
    for (part, what) in [("crd", "definitions"), ("stage/fast", "stages")] {
        let part = shipped.join(part).display().to_string();
        plane.k(&["apply", "-k", &part]).with_context(|| format!("KWOK's {what}"))?;
        plane.k(&["wait", "--for=condition=Established", "crd/stages.kwok.x-k8s.io", TIMEOUT])?;
    }
    let mut command = plane.program("kwok")?;
    command.args(["--node-lease-duration-seconds=40", "--enable-crds=Stage", "--node-ip=127.0.0.1"]);
    command.args(["--cidr=10.0.0.0/16", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"]);
    let mut program = Started::new(command, &plane.dir().join("kwok.log"))?;
    let done = drive(&plane).and_then(|()| program.check());
    done.with_context(|| format!("kwok:\n{}", last_words(&program.said())))
}

/// Where KWOK's module lies: what it ships is read from there.
fn module() -> Result<PathBuf> {
    let mut command = Command::new("go");
    command.args(["mod", "download", "-json", "sigs.k8s.io/kwok"]);
    command.current_dir(paths::repository().join("tests/upstream/kwok"));
    let found: serde_json::Value = serde_json::from_str(&run(command, PATIENCE)?)?;
    Ok(found["Dir"].as_str().context("the module has no directory")?.into())
}

fn drive(plane: &Plane) -> Result<()> {
    plane.apply(&NODES.map(|name| NODE.replace("NAME", name)).concat())?;
    plane.k(&["wait", "--for=condition=Ready", "nodes", "-l", "type=kwok", TIMEOUT])?;
    until(PATIENCE, || {
        let leases = plane.k(&["-n", "kube-node-lease", "get", "leases", "-o", "name"])?;
        has(&leases, &NODES)
    })?;
    plane.apply(DEPLOYMENT)?;
    plane.k(&["rollout", "status", "deployment/web", TIMEOUT])?;
    ran(plane)?;

    plane.k(&["scale", "deployment/web", "--replicas=10"])?;
    until(PATIENCE, || {
        let pods = plane.k(&["get", "pods", "-l", "app=web", "-o", "name"])?;
        ensure!(pods.lines().count() == 10, "{pods}");
        Ok(())
    })?;
    drained(plane)?;
    plane.k(&["delete", "deployment/web"])?;
    until(PATIENCE, || {
        let left = plane.k(&["get", "pods", "-o", "name"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}

/// Every pod runs on one of the nodes, with an address of its own.
fn ran(plane: &Plane) -> Result<()> {
    let columns = "custom-columns=PHASE:.status.phase,NODE:.spec.nodeName,IP:.status.podIP";
    let pods = plane.k(&["get", "pods", "-l", "app=web", "-o", columns, "--no-headers"])?;
    let mut addresses = std::collections::BTreeSet::new();
    for pod in pods.lines() {
        let parts: Vec<&str> = pod.split_whitespace().collect();
        let [phase, node, address] = parts[..] else { anyhow::bail!("{pods}") };
        ensure!(phase == "Running" && NODES.contains(&node), "{pods}");
        addresses.insert(address);
    }
    ensure!(addresses.len() == 30, "{} addresses of 30 pods:\n{pods}", addresses.len());
    has(&pods, &NODES)
}

/// A node is emptied and goes, another goes with its pods on it: the last one takes over.
fn drained(plane: &Plane) -> Result<()> {
    plane.k(&["drain", "kwok-1", TIMEOUT])?;
    plane.k(&["rollout", "status", "deployment/web", TIMEOUT])?;
    let query = ["get", "pods", "--field-selector=spec.nodeName=kwok-1", "-o", "name"];
    let left = plane.k(&query)?;
    ensure!(left.is_empty(), "after the drain: {left}");
    plane.k(&["delete", "node/kwok-1"])?;

    // What is on a node that goes without a drain is collected.
    plane.k(&["delete", "node/kwok-2"])?;
    until(PATIENCE, || {
        let columns = "custom-columns=NODE:.spec.nodeName,PHASE:.status.phase";
        let pods = plane.k(&["get", "pods", "-l", "app=web", "-o", columns, "--no-headers"])?;
        let here = |pod: &str| pod.split_whitespace().eq([NODES[0], "Running"]);
        ensure!(pods.lines().count() == 10 && pods.lines().all(here), "{pods}");
        Ok(())
    })
}
