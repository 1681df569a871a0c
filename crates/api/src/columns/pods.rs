//! The row of a Pod: its STATUS column sums up phase, conditions and containers.

use jiff::Timestamp;
use serde_json::Value;

use super::Row;
use super::format::{NONE, or, since};
use crate::tree::{at, flag, get, int, int_at, items, items_at, text, text_at};

/// What counting containers found out.
#[derive(Default)]
struct Count {
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Count {
    fn restart(&mut self, container: &Value) {
        self.restarts += int(container, "restartCount").unwrap_or(0);
        let finished = text_at(container, &["lastState", "terminated", "finishedAt"]);
        self.last_restart = self.last_restart.max(finished.parse().ok());
    }
}

/// The cells of a Pod.
pub fn pod(row: &Row<'_>) -> Vec<Value> {
    let (spec, status) = (&row.object["spec"], &row.object["status"]);
    let mut count = Count::default();
    let reason = reason(row.object, &mut count);
    let sidecars = items(spec, "initContainers").iter().filter(|container| sidecar(container)).count();
    let total = items(spec, "containers").len() + sidecars;
    let restarts = match count.last_restart {
        Some(last) if count.restarts != 0 => {
            format!("{} ({} ago)", count.restarts, since(&last.to_string(), row.now))
        }
        _ => count.restarts.to_string(),
    };
    let gates = items(spec, "readinessGates");
    let passed = gates.iter().filter(|gate| condition(status, text(gate, "conditionType")) == "True").count();
    let gates = if gates.is_empty() { NONE.to_owned() } else { format!("{passed}/{}", gates.len()) };
    let ip = items(status, "podIPs").first().map_or("", |ip| text(ip, "ip"));
    vec![
        row.name(),
        format!("{}/{total}", count.ready).into(),
        reason.into(),
        restarts.into(),
        row.age(),
        or(ip, NONE).into(),
        or(text(spec, "nodeName"), NONE).into(),
        or(text(status, "nominatedNodeName"), NONE).into(),
        gates.into(),
    ]
}

fn sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

fn condition<'a>(status: &'a Value, ty: &str) -> &'a str {
    items(status, "conditions").iter().find(|c| text(c, "type") == ty).map_or("", |c| text(c, "status"))
}

fn reason(pod: &Value, count: &mut Count) -> String {
    let status = &pod["status"];
    let phase = text(status, "phase");
    let mut reason = or(text(status, "reason"), phase).to_owned();
    let gated = |c: &Value| text(c, "type") == "PodScheduled" && text(c, "reason") == "SchedulingGated";
    if items(status, "conditions").iter().any(gated) {
        reason = "SchedulingGated".to_owned();
    }
    let mut sidecars = Count::default();
    let init = init_reason(pod, count, &mut sidecars);
    let initialized = condition(status, "Initialized") == "True";
    if let Some(init) = &init {
        reason.clone_from(init);
    }
    if init.is_none() || initialized {
        let ready = count.ready;
        *count = Count { ready, ..sidecars };
        reason = running_reason(status, reason, count);
    }
    if at(pod, &["metadata", "deletionTimestamp"]).is_some() {
        if text(status, "reason") == "NodeLost" {
            reason = "Unknown".to_owned();
        } else if !["Succeeded", "Failed"].contains(&phase) {
            reason = "Terminating".to_owned();
        }
    }
    reason
}

/// `Init:…` while an init container is not done.
fn init_reason(pod: &Value, count: &mut Count, sidecars: &mut Count) -> Option<String> {
    let declared = items_at(pod, &["spec", "initContainers"]);
    for (index, container) in items_at(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        let name = text(container, "name");
        let sidecar = declared.iter().any(|init| text(init, "name") == name && sidecar(init));
        count.restart(container);
        if sidecar {
            sidecars.restart(container);
        }
        let state = &container["state"];
        let terminated = get(state, "terminated");
        if terminated.is_some_and(|end| int(end, "exitCode").unwrap_or(0) == 0) {
            continue;
        }
        if sidecar && flag(container, "started") {
            count.ready += usize::from(flag(container, "ready"));
            continue;
        }
        let waiting = text_at(state, &["waiting", "reason"]);
        return Some(match terminated {
            Some(end) => format!("Init:{}", end_reason(end)),
            None if !["", "PodInitializing"].contains(&waiting) => format!("Init:{waiting}"),
            None => format!("Init:{index}/{}", declared.len()),
        });
    }
    None
}

fn end_reason(end: &Value) -> String {
    match (text(end, "reason"), int(end, "signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", int(end, "exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn running_reason(status: &Value, mut reason: String, count: &mut Count) -> String {
    let (mut running, mut failed) = (false, String::new());
    for container in items(status, "containerStatuses").iter().rev() {
        count.restart(container);
        let state = &container["state"];
        let waiting = text_at(state, &["waiting", "reason"]);
        if !waiting.is_empty() {
            reason = waiting.to_owned();
        } else if let Some(end) = get(state, "terminated") {
            reason = end_reason(end);
            if int_at(state, &["terminated", "exitCode"]).unwrap_or(0) != 0 {
                failed.clone_from(&reason);
            }
        } else if flag(container, "ready") && get(state, "running").is_some() {
            running = true;
            count.ready += 1;
        }
    }
    if reason == "Completed" {
        if running && condition(status, "Ready") == "True" {
            reason = "Running".to_owned();
        } else if !failed.is_empty() {
            reason = failed;
        } else if running {
            reason = "NotReady".to_owned();
        }
    }
    reason
}
