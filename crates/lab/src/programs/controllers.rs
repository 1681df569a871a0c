//! Upstream's kube-controller-manager and kube-scheduler in the place of ours.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{has, last_words};
use crate::machine::until;
use crate::plane::{Plane, Started, free_port};

const PATIENCE: Duration = Duration::from_secs(120);

const WORKLOADS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: sum}
spec:
  completions: 3
  parallelism: 2
  template:
    spec: {restartPolicy: Never, containers: [{name: sum, image: "sum:1"}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: "db:1"}]}
"#;

const QUOTA: &str = r#"
apiVersion: v1
kind: ResourceQuota
metadata: {name: small, namespace: tight}
spec: {hard: {configmaps: "2"}}
"#;

/// Deployments, Jobs, StatefulSets, quotas and garbage collection by upstream's programs.
///
/// # Errors
/// Something does not come about.
pub fn upstream_controllers() -> Result<()> {
    let plane = Plane::start(&["--disable", "controllers,scheduler", "--simulate", "3"])?;
    let mut manager = plane.program("kube-controller-manager")?;
    let kubeconfig = format!("--kubeconfig={}", plane.kubeconfig().display());
    let certs = format!("--cert-dir={}", plane.dir().join("kcm").display());
    manager.args([&*kubeconfig, "--leader-elect=false", "--bind-address=127.0.0.1", &certs]);
    manager.arg(format!("--secure-port={}", free_port()?));
    let mut manager = Started::new(manager, &plane.dir().join("kcm.log"))?;
    let mut scheduler = plane.program("kube-scheduler")?;
    let certs = format!("--cert-dir={}", plane.dir().join("scheduler").display());
    scheduler.args([&*kubeconfig, "--leader-elect=false", "--bind-address=127.0.0.1", &certs]);
    scheduler.arg(format!("--secure-port={}", free_port()?));
    let mut scheduler = Started::new(scheduler, &plane.dir().join("scheduler.log"))?;
    let done = drive(&plane);
    manager.check()?;
    scheduler.check()?;
    let (manager, scheduler) = (manager.said(), scheduler.said());
    done.with_context(|| {
        format!("manager:\n{}\nscheduler:\n{}", last_words(&manager), last_words(&scheduler))
    })
}

fn drive(plane: &Plane) -> Result<()> {
    until(PATIENCE, || plane.k(&["get", "serviceaccount", "default"]))?;
    plane.apply(WORKLOADS)?;
    plane.k(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    plane.k(&["rollout", "status", "statefulset/db", "--timeout=120s"])?;
    plane.k(&["wait", "--for=condition=Complete", "job/sum", "--timeout=120s"])?;
    let pods = plane.k(&["get", "pods", "-o", "wide", "--no-headers"])?;
    has(&pods, &["db-0", "db-1", "sim-"])?;
    plane.k(&["set", "image", "deployment/web", "web=web:2"])?;
    plane.k(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    plane.k(&["scale", "statefulset/db", "--replicas=1"])?;
    until(PATIENCE, || {
        let left = plane.k(&["get", "pods", "-l", "app=db", "-o", "name"])?;
        ensure!(left.trim() == "pod/db-0", "{left}");
        Ok(())
    })?;
    endpoints(plane)?;
    garbage(plane)?;
    quota(plane)
}

fn endpoints(plane: &Plane) -> Result<()> {
    until(PATIENCE, || {
        let slices =
            plane.k(&["get", "endpointslices", "-l", "kubernetes.io/service-name=db", "-o", "yaml"])?;
        has(&slices, &["hostname: db-0", "ready: true"])
    })
}

/// What is owned goes with its owner, and stays when it is orphaned.
fn garbage(plane: &Plane) -> Result<()> {
    plane.k(&["delete", "statefulset/db", "--cascade=orphan"])?;
    plane.k(&["get", "pod/db-0"])?;
    plane.k(&["delete", "deployment/web", "--cascade=foreground", "--wait", "--timeout=120s"])?;
    let left = plane.k(&["get", "replicasets,pods", "-l", "app=web", "-o", "name"])?;
    ensure!(left.is_empty(), "after a foreground deletion: {left}");
    plane.k(&["delete", "job/sum"])?;
    until(PATIENCE, || {
        let left = plane.k(&["get", "pods", "-l", "batch.kubernetes.io/job-name=sum", "-o", "name"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}

/// Admission counts what is used; the controller takes note of what went.
fn quota(plane: &Plane) -> Result<()> {
    plane.k(&["create", "namespace", "tight"])?;
    plane.apply(QUOTA)?;
    let used = |wanted: &'static str| {
        move || {
            let words = ["-n", "tight", "get", "quota/small", "-o", "jsonpath={.status.used.configmaps}"];
            let used = plane.k(&words)?;
            ensure!(used == wanted, "used {used:?}, not {wanted}");
            Ok(())
        }
    };
    until(PATIENCE, || plane.k(&["-n", "tight", "get", "configmap", "kube-root-ca.crt"]).map(drop))
        .or_else(|_| plane.k(&["-n", "tight", "create", "configmap", "kube-root-ca.crt"]).map(drop))?;
    until(PATIENCE, used("1"))?;
    plane.k(&["-n", "tight", "create", "configmap", "a"])?;
    let refused = plane.k(&["-n", "tight", "create", "configmap", "b"]);
    let refused = refused.err().context("a third ConfigMap was let in")?;
    has(&format!("{refused:#}"), &["exceeded quota: small"])?;
    plane.k(&["-n", "tight", "delete", "configmap", "a"])?;
    until(PATIENCE, used("1"))
}
