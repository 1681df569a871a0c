//! Rules of pods as tables: what is changed of a pod, and what is said of it.

use serde_json::{Value, json};

use crate::validation::tests::{created, updated, with};

const CHANGED: &str = "spec: Forbidden: pod updates may not change fields";

fn pod() -> Value {
    json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "spec": {
        "containers": [{"name": "c", "image": "i", "terminationMessagePolicy": "File"}]}})
}

fn says(errors: &[String], expect: &[&str]) {
    let fits = |(error, expect): (&String, &&str)| error.starts_with(*expect);
    assert!(errors.len() == expect.len() && errors.iter().zip(expect).all(fits), "{errors:#?}");
}

#[test]
fn new_pods() {
    let new = |spec: Value| {
        let errors = created("", "v1", "pods", &with(&pod(), &json!({ "spec": spec })));
        errors.into_iter().filter(|error| !error.starts_with("metadata.")).collect::<Vec<_>>()
    };
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let volume = |name: &str| json!([{"name": name, "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}]);
    let resources =
        |limits: Value, requests: Value| json!({"resources": {"limits": limits, "requests": requests}});
    for (spec, expect) in [
        (json!({"volumes": volume("v")}), &[][..]),
        (
            json!({"volumes": volume("a_b")}),
            &[
                "spec.volumes[0].name: Invalid value: \"a_b\": PVC name \"p-a_b\": a lowercase RFC 1123 subdomain",
                "spec.volumes[0].name: Invalid value: \"a_b\": a lowercase RFC 1123 label",
            ],
        ),
        (
            json!({"hostNetwork": true, "securityContext": {"sysctls": [
                {"name": "net.core.somaxconn", "value": "1"}, {"name": "kernel.sem", "value": "1"}]}}),
            &[
                "spec.securityContext.sysctls[0].name: Invalid value: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true",
            ],
        ),
        (
            json!({"hostIPC": true, "securityContext": {"sysctls": [
                {"name": "net/core/somaxconn", "value": "1"}, {"name": "fs/mqueue/msg_max", "value": "1"},
                {"name": "kernel.shmmax", "value": "1"}, {"name": "kernel.shmother", "value": "1"}]}}),
            &[
                "spec.securityContext.sysctls[1].name: Invalid value: \"fs/mqueue/msg_max\": may not be specified when 'hostIPC' is true",
                "spec.securityContext.sysctls[2].name: Invalid value: \"kernel.shmmax\": may not be specified when 'hostIPC' is true",
            ],
        ),
        (
            json!({"hostUsers": false, "containers": [{"name": "c", "image": "i",
                "terminationMessagePolicy": "File", "volumeDevices": [{"name": "d", "devicePath": "/d"}]}]}),
            &[
                "spec.containers[0].volumeDevices[0].name: Not found: \"d\"",
                "spec.containers[0].volumeDevices: Forbidden: when `hostUsers` is false",
            ],
        ),
        (
            resources(json!({"cpu": "1"}), json!({"cpu": "2"})),
            &["spec.resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
        ),
        (
            json!({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}, "containers": [
                {"name": "a", "image": "i", "terminationMessagePolicy": "File",
                    "resources": {"requests": {"cpu": "700m"}, "limits": {"cpu": "3", "memory": "1Gi"}}},
                {"name": "b", "image": "i", "terminationMessagePolicy": "File",
                    "resources": {"requests": {"cpu": "500m"}}}]}),
            &[
                "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 1200m",
                "spec.resources.containers[0][cpu].limits: Invalid value: \"3\": must be less than or equal to pod limits of 2",
            ],
        ),
        (
            resources(json!({"cpu": "1", "hugepages-2Mi": "3Mi"}), json!({"hugepages-2Mi": "4Mi"})),
            &[
                "spec.resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                "spec.resources.requests: Invalid value: \"4Mi\": must be equal to hugepages-2Mi limit of 3Mi",
            ],
        ),
    ] {
        says(&new(spec), expect);
    }
}

#[test]
fn changed_pods() {
    const SECONDS: &str =
        "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute'";
    const COST: &str = "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value";
    let container =
        |changes: Value| json!({"spec": {"containers": [with(&pod()["spec"]["containers"][0], &changes)]}});
    for (changes, expect) in [
        (json!({"spec": {"securityContext": {"windowsOptions": {}}}}), &[CHANGED][..]),
        (json!({"spec": {"dnsConfig": {}}}), &[CHANGED]),
        (json!({"spec": {"volumes": [], "tolerations": []}}), &[]),
        (json!({"spec": {"runtimeClassName": ""}}), &["spec.runtimeClassName: Invalid value: \"\"", CHANGED]),
        (
            container(json!({"restartPolicy": ""})),
            &["spec.containers[0].restartPolicy: Unsupported value: \"\"", CHANGED],
        ),
        (
            json!({"spec": {"tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}]}}),
            &[SECONDS, SECONDS],
        ),
        (
            json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "x"}}}),
            &[COST, COST],
        ),
    ] {
        says(&updated("", "v1", "pods", &with(&pod(), &changes), &pod()), expect);
    }
}
