//! From a container's spec and its image to an OCI configuration: what kubelet and
//! containerd's CRI plugin do together, as one pure function.
//!
//! What always holds: nothing is read from the machine here; whoever asks has resolved
//! the image and the user. The result says everything a launcher must do.

use crate::bundle::caps;
use crate::bundle::oci::{Capabilities, Config, Linux, Namespace, OciMount, OciUser, Process, Root};
use crate::error::{Result, RuntimeError};
use crate::spec::{ContainerSpec, Mount, MountSource, Propagation, SandboxSpec};
use crate::traits::ImageConfig;

/// `PATH` when neither image nor spec says one.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Paths below `/proc` and `/sys` that say too much or break the node (as in containerd).
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Everything that has been looked up for a container.
pub struct Inputs<'a> {
    /// The sandbox it goes into.
    pub sandbox: &'a SandboxSpec,
    /// The container.
    pub spec: &'a ContainerSpec,
    /// Its image's configuration.
    pub image: &'a ImageConfig,
    /// Who it runs as, and that user's home.
    pub user: &'a ResolvedUser,
    /// Files of the sandbox: `resolv.conf` (when there is one) and `hostname`.
    pub sandbox_files: &'a [(String, String)],
    /// `cgroupsPath`.
    pub cgroups_path: String,
}

/// A user in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Home directory from `/etc/passwd`.
    pub home: Option<String>,
}

/// Makes the configuration.
pub fn config(inputs: &Inputs<'_>) -> Result<Config> {
    let Inputs { sandbox, spec, image, user, .. } = inputs;
    let security = &spec.security;
    let capabilities = caps::names(caps::effective(
        security.privileged,
        &security.add_capabilities,
        &security.drop_capabilities,
    )?);
    let unmasked = security.privileged || security.unmasked_proc;
    let paths = |list: &[&str]| {
        if unmasked { Vec::new() } else { list.iter().map(|p| p.to_string()).collect() }
    };
    Ok(Config {
        oci_version: "1.2.0".to_owned(),
        process: Process {
            terminal: spec.tty,
            user: OciUser { uid: user.uid, gid: user.gid, additional_gids: user.groups.clone() },
            args: command(spec, image)?,
            env: environment(sandbox, spec, image, user),
            cwd: working_dir(spec, image)?,
            capabilities: Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
                ..Capabilities::default()
            },
            no_new_privileges: security.no_new_privileges && !security.privileged,
            oom_score_adj: spec.resources.oom_score_adj,
        },
        root: Root { path: "rootfs".to_owned(), readonly: security.read_only_root },
        hostname: sandbox.hostname.clone(),
        mounts: mounts(inputs)?,
        linux: Linux {
            namespaces: namespaces(sandbox),
            cgroups_path: inputs.cgroups_path.clone(),
            masked_paths: paths(&MASKED),
            readonly_paths: paths(&READ_ONLY),
        },
        annotations: spec.annotations.clone(),
    })
}

