//! Amounts of resources, and what a pod asks for in all.

use std::collections::BTreeMap;

use carrack_api::quantity::Quantity;
use serde_json::{Map, Value};

/// Amounts by resource; cpu in thousandths, everything else in units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// cpu in thousandths of a core.
    pub milli_cpu: i64,
    /// memory in bytes.
    pub memory: i64,
    /// ephemeral-storage in bytes.
    pub ephemeral: i64,
    /// Everything else, such as hugepages and extended resources.
    pub others: BTreeMap<String, i64>,
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
                "pods" => {}
                other => {
                    resources.others.insert(other.to_owned(), quantity.value());
                }
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
            *self.others.entry(name.clone()).or_default() -= amount;
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

/// What a pod asks for: its containers and sidecars together, or its largest moment
/// of initialisation (KEP-753); pod-level requests instead where given (KEP-2837);
/// and its overhead. With `for_scoring`, containers that ask for nothing count a little.
pub fn pod_requests(spec: &Value, for_scoring: bool) -> Resources {
    let request = |container: &Value| {
        let requests = &container["resources"]["requests"];
        let mut resources = Resources::read(requests);
        if for_scoring && requests["cpu"].is_null() {
            resources.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if for_scoring && requests["memory"].is_null() {
            resources.memory = DEFAULT_MEMORY;
        }
        resources
    };
    let list = |field: &str| spec[field].as_array().into_iter().flatten();
    let mut total = Resources::default();
    list("containers").for_each(|container| total.add(&request(container)));
    let (mut sidecars, mut initialising) = (Resources::default(), Resources::default());
    for container in list("initContainers") {
        let mut now = request(container);
        if container["restartPolicy"] == "Always" {
            total.add(&now);
            sidecars.add(&now);
            now = sidecars.clone();
        } else {
            now.add(&sidecars);
        }
        initialising.raise(&now);
    }
    total.raise(&initialising);
    let whole = &spec["resources"]["requests"];
    let level = Resources::read(whole);
    if !whole["cpu"].is_null() {
        total.milli_cpu = level.milli_cpu;
    }
    if !whole["memory"].is_null() {
        total.memory = level.memory;
    }
    total.others.extend(level.others.into_iter().filter(|(name, _)| name.starts_with("hugepages-")));
    total.add(&Resources::read(&spec["overhead"]));
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, milli_cpu: i64, memory: i64) {
        let got = pod_requests(&spec, false);
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
        let got = pod_requests(&json!({"containers": [{}, {"resources": {"requests": {"cpu": "1"}}}]}), true);
        assert_eq!((got.milli_cpu, got.memory), (1100, 400 << 20));
    }
}
