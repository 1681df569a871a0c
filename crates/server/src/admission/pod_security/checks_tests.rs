//! What each standard finds.

use serde_json::json;

use super::*;

#[track_caller]
fn check(level: Level, version: Option<u32>, spec: Value, expect: &str) {
    let meta = json!({});
    let pod = Pod { meta: &meta, spec: &spec };
    assert_eq!(details(&findings(Standard { level, version }, pod)), expect, "{spec}");
}

fn with(context: Value) -> Value {
    json!({"containers": [{"name": "a", "securityContext": context}]})
}

#[test]
fn baseline_forbids_the_host() {
    let check = |spec: Value, expect: &str| check(Level::Baseline, None, spec, expect);
    check(json!({"containers": [{"name": "a"}]}), "");
    check(
        with(json!({"privileged": true})),
        r#"privileged (container "a" must not set securityContext.privileged=true)"#,
    );
    check(json!({"hostNetwork": true, "hostIPC": true}), "host namespaces (hostNetwork=true, hostIPC=true)");
    check(
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {}}]}),
        r#"hostPath volumes (volumes "v", "w")"#,
    );
    check(
        with(json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "NET_RAW"]}})),
        r#"non-default capabilities (container "a" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)"#,
    );
    check(
        json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}]}, {"name": "b", "ports": [{"hostPort": 8}]}]}),
        r#"hostPort (containers "a", "b" use hostPorts 8, 80)"#,
    );
    check(
        json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}}]}),
        r#"probe or lifecycle host (container "a" uses probe or lifecycle host "h")"#,
    );
    check(
        json!({"securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}, "sysctls": [{"name": "a.b"}]}}),
        r#"seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "x"; user may not be set), forbidden sysctls (a.b)"#,
    );
    check(
        with(json!({"seccompProfile": {"type": "Unconfined"}})),
        r#"seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")"#,
    );
    check(
        with(json!({"windowsOptions": {"hostProcess": true}})),
        r#"hostProcess (container "a" must not set securityContext.windowsOptions.hostProcess=true)"#,
    );
    check(
        with(json!({"appArmorProfile": {"type": "Unconfined"}})),
        r#"forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined")"#,
    );
    check(
        with(json!({"procMount": "Unmasked"})),
        r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#,
    );
}

#[test]
fn restricted_demands_to_be_harmless() {
    let spec = json!({"containers": [{"name": "a"}]});
    check(
        Level::Restricted,
        None,
        spec.clone(),
        r#"allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#,
    );
    let mut harmless = with(json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}));
    harmless["securityContext"] = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    check(Level::Restricted, None, harmless.clone(), "");
    let mut volume = harmless.clone();
    volume["volumes"] =
        json!([{"name": "v", "hostPath": {}}, {"name": "n", "nfs": {}}, {"name": "s", "secret": {}}]);
    check(
        Level::Restricted,
        None,
        volume,
        r#"restricted volume types (volumes "v", "n" use restricted volume types "hostPath", "nfs")"#,
    );
    let mut root = harmless;
    root["securityContext"]["runAsUser"] = 0.into();
    root["securityContext"]["runAsNonRoot"] = false.into();
    check(
        Level::Restricted,
        None,
        root.clone(),
        "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0)",
    );
    // A user namespace of its own makes root nobody; that is so only since 1.35.
    root["hostUsers"] = false.into();
    check(Level::Restricted, Some(36), root.clone(), "");
    assert!(
        !findings(
            Standard { level: Level::Restricted, version: Some(34) },
            Pod { meta: &Value::Null, spec: &root }
        )
        .is_empty()
    );
}

#[test]
fn old_versions_know_less() {
    let probe = json!({"containers": [{"name": "a", "livenessProbe": {"tcpSocket": {"host": "h"}}}]});
    check(Level::Baseline, Some(33), probe, "");
    let windows = json!({"os": {"name": "windows"}, "containers": [{"name": "a"}], "securityContext": {"runAsNonRoot": true}});
    check(Level::Restricted, Some(25), windows, "");
    let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    check(Level::Baseline, Some(31), sysctl.clone(), "forbidden sysctls (net.ipv4.tcp_rmem)");
    check(Level::Baseline, Some(32), sysctl, "");
    let meta = json!({"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}});
    let pod = Pod { meta: &meta, spec: &Value::Null };
    let standard = Standard { level: Level::Baseline, version: Some(18) };
    let expect =
        r#"seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")"#;
    assert_eq!(details(&findings(standard, pod)), expect);
}
