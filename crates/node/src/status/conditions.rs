//! Pod conditions, as kubelet's `status/generate.go` makes them. Pure.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodCondition};

use super::time;
use crate::decide::{View, is_restartable_init};

struct Verdict {
    status: bool,
    reason: &'static str,
    message: String,
}

const YES: Verdict = Verdict { status: true, reason: "", message: String::new() };

fn no(reason: &'static str, message: String) -> Verdict {
    Verdict { status: false, reason, message }
}

/// Conditions of the agent, then those that others wrote, as they are.
pub fn conditions(
    view: &View<'_>,
    inits: &[ContainerStatus],
    mains: &[ContainerStatus],
    phase: &str,
) -> Vec<PodCondition> {
    let containers_ready = containers_ready(view, inits, mains, phase);
    let ready = ready(view, &containers_ready);
    let sandbox = view.sandbox().is_some_and(|s| view.memory.addresses.contains_key(&s.id));
    let sandbox = if sandbox { YES } else { no("", String::new()) };
    let ours = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(view, inits, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
    ];
    let mut all: Vec<PodCondition> =
        ours.into_iter().map(|(kind, verdict)| condition(view, kind, verdict)).collect();
    let others =
        view.last.conditions.iter().flatten().chain(
            view.pod.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten(),
        );
    for other in others {
        if all.iter().all(|known| known.type_ != other.type_) {
            all.push(other.clone());
        }
    }
    if all.iter().all(|known| known.type_ != "PodScheduled") {
        all.push(condition(view, "PodScheduled", YES));
    }
    all
}

/// Whether the agent (and nobody else) writes a condition.
pub fn is_ours(kind: &str) -> bool {
    matches!(kind, "PodReadyToStartContainers" | "Initialized" | "Ready" | "ContainersReady" | "PodScheduled")
}

fn condition(view: &View<'_>, kind: &str, verdict: Verdict) -> PodCondition {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let status = if verdict.status { "True" } else { "False" };
    let before = view.last.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: text(verdict.reason),
        message: text(&verdict.message),
        last_transition_time: before
            .and_then(|c| c.last_transition_time.clone())
            .or_else(|| Some(time(view.now))),
        observed_generation: view.pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn names<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.into_iter().map(String::as_str).collect();
    format!("[{}]", names.join(" "))
}

fn containers_ready(
    view: &View<'_>,
    inits: &[ContainerStatus],
    mains: &[ContainerStatus],
    phase: &str,
) -> Verdict {
    match phase {
        "Succeeded" => return no("PodCompleted", String::new()),
        "Failed" => return no("PodFailed", String::new()),
        _ => {}
    }
    let is_ready = |c: &&Container| inits.iter().chain(mains).any(|s| s.name == c.name && s.ready);
    let sidecars = view.inits().filter(|c| is_restartable_init(c));
    let unready: Vec<_> = sidecars.chain(&view.spec().containers).filter(|c| !is_ready(c)).collect();
    if unready.is_empty() {
        return YES;
    }
    let message = format!("containers with unready status: {}", names(unready.iter().map(|c| &c.name)));
    no("ContainersNotReady", message)
}

fn ready(view: &View<'_>, containers_ready: &Verdict) -> Verdict {
    if !containers_ready.status {
        return no(containers_ready.reason, containers_ready.message.clone());
    }
    let status = view.pod.status.as_ref();
    let known = || status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let mut unmet = Vec::new();
    for gate in view.spec().readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match known().find(|c| c.type_ == *kind) {
            None => unmet
                .push(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
            Some(c) if c.status != "True" => unmet.push(format!(
                "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                c.status
            )),
            Some(_) => {}
        }
    }
    if unmet.is_empty() { YES } else { no("ReadinessGatesNotReady", unmet.join(", ")) }
}

fn initialized(view: &View<'_>, inits: &[ContainerStatus], phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { status: true, reason: "PodCompleted", message: String::new() };
    }
    if view.initialized() {
        return YES;
    }
    let done = |c: &&Container| {
        inits.iter().any(|s| {
            s.name == c.name && if is_restartable_init(c) { s.started == Some(true) } else { s.ready }
        })
    };
    let open: Vec<_> = view.inits().filter(|c| !done(c)).collect();
    if open.is_empty() {
        return YES;
    }
    let message = format!("containers with incomplete status: {}", names(open.iter().map(|c| &c.name)));
    no("ContainersNotInitialized", message)
}
