//! Programs and images from Debian's packages, fetched once with apt and kept in the
//! lab's cache. Nothing is installed on the host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::machine::run;
use crate::paths;

/// One fetch at a time: apt has a lock of its own, which fails instead of waiting.
static FETCH: Mutex<()> = Mutex::new(());

/// Debian's static busybox: the shell and the tools of machines and test images.
///
/// # Errors
/// It cannot be fetched.
pub fn busybox() -> Result<PathBuf> {
    Ok(packages(&["busybox-static"])?.join("bin/busybox"))
}

/// A tree with these packages unpacked, and nothing else: dependencies are named, not
/// resolved, so that images stay small.
///
/// # Errors
/// A package cannot be fetched or unpacked.
pub fn packages(names: &[&str]) -> Result<PathBuf> {
    let tree = paths::cache()?.join("trees").join(names.join("+"));
    let _one = FETCH.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if tree.exists() {
        return Ok(tree);
    }
    let debs = fetch(names)?;
    // Unpacked beside its place and then moved, so that an interrupted run leaves nothing.
    let fresh = tree.with_extension("new");
    let _ = std::fs::remove_dir_all(&fresh);
    std::fs::create_dir_all(&fresh)?;
    for deb in debs {
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").args([&deb, &fresh]);
        run(command, Duration::from_secs(60))?;
    }
    std::fs::rename(&fresh, &tree)?;
    Ok(tree)
}

fn fetch(names: &[&str]) -> Result<Vec<PathBuf>> {
    let dir = paths::cache()?.join("debs");
    std::fs::create_dir_all(&dir)?;
    let missing: Vec<&str> = names.iter().copied().filter(|name| find(&dir, name).is_none()).collect();
    if !missing.is_empty() {
        let download = || {
            let mut command = Command::new("apt-get");
            command
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
                .args(&missing)
                .current_dir(&dir);
            run(command, Duration::from_secs(300))
        };
        if download().is_err() {
            // A new machine has no package lists yet.
            let mut update = Command::new("apt-get");
            update.args(["-qq", "update"]);
            run(update, Duration::from_secs(300))?;
            download()?;
        }
    }
    let found =
        names.iter().map(|name| find(&dir, name).with_context(|| format!("apt did not bring {name}")));
    let found = found.collect::<Result<Vec<_>>>()?;
    ensure!(found.len() == names.len());
    Ok(found)
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let prefix = format!("{name}_");
    let fits =
        |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&prefix));
    std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).find(fits)
}
