//! `make conformance-api`: upstream's conformance suite against `carrack server` with
//! simulated nodes, and what came of it as a page.
//!
//! [`specs`] says which specs are run and why the others wait; [`report`] reads the
//! suite's reports and writes `docs/conformance.md`. A spec that neither passed nor is
//! said to wait is a failure.

pub mod report;
pub mod specs;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::plane::Plane;

/// How long a group of specs may take in all.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Simulated nodes; the suite wants two that take pods.
const NODES: &str = "3";
/// What the suite takes for an image that does not exist.
const MISSING: &str = "webserver:404";

/// Specs that run one after the other against a control plane of their own.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Names its directory.
    pub name: &'static str,
    /// Regular expression on the specs' names.
    pub focus: &'static str,
}

/// Runs a group of specs, those that wait left out; gives the report's path.
///
/// # Errors
/// The suite cannot be run; specs that fail are not errors here.
pub fn drive(group: &Group, out: &Path) -> Result<PathBuf> {
    let dir = out.join(group.name);
    std::fs::create_dir_all(&dir)?;
    let report = dir.join("report.json");
    if report.exists() {
        std::fs::remove_file(&report)?;
    }
    let plane = Plane::start(&["--simulate", NODES, "--simulate-missing-image", MISSING])?;
    let kubectl = paths::upstream("kubectl")?;
    let log = std::fs::File::create(dir.join("log"))?;
    let mut command = Command::new(paths::upstream("e2e.test")?);
    let bin = kubectl.parent().context("kubectl lies in a directory")?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    command.current_dir(&dir).env("PATH", path).env("KUBECONFIG", plane.kubeconfig());
    command.args(["--provider=local", "--num-nodes=3", "--allowed-not-ready-nodes=0", "--ginkgo.no-color"]);
    command.arg(format!("--kubeconfig={}", plane.kubeconfig().display()));
    command.arg(format!("--kubectl-path={}", kubectl.display()));
    command.arg(format!("--ginkgo.focus={}", group.focus));
    command.arg(format!("--ginkgo.skip={}", specs::skip()));
    command.arg(format!("--ginkgo.json-report={}", report.display()));
    command.arg(format!("--ginkgo.timeout={}s", PATIENCE.as_secs()));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.status().context("cannot run e2e.test")?;
    ensure!(report.exists(), "the suite left no report; see {}", dir.join("log").display());
    Ok(report)
}
