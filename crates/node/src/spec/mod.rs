//! From a pod's spec to what the runtime is asked for. Pure.
//!
//! Everything that kubelet resolves is resolved here: environment, expansion,
//! mounts, privileges, limits. What it needs of the outside (objects, addresses,
//! paths of volumes, the image's user) comes in as values.

pub mod env;
pub mod expand;
pub mod fields;
pub mod files;
pub mod refs;
pub mod resources;
pub mod security;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use carrack_runtime::{ContainerSpec, ImageConfig, Mount, MountSource, Propagation, SandboxSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};

pub use env::ServiceEnv;

/// A container cannot be made from its spec as things are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// Waiting reason: `CreateContainerConfigError` or `CreateContainerError`.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

impl ConfigError {
    /// `CreateContainerConfigError`.
    pub fn config(message: impl Into<String>) -> Self {
        Self { reason: "CreateContainerConfigError", message: message.into() }
    }
}

/// What a pod may ask about itself and its node.
#[derive(Debug, Clone, Default)]
pub struct PodFacts {
    /// Addresses of the node.
    pub host_ips: Vec<IpAddr>,
    /// Addresses of the pod (of the node with `hostNetwork`).
    pub pod_ips: Vec<IpAddr>,
    /// Bytes of memory that the node can give.
    pub node_memory: u64,
    /// CPUs that it can give.
    pub node_cpus: u64,
    /// Bytes of disk that it can give.
    pub node_storage: u64,
}

/// The ConfigMaps and Secrets that a pod refers to; `None` for one that is not there.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// By name.
    pub config_maps: BTreeMap<String, Option<ConfigMap>>,
    /// By name.
    pub secrets: BTreeMap<String, Option<Secret>>,
}

impl Objects {
    /// A ConfigMap; an optional one may be missing.
    pub fn config_map(&self, name: &str, optional: bool) -> Result<Option<&ConfigMap>, ConfigError> {
        match self.config_maps.get(name).and_then(Option::as_ref) {
            None if !optional => Err(ConfigError::config(format!("configmap \"{name}\" not found"))),
            found => Ok(found),
        }
    }

    /// A Secret; an optional one may be missing.
    pub fn secret(&self, name: &str, optional: bool) -> Result<Option<&Secret>, ConfigError> {
        match self.secrets.get(name).and_then(Option::as_ref) {
            None if !optional => Err(ConfigError::config(format!("secret \"{name}\" not found"))),
            found => Ok(found),
        }
    }
}

/// What a container's spec is made from, besides the pod.
pub struct Inputs<'a> {
    /// Objects by name.
    pub objects: &'a Objects,
    /// Addresses and capacity.
    pub facts: &'a PodFacts,
    /// Services that appear in the environment.
    pub services: &'a [ServiceEnv],
    /// Path of each volume on the node.
    pub volumes: &'a BTreeMap<String, PathBuf>,
    /// The image's own configuration.
    pub image: &'a ImageConfig,
    /// The image's id.
    pub image_id: &'a str,
    /// Path of the log file.
    pub log_path: PathBuf,
    /// The pod's hosts file, unless the container mounts its own.
    pub hosts_file: Option<PathBuf>,
    /// File for the termination message.
    pub termination_log: PathBuf,
}

/// The sandbox of a pod.
pub fn sandbox(pod: &Pod, attempt: u32, hostname: String, resolv_conf: String) -> SandboxSpec {
    let meta = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let security = spec.security_context.clone().unwrap_or_default();
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    SandboxSpec {
        pod_uid: text(&meta.uid),
        namespace: text(&meta.namespace),
        name: text(&meta.name),
        attempt,
        hostname,
        host_network: spec.host_network.unwrap_or(false),
        host_pid: spec.host_pid.unwrap_or(false),
        host_ipc: spec.host_ipc.unwrap_or(false),
        share_process_namespace: spec.share_process_namespace.unwrap_or(false),
        sysctls: security.sysctls.into_iter().flatten().map(|s| (s.name, s.value)).collect(),
        resolv_conf: Some(resolv_conf),
        resources: resources::of_pod(pod),
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: [(GRACE.to_owned(), grace.to_string())].into(),
    }
}

/// Annotation of a sandbox: the pod's grace period, for when its object is gone.
pub const GRACE: &str = "carrack.io/grace-seconds";