/// `command` replaces entrypoint and cmd, `args` replaces cmd (Kubernetes' table for
/// "define a command and arguments").
fn command(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>> {
    let mut words = Vec::new();
    if spec.command.is_empty() {
        words.extend(image.entrypoint.iter().cloned());
        let args = if spec.args.is_empty() { &image.cmd } else { &spec.args };
        words.extend(args.iter().cloned());
    } else {
        words.extend(spec.command.iter().chain(&spec.args).cloned());
    }
    if words.is_empty() {
        return Err(RuntimeError::InvalidSpec("no command specified".to_owned()));
    }
    if words.iter().any(|w| w.contains('\0')) {
        return Err(RuntimeError::InvalidSpec("a command must not contain NUL".to_owned()));
    }
    Ok(words)
}

/// Later entries win; the image's come first.
fn environment(
    sandbox: &SandboxSpec,
    spec: &ContainerSpec,
    image: &ImageConfig,
    user: &ResolvedUser,
) -> Vec<String> {
    let mut env: Vec<String> = vec![DEFAULT_PATH.to_owned()];
    if spec.tty {
        env.push("TERM=xterm".to_owned());
    }
    if !sandbox.hostname.is_empty() {
        env.push(format!("HOSTNAME={}", sandbox.hostname));
    }
    env.push(format!("HOME={}", user.home.as_deref().unwrap_or("/")));
    for entry in &image.env {
        set(&mut env, entry.clone());
    }
    for (name, value) in &spec.env {
        set(&mut env, format!("{name}={value}"));
    }
    env.retain(|e| !e.contains('\0'));
    env
}

fn set(env: &mut Vec<String>, entry: String) {
    let name = entry.split('=').next().unwrap_or_default().len();
    let same = |e: &String| e.get(..=name).is_some_and(|head| Some(head) == entry.get(..=name));
    match env.iter().position(same) {
        Some(at) => env[at] = entry,
        None => env.push(entry),
    }
}

fn working_dir(spec: &ContainerSpec, image: &ImageConfig) -> Result<String> {
    let chosen = spec.working_dir.as_deref().filter(|d| !d.is_empty());
    let dir = chosen.unwrap_or(&image.working_dir);
    match dir {
        "" => Ok("/".to_owned()),
        dir if dir.starts_with('/') => Ok(dir.to_owned()),
        // An image may say a relative one; docker takes it from the root.
        dir if chosen.is_none() => Ok(format!("/{dir}")),
        dir => Err(RuntimeError::InvalidSpec(format!("working directory \"{dir}\" is not absolute"))),
    }
}

fn namespaces(sandbox: &SandboxSpec) -> Vec<Namespace> {
    // Network, IPC and host name are the shim's own namespaces, which children inherit.
    let mut kinds = vec!["mount", "cgroup"];
    if !sandbox.host_pid && !sandbox.share_process_namespace {
        kinds.push("pid");
    }
    kinds.iter().map(|kind| Namespace { kind: kind.to_string(), path: None }).collect()
}

fn mounts(inputs: &Inputs<'_>) -> Result<Vec<OciMount>> {
    let privileged = inputs.spec.security.privileged;
    let mount = |destination: &str, kind: &str, options: &[&str]| OciMount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: kind.to_owned(),
        options: options.iter().map(|o| o.to_string()).collect(),
        sub_path: None,
    };
    let access = if privileged { "rw" } else { "ro" };
    let dev = if privileged { "dev" } else { "nodev" };
    let mut list = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", dev, "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "carrack-shm", &["nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", access]),
    ];
    let mine = &inputs.spec.mounts;
    let taken = |path: &str| mine.iter().any(|m| clean(&m.container_path) == path);
    for (path, host) in inputs.sandbox_files.iter().filter(|(path, _)| !taken(path)) {
        list.push(OciMount {
            destination: path.clone(),
            kind: "bind".to_owned(),
            source: host.clone(),
            options: vec!["rbind".into(), "rprivate".into(), "rw".into(), "nodev".into()],
            sub_path: None,
        });
    }
    list.retain(|m| !taken(&m.destination));
    let mut volumes = mine.iter().map(|m| volume(m, privileged)).collect::<Result<Vec<_>>>()?;
    // Parents before what is mounted below them, otherwise in the order given.
    volumes.sort_by_key(|m| m.destination.split('/').filter(|p| !p.is_empty()).count());
    list.extend(volumes);
    Ok(list)
}

fn volume(mount: &Mount, privileged: bool) -> Result<OciMount> {
    let path = clean(&mount.container_path);
    if !mount.container_path.starts_with('/') || path == "/" {
        let path = &mount.container_path;
        return Err(RuntimeError::InvalidSpec(format!("cannot mount at \"{path}\"")));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(RuntimeError::InvalidSpec(format!("mount path \"{path}\" must not contain '..'")));
    }
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }.to_owned()];
    if !privileged {
        // Stands in for a device control group: no file system that a container can make
        // device nodes on honours them.
        options.push("nodev".to_owned());
    }
    Ok(match &mount.source {
        MountSource::Tmpfs { size } => {
            options.push("nosuid".to_owned());
            options.extend(size.map(|s| format!("size={s}")));
            OciMount {
                destination: path,
                kind: "tmpfs".to_owned(),
                source: "tmpfs".to_owned(),
                options,
                sub_path: None,
            }
        }
        MountSource::Bind { host_path, sub_path } => {
            options.push("rbind".to_owned());
            let propagation = match mount.propagation {
                Propagation::Private => "rprivate",
                Propagation::HostToContainer => "rslave",
                Propagation::Bidirectional if privileged => "rshared",
                Propagation::Bidirectional => {
                    return Err(RuntimeError::InvalidSpec(format!(
                        "Bidirectional mount propagation of \"{path}\" needs a privileged container"
                    )));
                }
            };
            options.push(propagation.to_owned());
            let kind = if sub_path.is_some() { "carrack-subpath" } else { "bind" };
            OciMount {
                destination: path,
                kind: kind.to_owned(),
                source: host_path.to_string_lossy().into_owned(),
                options,
                sub_path: sub_path.clone(),
            }
        }
    })
}

/// Without doubled or trailing slashes and single dots.
fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    format!("/{}", parts.join("/"))
}
