//! Scopes of a quota: which pods and claims it is about.

use std::collections::BTreeSet;

use serde_json::Value;

/// One requirement of `spec.scopeSelector`, or a scope of `spec.scopes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    name: Box<str>,
    operator: Box<str>,
    values: Vec<Box<str>>,
}

/// All requirements of a quota.
pub fn scopes(quota: &Value) -> Vec<Scope> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| -> Box<str> { value.as_str().unwrap_or_default().into() };
    let plain = list(&quota["spec"]["scopes"]).into_iter().map(|scope| Scope {
        name: text(&scope),
        operator: "Exists".into(),
        values: Vec::new(),
    });
    let selected = list(&quota["spec"]["scopeSelector"]["matchExpressions"]).into_iter().map(|each| Scope {
        name: text(&each["scopeName"]),
        operator: text(&each["operator"]),
        values: list(&each["values"]).iter().map(text).collect(),
    });
    plain.chain(selected).collect()
}

impl Scope {
    /// Whether a pod is in the scope.
    pub fn of_pod(&self, pod: &Value) -> bool {
        match &*self.name {
            "Terminating" => terminating(pod),
            "NotTerminating" => !terminating(pod),
            "BestEffort" => best_effort(&pod["spec"]),
            "NotBestEffort" => !best_effort(&pod["spec"]),
            "PriorityClass" => {
                let class = pod["spec"]["priorityClassName"].as_str().filter(|class| !class.is_empty());
                self.names(&class.into_iter().collect())
            }
            "CrossNamespacePodAffinity" => crosses_namespaces(&pod["spec"]["affinity"]),
            _ => false,
        }
    }

    /// Whether a PersistentVolumeClaim is in the scope.
    pub fn of_claim(&self, claim: &Value) -> bool {
        let classes = [
            &claim["spec"]["volumeAttributesClassName"],
            &claim["status"]["currentVolumeAttributesClassName"],
            &claim["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
        ];
        let classes = classes.iter().filter_map(|class| class.as_str()).filter(|class| !class.is_empty());
        &*self.name == "VolumeAttributesClass" && self.names(&classes.collect())
    }

    /// Whether one of the names that an object goes by is selected.
    fn names(&self, names: &BTreeSet<&str>) -> bool {
        let listed = |name: &&str| self.values.iter().any(|value| **value == **name);
        match &*self.operator {
            "Exists" => !names.is_empty(),
            "DoesNotExist" => names.is_empty(),
            "In" => names.iter().any(listed),
            "NotIn" => names.is_empty() || names.iter().any(|name| !listed(name)),
            _ => false,
        }
    }
}

/// Whether a pod has a deadline.
pub fn terminating(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0)
}

/// Whether nothing in the pod asks for CPU or memory.
fn best_effort(spec: &Value) -> bool {
    let asks = |scope: &Value| {
        ["requests", "limits"].iter().any(|list| {
            let amounts = super::Amounts::read(&scope["resources"][list]);
            ["cpu", "memory"].iter().any(|name| amounts.get(name).is_some_and(|amount| amount.sign() > 0))
        })
    };
    let lists = ["containers", "initContainers"];
    let mut containers = lists.iter().filter_map(|list| spec[list].as_array()).flatten();
    !asks(spec) && !containers.any(asks)
}

fn crosses_namespaces(affinity: &Value) -> bool {
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|list| !list.is_empty())
            || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|side| {
        let list = |field: &str| affinity[side][field].as_array().into_iter().flatten();
        list("requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || list("preferredDuringSchedulingIgnoredDuringExecution")
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}
