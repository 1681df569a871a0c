//! How objects of a resource count: what each uses, which names of a quota it falls
//! under. (After upstream's `pkg/quota/v1/evaluator/core` and `generic`.)

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::scope::Scope;
use super::{Amounts, pods};
use crate::quantity::{Format, Quantity};

const REQUESTS: &str = "requests.";
const HUGE: &str = "hugepages-";
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const CLAIMS_OF_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// What containers must ask for when a quota limits it.
const REQUIRED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// How objects of one resource count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evaluator {
    /// Pods.
    Pods,
    /// Services.
    Services,
    /// PersistentVolumeClaims.
    Claims,
    /// ResourceClaims.
    Devices,
    /// Objects of which only the number counts, by the name under which it does.
    Number(Box<str>),
}

/// The evaluator of a resource (`pods`, `deployments.apps`); none for what has no
/// quota.
pub fn evaluator(resource: &str) -> Option<Evaluator> {
    Some(match resource {
        "pods" => Evaluator::Pods,
        "services" => Evaluator::Services,
        "persistentvolumeclaims" => Evaluator::Claims,
        "resourceclaims.resource.k8s.io" => Evaluator::Devices,
        "events" | "events.events.k8s.io" => return None,
        other => Evaluator::Number(other.into()),
    })
}

/// The resources whose objects count towards the names of a quota.
pub fn resources<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<Box<str>> {
    let mut all = BTreeSet::new();
    for name in names {
        let known = ["pods", "services", "persistentvolumeclaims", "resourceclaims.resource.k8s.io"];
        let fits = |resource: &&&str| evaluator(resource).is_some_and(|evaluator| evaluator.counts(name));
        let resource = known.iter().find(fits).copied();
        let resource = resource.or_else(|| name.strip_prefix("count/")).or_else(|| legacy(name));
        all.extend(resource.map(Into::into));
    }
    all
}

/// Names from before there was `count/`.
fn legacy(name: &str) -> Option<&str> {
    matches!(name, "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets").then_some(name)
}

impl Evaluator {
    /// Whether a name of a quota is about objects of this resource.
    pub fn counts(&self, name: &str) -> bool {
        match self {
            Self::Pods => {
                let compute = |name: &str| COMPUTE.contains(&name);
                name == "count/pods"
                    || name == "pods"
                    || compute(name)
                    || name.strip_prefix(REQUESTS).is_some_and(compute)
                    || name.strip_prefix("limits.").is_some_and(compute)
                    || name.starts_with(HUGE)
                    || name.strip_prefix(REQUESTS).is_some_and(|rest| {
                        rest.starts_with(HUGE) || rest.starts_with(DEVICE_CLASS) || !native(name)
                    })
            }
            Self::Services => {
                let names = ["count/services", "services", "services.nodeports", "services.loadbalancers"];
                names.contains(&name)
            }
            Self::Claims => {
                let plain = |name: &str| matches!(name, "persistentvolumeclaims" | "requests.storage");
                name == "count/persistentvolumeclaims"
                    || plain(name)
                    || name.rsplit_once(STORAGE_CLASS).is_some_and(|(_, rest)| plain(rest))
            }
            Self::Devices => {
                name == "count/resourceclaims.resource.k8s.io" || name.ends_with(CLAIMS_OF_CLASS)
            }
            Self::Number(resource) => {
                name.strip_prefix("count/") == Some(resource)
                    || (legacy(resource).is_some() && name == &**resource)
            }
        }
    }

    /// What one object uses.
    pub fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        let mut used = Amounts::default();
        match self {
            Self::Pods => return pod(object, now),
            Self::Services => service(object, &mut used),
            Self::Claims => claim(object, &mut used),
            Self::Devices => devices(object, &mut used),
            Self::Number(resource) => {
                used.count(&format!("count/{resource}"), 1);
                if legacy(resource).is_some() {
                    used.count(resource, 1);
                }
            }
        }
        used
    }

    /// Whether an object is in a scope. Only pods and claims are in any.
    pub fn in_scope(&self, scope: &Scope, object: &Value) -> bool {
        match self {
            Self::Pods => scope.of_pod(object),
            Self::Claims => scope.of_claim(object),
            _ => false,
        }
    }

    /// What an object must say because a quota limits it.
    ///
    /// # Errors
    /// The sentence that names what it does not say.
    pub fn demand<'a>(&self, names: impl Iterator<Item = &'a str>, object: &Value) -> Result<(), String> {
        if *self != Self::Pods || pods::has_pod_level(object) {
            return Ok(());
        }
        let required: BTreeSet<&str> = names.filter(|name| REQUIRED.contains(name)).collect();
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let lists = ["containers", "initContainers"];
        for container in lists.iter().filter_map(|list| object["spec"][list].as_array()).flatten() {
            let list = |field: &str| Amounts::read(&container["resources"][field]);
            let said = compute(&list("requests"), &list("limits"));
            for name in required.iter().filter(|name| said.get(name).is_none()) {
                let container = container["name"].as_str().unwrap_or_default();
                missing.entry(name).or_default().insert(container);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let each = missing.iter().map(|(name, containers)| {
            let containers: Vec<&str> = containers.iter().copied().collect();
            format!("{name} for: {}", containers.join(","))
        });
        Err(format!("must specify {}", each.collect::<Vec<_>>().join("; ")))
    }
}

fn native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// What a pod uses. One that has ended, or should have, only counts as an object.
fn pod(pod: &Value, now: Timestamp) -> Amounts {
    let mut used = Amounts::default();
    if !ended(pod, now) {
        used = compute(&pods::requests(pod), &pods::limits(pod));
    }
    used.count("count/pods", 1);
    used
}

fn ended(pod: &Value, now: Timestamp) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
        return true;
    }
    overdue_at(pod).is_some_and(|at| now > at)
}

