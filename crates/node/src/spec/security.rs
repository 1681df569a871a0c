//! Who a container runs as and what it may do. Pure.

use carrack_runtime::{ImageConfig, Seccomp, Security, User};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::ConfigError;

/// User and groups; refuses a root user where `runAsNonRoot` forbids it.
pub fn user(pod: &Pod, container: &Container, image: &ImageConfig) -> Result<User, ConfigError> {
    let pods = pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let id = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
    let uid = id(own.run_as_user.or(pods.run_as_user));
    let gid = id(own.run_as_group.or(pods.run_as_group));
    if own.run_as_non_root.or(pods.run_as_non_root) == Some(true) {
        non_root(&container.name, uid, image)?;
    }
    let mut groups: Vec<u32> =
        pods.supplemental_groups.iter().flatten().filter_map(|g| id(Some(*g))).collect();
    groups.extend(id(pods.fs_group));
    Ok(User {
        uid,
        gid,
        supplemental_groups: groups,
        strict_groups: pods.supplemental_groups_policy.as_deref() == Some("Strict"),
    })
}

/// kubelet's `verifyRunAsNonRoot`.
fn non_root(container: &str, uid: Option<u32>, image: &ImageConfig) -> Result<(), ConfigError> {
    let name = image.user.split(':').next().unwrap_or_default();
    let error = match (uid, name.parse::<u32>()) {
        (Some(0), _) => "container's runAsUser breaks non-root policy".to_owned(),
        (Some(_), _) => return Ok(()),
        (None, Ok(0)) => "container has runAsNonRoot and image will run as root".to_owned(),
        (None, Ok(_)) => return Ok(()),
        (None, Err(_)) if name.is_empty() => {
            "container has runAsNonRoot and image will run as root".to_owned()
        }
        (None, Err(_)) => format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        ),
    };
    Err(ConfigError::config(format!("{error} (container: {container})")))
}

/// Capabilities, seccomp and the like.
pub fn privileges(pod: &Pod, container: &Container) -> Security {
    let pods = pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let profile = own.seccomp_profile.or(pods.seccomp_profile).map(|profile| profile.type_);
    Security {
        privileged,
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        read_only_root: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privileges: own.allow_privilege_escalation == Some(false) && !privileged,
        seccomp: match profile.as_deref() {
            Some("Unconfined") => Seccomp::Unconfined,
            _ if privileged => Seccomp::Unconfined,
            // Without a profile too: the safer of what Kubernetes allows (`seccompDefault`).
            _ => Seccomp::RuntimeDefault,
        },
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    }
}

/// `SIGTERM` → 15 (Linux, x86 and Arm).
pub fn signal_number(name: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = name.strip_prefix("SIG").unwrap_or(name);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(at + 1).ok();
    }
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => (34, rest),
        (_, Some(rest)) => (64, rest),
        _ => return None,
    };
    if offset.is_empty() { Some(base) } else { Some(base + offset.parse::<i32>().ok()?) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn non_root_is_kept() {
        let image = |user: &str| ImageConfig { user: user.into(), ..ImageConfig::default() };
        let container = |context| -> Container {
            serde_json::from_value(json!({"name": "c", "securityContext": context})).expect("a container")
        };
        let cases = [
            (json!({"runAsNonRoot": true}), "", false),
            (json!({"runAsNonRoot": true}), "0:0", false),
            (json!({"runAsNonRoot": true}), "nginx", false),
            (json!({"runAsNonRoot": true}), "101", true),
            (json!({"runAsNonRoot": true, "runAsUser": 7}), "", true),
            (json!({"runAsNonRoot": true, "runAsUser": 0}), "101", false),
            (json!({}), "", true),
        ];
        for (context, user_of_image, allowed) in cases {
            let got = user(&Pod::default(), &container(context.clone()), &image(user_of_image));
            assert_eq!(got.is_ok(), allowed, "{context} {user_of_image}");
        }
    }

    #[test]
    fn signals() {
        let cases = [
            ("SIGTERM", Some(15)),
            ("SIGQUIT", Some(3)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMAX", Some(64)),
            ("X", None),
        ];
        for (name, number) in cases {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
