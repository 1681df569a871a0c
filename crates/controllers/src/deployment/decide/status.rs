//! A Deployment's status and conditions.

use jiff::{SignedDuration, Timestamp};

use super::sets;
use super::view::{Deployment, ReplicaSet, Status};
use crate::common::Condition;

const PROGRESSING: &str = "Progressing";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";

impl Status {
    /// The condition of a type.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        Condition::find(&self.conditions, kind)
    }

    /// Sets a condition, unless one of the same status and reason is there; the time
    /// of transition stays when the status does.
    pub fn set(&mut self, mut condition: Condition) {
        let current = self.condition(&condition.kind);
        if let Some(current) = current.filter(|current| current.status == condition.status) {
            if current.reason == condition.reason {
                return;
            }
            condition.last_transition_time = current.last_transition_time;
        }
        self.remove(&condition.kind.clone());
        self.conditions.push(condition);
    }

    /// Removes the condition of a type.
    pub fn remove(&mut self, kind: &str) {
        self.conditions.retain(|condition| condition.kind != kind);
    }

    /// Notes that the Deployment was paused or resumed, so that the time in between
    /// does not count as lack of progress.
    pub fn set_paused(&mut self, deployment: &Deployment, now: Timestamp) {
        let reason = self.condition(PROGRESSING).map(|condition| condition.reason.as_str());
        if !deployment.has_deadline() || reason == Some(TIMED_OUT) {
            return;
        }
        match (deployment.spec.paused, reason == Some("DeploymentPaused")) {
            (true, false) => {
                self.set(progressing("Unknown", "DeploymentPaused", "Deployment is paused", now))
            }
            (false, true) => {
                self.set(progressing("Unknown", "DeploymentResumed", "Deployment is resumed", now));
            }
            _ => {}
        }
    }

    /// Notes that the new ReplicaSet was found or created.
    pub fn set_new_set(&mut self, reason: &str, message: String, now: Timestamp) {
        self.set(progressing("True", reason, message, now));
    }

    /// Whether all pods are updated and available, and no old ones run.
    pub fn complete(&self, deployment: &Deployment) -> bool {
        let replicas = deployment.replicas();
        self.updated_replicas == replicas
            && self.replicas == replicas
            && self.available_replicas == replicas
            && self.observed_generation >= deployment.metadata.generation
    }

    /// Whether this status is further than `before`.
    fn progressed_from(&self, before: &Self) -> bool {
        self.updated_replicas > before.updated_replicas
            || self.replicas - self.updated_replicas < before.replicas - before.updated_replicas
            || self.ready_replicas > before.ready_replicas
            || self.available_replicas > before.available_replicas
    }
}