/// One container.
pub fn container(
    pod: &Pod,
    container: &Container,
    attempt: u32,
    inputs: &Inputs<'_>,
) -> Result<ContainerSpec, ConfigError> {
    let env = env::environment(pod, container, inputs.facts, inputs.objects, inputs.services)?;
    let lookup =
        |name: &str| env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand::expand(text, lookup)).collect()
    };
    let user = security::user(pod, container, inputs.image)?;
    let image = container.image.clone().unwrap_or_default();
    let stop_signal = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
    let meta = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Ok(ContainerSpec {
        name: container.name.clone(),
        attempt,
        image: if inputs.image_id.is_empty() { image.clone() } else { inputs.image_id.to_owned() },
        command: expanded(&container.command),
        args: expanded(&container.args),
        mounts: mounts(pod, container, inputs, &env)?,
        working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
        user,
        resources: resources::of_container(pod, container, inputs.facts.node_memory),
        security: security::privileges(pod, container),
        tty: container.tty.unwrap_or(false),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        log_path: inputs.log_path.clone(),
        log_rotation: Default::default(),
        stop_signal: stop_signal.and_then(security::signal_number),
        labels: [
            ("io.kubernetes.container.name".to_owned(), container.name.clone()),
            ("io.kubernetes.pod.name".to_owned(), text(&meta.name)),
            ("io.kubernetes.pod.namespace".to_owned(), text(&meta.namespace)),
            ("io.kubernetes.pod.uid".to_owned(), text(&meta.uid)),
        ]
        .into(),
        annotations: [(crate::decide::containers::IMAGE.to_owned(), image)].into(),
        env,
    })
}

/// Volume mounts, the hosts file and the termination log.
fn mounts(
    pod: &Pod,
    container: &Container,
    inputs: &Inputs<'_>,
    env: &[(String, String)],
) -> Result<Vec<Mount>, ConfigError> {
    let mut all = Vec::new();
    let mut hosts_mounted = false;
    for mount in container.volume_mounts.iter().flatten() {
        let Some(host_path) = inputs.volumes.get(&mount.name) else {
            let (container, mount) = (&container.name, &mount.name);
            return Err(ConfigError {
                reason: "CreateContainerConfigError",
                message: format!("cannot find volume \"{mount}\" to mount into container \"{container}\""),
            });
        };
        hosts_mounted |= mount.mount_path == "/etc/hosts";
        all.push(Mount {
            container_path: mount.mount_path.clone(),
            source: MountSource::Bind { host_path: host_path.clone(), sub_path: sub_path(mount, env)? },
            read_only: mount.read_only.unwrap_or(false) || written_by_agent(pod, &mount.name),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::Private,
            },
        });
    }
    let bind = |path: &str, file: &PathBuf| Mount {
        container_path: path.to_owned(),
        source: MountSource::Bind { host_path: file.clone(), sub_path: None },
        read_only: false,
        propagation: Propagation::Private,
    };
    if let Some(file) = inputs.hosts_file.as_ref().filter(|_| !hosts_mounted) {
        all.push(bind("/etc/hosts", file));
    }
    let termination = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    all.push(bind(termination.unwrap_or("/dev/termination-log"), &inputs.termination_log));
    Ok(all)
}

/// Whether a volume's files come from the API, so that nobody else writes to it.
fn written_by_agent(pod: &Pod, volume: &str) -> bool {
    let mut volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.any(|v| {
        let ours = v.config_map.is_some() || v.secret.is_some() || v.downward_api.is_some();
        v.name == volume && (ours || v.projected.is_some())
    })
}

/// `subPath`, or `subPathExpr` expanded; never absolute and never upwards. That it
/// leaves the volume through a symlink is prevented where it is opened.
fn sub_path(
    mount: &k8s_openapi::api::core::v1::VolumeMount,
    env: &[(String, String)],
) -> Result<Option<String>, ConfigError> {
    let path = match (&mount.sub_path, &mount.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => path.clone(),
        (_, Some(expression)) if !expression.is_empty() => {
            let missing = std::cell::Cell::new(false);
            let expanded = expand::expand(expression, |name| {
                let found = env.iter().rev().find(|(known, _)| known == name).map(|(_, v)| v.as_str());
                missing.set(missing.get() || found.is_none());
                found
            });
            if missing.get() {
                return Err(ConfigError::config(format!(
                    "missing value for \"{}\" in subPathExpr",
                    mount.name
                )));
            }
            expanded
        }
        _ => return Ok(None),
    };
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(ConfigError::config(format!(
            "unable to provision SubPath `{path}`: must be a relative path that does not contain '..'"
        )));
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests;
