//! The checks of the Pod Security Standards, as `pod-security-admission` words their
//! findings. Pure.

use std::collections::BTreeSet;

use carrack_api::{Value, tree};

use super::policy::{Level, Standard};

/// What a check found wrong: in short, and in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) reason: String,
    detail: String,
}

/// A pod, or the template of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pod<'a> {
    /// `metadata`.
    pub(super) meta: &'a Value,
    /// `spec`.
    pub(super) spec: &'a Value,
}

type Check = fn(Pod<'_>) -> Option<Finding>;

/// A check from one minor version to before another.
struct Row {
    id: &'static str,
    from: u32,
    until: u32,
    check: Check,
    /// The baseline check that it stands in for.
    instead_of: &'static str,
}

const NEVER: u32 = u32::MAX;

const fn row(id: &'static str, from: u32, until: u32, check: Check) -> Row {
    Row { id, from, until, check, instead_of: "" }
}

/// In the order of their findings.
const BASELINE: [Row; 18] = [
    row("appArmorProfile", 0, NEVER, app_armor),
    row("capabilities_baseline", 0, NEVER, capabilities_baseline),
    row("hostNamespaces", 0, NEVER, host_namespaces),
    row("hostPathVolumes", 0, NEVER, host_paths),
    row("hostPorts", 0, NEVER, host_ports),
    row("hostProbesAndHostLifecycle", 34, NEVER, probe_hosts),
    row("privileged", 0, NEVER, privileged),
    row("procMount", 0, 35, proc_mount),
    row("procMount", 35, NEVER, proc_mount_unless_mapped),
    row("seLinuxOptions", 0, 31, |pod| selinux(pod, &SELINUX[..4])),
    row("seLinuxOptions", 31, NEVER, |pod| selinux(pod, &SELINUX)),
    row("seccompProfile_baseline", 0, 19, seccomp_annotations),
    row("seccompProfile_baseline", 19, NEVER, seccomp_baseline),
    row("sysctls", 0, 27, |pod| sysctls(pod, &SYSCTLS[..5])),
    row("sysctls", 27, 29, |pod| sysctls(pod, &SYSCTLS[..6])),
    row("sysctls", 29, 32, |pod| sysctls(pod, &SYSCTLS[..10])),
    row("sysctls", 32, NEVER, |pod| sysctls(pod, &SYSCTLS)),
    row("windowsHostProcess", 0, NEVER, host_process),
];

const RESTRICTED: [Row; 12] = [
    row("allowPrivilegeEscalation", 8, 25, escalation),
    row("allowPrivilegeEscalation", 25, NEVER, |pod| unless_windows(pod, escalation)),
    Row { instead_of: "capabilities_baseline", ..row("capabilities_restricted", 22, 25, capabilities) },
    Row {
        instead_of: "capabilities_baseline",
        ..row("capabilities_restricted", 25, NEVER, |pod| unless_windows(pod, capabilities))
    },
    Row { instead_of: "procMount", ..row("procMount_restricted", 35, NEVER, proc_mount) },
    Row { instead_of: "hostPathVolumes", ..row("restrictedVolumes", 0, NEVER, volumes) },
    row("runAsNonRoot", 0, 35, non_root),
    row("runAsNonRoot", 35, NEVER, |pod| unless_mapped(pod, non_root)),
    row("runAsUser", 23, 35, run_as_user),
    row("runAsUser", 35, NEVER, |pod| unless_mapped(pod, run_as_user)),
    Row { instead_of: "seccompProfile_baseline", ..row("seccompProfile_restricted", 19, 25, seccomp) },
    Row {
        instead_of: "seccompProfile_baseline",
        ..row("seccompProfile_restricted", 25, NEVER, |pod| unless_windows(pod, seccomp))
    },
];

/// The newest version in which a check changed; later ones are the same.
const NEWEST: u32 = 35;

/// Everything about a pod that a standard forbids.
pub(super) fn findings(standard: Standard, pod: Pod<'_>) -> Vec<Finding> {
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let minor = standard.version.unwrap_or(NEWEST).min(NEWEST);
    let applies = |row: &&Row| row.from <= minor && minor < row.until;
    let restricted: Vec<&Row> = match standard.level {
        Level::Restricted => RESTRICTED.iter().filter(applies).collect(),
        _ => Vec::new(),
    };
    let replaced = |row: &&Row| restricted.iter().any(|other| other.instead_of == row.id);
    let baseline = BASELINE.iter().filter(applies).filter(|row| !replaced(row));
    let mut findings: Vec<Finding> = baseline.filter_map(|row| (row.check)(pod)).collect();
    findings.extend(restricted.iter().filter_map(|row| (row.check)(pod)));
    findings
}

/// `privileged (container "c" must not …), host namespaces (…)`.
pub(super) fn details(findings: &[Finding]) -> String {
    let one = |finding: &Finding| match &*finding.detail {
        "" => finding.reason.clone(),
        detail => format!("{} ({detail})", finding.reason),
    };
    findings.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `privileged, host namespaces`.
pub(super) fn reasons(findings: &[Finding]) -> String {
    findings.iter().map(|finding| &*finding.reason).collect::<Vec<_>>().join(", ")
}

// === what the checks share ===

fn found(reason: impl Into<String>, detail: String) -> Option<Finding> {
    Some(Finding { reason: reason.into(), detail })
}

fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    items.join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
fn named(containers: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", containers.len()), quoted(containers))
}

/// `pod and container "a"`.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let pod = pod.then(|| "pod".to_owned());
    let containers = (!containers.is_empty()).then(|| named(containers));
    let all: Vec<String> = pod.into_iter().chain(containers).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

impl<'a> Pod<'a> {
    /// All containers with their names.
    fn containers(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let all = lists.into_iter().filter_map(move |list| self.spec[list].as_array()).flatten();
        all.map(|container| (container["name"].as_str().unwrap_or_default(), container))
    }

    /// Names of the containers that are bad.
    fn bad(self, bad: impl Fn(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|(_, container)| bad(container)).map(|(name, _)| name).collect()
    }

    fn security(self) -> &'a Value {
        &self.spec["securityContext"]
    }

    fn volumes(self) -> impl Iterator<Item = &'a Value> {
        self.spec["volumes"].as_array().into_iter().flatten()
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Users of the pod are mapped to others outside: its root is nobody there.
fn mapped(pod: Pod<'_>) -> bool {
    pod.spec["hostUsers"] == false
}

fn unless_mapped(pod: Pod<'_>, check: Check) -> Option<Finding> {
    if mapped(pod) { None } else { check(pod) }
}

fn unless_windows(pod: Pod<'_>, check: Check) -> Option<Finding> {
    if pod.spec["os"]["name"] == "windows" { None } else { check(pod) }
}

// === baseline ===

fn app_armor(pod: Pod<'_>) -> Option<Finding> {
    let kind = |context: &Value| {
        let profile = &context["appArmorProfile"];
        let kind = profile["type"].as_str().unwrap_or_default();
        let bad = profile.is_object() && !matches!(kind, "RuntimeDefault" | "Localhost");
        bad.then(|| kind.to_owned())
    };
    let mut values: BTreeSet<String> = kind(pod.security()).into_iter().collect();
    let of_pod = !values.is_empty();
    values.extend(pod.containers().filter_map(|(_, container)| kind(&container["securityContext"])));
    let bad = pod.bad(|container| kind(&container["securityContext"]).is_some());
    let annotations = pod.meta["annotations"].as_object().into_iter().flatten();
    let mut forbidden: Vec<String> = annotations
        .filter(|(key, _)| key.starts_with("container.apparmor.security.beta.kubernetes.io/"))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| {
            !(value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/"))
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    forbidden.sort();
    let mut all: Vec<String> = setters(of_pod, &bad).into_iter().collect();
    if !forbidden.is_empty() {
        all.push(plural("annotation", "annotations", forbidden.len()).to_owned());
    }
    if all.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(forbidden).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    found(reason, format!("{} must not set AppArmor profile type to {}", all.join(" and "), quoted(&values)))
}

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Containers that add what is not among `allowed`, and what that is.
fn added<'a>(pod: Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    let beyond = |container: &'a Value| {
        texts(&container["securityContext"]["capabilities"]["add"]).filter(|name| !allowed.contains(name))
    };
    let bad = pod.bad(|container| beyond(container).next().is_some());
    (bad, pod.containers().flat_map(|(_, container)| beyond(container)).collect())
}

fn not_to_add(bad: &[&str], names: &BTreeSet<&str>) -> String {
    format!("{} must not include {} in securityContext.capabilities.add", named(bad), quoted(names))
}

fn capabilities_baseline(pod: Pod<'_>) -> Option<Finding> {
    let (bad, names) = added(pod, &CAPABILITIES);
    if bad.is_empty() {
        return None;
    }
    found("non-default capabilities", not_to_add(&bad, &names))
}

fn host_namespaces(pod: Pod<'_>) -> Option<Finding> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec[*field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() { None } else { found("host namespaces", shared.join(", ")) }
}

fn host_paths(pod: Pod<'_>) -> Option<Finding> {
    let bad = pod.volumes().filter(|volume| volume["hostPath"].is_object());
    let bad: Vec<&str> = bad.filter_map(|volume| volume["name"].as_str()).collect();
    if bad.is_empty() {
        return None;
    }
    found("hostPath volumes", format!("{} {}", plural("volume", "volumes", bad.len()), quoted(&bad)))
}

fn host_ports(pod: Pod<'_>) -> Option<Finding> {
    fn ports(container: &Value) -> impl Iterator<Item = i64> {
        let ports = container["ports"].as_array().into_iter().flatten();
        ports.filter_map(|port| port["hostPort"].as_i64()).filter(|port| *port != 0)
    }
    let bad = pod.bad(|container| ports(container).next().is_some());
    if bad.is_empty() {
        return None;
    }
    let all: BTreeSet<String> =
        pod.containers().flat_map(|(_, container)| ports(container)).map(|port| port.to_string()).collect();
    let detail = format!(
        "{} {} {} {}",
        named(&bad),
        plural("uses", "use", bad.len()),
        plural("hostPort", "hostPorts", all.len()),
        all.into_iter().collect::<Vec<_>>().join(", ")
    );
    found("hostPort", detail)
}

fn probe_hosts(pod: Pod<'_>) -> Option<Finding> {
    const PLACES: [&str; 5] =
        ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    fn hosts(container: &Value) -> impl Iterator<Item = &str> {
        let handlers = PLACES.iter().filter_map(|place| tree::pointer(container, place));
        let hosts = handlers.flat_map(|handler| [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]]);
        hosts.filter_map(Value::as_str).filter(|host| !host.is_empty())
    }
    let mut bad = pod.bad(|container| hosts(container).next().is_some());
    if bad.is_empty() {
        return None;
    }
    bad.sort_unstable();
    bad.dedup();
    let all: BTreeSet<&str> = pod.containers().flat_map(|(_, container)| hosts(container)).collect();
    let detail = format!(
        "{} {} {} {}",
        named(&bad),
        plural("uses", "use", bad.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", all.len()),
        quoted(&all)
    );
    found("probe or lifecycle host", detail)
}

fn privileged(pod: Pod<'_>) -> Option<Finding> {
    let bad = pod.bad(|container| container["securityContext"]["privileged"] == true);
    if bad.is_empty() {
        return None;
    }
    found("privileged", format!("{} must not set securityContext.privileged=true", named(&bad)))
}

fn proc_mount(pod: Pod<'_>) -> Option<Finding> {
    let other = |container: &Value| {
        let kind = container["securityContext"]["procMount"].as_str().filter(|kind| *kind != "Default");
        kind.map(str::to_owned)
    };
    let bad = pod.bad(|container| other(container).is_some());
    if bad.is_empty() {
        return None;
    }
    let kinds: BTreeSet<String> = pod.containers().filter_map(|(_, container)| other(container)).collect();
    found(
        "procMount",
        format!("{} must not set securityContext.procMount to {}", named(&bad), quoted(&kinds)),
    )
}

fn proc_mount_unless_mapped(pod: Pod<'_>) -> Option<Finding> {
    unless_mapped(pod, proc_mount)
}

const SELINUX: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

fn selinux(pod: Pod<'_>, allowed: &[&str]) -> Option<Finding> {
    let options = |context: &Value| {
        let part = |field: &str| context["seLinuxOptions"][field].as_str().unwrap_or_default().to_owned();
        let (kind, user, role) = (part("type"), !part("user").is_empty(), !part("role").is_empty());
        let kind = (!allowed.contains(&&*kind)).then_some(kind);
        (kind.is_some() || user || role).then_some((kind, user, role))
    };
    let of_pod = options(pod.security());
    let bad = pod.bad(|container| options(&container["securityContext"]).is_some());
    let setters = setters(of_pod.is_some(), &bad)?;
    let (mut kinds, mut user, mut role) = (BTreeSet::new(), false, false);
    let of_containers = pod.containers().filter_map(|(_, container)| options(&container["securityContext"]));
    for (kind, sets_user, sets_role) in of_pod.into_iter().chain(of_containers) {
        kinds.extend(kind);
        user |= sets_user;
        role |= sets_role;
    }
    let mut data = Vec::new();
    if !kinds.is_empty() {
        data.push(format!("{} {}", plural("type", "types", kinds.len()), quoted(&kinds)));
    }
    data.extend(user.then(|| "user may not be set".to_owned()));
    data.extend(role.then(|| "role may not be set".to_owned()));
    found(
        "seLinuxOptions",
        format!("{setters} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")),
    )
}

fn seccomp_annotations(pod: Pod<'_>) -> Option<Finding> {
    let good = |value: &str| {
        matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
    };
    let of_containers =
        pod.containers().map(|(name, _)| format!("container.seccomp.security.alpha.kubernetes.io/{name}"));
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned()).chain(of_containers);
    let bad: BTreeSet<String> = keys
        .filter_map(|key| {
            let value = pod.meta["annotations"][&key].as_str()?;
            (!good(value)).then(|| format!("{key}={value:?}"))
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", bad.len());
    found("seccompProfile", format!("forbidden {word} {}", bad.into_iter().collect::<Vec<_>>().join(", ")))
}

/// The type of a seccomp profile: `None` without a profile, `Err` when it is bad.
fn profile(context: &Value) -> Option<Result<(), &str>> {
    let profile = context["seccompProfile"].as_object()?;
    let kind = profile.get("type").and_then(Value::as_str).unwrap_or_default();
    Some(if matches!(kind, "Localhost" | "RuntimeDefault") { Ok(()) } else { Err(kind) })
}

fn seccomp_baseline(pod: Pod<'_>) -> Option<Finding> {
    let wrong = |context| profile(context).and_then(Result::err);
    let of_pod = wrong(pod.security());
    let bad = pod.bad(|container| wrong(&container["securityContext"]).is_some());
    let setters = setters(of_pod.is_some(), &bad)?;
    let of_containers = pod.containers().filter_map(|(_, container)| wrong(&container["securityContext"]));
    let values: BTreeSet<&str> = of_pod.into_iter().chain(of_containers).collect();
    let detail = format!("{setters} must not set securityContext.seccompProfile.type to {}", quoted(&values));
    found("seccompProfile", detail)
}

const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn sysctls(pod: Pod<'_>, allowed: &[&str]) -> Option<Finding> {
    let all = pod.security()["sysctls"].as_array().into_iter().flatten();
    let bad: Vec<&str> =
        all.filter_map(|sysctl| sysctl["name"].as_str()).filter(|name| !allowed.contains(name)).collect();
    if bad.is_empty() { None } else { found("forbidden sysctls", bad.join(", ")) }
}

fn host_process(pod: Pod<'_>) -> Option<Finding> {
    let sets = |context: &Value| context["windowsOptions"]["hostProcess"] == true;
    let bad = pod.bad(|container| sets(&container["securityContext"]));
    let setters = setters(sets(pod.security()), &bad)?;
    found("hostProcess", format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"))
}

// === restricted ===

fn escalation(pod: Pod<'_>) -> Option<Finding> {
    let bad = pod.bad(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&bad));
    found("allowPrivilegeEscalation != false", detail)
}

fn capabilities(pod: Pod<'_>) -> Option<Finding> {
    let keeps = pod.bad(|container| {
        !texts(&container["securityContext"]["capabilities"]["drop"]).any(|name| name == "ALL")
    });
    let (adds, names) = added(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!(r#"{} must set securityContext.capabilities.drop=["ALL"]"#, named(&keeps)));
    }
    if !adds.is_empty() {
        details.push(not_to_add(&adds, &names));
    }
    if details.is_empty() { None } else { found("unrestricted capabilities", details.join("; ")) }
}

fn volumes(pod: Pod<'_>) -> Option<Finding> {
    const GOOD: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let has = |volume: &Value, field: &str| volume.get(field).is_some_and(|source| !source.is_null());
    let bad: Vec<&Value> =
        pod.volumes().filter(|volume| !GOOD.iter().any(|field| has(volume, field))).collect();
    if bad.is_empty() {
        return None;
    }
    let kind = |volume: &&Value| -> String {
        let fields = volume.as_object().into_iter().flatten();
        let mut sources = fields.filter(|(field, value)| *field != "name" && !value.is_null());
        sources.next().map_or("unknown".into(), |(field, _)| field.clone())
    };
    let kinds: BTreeSet<String> = bad.iter().map(kind).collect();
    let names: Vec<&str> = bad.iter().filter_map(|volume| volume["name"].as_str()).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(&kinds)
    );
    found("restricted volume types", detail)
}

fn non_root(pod: Pod<'_>) -> Option<Finding> {
    let said = |context: &Value| context["runAsNonRoot"].as_bool();
    let of_pod = said(pod.security());
    let denies = pod.bad(|container| said(&container["securityContext"]) == Some(false));
    if let Some(setters) = setters(of_pod == Some(false), &denies) {
        let detail = format!("{setters} must not set securityContext.runAsNonRoot=false");
        return found("runAsNonRoot != true", detail);
    }
    let silent = pod.bad(|container| said(&container["securityContext"]).is_none() && of_pod != Some(true));
    if silent.is_empty() {
        return None;
    }
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", named(&silent));
    found("runAsNonRoot != true", detail)
}

fn run_as_user(pod: Pod<'_>) -> Option<Finding> {
    let root = |context: &Value| context["runAsUser"] == 0;
    let bad = pod.bad(|container| root(&container["securityContext"]));
    let setters = setters(root(pod.security()), &bad)?;
    found("runAsUser=0", format!("{setters} must not set runAsUser=0"))
}

fn seccomp(pod: Pod<'_>) -> Option<Finding> {
    if let Some(finding) = seccomp_baseline(pod) {
        return Some(finding);
    }
    let of_pod = profile(pod.security()).is_some();
    let silent = pod.bad(|container| profile(&container["securityContext"]).is_none() && !of_pod);
    if silent.is_empty() {
        return None;
    }
    let detail = format!(
        r#"pod or {} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#,
        named(&silent)
    );
    found("seccompProfile", detail)
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
