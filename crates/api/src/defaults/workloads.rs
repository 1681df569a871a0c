//! Rules of apps, batch and autoscaling.

use serde_json::{Value, json};

use super::Rule;
use crate::tree::{default, default_text, entries, get, int, items, items_mut, object_mut, text};

/// Rules by type, without the leading `io.k8s.`.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("api.apps.v1.DaemonSet", crate::prepare::decoded_daemon_set),
    ("api.apps.v1.DaemonSetSpec", daemon_set),
    ("api.apps.v1.DeploymentSpec", deployment),
    ("api.apps.v1.ReplicaSetSpec", |spec| default(spec, "replicas", 1)),
    ("api.apps.v1.StatefulSetSpec", stateful_set),
    ("api.autoscaling.v1.HorizontalPodAutoscaler", old_autoscaler),
    ("api.autoscaling.v2.HorizontalPodAutoscalerSpec", autoscaler),
    ("api.batch.v1.CronJobSpec", cron_job),
    ("api.batch.v1.Job", job),
    ("api.batch.v1.PodFailurePolicyOnPodConditionsPattern", |pattern| {
        default_text(pattern, "status", "True")
    }),
];

fn deployment(spec: &mut Value) {
    default(spec, "replicas", 1);
    let strategy = object_mut(spec, "strategy");
    default_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = object_mut(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", "25%");
        default(rolling, "maxSurge", "25%");
    }
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
}

fn daemon_set(spec: &mut Value) {
    let strategy = object_mut(spec, "updateStrategy");
    default_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = object_mut(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", 1);
        default(rolling, "maxSurge", 0);
    }
    // Internally both are numbers, which are always there.
    if let Some(rolling) = strategy.get_mut("rollingUpdate").filter(|rolling| rolling.is_object()) {
        default(rolling, "maxUnavailable", 0);
        default(rolling, "maxSurge", 0);
    }
    default(spec, "revisionHistoryLimit", 10);
}

fn stateful_set(spec: &mut Value) {
    default_text(spec, "podManagementPolicy", "OrderedReady");
    let strategy = object_mut(spec, "updateStrategy");
    if text(strategy, "type").is_empty() {
        strategy["type"] = "RollingUpdate".into();
        object_mut(strategy, "rollingUpdate");
    }
    if text(strategy, "type") == "RollingUpdate" && get(strategy, "rollingUpdate").is_some() {
        default(&mut strategy["rollingUpdate"], "partition", 0);
    }
    let retention = object_mut(spec, "persistentVolumeClaimRetentionPolicy");
    default_text(retention, "whenDeleted", "Retain");
    default_text(retention, "whenScaled", "Retain");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    for claim in items_mut(spec, "volumeClaimTemplates") {
        // Whatever they say.
        claim["apiVersion"] = "v1".into();
        claim["kind"] = "PersistentVolumeClaim".into();
    }
}

/// A Job by itself; the template in a CronJob gets none of these.
fn job(job: &mut Value) {
    let spec = object_mut(job, "spec");
    if get(spec, "completions").is_none() && get(spec, "parallelism").is_none() {
        spec["completions"] = 1.into();
    }
    default(spec, "parallelism", 1);
    let per_index = get(spec, "backoffLimitPerIndex").is_some();
    default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    let on_failure = get(spec, "podFailurePolicy").is_some();
    default(spec, "podReplacementPolicy", if on_failure { "Failed" } else { "TerminatingOrFailed" });
    default(spec, "manualSelector", false);
    let labels = get(&spec["template"]["metadata"], "labels").cloned();
    if let Some(labels) = labels.filter(|_| entries(&job["metadata"], "labels").next().is_none()) {
        job["metadata"]["labels"] = labels;
    }
}

fn cron_job(spec: &mut Value) {
    default_text(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
}

/// Version 1 says CPU use in a field; other metrics stand in an annotation.
fn old_autoscaler(scaler: &mut Value) {
    let annotation = "autoscaling.alpha.kubernetes.io/metrics";
    let others = get(&scaler["metadata"]["annotations"], annotation).is_some();
    let spec = object_mut(scaler, "spec");
    default(spec, "minReplicas", 1);
    if !others {
        default(spec, "targetCPUUtilizationPercentage", 80);
    }
}

fn autoscaler(spec: &mut Value) {
    default(spec, "minReplicas", 1);
    if items(spec, "metrics").is_empty() {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    }
    if get(spec, "behavior").is_some() {
        let policy = |ty: &str, value: i64| json!({"type": ty, "value": value, "periodSeconds": 15});
        let up = object_mut(&mut spec["behavior"], "scaleUp");
        rules(up, Some(0), json!([policy("Pods", 4), policy("Percent", 100)]));
        let down = object_mut(&mut spec["behavior"], "scaleDown");
        rules(down, None, json!([policy("Percent", 100)]));
    }
}

fn rules(rules: &mut Value, window: Option<i64>, policies: Value) {
    if let Some(window) = window.filter(|_| int(rules, "stabilizationWindowSeconds").is_none()) {
        rules["stabilizationWindowSeconds"] = window.into();
    }
    default(rules, "selectPolicy", "Max");
    default(rules, "policies", policies);
}
