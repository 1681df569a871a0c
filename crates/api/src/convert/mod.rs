//! Conversion between the versions and groups in which the same objects are served:
//! Events of the core group and of events.k8s.io, HorizontalPodAutoscalers v1 and v2.
//!
//! Works on decoded trees and gives decoded trees: canonical in the target type.

mod autoscaling;
mod events;

use serde_json::Value;

use crate::{decode, facts};

/// An object cannot be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("converting ({from}.{kind}) to ({to}.{kind}): unknown conversion")]
pub struct Error {
    /// The kind.
    pub kind: String,
    /// apiVersion it has.
    pub from: String,
    /// apiVersion asked for.
    pub to: String,
}

/// Converts an object of `kind` to the apiVersion `to` (`events.k8s.io/v1`), from
/// the one it says it has. The same version gives the object back as it is.
pub fn convert(kind: &str, to: &str, mut object: Value) -> Result<Value, Error> {
    let from = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    if from == to {
        return Ok(object);
    }
    let name = match (kind, &*from, to) {
        ("Event", "v1", "events.k8s.io/v1") => {
            events::rename(&mut object, true);
            "io.k8s.api.events.v1.Event"
        }
        ("Event", "events.k8s.io/v1", "v1") => {
            events::rename(&mut object, false);
            "io.k8s.api.core.v1.Event"
        }
        ("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v1") => {
            autoscaling::to_v1(&mut object);
            "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler"
        }
        ("HorizontalPodAutoscaler", "autoscaling/v1", "autoscaling/v2") => {
            autoscaling::to_v2(&mut object);
            "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"
        }
        _ => return Err(Error { kind: kind.into(), from, to: to.into() }),
    };
    object["apiVersion"] = to.into();
    let unknown = || Error { kind: kind.into(), from: from.clone(), to: to.into() };
    let schema = facts::schema();
    let root = schema.find(name).ok_or_else(unknown)?;
    // Presence of zero values differs between the types.
    decode::value(&schema, root, object).map(|decoded| decoded.value).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_change_names_and_back() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "name": "p"}, "reason": "Started", "message": "note",
            "source": {"component": "kubelet"}, "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-02T00:00:00Z", "count": 3, "eventTime": null, "type": "Normal",
            "reportingComponent": "kubelet", "reportingInstance": ""});
        let events = convert("Event", "events.k8s.io/v1", core.clone()).unwrap();
        assert_eq!(
            events,
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
                "regarding": {"kind": "Pod", "name": "p"}, "reason": "Started", "note": "note",
                "deprecatedSource": {"component": "kubelet"}, "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z",
                "deprecatedLastTimestamp": "2026-01-02T00:00:00Z", "deprecatedCount": 3, "eventTime": null,
                "type": "Normal", "reportingController": "kubelet"})
        );
        assert_eq!(convert("Event", "v1", events), Ok(core.clone()));
        assert_eq!(convert("Event", "v1", core.clone()), Ok(core.clone()));
        assert_eq!(
            convert("Event", "apps/v1", core).unwrap_err().to_string(),
            "converting (v1.Event) to (apps/v1.Event): unknown conversion"
        );
    }

    #[test]
    fn autoscalers_keep_their_metrics() {
        let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}}],
                "behavior": {"scaleUp": {"stabilizationWindowSeconds": 5}}},
            "status": {"desiredReplicas": 1, "currentMetrics": null}});
        let v1 = convert("HorizontalPodAutoscaler", "autoscaling/v1", v2.clone()).unwrap();
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 80);
        assert_eq!(v1["spec"].get("metrics"), None);
        assert_eq!(convert("HorizontalPodAutoscaler", "autoscaling/v2", v1), Ok(v2));
    }
}
