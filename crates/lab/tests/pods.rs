//! Upstream's kubectl against a whole cluster with running pods: logs, exec, rollouts,
//! waiting, deleting. The golden answers were reviewed by hand; `UPDATE_GOLDEN=1` writes
//! them anew, to be reviewed again.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

use std::path::{Path, PathBuf};

use carrack_lab::cluster::{Cluster, PATIENCE};
use carrack_lab::machine::run;
use carrack_lab::{images, paths, script};

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

#[test]
fn says_what_upstream_says_of_pods() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut import = cluster.carrack("image").unwrap();
    import.arg("import").arg(images::busybox_archive().unwrap());
    run(import, PATIENCE).unwrap();

    let text = std::fs::read_to_string(golden("pods.script")).unwrap();
    let said = script::transcript(&text, |line| {
        let mut command = cluster.machine.command("bash");
        command.args(["-c", "set +B; eval \"$0\"", line]);
        command.env("K", paths::upstream("kubectl")?).env("M", golden("pods.yaml"));
        command.env("KUBECONFIG", cluster.data().join("kubeconfig")).env("HOME", cluster.machine.dir());
        Ok(command)
    })
    .unwrap();
    let different = script::compare(&golden("pods.txt"), &said).unwrap();
    assert!(different.is_empty(), "{different}\n{}", cluster.said());
}
