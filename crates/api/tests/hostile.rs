//! Bodies at the size limit that are made to be costly: rules must stay linear, and what
//! they say must not be many times what was sent. (Times are generous: tests run
//! unoptimised and beside others.)

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use carrack_api::{Value, kinds, validation};
use serde_json::json;

/// Items that fill about three megabytes.
fn many(count: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..count).map(item).collect()
}

fn check(what: &str, object: &Value) {
    let kinds = kinds::builtin();
    let (kind, _) = kinds.resource("", "v1", "pods").unwrap();
    let start = Instant::now();
    for errors in [
        validation::validate_create(kind, object),
        validation::validate_update(kind, object, object),
        validation::validate_status_update(kind, object, object),
    ] {
        let said: usize = errors.iter().map(|error| error.message.len() + error.path.len()).sum();
        assert!(said < 4 << 20, "{what}: {said} bytes");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
}

fn pod(changes: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "n", "resourceVersion": "1"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {}});
    json_patch::merge(&mut pod, &changes);
    pod
}

#[test]
fn large_lists_stay_linear() {
    let n = 20_000;
    let labels: Value =
        (0..n).map(|at| (format!("a {at}"), Value::from("b c"))).collect::<serde_json::Map<_, _>>().into();
    let names = |at: usize| json!({"name": format!("n{at}")});
    let one = |container: Value| json!({"spec": {"containers": [container]}});
    for (what, changes) in [
        ("labels", json!({"metadata": {"labels": labels}})),
        ("annotations", json!({"metadata": {"annotations": labels}})),
        ("finalizers", json!({"metadata": {"finalizers": many(n, |at| format!("x/{at}").into())}})),
        ("volumes", json!({"spec": {"volumes": many(n, names)}})),
        (
            "mounts",
            one(json!({"name": "c", "image": "i",
                "volumeMounts": many(n, names), "volumeDevices": many(n, names)})),
        ),
        ("environment", one(json!({"name": "c", "image": "i", "env": many(n, names)}))),
        (
            "containers",
            json!({"spec": {"containers": many(n / 4, names), "initContainers": many(n / 4, names)}}),
        ),
        (
            "spreading",
            json!({"spec": {"topologySpreadConstraints": many(n, |at| json!({"topologyKey": format!("k{at}"),
                "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1, "labelSelector": {}}))}}),
        ),
        ("tolerations", json!({"spec": {"tolerations": many(n, |at| json!({"key": format!("k{at}")}))}})),
        ("gates", json!({"spec": {"schedulingGates": many(n, names)}})),
        ("claims", one(json!({"name": "c", "image": "i", "resources": {"claims": many(n, names)}}))),
        (
            "statuses",
            json!({"status": {"containerStatuses": many(n, |at| json!({"name": format!("n{at}"),
                "state": {"terminated": {"exitCode": 0}}}))}}),
        ),
        (
            "affinity",
            json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "a", "labelSelector": {"matchExpressions": many(n, |at| json!({"key": format!("k{at}"),
                "operator": "Exists"}))}, "matchLabelKeys": many(n, |at| format!("l{at}").into()),
                "mismatchLabelKeys": many(n, |at| format!("m{at}").into())}]}}}}),
        ),
    ] {
        check(what, &pod(changes));
    }
}

#[test]
fn a_long_text_is_not_said_again_in_full() {
    let long = "A ".repeat(1 << 20);
    check("a name", &pod(json!({"metadata": {"name": long}})));
    check(
        "an image",
        &pod(json!({"spec": {"nodeName": long, "hostname": long, "nodeSelector": {"a": long}}})),
    );
}
