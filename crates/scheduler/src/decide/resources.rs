//! Amounts of resources, and what a pod asks for in all.

use std::collections::BTreeMap;

use carrack_api::quantity::Quantity;
use serde_json::{Map, Value};

/// Amounts by resource; cpu in thousandths, everything else in units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// cpu in thousandths of a core.
    pub milli_cpu: i64,
    /// memory in bytes.
    pub memory: i64,
    /// ephemeral-storage in bytes.
    pub ephemeral: i64,
    /// Everything else, such as hugepages and extended resources.
    pub others: BTreeMap<Box<str>, i64>,
}

/// What a container without a request for cpu counts as when scoring.
const DEFAULT_MILLI_CPU: i64 = 100;
/// What a container without a request for memory counts as when scoring.
const DEFAULT_MEMORY: i64 = 200 << 20;

impl Resources {
    /// Reads a `ResourceList`; `pods` is left out. What cannot be read counts as 0.
    pub fn read(list: &Value) -> Self {
        let mut resources = Self::default();
        for (name, amount) in list.as_object().unwrap_or(&Map::new()) {
            let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
            let Ok(quantity) = Quantity::parse(&text) else { continue };
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral = quantity.value(),
                other if is_scalar(other) => {
                    resources.others.insert(other.into(), quantity.value());
                }
                _ => {}
            }
        }
        resources
    }

    /// Adds.
    pub fn add(&mut self, other: &Self) {
        self.milli_cpu += other.milli_cpu;
        self.memory += other.memory;
        self.ephemeral += other.ephemeral;
        for (name, amount) in &other.others {
            *self.others.entry(name.clone()).or_default() += amount;
        }
    }

    /// Subtracts what was added.
    pub fn subtract(&mut self, other: &Self) {
        self.milli_cpu -= other.milli_cpu;
        self.memory -= other.memory;
        self.ephemeral -= other.ephemeral;
        for (name, amount) in &other.others {
            if let Some(mine) = self.others.get_mut(name) {
                *mine -= amount;
                if *mine == 0 {
                    self.others.remove(name);
                }
            }
        }
    }

    /// Takes the larger amount of each.
    fn raise(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral = self.ephemeral.max(other.ephemeral);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_default();
            *mine = (*mine).max(*amount);
        }
    }

    /// Whether nothing is asked for.
    pub fn is_zero(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral == 0
            && self.others.values().all(|amount| *amount == 0)
    }
}

/// What the sum is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Whether it fits.
    Fit,
    /// How full a node counts when it is there: what asks for nothing counts a little.
    Hold,
    /// How full a node would count with it. As upstream, requests of the whole pod do
    /// not matter for this.
    Score,
}

