//! PodSecurity: the Pod Security Standards that a namespace's labels ask for. Pods that
//! violate what is enforced are refused; templates and pods that violate what is warned
//! of get a warning. (After `pod-security-admission`.)

mod checks;
mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Record, Value, tree};
use carrack_store::Store;
use futures::future::BoxFuture;

use super::{look_up, refuse};
use crate::auth::node::references::items;
use crate::seams::{Admission, AdmissionRequest, Operation};
use checks::Pod;
use policy::{Level, Policy, Standard};

/// Pods of a namespace that are looked at when its policy changes.
const MOST_PODS: usize = 3000;

/// The plugin.
pub struct PodSecurity {
    store: Arc<dyn Store>,
}

/// Where a kind has its pod.
fn pod_path(resource: &str) -> Option<&'static str> {
    Some(match resource {
        "pods" => "",
        "podtemplates" => "/template",
        "replicationcontrollers"
        | "replicasets.apps"
        | "deployments.apps"
        | "statefulsets.apps"
        | "daemonsets.apps"
        | "jobs.batch" => "/spec/template",
        "cronjobs.batch" => "/spec/jobTemplate/spec/template",
        _ => return None,
    })
}

/// Subresources that change nothing about what a pod may do.
const HARMLESS: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

impl PodSecurity {
    /// Looks at the namespaces of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    fn check_pod(&self, request: &AdmissionRequest<'_>, object: &Value, path: &str) -> Result<(), Status> {
        let Some(namespace) = look_up(&self.store, "namespaces", "", &request.call.namespace) else {
            return Ok(());
        };
        let (policy, _) = of_namespace(&namespace);
        let is_pod = path.is_empty();
        let enforced = is_pod && policy.enforce.level != Level::Privileged;
        if !enforced && policy.warn.level == Level::Privileged {
            return Ok(());
        }
        if is_pod && request.old.is_some_and(|old| !significant(object, old)) {
            return Ok(());
        }
        let Some(template) = tree::pointer(object, path).filter(|template| template.is_object()) else {
            return Ok(());
        };
        let pod = Pod { meta: &template["metadata"], spec: &template["spec"] };
        if enforced {
            let findings = checks::findings(policy.enforce, pod);
            if !findings.is_empty() {
                let standard = policy.enforce.to_string();
                let detail = format!("violates PodSecurity {standard:?}: {}", checks::details(&findings));
                return Err(refuse(request, Some(object), &detail));
            }
        }
        let findings = checks::findings(policy.warn, pod);
        if !findings.is_empty() {
            let standard = policy.warn.to_string();
            let warning = format!("would violate PodSecurity {standard:?}: {}", checks::details(&findings));
            request.call.warnings.add(warning);
        }
        Ok(())
    }

    fn check_namespace(&self, request: &AdmissionRequest<'_>, new: &Value) -> Result<(), Status> {
        let (policy, errors) = read(new);
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        let (before, old_errors) = request.old.map(read).unzip();
        let same = old_errors.is_some_and(|old| {
            let show = |errors: &carrack_api::field::Errors| {
                errors.iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            !old.is_empty() && show(&old) == show(&errors)
        });
        if !errors.is_empty() && !same {
            return Err(Status::invalid("", "Namespace", name, &errors));
        }
        let Some(before) = before else { return Ok(()) };
        let (now, before) = (policy.enforce, before.enforce);
        let laxer = now.version == before.version && now.level <= before.level;
        if now != before && now.level != Level::Privileged && !laxer {
            self.warn_of_existing(request, name, now);
        }
        Ok(())
    }

    /// Warns of the pods that would not be let in any more.
    fn warn_of_existing(&self, request: &AdmissionRequest<'_>, namespace: &str, standard: Standard) {
        let pods = super::all_in(&self.store, "pods", namespace);
        let total = pods.len();
        let mut controllers = BTreeSet::new();
        // One pod of each controller first: the others are like it.
        let (mut first, again): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(|pod| {
            let owner = items(pod, "/metadata/ownerReferences").find(|owner| owner["controller"] == true);
            owner.is_none_or(|owner| controllers.insert(owner["uid"].to_string()))
        });
        first.extend(again);
        first.truncate(MOST_PODS);
        let mut found: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for pod in &first {
            let findings = checks::findings(standard, Pod { meta: &pod["metadata"], spec: &pod["spec"] });
            if findings.is_empty() {
                continue;
            }
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let entry = found.entry(checks::reasons(&findings)).or_insert((0, name.clone()));
            entry.0 += 1;
            entry.1 = entry.1.clone().min(name);
        }
        let warnings = &request.call.warnings;
        if first.len() < total {
            warnings.add(format!(
                "new PodSecurity enforce level only checked against the first {} of {total} existing pods",
                first.len()
            ));
        }
        if !found.is_empty() {
            let standard = standard.to_string();
            warnings.add(format!(
                "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {standard:?}"
            ));
        }
        let one = |(reasons, (count, name)): (String, (usize, String))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            more => format!("{name} (and {} other pods): {reasons}", more - 1),
        };
        let mut each: Vec<String> = found.into_iter().map(one).collect();
        each.sort();
        each.into_iter().for_each(|warning| warnings.add(warning));
    }
}

fn of_namespace(namespace: &Record) -> (Policy, carrack_api::field::Errors) {
    policy::policy(|key| namespace.header().label(key))
}

fn read(namespace: &Value) -> (Policy, carrack_api::field::Errors) {
    policy::policy(|key| namespace["metadata"]["labels"].get(key).and_then(Value::as_str))
}

/// Whether an update of a pod changes what the standards look at: containers come, or
/// their images change.
fn significant(new: &Value, old: &Value) -> bool {
    let list = |pod: &Value, field: &str| pod["spec"][field].as_array().cloned().unwrap_or_default();
    let fixed = ["containers", "initContainers"].iter().any(|field| {
        let (new, old) = (list(new, field), list(old, field));
        new.len() != old.len() || new.iter().zip(&old).any(|(new, old)| new["image"] != old["image"])
    });
    let before = list(old, "ephemeralContainers");
    let added = list(new, "ephemeralContainers").iter().any(|container| {
        let known = before.iter().find(|old| old["name"] == container["name"]);
        known.is_none_or(|old| old["image"] != container["image"])
    });
    fixed || added
}

impl Admission for PodSecurity {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let call = request.call;
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return false;
        }
        match &*call.kind.resource {
            "pods" => !HARMLESS.contains(&&*call.subresource),
            "namespaces" => call.subresource.is_empty(),
            resource => call.subresource.is_empty() && pod_path(resource).is_some(),
        }
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let answer = match (object, pod_path(&request.call.kind.resource)) {
            (Some(object), Some(path)) => self.check_pod(request, object, path),
            (Some(namespace), None) => self.check_namespace(request, namespace),
            _ => Ok(()),
        };
        Box::pin(std::future::ready(answer))
    }
}
