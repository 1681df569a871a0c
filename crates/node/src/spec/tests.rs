//! From a pod to what the runtime is asked for, as one golden file.

use super::*;
use serde_json::json;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u-1", "labels": {"app": "web"}},
        "spec": {
            "nodeName": "n1", "terminationGracePeriodSeconds": 5,
            "securityContext": {"fsGroup": 2000, "runAsUser": 1000},
            "containers": [{
                "name": "c", "image": "nginx", "command": ["sh", "-c", "echo $(A) $(B)"], "args": ["$$(A)"],
                "env": [{"name": "A", "value": "1"}, {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
                "volumeMounts": [
                    {"name": "data", "mountPath": "/data", "subPathExpr": "logs/$(NAME)"},
                    {"name": "data", "mountPath": "/ro", "readOnly": true}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "lifecycle": {"stopSignal": "SIGQUIT"},
            }],
        },
    }))
    .expect("a pod")
}

fn make(pod: &Pod) -> Result<ContainerSpec, ConfigError> {
    let spec = pod.spec.as_ref().expect("a spec");
    let inputs = Inputs {
        objects: &Objects::default(),
        facts: &PodFacts { node_memory: 1 << 30, ..PodFacts::default() },
        services: &[],
        volumes: &[("data".to_owned(), PathBuf::from("/v/data"))].into(),
        image: &ImageConfig::default(),
        image_id: "sha256:abc",
        log_path: "/logs/c/0.log".into(),
        hosts_file: Some("/p/etc-hosts".into()),
        termination_log: "/p/term".into(),
    };
    container(pod, &spec.containers[0], 0, &inputs)
}

#[test]
fn container_spec() {
    insta::assert_json_snapshot!(make(&pod()).expect("makes"));
}

#[test]
fn sandbox_spec() {
    insta::assert_json_snapshot!(sandbox(&pod(), 1, "web".into(), "nameserver 10.96.0.10\n".into()));
}

#[test]
fn sub_paths_stay_below_their_volume() {
    for bad in ["/etc", "../x", "a/../../b"] {
        let mut pod = pod();
        let mount =
            &mut pod.spec.as_mut().expect("a spec").containers[0].volume_mounts.as_mut().expect("mounts")[1];
        mount.sub_path = Some(bad.into());
        assert!(make(&pod).is_err(), "{bad}");
    }
}