/// What a pod asks for: its containers and sidecars together, or its largest moment
/// of initialisation (KEP-753); pod-level requests instead where given (KEP-2837);
/// and its overhead. With a status, what was resized counts as the larger of what is
/// wanted and what is held (KEP-1287).
pub fn pod_requests(spec: &Value, status: Option<&Value>, purpose: Purpose) -> Resources {
    let level = &spec["resources"]["requests"];
    let whole = purpose != Purpose::Score;
    let (mut cpu, mut memory) = (purpose != Purpose::Fit, purpose != Purpose::Fit);
    if purpose == Purpose::Hold && level.as_object().is_some_and(|level| !level.is_empty()) {
        let asked = pod_requests(spec, status, Purpose::Fit);
        (cpu, memory) = (asked.milli_cpu == 0, asked.memory == 0);
    }
    let resize = status.filter(|status| is_resized(status));
    let infeasible = resize.is_some_and(is_infeasible);
    let request = |container: &Value, statuses: &str| {
        let wanted = &container["resources"]["requests"];
        let mut resources = Resources::read(wanted);
        let found = resize.and_then(|status| {
            let all = status[statuses].as_array()?;
            all.iter().find(|one| one["name"] == container["name"] && !one["resources"].is_null())
        });
        if let Some(found) = found {
            resources = effective(resources, found, infeasible);
        }
        if cpu && wanted["cpu"].is_null() && resources.milli_cpu == 0 {
            resources.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if memory && wanted["memory"].is_null() && resources.memory == 0 {
            resources.memory = DEFAULT_MEMORY;
        }
        resources
    };
    let list = |field: &str| spec[field].as_array().into_iter().flatten();
    let mut total = Resources::default();
    list("containers").for_each(|container| total.add(&request(container, "containerStatuses")));
    let (mut sidecars, mut initialising) = (Resources::default(), Resources::default());
    for container in list("initContainers") {
        let sidecar = container["restartPolicy"] == "Always";
        let mut now = request(container, if sidecar { "initContainerStatuses" } else { "" });
        if sidecar {
            total.add(&now);
            sidecars.add(&now);
            now = sidecars.clone();
        } else {
            now.add(&sidecars);
        }
        initialising.raise(&now);
    }
    total.raise(&initialising);
    if whole {
        pod_level(&mut total, level, resize, infeasible);
    }
    total.add(&Resources::read(&spec["overhead"]));
    total
}

/// Requests of the whole pod take the place of those of its containers.
fn pod_level(total: &mut Resources, wanted: &Value, resize: Option<&Value>, infeasible: bool) {
    let mut level = Resources::read(wanted);
    if let Some(status) = resize.filter(|status| !status["resources"].is_null()) {
        level = effective(level, status, infeasible);
    }
    if !wanted["cpu"].is_null() {
        total.milli_cpu = level.milli_cpu;
    }
    if !wanted["memory"].is_null() {
        total.memory = level.memory;
    }
    let pages = level.others.into_iter().filter(|(name, _)| name.starts_with("hugepages-"));
    total.others.extend(pages);
}

/// Whether a pod's status says what was resized.
pub fn is_resized(status: &Value) -> bool {
    let says =
        |field: &str| status[field].as_array().into_iter().flatten().any(|one| !one["resources"].is_null());
    !status["resources"].is_null() || says("containerStatuses") || says("initContainerStatuses")
}

fn is_infeasible(status: &Value) -> bool {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.any(|one| one["type"] == "PodResizePending" && one["reason"] == "Infeasible")
}

/// The larger of wanted, actuated and allocated; a resize that cannot be done is not wanted.
fn effective(wanted: Resources, status: &Value, infeasible: bool) -> Resources {
    let mut all = if infeasible { Resources::default() } else { wanted };
    all.raise(&Resources::read(&status["resources"]["requests"]));
    all.raise(&Resources::read(&status["allocatedResources"]));
    all
}

/// Whether a resource is one that nodes count besides cpu, memory and storage: extended
/// ones, huge pages, those of Kubernetes' own domain, and volumes to attach.
fn is_scalar(name: &str) -> bool {
    name.starts_with("hugepages-")
        || name.starts_with("attachable-volumes-")
        || (name.contains('/') && !name.starts_with("requests."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, milli_cpu: i64, memory: i64) {
        let got = pod_requests(&spec, None, Purpose::Fit);
        assert_eq!((got.milli_cpu, got.memory), (milli_cpu, memory), "{spec}");
    }

    #[test]
    fn adds_up_as_the_sidecar_proposal_says() {
        let c = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}});
        let sidecar = |cpu: &str| {
            let mut container = c(cpu);
            container["restartPolicy"] = "Always".into();
            container
        };
        let mi = 1 << 20;
        check(json!({"containers": [c("100m"), c("1")]}), 1100, 2 * mi);
        check(json!({"containers": [c("100m")], "initContainers": [c("500m"), c("200m")]}), 500, mi);
        check(
            json!({"containers": [c("100m")], "initContainers": [sidecar("200m"), c("500m")]}),
            700,
            2 * mi,
        );
        check(
            json!({"containers": [c("100m")], "initContainers": [c("150m"), sidecar("200m")]}),
            300,
            2 * mi,
        );
        check(json!({"containers": [c("100m")], "overhead": {"cpu": "50m"}}), 150, mi);
        check(json!({"containers": [c("100m")], "resources": {"requests": {"cpu": "2"}}}), 2000, mi);
        check(json!({"containers": [{}]}), 0, 0);
    }

    #[test]
    fn silence_counts_a_little_when_scoring() {
        let got = pod_requests(
            &json!({"containers": [{}, {"resources": {"requests": {"cpu": "1"}}}]}),
            None,
            Purpose::Score,
        );
        assert_eq!((got.milli_cpu, got.memory), (1100, 400 << 20));
    }
}
