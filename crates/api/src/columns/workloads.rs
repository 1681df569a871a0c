//! Rows of controllers of pods: apps, batch, autoscaling, policy.

use serde_json::Value;

use super::Row;
use super::format::{
    NONE, UNKNOWN, UNSET, boolean, containers, human_duration, labels, or, plain, selector, selector_or_none,
};
use crate::tree::{at, get, int, int_at, items, items_at, text, text_at};

/// The cells of a kind of these groups; `None` when it has no columns of its own.
pub fn cells(kind: &str, row: &Row<'_>) -> Option<Vec<Value>> {
    Some(match kind {
        "Deployment" => deployment(row),
        "ReplicaSet" => replica_set(row),
        "StatefulSet" => stateful_set(row),
        "DaemonSet" => daemon_set(row),
        "ControllerRevision" => controller_revision(row),
        "Job" => job(row),
        "CronJob" => cron_job(row),
        "HorizontalPodAutoscaler" => autoscaler(row),
        "PodDisruptionBudget" => disruption_budget(row),
        _ => return None,
    })
}

fn number(row: &Row<'_>, path: [&str; 2]) -> i64 {
    int_at(row.object, &path).unwrap_or(0)
}

fn deployment(row: &Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let [names, images] = containers(&spec["template"]);
    let ready = format!("{}/{}", number(row, ["status", "readyReplicas"]), number(row, ["spec", "replicas"]));
    vec![
        row.name(),
        ready.into(),
        number(row, ["status", "updatedReplicas"]).into(),
        number(row, ["status", "availableReplicas"]).into(),
        row.age(),
        names,
        images,
        selector(&spec["selector"]).into(),
    ]
}

fn replica_set(row: &Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let [names, images] = containers(&spec["template"]);
    vec![
        row.name(),
        number(row, ["spec", "replicas"]).into(),
        number(row, ["status", "replicas"]).into(),
        number(row, ["status", "readyReplicas"]).into(),
        row.age(),
        names,
        images,
        selector_or_none(&spec["selector"]).into(),
    ]
}

/// The same for the core group's ReplicationController, whose selector is a plain map.
pub fn replication_controller(row: &Row<'_>) -> Vec<Value> {
    let mut cells = replica_set(row);
    cells.pop();
    cells.push(labels(&row.object["spec"], "selector").into());
    cells
}

fn stateful_set(row: &Row<'_>) -> Vec<Value> {
    let [names, images] = containers(&row.object["spec"]["template"]);
    let ready = format!("{}/{}", number(row, ["status", "readyReplicas"]), number(row, ["spec", "replicas"]));
    vec![row.name(), ready.into(), row.age(), names, images]
}

fn daemon_set(row: &Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let [names, images] = containers(&spec["template"]);
    let status = |field| number(row, ["status", field]).into();
    vec![
        row.name(),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        labels(&spec["template"]["spec"], "nodeSelector").into(),
        row.age(),
        names,
        images,
        selector_or_none(&spec["selector"]).into(),
    ]
}

fn controller_revision(row: &Row<'_>) -> Vec<Value> {
    let owners = items_at(row.object, &["metadata", "ownerReferences"]);
    let owner = owners.iter().find(|owner| crate::tree::flag(owner, "controller"));
    let owner = owner.map_or(NONE.to_owned(), |owner| {
        let (group, _) = crate::kind::group_version(text(owner, "apiVersion"));
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}{dot}{group}/{}", text(owner, "kind").to_lowercase(), text(owner, "name"))
    });
    vec![row.name(), owner.into(), int(row.object, "revision").unwrap_or(0).into(), row.age()]
}

fn job(row: &Row<'_>) -> Vec<Value> {
    let (spec, status) = (&row.object["spec"], &row.object["status"]);
    let succeeded = number(row, ["status", "succeeded"]);
    let completions = match (int(spec, "completions"), int(spec, "parallelism").unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        _ => format!("{succeeded}/1"),
    };
    let time = |field| text(status, field).parse::<jiff::Timestamp>().ok();
    let end = time("completionTime").unwrap_or(row.now);
    let duration = time("startTime").map(|start| human_duration(end.as_nanosecond() - start.as_nanosecond()));
    let [names, images] = containers(&spec["template"]);
    vec![
        row.name(),
        job_status(row.object).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        row.age(),
        names,
        images,
        selector_or_none(&spec["selector"]).into(),
    ]
}

