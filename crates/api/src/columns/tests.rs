//! Rows as tables: what `kubectl get` shows of an object at a time.

use serde_json::{Value, json};

use super::*;
use crate::kinds;

const NOW: &str = "2026-01-01T01:00:00Z";

/// The cells as one line.
fn shown(resource: &str, object: &Value) -> String {
    let kinds = kinds::builtin();
    let kind = kinds.stored(resource).expect("a built-in kind");
    let cells = cells(kind, 0, object, NOW.parse().expect("a timestamp"));
    assert_eq!(cells.len(), table(kind).len() + more_cells(kind), "{resource}");
    let plain = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    cells.iter().map(plain).collect::<Vec<_>>().join(" | ")
}

/// Cells for which there is no column: upstream tells the age of IPAddresses without saying so.
fn more_cells(kind: &crate::Kind) -> usize {
    usize::from(&*kind.resource == "ipaddresses.networking.k8s.io")
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    for kind in kinds::builtin().iter().filter(|kind| kind.stored()) {
        let object = json!({"metadata": {"name": "a"}});
        let cells = cells(kind, 0, &object, NOW.parse().unwrap());
        assert_eq!(cells.len(), table(kind).len() + more_cells(kind), "{}", kind.resource);
        assert!(table(kind).iter().any(|column| column.format == "name"), "{}", kind.resource);
    }
}

#[test]
fn headings() {
    let kinds = kinds::builtin();
    let services = table(kinds.stored("services").unwrap());
    assert_eq!((services[4].name, services[4].priority), ("Port(s)", 0));
    assert_eq!((services[6].name, services[6].priority), ("Selector", 1));
    let jobs = table(kinds.stored("cronjobs.batch").unwrap());
    assert_eq!((jobs[3].name, jobs[3].ty), ("Suspend", "boolean"));
}

#[test]
fn durations() {
    let second = 1_000_000_000;
    for (seconds, expect) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (119, "119s"),
        (120, "2m"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (9 * 3600, "9h"),
        (49 * 3600, "2d1h"),
        (10 * 86400, "10d"),
        (3 * 365 * 86400 + 86400, "3y1d"),
        (9 * 365 * 86400, "9y"),
    ] {
        assert_eq!(human_duration(seconds * second), expect, "{seconds}");
    }
}

#[test]
fn pods() {
    let pod = |spec: Value, status: Value| json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:55:00Z"}, "spec": spec, "status": status});
    let one = json!({"containers": [{"name": "a"}], "nodeName": "n"});
    let init = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
    for (spec, status, expect) in [
        (&one, json!({"phase": "Pending"}), "p | 0/1 | Pending | 0 | 5m | <none> | n | <none> | <none>"),
        (
            &one,
            json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [{"name": "a", "ready": true,
                "restartCount": 2, "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:00Z"}}}]}),
            "p | 1/1 | Running | 2 (60s ago) | 5m | 10.0.0.1 | n | <none> | <none>",
        ),
        (
            &one,
            json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            "p | 0/1 | CrashLoopBackOff | 1 | 5m | <none> | n | <none> | <none>",
        ),
        (
            &one,
            json!({"phase": "Succeeded", "containerStatuses": [{"name": "a", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}),
            "p | 0/1 | Completed | 0 | 5m | <none> | n | <none> | <none>",
        ),
        (
            &init,
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            "p | 0/2 | Init:0/2 | 0 | 5m | <none> | <none> | <none> | <none>",
        ),
        (
            &init,
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
            "p | 0/2 | Init:Error | 0 | 5m | <none> | <none> | <none> | <none>",
        ),
        (
            &init,
            json!({"phase": "Running", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 0}}},
                {"name": "s", "started": true, "ready": true, "restartCount": 3, "state": {"running": {}}}],
                "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]}),
            "p | 2/2 | Running | 3 | 5m | <none> | <none> | <none> | <none>",
        ),
    ] {
        assert_eq!(shown("pods", &pod(spec.clone(), status)), expect);
    }
    let mut deleted = pod(one, json!({"phase": "Running"}));
    deleted["metadata"]["deletionTimestamp"] = NOW.into();
    assert!(shown("pods", &deleted).contains("Terminating"));
}

#[test]
fn other_kinds() {
    let meta = json!({"name": "a", "creationTimestamp": "2026-01-01T00:59:50Z"});
    for (resource, object, expect) in [
        (
            "deployments.apps",
            json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"app": "w"}}, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
                "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}),
            "a | 1/3 | 2 | 1 | 10s | c | i | app=w",
        ),
        (
            "services",
            json!({"spec": {"type": "NodePort", "clusterIPs": ["10.96.0.1"], "selector": {"a": "b"},
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
            "a | NodePort | 10.96.0.1 | <none> | 80:30080/TCP,53/UDP | 10s | a=b",
        ),
        (
            "services",
            json!({"spec": {"type": "ExternalName", "externalName": "x.y"}}),
            "a | ExternalName | <none> | x.y | <none> | 10s | <none>",
        ),
        (
            "nodes",
            json!({"spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.5"}], "nodeInfo": {"kubeletVersion": "v1"}}}),
            "a | Ready,SchedulingDisabled | <none> | 10s | v1 | 10.0.0.5 | <none> | <unknown> | <unknown> | <unknown>",
        ),
        (
            "events",
            json!({"type": "Normal", "reason": "Pulled", "message": " m ", "involvedObject": {"kind": "Pod", "name": "p"},
                "source": {"component": "kubelet", "host": "n"}, "firstTimestamp": "2026-01-01T00:58:00Z", "lastTimestamp": "2026-01-01T00:59:00Z", "count": 4}),
            "60s | Normal | Pulled | pod/p |  | kubelet, n | m | 2m | 4 | a",
        ),
        (
            "endpointslices.discovery.k8s.io",
            json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]}),
            "a | IPv4 | 80 | 10.0.0.1,10.0.0.2 | 10s",
        ),
        (
            "ingresses.networking.k8s.io",
            json!({"spec": {"rules": [{"host": "a.b"}]}}),
            "a | <none> | a.b |  | 80 | 10s",
        ),
        (
            "horizontalpodautoscalers.autoscaling",
            json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 5, "minReplicas": 1,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]}}),
            "a | Deployment/d | cpu: <unknown>/80% | 1 | 5 | 0 | 10s",
        ),
        ("customresourcedefinitions.apiextensions.k8s.io", json!({}), "a | 2026-01-01T00:59:50Z"),
    ] {
        let mut object = object;
        object["metadata"] = meta.clone();
        assert_eq!(shown(resource, &object), expect);
    }
}
