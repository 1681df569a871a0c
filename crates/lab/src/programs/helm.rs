//! helm 4: install, upgrade, rollback and uninstall of a chart with hooks and a
//! CustomResourceDefinition.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::has;
use crate::machine::{run, until};
use crate::plane::Plane;

const PATIENCE: Duration = Duration::from_secs(120);

/// The chart's files.
const CHART: &[(&str, &str)] = &[
    ("Chart.yaml", include_str!("chart/Chart.yaml")),
    ("values.yaml", include_str!("chart/values.yaml")),
    ("crds/widgets.yaml", include_str!("chart/crds/widgets.yaml")),
    ("templates/web.yaml", include_str!("chart/templates/web.yaml")),
    ("templates/widget.yaml", include_str!("chart/templates/widget.yaml")),
    ("templates/hooks.yaml", include_str!("chart/templates/hooks.yaml")),
];

/// The life of a release.
///
/// # Errors
/// Something does not come about.
pub fn charts() -> Result<()> {
    let plane = Plane::start(&["--simulate", "2"])?;
    let chart = plane.dir().join("chart");
    for (name, text) in CHART {
        let path = chart.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(path, text)?;
    }
    let helm = |words: &[&str]| {
        let mut command = plane.program("helm")?;
        command.args(words);
        run(command, PATIENCE)
    };
    let waiting = ["--wait", "--timeout", "90s"];
    let installed = helm(&[&["install", "shop", "./chart"], &waiting[..]].concat())?;
    has(&installed, &["STATUS: deployed", "REVISION: 1"])?;
    has(&plane.k(&["get", "widgets"])?, &["shop-widget", "small"])?;
    has(&plane.k(&["get", "pod", "shop-before", "-o", "jsonpath={.status.phase}"])?, &["Succeeded"])?;
    ensure!(replicas(&plane)? == "2");

    helm(
        &[&["upgrade", "shop", "./chart", "--set", "replicas=3", "--set", "size=large"], &waiting[..]]
            .concat(),
    )?;
    has(&plane.k(&["get", "widgets"])?, &["large"])?;
    ensure!(replicas(&plane)? == "3");
    has(&plane.k(&["get", "configmap", "shop-after", "-o", "jsonpath={.data.revision}"])?, &["2"])?;

    helm(&[&["rollback", "shop", "1"], &waiting[..]].concat())?;
    ensure!(replicas(&plane)? == "2");
    has(&plane.k(&["get", "widgets"])?, &["small"])?;
    has(&helm(&["history", "shop"])?, &["superseded", "Rollback to 1"])?;

    helm(&["uninstall", "shop", "--wait", "--timeout", "90s"])?;
    until(PATIENCE, || {
        let left = plane.k(&["get", "deployments,widgets,services", "-l", "release=shop", "-o", "name"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    // As helm does, what a chart defines as a kind stays.
    has(&plane.k(&["get", "crd", "widgets.example.com", "-o", "name"])?, &["widgets.example.com"])
}

fn replicas(plane: &Plane) -> Result<String> {
    plane.k(&["get", "deployment", "shop-web", "-o", "jsonpath={.status.readyReplicas}"])
}