fn job_status(job: &Value) -> &'static str {
    let has = |ty: &str| {
        let conditions = items_at(job, &["status", "conditions"]);
        conditions.iter().any(|c| text(c, "type") == ty && text(c, "status") == "True")
    };
    let deleting = at(job, &["metadata", "deletionTimestamp"]).is_some();
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if deleting => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn cron_job(row: &Row<'_>) -> Vec<Value> {
    let (spec, status) = (&row.object["spec"], &row.object["status"]);
    let template = &spec["jobTemplate"]["spec"];
    let last = get(status, "lastScheduleTime").map(|_| row.since(&["status", "lastScheduleTime"]));
    let [names, images] = containers(&template["template"]);
    vec![
        row.name(),
        text(spec, "schedule").into(),
        or(text(spec, "timeZone"), NONE).into(),
        boolean(get(spec, "suspend")).into(),
        items(status, "active").len().into(),
        last.unwrap_or_else(|| NONE.to_owned()).into(),
        row.age(),
        names,
        images,
        selector_or_none(&template["selector"]).into(),
    ]
}

fn disruption_budget(row: &Row<'_>) -> Vec<Value> {
    let limit = |field| get(&row.object["spec"], field).map_or_else(|| "N/A".to_owned(), plain);
    vec![
        row.name(),
        limit("minAvailable").into(),
        limit("maxUnavailable").into(),
        number(row, ["status", "disruptionsAllowed"]).into(),
        row.age(),
    ]
}

fn autoscaler(row: &Row<'_>) -> Vec<Value> {
    let (spec, status) = (&row.object["spec"], &row.object["status"]);
    let target = &spec["scaleTargetRef"];
    let current = items(status, "currentMetrics");
    let metrics: Vec<String> = items(spec, "metrics")
        .iter()
        .enumerate()
        .map(|(at, metric)| self::metric(metric, current.get(at)))
        .collect();
    let mut targets = metrics.iter().take(2).map(String::as_str).collect::<Vec<_>>().join(", ");
    if metrics.len() > 2 {
        targets = format!("{targets} + {} more...", metrics.len() - 2);
    }
    vec![
        row.name(),
        format!("{}/{}", text(target, "kind"), text(target, "name")).into(),
        or(&targets, NONE).into(),
        int(spec, "minReplicas").map_or_else(|| UNSET.to_owned(), |min| min.to_string()).into(),
        number(row, ["spec", "maxReplicas"]).into(),
        number(row, ["status", "currentReplicas"]).into(),
        row.age(),
    ]
}

/// `cpu: 10%/80%`, `3/10 (avg)` and the like.
fn metric(metric: &Value, status: Option<&Value>) -> String {
    let (source, named) = match text(metric, "type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let target = &metric[source]["target"];
    let name = if named { format!("{}: ", text_at(metric, &[source, "name"])) } else { String::new() };
    let current = |field: &str| status.and_then(|status| at(status, &[source, "current", field]));
    let value = |field: &str| current(field).map_or_else(|| UNKNOWN.to_owned(), plain);
    if let Some(average) = get(target, "averageValue") {
        let suffix = if ["external", "object"].contains(&source) { " (avg)" } else { "" };
        return format!("{name}{}/{}{suffix}", value("averageValue"), plain(average));
    }
    if !named {
        return format!("{}/{}", value("value"), plain(&target["value"]));
    }
    let percent = |value: Option<&Value>, instead: &str| match value.and_then(Value::as_i64) {
        Some(percent) => format!("{percent}%"),
        None => instead.to_owned(),
    };
    let wanted = percent(get(target, "averageUtilization"), "<auto>");
    format!("{name}{}/{wanted}", percent(current("averageUtilization"), UNKNOWN))
}
