//! Where the upstream modules lie, as the Go toolchain resolves them for
//! `tests/upstream`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The checkout's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// The directory of a module that `tests/upstream/go.mod` names, downloaded if need be.
pub fn module(path: &str) -> Result<PathBuf> {
    let go = |args: &[&str]| -> Result<String> {
        let output = Command::new("go").args(args).current_dir(root().join("tests/upstream")).output();
        let output = output.context("running go")?;
        ensure!(output.status.success(), "go {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    go(&["mod", "download", path])?;
    Ok(go(&["list", "-m", "-f", "{{with .Replace}}{{.Dir}}{{else}}{{.Dir}}{{end}}", path])?.into())
}
