//! Rules of security contexts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Spec, volumes, windows};
use crate::facts::internal;
use crate::field::{Error, Errors, Path};
use crate::tree::{flag, get, int, items, text, texts};
use crate::validation::names;
use crate::validation::rules::{full, invalid_json, not_supported, one_of};

const MAX_ID: i64 = i32::MAX as i64;

/// A user or group id.
fn id(object: &Value, field: &str, path: &Path<'_>, errors: &mut Errors) {
    if let Some(id) = int(object, field).filter(|id| !(0..=MAX_ID).contains(id)) {
        errors.push(Error::invalid(&path.child(field), id, &names::range_error(0, MAX_ID)));
    }
}

/// `spec.securityContext`.
pub fn pod(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(context) = get(spec, "securityContext") else { return };
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context, field, path, errors);
    }
    let groups = path.child("supplementalGroups");
    for (at, group) in items(context, "supplementalGroups").iter().enumerate() {
        if full(errors) {
            break;
        }
        if let Some(group) = group.as_i64().filter(|group| !(0..=MAX_ID).contains(group)) {
            errors.push(Error::invalid(&groups.index(at), group, &names::range_error(0, MAX_ID)));
        }
    }
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    sysctls(spec, context, &path.child("sysctls"), errors);
    one_of(errors, context, "fsGroupChangePolicy", path, &["Always", "OnRootMismatch"], false);
    seccomp(context, &path.child("seccompProfile"), errors);
    windows::options(context, &path.child("windowsOptions"), errors);
    app_armor(context, &path.child("appArmorProfile"), errors);
    one_of(errors, context, "supplementalGroupsPolicy", path, &["Merge", "Strict"], false);
    // (What else there is comes with a feature that is off by default.)
    one_of(errors, context, "seLinuxChangePolicy", path, &["Recursive"], false);
}

fn sysctls(spec: &Value, context: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (at, sysctl) in items(context, "sysctls").iter().enumerate() {
        if full(errors) {
            break;
        }
        let name = text(sysctl, "name");
        let at = path.index(at);
        let path = at.child("name");
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if !sysctl_shaped(name) {
            let detail = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(Error::invalid(&path, name, detail));
        } else if seen.contains(name) {
            errors.push(Error::duplicate(&path, name));
        }
        seen.insert(name);
        if let Some(host) = host_namespace(name).filter(|host| flag(spec, host)) {
            let detail = format!("may not be specified when '{host}' is true");
            errors.push(Error::invalid(&path, name, &detail));
        }
    }
}

/// What makes a pod share the namespace that a sysctl belongs to, if it belongs to one.
fn host_namespace(sysctl: &str) -> Option<&'static str> {
    const IPC: [&str; 10] = [
        "kernel.sem",
        "kernel.shm",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.msg",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
    ];
    let first = sysctl.find(['.', '/']).filter(|at| sysctl.as_bytes()[*at] == b'/');
    let name = if first.is_some() { swapped(sysctl) } else { sysctl.to_owned() };
    let of_ipc = IPC.contains(&&*name) || name.starts_with("fs.mqueue.");
    if of_ipc { Some("hostIPC") } else { name.starts_with("net.").then_some("hostNetwork") }
}

/// A name with its dots as slashes and its slashes as dots.
fn swapped(sysctl: &str) -> String {
    let swap = |letter| match letter {
        '/' => '.',
        '.' => '/',
        letter => letter,
    };
    sysctl.chars().map(swap).collect()
}

