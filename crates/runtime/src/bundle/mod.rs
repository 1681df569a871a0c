//! The seam between the agent and whatever launches a container: an OCI bundle, that is
//! a directory with `config.json` ([`oci::Config`]) and, beside it, what the OCI spec
//! leaves to the caller of a runtime ([`Launch`]): how the root file system is mounted,
//! which control groups exist already, and where the output goes.
//!
//! What always holds: both files are complete before the shim hears of them, so that a
//! bundle can be handed to another launcher, and read by a person. Pure but for
//! reading and writing the two files.

pub mod caps;
pub mod oci;
pub mod plan;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Result, RuntimeError};

/// Name of the OCI configuration in a bundle.
pub const CONFIG: &str = "config.json";
/// Name of our own additions.
pub const LAUNCH: &str = "launch.json";
/// Name of the exit record that the shim leaves ([`crate::ExitStatus`]).
pub const EXIT: &str = "exit.json";

/// What the shim must know beside the OCI configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Launch {
    /// Root file system: an overlay of image layers.
    pub rootfs: Overlay,
    /// Control groups to put the process into before it does anything.
    pub cgroup: CgroupJoin,
    /// Log file and its rotation.
    pub log_path: PathBuf,
    /// Bytes per log file.
    pub log_max_bytes: u64,
    /// Log files in all.
    pub log_max_files: u32,
    /// Keep a pipe as standard input.
    pub stdin: bool,
    /// Close it when the first attached client goes.
    pub stdin_once: bool,
    /// Install the default system call filter.
    pub seccomp: bool,
    /// All devices of the node.
    pub privileged: bool,
}

/// An overlay mount. Lower layers are relative to `layers_dir` (top first), to stay far
/// below the one page that mount options may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Overlay {
    /// Directory that `lower` is relative to.
    pub layers_dir: PathBuf,
    /// Layer directories, the topmost first.
    pub lower: Vec<String>,
    /// Writable layer.
    pub upper: PathBuf,
    /// overlayfs' own work directory, on the same file system.
    pub work: PathBuf,
}

/// Control groups of one container, made by the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CgroupJoin {
    /// cgroup v1: controller and directory in each hierarchy.
    pub v1: Vec<(String, PathBuf)>,
    /// cgroup v2: the directory, when v2 carries the controllers.
    pub v2: Option<PathBuf>,
    /// File with an `oom_kill` counter.
    pub oom_events: Option<PathBuf>,
}

impl CgroupJoin {
    /// A directory whose `cgroup.procs` lists the container's processes.
    pub fn any_dir(&self) -> Option<&Path> {
        let v1 = || self.v1.iter().find(|(c, _)| c == "pids").or(self.v1.first());
        self.v2.as_deref().or_else(|| v1().map(|(_, dir)| dir.as_path()))
    }
}

/// Reads a JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(RuntimeError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|e| RuntimeError::io("parse", path)(std::io::Error::other(e)))
}

/// Writes a JSON file so that a reader sees all of it or nothing.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes =
        serde_json::to_vec(value).map_err(|e| RuntimeError::io("encode", path)(std::io::Error::other(e)))?;
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes).map_err(RuntimeError::io("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(RuntimeError::io("rename", path))
}
