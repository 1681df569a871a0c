//! The pod status that the agent reports: phase, conditions, container states. Pure.
//!
//! Follows kubelet's `generateAPIPodStatus`. The status as last made is an input:
//! what the runtime no longer has (ended containers, addresses of a sandbox that was
//! removed) stays as it was reported, and transition times change only with a state.

pub mod conditions;
pub mod containers;
pub mod diff;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::decide::restart::should_restart;
use crate::decide::{View, is_restartable_init};

/// What the status says of the node.
#[derive(Debug, Clone, Default)]
pub struct NodeAddresses {
    /// The node's addresses, the primary one first.
    pub host_ips: Vec<IpAddr>,
}

/// `metav1.Time` has whole seconds.
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// The status of a pod as it is now.
pub fn generate(view: &View<'_>, node: &NodeAddresses) -> PodStatus {
    let mut status = PodStatus {
        start_time: view.memory.first_seen.map(time).or_else(|| view.last.start_time.clone()),
        observed_generation: view.pod.metadata.generation,
        qos_class: view.last.qos_class.clone().or_else(|| Some(qos_class(view).to_owned())),
        ..PodStatus::default()
    };
    addresses(view, node, &mut status);
    let inits = containers::init_statuses(view);
    let mains = containers::main_statuses(view);
    let phase = final_phase(view, phase(view, &inits, &mains));
    if let Some((reason, message)) = ended(view) {
        (status.reason, status.message) = (Some(reason), Some(message));
    }
    status.conditions = Some(conditions::conditions(view, &inits, &mains, &phase));
    status.phase = Some(phase);
    status.container_statuses = Some(mains);
    status.init_container_statuses = Some(inits).filter(|inits| !inits.is_empty());
    status
}

/// Reason and message of a pod that the node ended.
fn ended(view: &View<'_>) -> Option<(String, String)> {
    if view.out_of_time() {
        let message = "Pod was active on the node longer than the specified deadline";
        return Some(("DeadlineExceeded".into(), message.into()));
    }
    let last = view.last;
    let reported = || Some((last.reason.clone()?, last.message.clone().unwrap_or_default()));
    view.memory.ended.clone().or_else(reported)
}

fn addresses(view: &View<'_>, node: &NodeAddresses, status: &mut PodStatus) {
    status.host_ip = node.host_ips.first().map(ToString::to_string);
    let host_ips: Vec<_> = node.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect();
    status.host_ips = Some(host_ips).filter(|ips| !ips.is_empty());
    let known = view.sandbox().and_then(|sandbox| view.memory.addresses.get(&sandbox.id));
    match known {
        Some(ips) if view.spec().host_network != Some(true) => {
            status.pod_ip = ips.first().map(ToString::to_string);
            let ips: Vec<_> = ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect();
            status.pod_ips = Some(ips).filter(|ips| !ips.is_empty());
        }
        _ if view.spec().host_network == Some(true) && (view.sandbox().is_some() || view.finished()) => {
            status.pod_ip = status.host_ip.clone();
            let ips = node.host_ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect();
            status.pod_ips = Some(ips);
        }
        // A pod that has ended keeps the address it had.
        _ => {
            status.pod_ip = view.last.pod_ip.clone();
            status.pod_ips = view.last.pod_ips.clone();
        }
    }
}

/// A phase never goes back from Succeeded or Failed, and a pod that the node ended
/// has failed once nothing of it runs.
fn final_phase(view: &View<'_>, computed: &str) -> String {
    if let Some(last @ ("Succeeded" | "Failed")) = view.last.phase.as_deref() {
        return last.to_owned();
    }
    let deleted = view.gone || view.pod.metadata.deletion_timestamp.is_some();
    if !deleted && (view.memory.ended.is_some() || view.out_of_time()) {
        // Terminal only once nothing runs: a Job must not replace what still works.
        let stopped = view.running().next().is_none();
        return if stopped { "Failed" } else { computed }.to_owned();
    }
    // Nothing can start any more, so that Pending or Running would be wrong for good.
    if deleted && view.running().next().is_none() && view.memory.in_flight.is_empty() {
        let ran = view.spec().containers.iter().all(|c| view.exit_code(&c.name) == Some(0));
        return if ran { "Succeeded" } else { "Failed" }.to_owned();
    }
    computed.to_owned()
}

/// kubelet's `getPhase`.
fn phase(view: &View<'_>, inits: &[ContainerStatus], mains: &[ContainerStatus]) -> &'static str {
    let find = |list: &'_ [ContainerStatus], name: &str| list.iter().find(|s| s.name == name).cloned();
    let mut pending = false;
    for init in view.inits().filter(|c| !is_restartable_init(c)) {
        let Some(status) = find(inits, &init.name) else { continue };
        match ended_code(&status) {
            Some(0) if is_terminated(&status) => {}
            Some(code) if code != 0 && !should_restart(view.pod, init, true, code) => return "Failed",
            Some(code) if code != 0 => {}
            _ => pending = true,
        }
    }
    let initialized = view.initialized();
    let mut running = 0;
    for sidecar in view.inits().filter(|c| is_restartable_init(c)) {
        let Some(status) = find(inits, &sidecar.name) else { continue };
        if is_running(&status) {
            running += 1;
            pending |= status.started != Some(true) && !initialized;
        } else if ended_code(&status).is_none() {
            pending |= !initialized;
        }
    }
    let (mut waiting, mut stopped, mut stays, mut succeeded) = (0, 0, 0, 0);
    for container in &view.spec().containers {
        let Some(status) = find(mains, &container.name) else { continue };
        if is_running(&status) {
            running += 1;
            continue;
        }
        match ended_code(&status) {
            Some(code) => {
                stopped += 1;
                stays += u32::from(!should_restart(view.pod, container, false, code));
                succeeded += u32::from(code == 0 && is_terminated(&status));
            }
            None => waiting += 1,
        }
    }
    match () {
        () if pending || waiting > 0 => "Pending",
        () if running > 0 => "Running",
        () if stopped == 0 => "Pending",
        () if stopped != stays => "Running",
        () if stopped == succeeded => "Succeeded",
        () => "Failed",
    }
}

/// How the container ended, now or (when it waits) the last time.
fn ended_code(status: &ContainerStatus) -> Option<i32> {
    let of = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code)
    };
    if is_running(status) { None } else { of(&status.state).or_else(|| of(&status.last_state)) }
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn is_terminated(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.terminated.is_some())
}

/// Quality of service class, as upstream computes it from requests and limits.
pub fn qos_class(view: &View<'_>) -> &'static str {
    let (mut any, mut all) = (false, true);
    for (container, _) in view.roles() {
        let resources = container.resources.as_ref();
        for name in ["cpu", "memory"] {
            let of = |list: Option<&std::collections::BTreeMap<String, _>>| {
                list.and_then(|list| list.get(name))
                    .map(|q: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| q.0.clone())
                    .filter(|q| q != "0")
            };
            let limit = of(resources.and_then(|r| r.limits.as_ref()));
            let request = of(resources.and_then(|r| r.requests.as_ref()));
            any |= limit.is_some() || request.is_some();
            all &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
