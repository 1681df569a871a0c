//! Rules of a Pod's status.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::field::{Error, Errors, Path};
use crate::tree::{get, int, items, same, text};
use crate::validation::names;
use crate::validation::net::legacy_ip;
use crate::validation::rules::{full, immutable, invalid_each};

/// Rules of a status that replaces another.
pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    super::update::annotations(new, old, errors);
    let path = Path::ROOT.child("status");
    let (status, before) = (&new["status"], &old["status"]);
    conditions(status, &path.child("conditions"), errors);
    if text(&new["spec"], "nodeName") != text(&old["spec"], "nodeName") {
        errors.push(Error::forbidden(&path.child("nodeName"), "may not be changed directly"));
    }
    let nominated = text(status, "nominatedNodeName");
    if !nominated.is_empty() && nominated != text(before, "nominatedNodeName") {
        let path = path.child("nominatedNodeName");
        invalid_each(errors, &path, nominated, names::dns_subdomain(nominated));
        if !text(&old["spec"], "nodeName").is_empty() {
            errors.push(Error::forbidden(&path, "may not be set on pods that are already bound to a node"));
        }
    }
    if let Some(generation) = int(status, "observedGeneration").filter(|generation| *generation < 0) {
        let detail = "must be a non-negative integer";
        errors.push(Error::invalid(&path.child("observedGeneration"), generation, detail));
    }
    immutable(errors, &path.child("qosClass"), status.get("qosClass"), before.get("qosClass"));
    for (list, containers) in
        [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")]
    {
        transitions(new, old, list, containers, &path.child(list), errors);
    }
    addresses(status, before, &path, errors);
}

fn conditions(status: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (at, condition) in items(status, "conditions").iter().enumerate() {
        if full(errors) {
            break;
        }
        let ty = text(condition, "type");
        if !["PodScheduled", "Ready", "Initialized"].contains(&ty) {
            invalid_each(errors, &path.index(at).child("Type"), ty, names::qualified_name(ty));
        }
    }
}

/// A terminated container stays so, unless its restart policy starts it again.
fn transitions(new: &Value, old: &Value, list: &str, containers: &str, path: &Path<'_>, errors: &mut Errors) {
    let spec = &old["spec"];
    let by_name = |all| -> BTreeMap<&str, &Value> {
        let all: &[Value] = all;
        all.iter().map(|one| (text(one, "name"), one)).collect()
    };
    let (statuses, declared) = (by_name(items(&new["status"], list)), by_name(items(spec, containers)));
    for (at, before) in items(&old["status"], list).iter().enumerate() {
        if full(errors) {
            break;
        }
        let Some(end) = get(&before["state"], "terminated") else { continue };
        let name = text(before, "name");
        let now = statuses.get(name);
        if now.is_none_or(|now| get(&now["state"], "terminated").is_some()) {
            continue;
        }
        let container = declared.get(name);
        let code = int(end, "exitCode").unwrap_or(0);
        if !container.is_some_and(|container| restarts(container, spec, code)) {
            let detail = "may not be transitioned to non-terminated state";
            errors.push(Error::forbidden(&path.index(at).child("state"), detail));
        }
    }
}

fn restarts(container: &Value, spec: &Value, code: i64) -> bool {
    let applies = |rule: &&Value| {
        let listed = items(&rule["exitCodes"], "values").iter().any(|value| value.as_i64() == Some(code));
        listed == (text(&rule["exitCodes"], "operator") == "In")
    };
    if items(container, "restartPolicyRules").iter().any(|rule| applies(&rule)) {
        return true;
    }
    let policy = match text(container, "restartPolicy") {
        "" => text(spec, "restartPolicy"),
        own => own,
    };
    policy == "Always" || (policy == "OnFailure" && code != 0)
}

fn addresses(status: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["podIPs", "hostIPs"] {
        if same(status.get(field), before.get(field)) {
            continue;
        }
        let path = path.child(field);
        let all: Vec<&str> = items(status, field).iter().map(|address| text(address, "ip")).collect();
        for (at, ip) in all.iter().enumerate() {
            if full(errors) {
                break;
            }
            legacy_ip(errors, &path.index(at), ip);
        }
        let sixes = all.iter().filter(|ip| ip.contains(':')).count();
        if all.len() > 2 || (all.len() == 2 && sixes != 1) {
            let detail = "may specify no more than one IP for each IP family";
            errors.push(Error::invalid(&path, status[field].clone(), detail));
        }
    }
}