fn sysctl_shaped(name: &str) -> bool {
    let end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let segment = |part: &str| {
        let bytes = part.as_bytes();
        let ends = bytes.first().is_some_and(|b| end(*b)) && bytes.last().is_some_and(|b| end(*b));
        ends && bytes.iter().all(|b| end(*b) || b"-_".contains(b))
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

fn seccomp(context: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(profile) = get(context, "seccompProfile") else { return };
    let ty = text(profile, "type");
    let types = ["Localhost", "RuntimeDefault", "Unconfined"];
    if ty.is_empty() {
        errors.push(Error::required(&path.child("type"), "type is required when seccompProfile is set"));
    } else if !types.contains(&ty) {
        errors.push(not_supported(&path.child("type"), ty, &types));
    }
    let path = path.child("localhostProfile");
    match (ty, get(profile, "localhostProfile").and_then(Value::as_str)) {
        ("Localhost", None) => {
            errors.push(Error::required(&path, "must be set when seccomp type is Localhost"));
        }
        ("Localhost", Some(file)) => volumes::descending(file, &path, errors),
        (_, Some(file)) => {
            let detail = "can only be set when seccomp type is Localhost";
            let json = format!("{{\"Type\":{ty:?},\"LocalhostProfile\":{file:?}}}");
            errors.push(invalid_json(&path, &json, detail));
        }
        _ => {}
    }
}

fn app_armor(context: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(profile) = get(context, "appArmorProfile") else { return };
    let ty = text(profile, "type");
    let local = get(profile, "localhostProfile").and_then(Value::as_str);
    let local_path = path.child("localhostProfile");
    match ty {
        "Localhost" => match local {
            None => errors.push(Error::required(&local_path, "must be set when AppArmor type is Localhost")),
            Some(name) if name.trim() != name => {
                errors.push(Error::invalid(&local_path, name, "must not be padded with whitespace"));
            }
            Some("") => {
                errors.push(Error::required(&local_path, "must be set when AppArmor type is Localhost"));
            }
            Some(name) if name.len() > 4095 => errors.push(Error::too_long(&local_path, 4095)),
            Some(_) => {}
        },
        "RuntimeDefault" | "Unconfined" => {
            if let Some(name) = local {
                let detail = "can only be set when AppArmor type is Localhost";
                errors.push(Error::invalid(&local_path, name, detail));
            }
        }
        "" => {
            errors.push(Error::required(&path.child("type"), "type is required when appArmorProfile is set"))
        }
        other => {
            let types = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.push(not_supported(&path.child("type"), other, &types));
        }
    }
}

/// `securityContext` of a container.
pub fn container(spec: &Spec<'_>, container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(context) = get(container, "securityContext") else { return };
    id(context, "runAsUser", path, errors);
    id(context, "runAsGroup", path, errors);
    if get(context, "procMount").is_some() {
        let mount = text(context, "procMount");
        let path = path.child("procMount");
        if !["Default", "Unmasked"].contains(&mount) {
            errors.push(not_supported(&path, mount, &["Default", "Unmasked"]));
        }
        if spec.host_users && mount == "Unmasked" {
            errors.push(Error::invalid(&path, mount, "`hostUsers` must be false to use `Unmasked`"));
        }
    }
    seccomp(context, &path.child("seccompProfile"), errors);
    if get(context, "allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false) {
        if flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(invalid_json(path, &internal::json("core.SecurityContext", context), detail));
        }
        if texts(&context["capabilities"], "add").any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(invalid_json(path, &internal::json("core.SecurityContext", context), detail));
        }
    }
    windows::options(context, &path.child("windowsOptions"), errors);
    app_armor(context, &path.child("appArmorProfile"), errors);
}

/// What may not be set for a pod of an operating system.
pub fn operating_system(whole: &Spec<'_>, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let spec = whole.spec;
    let linux = name == "linux";
    let detail = if linux {
        "windows options cannot be set for a linux pod"
    } else {
        "cannot be set for a windows pod"
    };
    let context_path = path.child("securityContext");
    let of_context: &[&str] = if linux {
        &["windowsOptions"]
    } else {
        &[
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "fsGroup",
            "fsGroupChangePolicy",
            "sysctls",
            "runAsUser",
            "runAsGroup",
            "supplementalGroups",
            "supplementalGroupsPolicy",
            "seLinuxChangePolicy",
        ]
    };
    let set = |object: &Value, field: &str| {
        get(object, field)
            .is_some_and(|value| value != &Value::Bool(false) && value != &Value::Array(Vec::new()))
    };
    for field in of_context.iter().filter(|field| set(&spec["securityContext"], field)) {
        errors.push(Error::forbidden(&context_path.child(field), detail));
    }
    let of_spec: &[&str] =
        if linux { &[] } else { &["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"] };
    for field in of_spec.iter().filter(|field| set(spec, field)) {
        errors.push(Error::forbidden(&path.child(field), detail));
    }
    let of_container: &[&str] = if linux {
        &["windowsOptions"]
    } else {
        &[
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ]
    };
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let list_path = path.child(list);
        for (at, container) in items(spec, list).iter().enumerate() {
            if full(errors) {
                break;
            }
            let path = list_path.index(at);
            let path = path.child("securityContext");
            let context = &container["securityContext"];
            for field in of_container.iter().filter(|field| get(context, field).is_some()) {
                errors.push(Error::forbidden(&path.child(field), detail));
            }
        }
    }
}
