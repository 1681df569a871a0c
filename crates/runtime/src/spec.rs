//! What the agent asks for: the specification of a pod sandbox and of a container.
//!
//! Shaped like `PodSandboxConfig` and `ContainerConfig` of the CRI (v1), so that a
//! `cri` implementation of the trait is a translation only. Plain data: everything
//! here serialises, is stored beside the container, and comes back on adoption.
//! Variable expansion, service environment, probes and volumes' contents are the
//! agent's business and are finished before a spec is made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(s: &str) -> Self {
                Self(s.to_owned())
            }
        }
    };
}

id! {
    /// Id of a pod sandbox: 32 lower-case hex digits, made by the runtime.
    SandboxId
}
id! {
    /// Id of a container: 64 lower-case hex digits, made by the runtime. In a pod's
    /// status it appears as `carrack://<id>`.
    ContainerId
}

/// A pod sandbox: the namespaces that a pod's containers share, and its shim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// `metadata.uid` of the pod; names the control group `carrack/pod<uid>`.
    pub pod_uid: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Counts the sandboxes of one pod, from 0.
    pub attempt: u32,
    /// Host name inside the pod; ignored with `host_network`.
    pub hostname: String,
    /// Share the node's network namespace (then there is no namespace path).
    pub host_network: bool,
    /// Share the node's process namespace.
    pub host_pid: bool,
    /// Share the node's IPC namespace.
    pub host_ipc: bool,
    /// One process namespace for all containers (`shareProcessNamespace`).
    pub share_process_namespace: bool,
    /// `securityContext.sysctls`, such as `net.ipv4.ip_local_port_range`.
    pub sysctls: BTreeMap<String, String>,
    /// Text of `/etc/resolv.conf`, mounted into every container unless it mounts its
    /// own there. None leaves the image's file. (`/etc/hostname` is mounted likewise;
    /// `/etc/hosts`, which needs the pod's address, is a mount that the agent adds.)
    pub resolv_conf: Option<String>,
    /// Limits of the pod as a whole (sum of its containers, as kubelet computes it).
    pub resources: Resources,
    /// Kept verbatim for adoption.
    pub labels: BTreeMap<String, String>,
    /// Kept verbatim for adoption.
    pub annotations: BTreeMap<String, String>,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Name in the pod.
    pub name: String,
    /// Counts the starts of this container in its pod (`restartCount`), from 0.
    pub attempt: u32,
    /// Image by reference, digest or id; it must be in the store. The runtime
    /// resolves it to its layers.
    pub image: String,
    /// `command`: replaces the image's entrypoint (and drops its cmd) when not empty.
    pub command: Vec<String>,
    /// `args`: replaces the image's cmd when not empty.
    pub args: Vec<String>,
    /// Environment, in order; later ones win, and all win over the image's.
    pub env: Vec<(String, String)>,
    /// Working directory; the image's by default, then `/`.
    pub working_dir: Option<String>,
    /// Who it runs as.
    pub user: User,
    /// Mounts, applied in the order of their depth.
    pub mounts: Vec<Mount>,
    /// Limits of this container.
    pub resources: Resources,
    /// Privileges.
    pub security: Security,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep a standard input open for `attach`; otherwise it reads `/dev/null`.
    pub stdin: bool,
    /// Close standard input when the first attached client goes.
    pub stdin_once: bool,
    /// Absolute path of the log file; its directory is created. CRI log format.
    pub log_path: PathBuf,
    /// When and how far the shim rotates the log.
    pub log_rotation: LogRotation,
    /// Signal for a graceful stop (number); None is the image's `STOPSIGNAL`, else SIGTERM.
    pub stop_signal: Option<i32>,
    /// Kept verbatim for adoption.
    pub labels: BTreeMap<String, String>,
    /// Kept verbatim for adoption.
    pub annotations: BTreeMap<String, String>,
}

/// Who a container's process runs as. What is absent comes from the image's `USER`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// `runAsUser`.
    pub uid: Option<u32>,
    /// `runAsGroup`.
    pub gid: Option<u32>,
    /// `supplementalGroups` and `fsGroup`.
    pub supplemental_groups: Vec<u32>,
    /// `supplementalGroupsPolicy: Strict`: do not add the groups that the image's
    /// `/etc/group` gives the user.
    pub strict_groups: bool,
}

/// One mount into a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container; missing parents are created.
    pub container_path: String,
    /// Where it comes from.
    pub source: MountSource,
    /// Read-only (recursively where the kernel can: 5.12).
    #[serde(default)]
    pub read_only: bool,
    /// How mounts made later travel between node and container.
    #[serde(default)]
    pub propagation: Propagation,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MountSource {
    /// A file or directory of the node, which must exist. `sub_path` is resolved
    /// below it by the kernel and can never leave it (CVE-2017-1002101,
    /// CVE-2021-25741); missing directories of it are created with mode 0750.
    #[serde(rename_all = "camelCase")]
    Bind {
        /// Absolute path on the node.
        host_path: PathBuf,
        /// Relative path below `host_path`.
        sub_path: Option<String>,
    },
    /// A tmpfs of its own.
    #[serde(rename_all = "camelCase")]
    Tmpfs {
        /// Limit in bytes; None is the kernel's (half of memory).
        size: Option<u64>,
    },
}

/// `mountPropagation` of a volume mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// `None`: private.
    #[default]
    Private,
    /// Mounts made on the node appear in the container.
    HostToContainer,
    /// Both ways; only for privileged containers.
    Bidirectional,
}

/// Limits in the kernel's units. None leaves the kernel's default (no limit).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `cpu.shares` of cgroup v1, 2–262144 (v2: converted to `cpu.weight`).
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU per period.
    pub cpu_quota: Option<i64>,
    /// The period in microseconds, 100000 by default.
    pub cpu_period: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// Number of processes and threads.
    pub pids_limit: Option<u64>,
    /// `oom_score_adj` of the first process, -1000–1000. A negative one that is not
    /// permitted is dropped with one warning.
    pub oom_score_adj: Option<i32>,
}

/// Privileges of a container. The default is what a pod without securityContext gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities, all devices, nothing masked, no seccomp.
    pub privileged: bool,
    /// Capabilities to add to the default set (`ALL`, `NET_ADMIN` or `CAP_NET_ADMIN`).
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop from it.
    pub drop_capabilities: Vec<String>,
    /// `readOnlyRootFilesystem`.
    pub read_only_root: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// `procMount: Unmasked` turns the masked and read-only paths off.
    pub unmasked_proc: bool,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            privileged: false,
            add_capabilities: Vec::new(),
            drop_capabilities: Vec::new(),
            read_only_root: false,
            no_new_privileges: false,
            seccomp: Seccomp::RuntimeDefault,
            unmasked_proc: false,
        }
    }
}

/// Which system call filter a container runs under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// The built-in allow list (the one that docker and containerd have by default).
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
}

/// Size limits of a container's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRotation {
    /// Bytes after which the file is rotated (kubelet `containerLogMaxSize`, 10 MiB).
    pub max_bytes: u64,
    /// Files kept in all, the current one included (`containerLogMaxFiles`, 5).
    pub max_files: u32,
}

impl Default for LogRotation {
    fn default() -> Self {
        Self { max_bytes: 10 * 1024 * 1024, max_files: 5 }
    }
}