/// When a pod that is being deleted no longer counts, whoever still runs it.
pub fn overdue_at(pod: &Value) -> Option<Timestamp> {
    let meta = &pod["metadata"];
    let at: Timestamp = meta["deletionTimestamp"].as_str()?.parse().ok()?;
    at.checked_add(SignedDuration::from_secs(meta["deletionGracePeriodSeconds"].as_i64()?)).ok()
}

fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::default();
    used.count("pods", 1);
    for name in COMPUTE {
        if let Some(amount) = requests.get(name) {
            used.set(name, amount);
            used.set(&format!("{REQUESTS}{name}"), amount);
        }
        if let Some(amount) = limits.get(name) {
            used.set(&format!("limits.{name}"), amount);
        }
    }
    for (name, amount) in requests.iter() {
        if name.starts_with(HUGE) {
            used.set(name, amount);
        }
        if name.starts_with(HUGE) || name.starts_with(DEVICE_CLASS) || extended(name) {
            used.set(&format!("{REQUESTS}{name}"), amount);
        }
    }
    used
}

fn extended(name: &str) -> bool {
    !native(name) && !name.starts_with(REQUESTS)
}

fn service(service: &Value, used: &mut Amounts) {
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let chosen = || ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count();
    let (node_ports, balancers) = match service["spec"]["type"].as_str() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if service["spec"]["allocateLoadBalancerNodePorts"] == false => (chosen(), 1),
        Some("LoadBalancer") => (ports.len(), 1),
        _ => (0, 0),
    };
    used.count("count/services", 1);
    used.count("services", 1);
    used.count("services.nodeports", i64::try_from(node_ports).unwrap_or(i64::MAX));
    used.count("services.loadbalancers", balancers);
}

fn claim(claim: &Value, used: &mut Amounts) {
    let annotated = claim["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    let class = annotated.or(claim["spec"]["storageClassName"].as_str()).unwrap_or_default();
    used.count("count/persistentvolumeclaims", 1);
    let mut both = |name: &str, amount: Quantity| {
        used.set(name, amount);
        if !class.is_empty() {
            used.set(&format!("{class}{STORAGE_CLASS}{name}"), amount);
        }
    };
    both("persistentvolumeclaims", Quantity::new(1, Format::DecimalSi));
    let storage = |list: &Value| Amounts::read(list).get("storage");
    if let Some(wanted) = storage(&claim["spec"]["resources"]["requests"]) {
        let held = storage(&claim["status"]["allocatedResources"]).unwrap_or(wanted);
        let most = wanted.max(held);
        // Bytes are whole.
        let whole = Quantity::new(most.value(), most.format());
        both("requests.storage", if whole == most { most } else { whole });
    }
}

/// Devices by class; of alternatives, the most that one may get.
fn devices(claim: &Value, used: &mut Amounts) {
    const MOST_DEVICES: i64 = 32;
    let number = |request: &Value| match request["allocationMode"].as_str() {
        Some("All") => MOST_DEVICES,
        _ => request["count"].as_i64().unwrap_or(1),
    };
    let one = |request: &Value, into: &mut Amounts| {
        let class = request["deviceClassName"].as_str().unwrap_or_default();
        into.count(&format!("{class}{CLAIMS_OF_CLASS}"), number(request));
    };
    used.count("count/resourceclaims.resource.k8s.io", 1);
    for request in claim["spec"]["devices"]["requests"].as_array().into_iter().flatten() {
        let mut most = Amounts::default();
        match request["firstAvailable"].as_array().filter(|list| !list.is_empty()) {
            Some(alternatives) => {
                for alternative in alternatives {
                    let mut each = Amounts::default();
                    one(alternative, &mut each);
                    most.raise(&each);
                }
            }
            None if request["exactly"].is_object() => one(&request["exactly"], &mut most),
            None => {}
        }
        used.add(&most);
    }
}
