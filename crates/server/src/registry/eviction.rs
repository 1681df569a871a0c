//! Evicting a pod: a deletion that asks its disruption budget first.
//! (After `registry/core/pod/storage.EvictionREST`.)
//!
//! A budget counts down with the eviction that it allows, in one write, so that two
//! evictions never take the same allowance; its controller counts afresh.

use std::sync::Arc;

use carrack_api::selector::Labels;
use carrack_api::status::Status;
use carrack_api::{Record, Value, budget};
use serde_json::json;

use super::call::Call;
use super::delete::DeleteOptions;
use super::{Registry, meta};
use crate::clock::rfc3339;
use crate::request::User;

/// Budgets by their store key.
const BUDGETS: &str = "poddisruptionbudgets.policy";
/// How often an eviction is tried against a moving pod.
const ATTEMPTS: usize = 20;
/// Evictions that a budget remembers before its controller has seen them.
const MAX_DISRUPTED: usize = 2000;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

impl Registry {
    /// Evicts the call's pod.
    ///
    /// # Errors
    /// 404 without the pod, 409 for preconditions that fail, 429 when the budget does
    /// not allow it now, 500 for a pod with several budgets.
    pub async fn evict(&self, call: &Call, options: &DeleteOptions) -> Result<(), Status> {
        for _ in 0..ATTEMPTS {
            let record = self.store.get(&call.key()).ok_or_else(|| call.not_found())?;
            let pod = record.decode();
            if !needs_no_budget(&pod) {
                return self.evict_within_budget(call, options, &record, &pod).await;
            }
            let mut exact = options.clone();
            let waits = pod["status"]["phase"] == "Pending" && !meta::deleting(&pod);
            if waits && exact.resource_version.is_none() {
                // It might just start, and then have a budget.
                exact.resource_version = Some(record.revision.to_string().into());
            }
            match self.evict_now(call, &exact).await {
                Err(status) if status.code == 409 && options.resource_version.is_none() => {}
                done => return done,
            }
        }
        Err(call.modified())
    }

    async fn evict_within_budget(
        &self,
        call: &Call,
        options: &DeleteOptions,
        record: &Arc<Record>,
        pod: &Value,
    ) -> Result<(), Status> {
        let budgets = self.budgets_of(record);
        let budget = match &budgets[..] {
            [] => return self.evict_now(call, options).await,
            [one] => one,
            _ => {
                let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource \
                               does not support.";
                return Err(Status::other(500, "", message));
            }
        };
        let name = budget.key.name();
        let object = budget.decode();
        if !is_ready(pod) && lets_unhealthy_go(&object) {
            // Only if it is still not ready when it goes.
            let mut exact = options.clone();
            exact.resource_version = Some(record.revision.to_string().into());
            return match self.evict_now(call, &exact).await {
                Err(status) if status.code == 409 && options.resource_version.is_none() => {
                    Err(still_processing(name))
                }
                done => done,
            };
        }
        self.count_down(call, name).await?;
        self.evict_now(call, options).await
    }

    /// The budgets that select a pod.
    fn budgets_of(&self, pod: &Record) -> Vec<Arc<Record>> {
        let snapshot = self.store.snapshot(BUDGETS);
        let selects = |budget: &&Arc<Record>| {
            budget.key.namespace() == pod.key.namespace()
                && Labels::from_value(&budget.decode()["spec"]["selector"])
                    .is_ok_and(|selector| selector.matches(pod.header()))
        };
        snapshot.iter().filter(selects).cloned().collect()
    }

    /// Takes one disruption from a budget, and has it remember the pod.
    async fn count_down(&self, call: &Call, name: &str) -> Result<(), Status> {
        let mut own = self.call(User::loopback(), BUDGETS, &call.namespace, name)?.on("status");
        own.options.dry_run = call.options.dry_run;
        own.options.field_manager = "kube-apiserver".into();
        own.now = call.now;
        let now = rfc3339(call.now);
        self.modify(&own, |budget| {
            check(budget, name)?;
            let status = &mut budget["status"];
            let left = status["disruptionsAllowed"].as_i64().unwrap_or(0) - 1;
            status["disruptionsAllowed"] = left.into();
            if left == 0 {
                budget::set_condition(status, &now);
            }
            status["disruptedPods"][&*call.name] = now.as_str().into();
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Says in the pod's status why it goes, and deletes it.
    async fn evict_now(&self, call: &Call, options: &DeleteOptions) -> Result<(), Status> {
        let mut options = options.clone();
        if !call.options.dry_run {
            let conflict = |pod: &Value| {
                let differs = |asked: &Option<Box<str>>, is: &str| {
                    asked.as_deref().is_some_and(|asked| !asked.is_empty() && asked != is)
                };
                let (uid, version) = (meta::text(pod, "uid"), meta::text(pod, "resourceVersion"));
                let detail = if differs(&options.uid, uid) {
                    let asked = options.uid.as_deref().unwrap_or_default();
                    format!(
                        "the UID in the precondition ({asked}) does not match the UID in record ({uid}). The \
                         object might have been deleted and then recreated"
                    )
                } else if differs(&options.resource_version, version) {
                    let asked = options.resource_version.as_deref().unwrap_or_default();
                    format!(
                        "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion \
                         in record ({version}). The object might have been modified"
                    )
                } else {
                    return Ok(());
                };
                Err(Status::conflict("", "Pod", &call.name, &detail))
            };
            let written = self
                .modify(&call.clone().on("status"), |pod| {
                    conflict(pod)?;
                    told(pod, &rfc3339(call.now));
                    Ok(())
                })
                .await?;
            if options.resource_version.is_some() {
                options.resource_version = Some(written.record.revision.to_string().into());
            }
        }
        self.delete(call, &options).await.map(drop)
    }
}

/// Pods that have ended, have not started or are going already.
fn needs_no_budget(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed" | "Pending") || meta::deleting(pod)
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// Whether a pod that is not ready may go without counting.
fn lets_unhealthy_go(budget: &Value) -> bool {
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || (number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0)
}

/// Whether a budget allows a disruption.
fn check(budget: &Value, name: &str) -> Result<(), Status> {
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let forbidden = |detail: &str| Err(Status::forbidden("policy", "poddisruptionbudget", name, detail));
    if number("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        return Err(still_processing(name));
    }
    if number("disruptionsAllowed") < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if number("disruptionsAllowed") > 0 {
        return Ok(());
    }
    let (current, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let said = budget::condition(status).filter(|one| one["status"] == "False");
    let text = |field: &str| said.and_then(|one| one[field].as_str()).unwrap_or_default();
    let (reason, message) = (text("reason"), text("message"));
    let why = if reason == "SyncFailed" && !message.is_empty() {
        format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        )
    } else if current <= desired {
        format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently")
    } else if !message.is_empty() {
        format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}")
    } else {
        format!("The disruption budget {name} does not allow evicting pods currently")
    };
    Err(too_many(json!({}), why))
}

fn still_processing(name: &str) -> Status {
    let why = format!("The disruption budget {name} is still being processed by the server.");
    too_many(json!({"retryAfterSeconds": 10}), why)
}

fn too_many(details: Value, why: String) -> Status {
    let mut status = Status::too_many_requests(REFUSED, 0);
    status.details = details;
    status.details["causes"] = json!([{"reason": "DisruptionBudget", "message": why}]);
    status
}

/// Sets the DisruptionTarget condition.
fn told(pod: &mut Value, now: &str) {
    let mut condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now});
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|one| one["type"] == "DisruptionTarget") {
        Some(old) => {
            if old["status"] == "True" {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
}
