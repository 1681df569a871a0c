//! How a pod ends: containers, sidecars in reverse, sandbox, volumes, object. Pure.
//!
//! It is the same path for a pod that is deleted, one that has run to its end, and
//! one that the node ends; only a deleted one loses its object.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

use super::{Action, Plan, Role, Task, View, containers};

/// Steps towards the end.
pub(super) fn decide(view: &View<'_>, plan: &mut Plan) {
    if starting(view) {
        // What is being created now must be seen before it can be stopped.
        return;
    }
    if view.running().next().is_some() {
        stop(view, plan);
        if view.ending() {
            containers::probes(view, plan);
        }
        return;
    }
    if view.memory.in_flight.iter().any(|task| matches!(task, Task::Kill(_))) {
        return;
    }
    if !view.sandboxes.is_empty() {
        for sandbox in view.sandboxes {
            plan.act(view, Action::RemoveSandbox { id: sandbox.id.clone(), detach: true });
        }
        return;
    }
    if !view.memory.torn_down {
        plan.act(view, Action::TearDown);
        return;
    }
    let deleted = view.pod.metadata.deletion_timestamp.is_some();
    if deleted && !view.gone && !view.memory.deleted && view.memory.final_written {
        plan.act(view, Action::DeletePod);
    }
    plan.finished = true;
}

fn starting(view: &View<'_>) -> bool {
    view.memory.in_flight.iter().any(|task| matches!(task, Task::Start(_) | Task::Sandbox | Task::Volumes))
}

/// Stops the containers; sidecars only once no container runs, the last one first.
fn stop(view: &View<'_>, plan: &mut Plan) {
    let deadline = deadline(view);
    let mains_run = view.roles().any(|(c, role)| role != Role::Sidecar && runs(view, &c.name));
    // Past the grace period nothing is worth an order.
    let last_sidecar = view.roles().filter(|(c, role)| *role == Role::Sidecar && runs(view, &c.name)).last();
    for status in view.running() {
        let name = &status.spec.name;
        let sidecar = view.roles().any(|(c, role)| role == Role::Sidecar && c.name == *name);
        let turn = !sidecar || (!mains_run && last_sidecar.is_some_and(|(c, _)| c.name == *name));
        if !turn && deadline > view.now {
            continue;
        }
        let earlier = view.memory.stopping.get(&status.id).is_some_and(|until| *until <= deadline);
        if earlier && view.memory.in_flight.contains(&Task::Kill(status.id.clone())) {
            continue;
        }
        let message = if view.out_of_time() {
            "Pod was active on the node longer than the specified deadline".to_owned()
        } else {
            format!("Stopping container {name}")
        };
        plan.actions.push(Action::Kill {
            container: name.clone(),
            id: status.id.clone(),
            message,
            grace: until(view.now, deadline),
            ending: view.ending(),
        });
    }
    if mains_run || last_sidecar.is_some() {
        plan.wake(deadline.max(view.now.checked_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX)));
    }
}

fn runs(view: &View<'_>, name: &str) -> bool {
    view.running().any(|status| status.spec.name == name)
}

/// When the grace period is over. A deletion carries it; otherwise it starts when
/// the first container is stopped.
fn deadline(view: &View<'_>) -> Timestamp {
    let meta = &view.pod.metadata;
    if let Some(deleted) = meta.deletion_timestamp.as_ref().filter(|_| !view.gone) {
        // deletionTimestamp is the moment at which the grace period ends, cut to
        // whole seconds: the next second is never too early.
        return deleted.0.checked_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX);
    }
    let grace = match meta.deletion_grace_period_seconds {
        Some(seconds) if view.gone => Duration::from_secs(seconds.max(1).unsigned_abs()),
        _ => containers::grace_period(view),
    };
    let fresh = view.now.checked_add(grace).unwrap_or(Timestamp::MAX);
    view.memory.stopping.values().min().map_or(fresh, |begun| fresh.min(*begun))
}

fn until(now: Timestamp, deadline: Timestamp) -> Duration {
    deadline.duration_since(now).try_into().unwrap_or(Duration::ZERO)
}
