//! Volumes, tokens and the files that every container gets, put onto the disk.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use carrack_client::resource;
use carrack_network::plan::{HostPort, Protocol};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::actions::{Run, termination_file};
use crate::spec::{files as texts, refs};
use crate::volumes::plan::{Inputs, plan, token_requests};
use crate::volumes::{TokenRequest, setup};

/// Makes every volume as it shall be now. Also renews them when something changed.
pub(super) async fn volumes(run: &Run) -> Result<(), String> {
    let shared = &run.shared;
    let volumes = run.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let objects = shared.watched.load(run.namespace(), &refs::references(&run.pod)).await?;
    let tokens = tokens(run).await?;
    let mut facts = shared.facts.clone();
    facts.pod_ips.clone_from(&run.addresses);
    let inputs = Inputs { pod: &run.pod, objects: &objects, facts: &facts, tokens: &tokens };
    let mut wanted = Vec::new();
    for volume in volumes {
        let planned = plan(&inputs, volume).map_err(|error| set_up_failed(&volume.name, &error))?;
        wanted.push((volume.name.clone(), planned));
    }
    let security = run.pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let fs_group = security.and_then(|s| s.fs_group).and_then(|group| u32::try_from(group).ok());
    let stamp = shared.now().strftime("%Y_%m_%d_%H_%M_%S.%9f").to_string();
    let (paths, uid) = (shared.paths.clone(), run.uid.clone());
    let made = tokio::task::spawn_blocking(move || -> Result<_, String> {
        let dir = paths.pod(&uid);
        fs::create_dir_all(&dir).map_err(|error| format!("create {}: {error}", dir.display()))?;
        let mut made = BTreeMap::new();
        for (name, wanted) in wanted {
            let path = setup::set_up(&paths, &uid, &name, &wanted, &stamp, fs_group)
                .map_err(|error| set_up_failed(&name, &error))?;
            made.insert(name, path);
        }
        Ok(made)
    });
    let made = made.await.map_err(|error| error.to_string())??;
    run.local.lock().expect("nobody panics with it locked").volumes = made;
    Ok(())
}

fn set_up_failed(volume: &str, error: &dyn std::fmt::Display) -> String {
    format!("MountVolume.SetUp failed for volume \"{volume}\" : {error}")
}

/// Tokens for the projected volumes: those that are still good, and new ones.
async fn tokens(run: &Run) -> Result<BTreeMap<TokenRequest, String>, String> {
    let mut all = BTreeMap::new();
    let mut due: Option<Timestamp> = None;
    for request in token_requests(&run.pod) {
        let known = {
            let local = run.local.lock().expect("nobody panics with it locked");
            local.tokens.get(&request).cloned()
        };
        let (token, renew) = match known.filter(|(_, renew)| *renew > run.shared.now()) {
            Some(known) => known,
            None => {
                let made = request_token(run, &request).await?;
                let mut local = run.local.lock().expect("nobody panics with it locked");
                local.tokens.insert(request.clone(), made.clone());
                made
            }
        };
        due = Some(due.map_or(renew, |due| due.min(renew)));
        all.insert(request, token);
    }
    run.local.lock().expect("nobody panics with it locked").refresh_at = due;
    Ok(all)
}

/// One TokenRequest; the token and when to renew it (at 80% of its life, as kubelet).
async fn request_token(run: &Run, request: &TokenRequest) -> Result<(String, Timestamp), String> {
    let meta = &run.pod.metadata;
    let account = run.pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
    let account = account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
    let audiences: Vec<&str> =
        Some(request.audience.as_str()).filter(|a| !a.is_empty()).into_iter().collect();
    let mut body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {
            "expirationSeconds": request.expiration,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": meta.name, "uid": meta.uid},
        },
    });
    if !audiences.is_empty() {
        body["spec"]["audiences"] = audiences.into();
    }
    let now = run.shared.now();
    let answer = run
        .shared
        .client
        .create_sub(&resource::SERVICE_ACCOUNTS, (run.namespace(), &account), "token", &body)
        .await
        .map_err(|error| format!("failed to fetch token: {error}"))?;
    let answer: Value = answer.decode().map_err(|error| format!("failed to fetch token: {error}"))?;
    let token = answer["status"]["token"].as_str().unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err("failed to fetch token: the answer holds none".to_owned());
    }
    let granted = answer["spec"]["expirationSeconds"].as_i64().unwrap_or(request.expiration);
    let life = granted.clamp(60, 24 * 3600) * 8 / 10;
    let renew = now.checked_add(SignedDuration::from_secs(life)).unwrap_or(now);
    Ok((token, renew))
}

/// Files of one container's start.
pub(super) struct Files {
    pub log: PathBuf,
    pub hosts: PathBuf,
    pub termination: PathBuf,
}

/// Writes /etc/hosts, makes the log's directory and an empty termination log.
pub(super) async fn files(run: &Run, container: &Container, attempt: u32) -> Result<Files, String> {
    let shared = run.shared.clone();
    let on_host = run.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let host_file = on_host.then(|| shared.host_hosts.clone());
    let hosts_text = texts::hosts(&run.pod, &run.addresses, host_file.as_deref(), &shared.domain);
    let name = run.pod.metadata.name.as_deref().unwrap_or_default();
    let logs = shared.paths.pod_logs(run.namespace(), name, &run.uid).join(&container.name);
    let termination = termination_file(&shared, &run.uid, &container.name, attempt);
    let hosts = shared.paths.pod(&run.uid).join("etc-hosts");
    let made = Files { log: logs.join(format!("{attempt}.log")), hosts, termination };
    let (hosts, termination) = (made.hosts.clone(), made.termination.clone());
    let write = move || -> std::io::Result<()> {
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        fs::create_dir_all(&logs)?;
        // In place: containers that run already have this very file mounted.
        if fs::read(&hosts).ok().as_deref() != Some(hosts_text.as_bytes()) {
            fs::write(&hosts, hosts_text)?;
        }
        if let Some(parent) = termination.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = fs::OpenOptions::new().create(true).append(true).mode(0o666).open(&termination)?;
        // Any user of the container may write its last words.
        file.set_permissions(fs::Permissions::from_mode(0o666))
    };
    let written = tokio::task::spawn_blocking(write).await.map_err(|error| error.to_string())?;
    written.map_err(|error| format!("error making pod data directories: {error}"))?;
    Ok(made)
}

/// The node's ports that lead to this pod.
pub(super) fn host_ports(pod: &Pod, ips: &[IpAddr]) -> Vec<HostPort> {
    let Some(spec) = pod.spec.as_ref().filter(|s| s.host_network != Some(true)) else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| crate::decide::is_restartable_init(c));
    let ports = sidecars.chain(&spec.containers).flat_map(|c| c.ports.iter().flatten());
    let port = |number: i32| u16::try_from(number).ok().filter(|port| *port > 0);
    let mut all = Vec::new();
    for declared in ports {
        let Some(host_port) = declared.host_port.and_then(port) else { continue };
        let Some(container_port) = port(declared.container_port) else { continue };
        let protocol = declared.protocol.as_deref().and_then(Protocol::parse).unwrap_or(Protocol::Tcp);
        let host_ip = declared.host_ip.as_deref().and_then(|ip| ip.parse().ok());
        all.extend(ips.iter().map(|ip| HostPort {
            host_ip,
            host_port,
            protocol,
            pod_ip: *ip,
            container_port,
        }));
    }
    all
}
