//! Node selectors and node affinity.

use std::collections::BTreeMap;

use serde_json::Value;

use super::NodeInfo;

/// What a pod wants of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affinity {
    /// `spec.nodeSelector`.
    pub selector: BTreeMap<String, String>,
    /// Required terms, of which one must match; `None` when there is no requirement.
    pub required: Option<Vec<NodeTerm>>,
    /// Preferred terms with their weights.
    pub preferred: Vec<Preferred>,
}

/// A preferred term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferred {
    /// 1 to 100.
    pub weight: i64,
    /// The term.
    pub term: NodeTerm,
}

/// A conjunction; an empty one matches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTerm {
    /// On labels.
    pub labels: Vec<Requirement>,
    /// On fields, which means `metadata.name`.
    pub fields: Vec<Requirement>,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Label or field.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`.
    pub operator: String,
    /// Values.
    pub values: Vec<String>,
}

impl Affinity {
    /// Reads a pod's spec.
    pub fn read(spec: &Value) -> Self {
        let selector = spec["nodeSelector"].as_object().into_iter().flatten();
        let node = &spec["affinity"]["nodeAffinity"];
        let required = &node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        let preferred = node["preferredDuringSchedulingIgnoredDuringExecution"].as_array();
        Self {
            selector: selector.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
            required: required.as_array().map(|terms| terms.iter().map(NodeTerm::read).collect()),
            preferred: preferred
                .into_iter()
                .flatten()
                .map(|term| Preferred {
                    weight: term["weight"].as_i64().unwrap_or(0),
                    term: NodeTerm::read(&term["preference"]),
                })
                .collect(),
        }
    }

    /// Whether a node will do.
    pub fn allows(&self, node: &NodeInfo) -> bool {
        self.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// Sum of the weights of the preferred terms that match.
    pub fn preference(&self, node: &NodeInfo) -> i64 {
        self.preferred.iter().filter(|one| one.term.matches(node)).map(|one| one.weight).sum()
    }
}

impl NodeTerm {
    fn read(term: &Value) -> Self {
        let list = |field: &str| {
            term[field].as_array().into_iter().flatten().map(Requirement::read).collect::<Vec<_>>()
        };
        Self { labels: list("matchExpressions"), fields: list("matchFields") }
    }

    fn matches(&self, node: &NodeInfo) -> bool {
        !(self.labels.is_empty() && self.fields.is_empty())
            && self.labels.iter().all(|r| r.matches(node.labels.get(&r.key).map(String::as_str)))
            && self.fields.iter().all(|r| r.matches((r.key == "metadata.name").then_some(&*node.name)))
    }
}

impl Requirement {
    fn read(requirement: &Value) -> Self {
        let text = |field: &str| requirement[field].as_str().unwrap_or_default().to_owned();
        let values = requirement["values"].as_array().into_iter().flatten();
        Self {
            key: text("key"),
            operator: text("operator"),
            values: values.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|value| self.values.iter().any(|one| one == value));
        let numbers = || {
            let limit: i64 = self.values.first()?.parse().ok()?;
            Some((value?.parse::<i64>().ok()?, limit))
        };
        match self.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => numbers().is_some_and(|(value, limit)| value > limit),
            "Lt" => numbers().is_some_and(|(value, limit)| value < limit),
            _ => false,
        }
    }
}
