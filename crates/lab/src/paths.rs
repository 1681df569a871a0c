//! Where the lab finds programs and keeps what is dear to make.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The repository.
pub fn repository() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    crates.ancestors().nth(2).unwrap_or(crates).to_owned()
}

/// The directory `target`, in which the lab's cache lies too.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// A directory for what the lab makes once and keeps: images, unpacked packages.
///
/// # Errors
/// It cannot be made.
pub fn cache() -> Result<PathBuf> {
    let dir = target().join("lab");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// The carrack binary: `CARRACK_BIN`, or the one built beside the running test.
///
/// # Errors
/// It has not been built.
pub fn carrack() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CARRACK_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let beside = test.ancestors().nth(2).map(|dir| dir.join("carrack"));
    beside
        .filter(|path| path.exists())
        .context("the carrack binary is not built; `cargo build -p carrack` first, or set CARRACK_BIN")
}

/// A program of `tests/upstream`, such as `kubectl`: in `CARRACK_UPSTREAM_BIN`, which
/// several clones may share, or among what was built here.
///
/// # Errors
/// It has not been built.
pub fn upstream(program: &str) -> Result<PathBuf> {
    let shared = std::env::var_os("CARRACK_UPSTREAM_BIN").map(|dir| PathBuf::from(dir).join(program));
    if let Some(path) = shared.filter(|path| path.exists()) {
        return Ok(path);
    }
    let path = target().join("upstream").join(program);
    if !path.exists() {
        bail!("{} is not built; `make target/upstream/{program}` does", path.display());
    }
    Ok(path)
}