/// Counts, and whether there are enough.
pub fn calculate(
    deployment: &Deployment,
    before: &Status,
    old: &[ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> Status {
    let all = || old.iter().chain(new);
    let available = sets::available(all());
    let mut status = Status {
        observed_generation: deployment.metadata.generation,
        replicas: all().map(|set| set.status.replicas).sum(),
        updated_replicas: new.map_or(0, |set| set.status.replicas),
        ready_replicas: all().map(|set| set.status.ready_replicas).sum(),
        available_replicas: available,
        unavailable_replicas: (sets::wanted(all()) - available).max(0),
        terminating_replicas: terminating(all()),
        conditions: before.conditions.clone(),
        collision_count: before.collision_count,
    };
    let (value, reason, message) = if available >= deployment.replicas() - deployment.max_unavailable() {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    status.set(condition("Available", value, reason, message, now));
    status
}

/// Unknown while a set that was synced does not say.
fn terminating<'a>(mut sets: impl Iterator<Item = &'a ReplicaSet>) -> Option<i32> {
    sets.try_fold(0, |sum, set| match set.status.terminating_replicas {
        None if set.status.observed_generation == 0 => Some(sum),
        None => None,
        Some(count) => Some(sum + count),
    })
}

/// Status during a rollout: progress, completion, deadline, failures of the sets.
pub fn of_rollout(
    deployment: &Deployment,
    before: &Status,
    old: &[ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> Status {
    let mut status = calculate(deployment, before, old, new, now);
    if !deployment.has_deadline() {
        status.remove(PROGRESSING);
    }
    let current = before.condition(PROGRESSING).cloned();
    let was_complete = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|condition| condition.reason == NEW_SET_AVAILABLE);
    if deployment.has_deadline() && !was_complete {
        let subject = match new {
            Some(set) => format!("ReplicaSet {:?}", set.metadata.name),
            None => format!("Deployment {:?}", deployment.metadata.name),
        };
        if status.complete(deployment) {
            let message = format!("{subject} has successfully progressed.");
            status.set(progressing("True", NEW_SET_AVAILABLE, message, now));
        } else if status.progressed_from(before) {
            let message = format!("{subject} is progressing.");
            let mut progress = progressing("True", "ReplicaSetUpdated", message, now);
            if let Some(current) = current.filter(|condition| condition.status == "True") {
                progress.last_transition_time = current.last_transition_time;
            }
            // Set anew even with the same reason: its update time is the progress.
            status.remove(PROGRESSING);
            status.set(progress);
        } else if timed_out(deployment, &status, now) {
            let message = format!("{subject} has timed out progressing.");
            status.set(progressing("False", TIMED_OUT, message, now));
        }
    }
    let failure = |set: &ReplicaSet| Condition::find(&set.status.conditions, "ReplicaFailure").cloned();
    match new.and_then(failure).or_else(|| old.iter().find_map(failure)) {
        Some(condition) => {
            status.set(Condition { last_update_time: condition.last_transition_time, ..condition });
        }
        None => status.remove("ReplicaFailure"),
    }
    status
}

fn timed_out(deployment: &Deployment, status: &Status, now: Timestamp) -> bool {
    let Some(condition) = status.condition(PROGRESSING) else { return false };
    match condition.reason.as_str() {
        NEW_SET_AVAILABLE => false,
        TIMED_OUT => true,
        _ => deadline(deployment, condition).is_some_and(|deadline| deadline < now),
    }
}

fn deadline(deployment: &Deployment, condition: &Condition) -> Option<Timestamp> {
    let seconds = SignedDuration::from_secs(i64::from(deployment.spec.progress_deadline_seconds?));
    condition.last_update_time?.checked_add(seconds).ok()
}

/// When to check for lack of progress, if it may come to that.
pub fn next_check(deployment: &Deployment, status: &Status, now: Timestamp) -> Option<SignedDuration> {
    let condition = status.condition(PROGRESSING)?;
    if !deployment.has_deadline() || status.complete(deployment) || condition.reason == TIMED_OUT {
        return None;
    }
    let left = deadline(deployment, condition)?.duration_since(now);
    // The condition's time is in whole seconds, so one more.
    Some(left.max(SignedDuration::ZERO) + SignedDuration::from_secs(1))
}

/// Status after the new ReplicaSet could not be created, if it shows there.
pub fn on_create_failure(deployment: &Deployment, message: &str, now: Timestamp) -> Option<Status> {
    let mut status = deployment.status.clone();
    if deployment.has_deadline() {
        status.set(progressing("False", "ReplicaSetCreateError", message, now));
    }
    (status != deployment.status).then_some(status)
}

/// Status after the new ReplicaSet's name turned out to be another's.
pub fn on_collision(deployment: &Deployment) -> Status {
    let collisions = deployment.status.collision_count.unwrap_or(0) + 1;
    Status { collision_count: Some(collisions), ..deployment.status.clone() }
}

fn progressing(status: &str, reason: &str, message: impl Into<String>, now: Timestamp) -> Condition {
    condition(PROGRESSING, status, reason, message, now)
}

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) -> Condition {
    Condition { last_update_time: Some(now), ..Condition::new(kind, status, reason, message, now) }
}
