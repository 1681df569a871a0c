//! HorizontalPodAutoscalers: v1 knows one metric, CPU utilization; what else v2 says
//! travels in annotations, so that a client of v1 loses nothing.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

/// Turns v2 into v1.
pub(super) fn to_v1(object: &mut Value) {
    let mut kept = Map::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let (percent, rest) = split(spec.remove("metrics"), |metric| {
            let target = &metric["resource"]["target"];
            (target["type"] == "Utilization").then(|| target["averageUtilization"].clone())
        });
        if let Some(percent) = percent {
            spec.insert("targetCPUUtilizationPercentage".into(), percent);
        }
        keep(&mut kept, METRICS, rest);
        keep(&mut kept, BEHAVIOR, spec.remove("behavior"));
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let (percent, rest) = split(status.remove("currentMetrics"), |metric| {
            metric["resource"]["current"].get("averageUtilization").cloned()
        });
        if let Some(percent) = percent {
            status.insert("currentCPUUtilizationPercentage".into(), percent);
        }
        keep(&mut kept, CURRENT, rest);
        keep(&mut kept, CONDITIONS, status.remove("conditions"));
    }
    if !kept.is_empty()
        && let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && let Value::Object(annotations) = meta.entry("annotations").or_insert_with(|| json!({}))
    {
        annotations.extend(kept);
    }
}

/// Turns v1 into v2.
pub(super) fn to_v2(object: &mut Value) {
    let annotations = object.get_mut("metadata").and_then(|meta| meta.get_mut("annotations"));
    let mut none = Map::new();
    let annotations = annotations.and_then(Value::as_object_mut).unwrap_or(&mut none);
    let mut take = |name: &str| {
        let text = annotations.remove(name)?;
        serde_json::from_str::<Value>(text.as_str()?).ok()
    };
    let (metrics, behavior) = (take(METRICS), take(BEHAVIOR));
    let (current, conditions) = (take(CURRENT), take(CONDITIONS));
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let cpu = spec.remove("targetCPUUtilizationPercentage").map(|percent| {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
        });
        put(spec, "metrics", join(cpu, metrics));
        put(spec, "behavior", behavior);
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let cpu = status.remove("currentCPUUtilizationPercentage").map(|percent| {
            let current = json!({"averageUtilization": percent});
            json!({"type": "Resource", "resource": {"name": "cpu", "current": current}})
        });
        put(status, "currentMetrics", join(cpu, current));
        put(status, "conditions", conditions);
    }
}

/// Takes the first CPU metric for which `percent` knows a value out of a list.
fn split(
    metrics: Option<Value>,
    percent: impl Fn(&Value) -> Option<Value>,
) -> (Option<Value>, Option<Value>) {
    let Some(Value::Array(mut metrics)) = metrics else { return (None, None) };
    let cpu = |metric: &Value| metric["type"] == "Resource" && metric["resource"]["name"] == "cpu";
    let found = metrics
        .iter()
        .enumerate()
        .find_map(|(at, metric)| Some((at, percent(metric).filter(|_| cpu(metric))?)));
    let value = found.map(|(at, value)| {
        metrics.remove(at);
        value
    });
    (value, (!metrics.is_empty()).then_some(Value::Array(metrics)))
}

fn join(cpu: Option<Value>, rest: Option<Value>) -> Option<Value> {
    let rest = match rest {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let all: Vec<Value> = cpu.into_iter().chain(rest).collect();
    (!all.is_empty()).then_some(Value::Array(all))
}

fn keep(kept: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        kept.insert(name.into(), value.to_string().into());
    }
}

fn put(map: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        map.insert(name.into(), value);
    }
}
