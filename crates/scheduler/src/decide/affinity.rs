//! Node selectors and node affinity.

use std::sync::Arc;

use carrack_api::selector::{Operator, Requirement};
use serde_json::Value;

use super::node::NodeFacts;

/// What a pod wants of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Affinity {
    /// `spec.nodeSelector`, sorted.
    pub selector: Box<[(Box<str>, Box<str>)]>,
    /// Required terms, of which one must match; `None` when there is no requirement.
    pub required: Option<Arc<[NodeTerm]>>,
    /// Preferred terms with their weights.
    pub preferred: Box<[(i64, NodeTerm)]>,
}

/// A conjunction; an empty one matches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    /// On labels.
    pub labels: Box<[NodeRequirement]>,
    /// On fields, which means `metadata.name`.
    pub fields: Box<[NodeRequirement]>,
    /// Whether a requirement could not be read; then nothing matches.
    pub broken: bool,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRequirement(pub Requirement);

impl std::hash::Hash for NodeRequirement {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.0.key, self.0.operator as u8, &self.0.values).hash(state);
    }
}

impl Affinity {
    /// Reads a pod's spec.
    pub fn read(spec: &Value) -> Self {
        let selector = spec["nodeSelector"].as_object().into_iter().flatten();
        let node = &spec["affinity"]["nodeAffinity"];
        let required = &node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        let preferred = node["preferredDuringSchedulingIgnoredDuringExecution"].as_array();
        let weighted =
            |term: &Value| (term["weight"].as_i64().unwrap_or(0), NodeTerm::read(&term["preference"]));
        Self {
            selector: selector.filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into()))).collect(),
            required: required.as_array().map(|terms| terms.iter().map(NodeTerm::read).collect()),
            preferred: preferred.into_iter().flatten().map(weighted).collect(),
        }
    }

    /// Whether it wants nothing.
    pub fn is_indifferent(&self) -> bool {
        self.selector.is_empty() && self.required.is_none()
    }

    /// Whether a node will do.
    pub fn allows(&self, node: &NodeFacts) -> bool {
        self.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// Sum of the weights of the preferred terms that match.
    pub fn preference(&self, node: &NodeFacts) -> i64 {
        self.preferred.iter().filter(|(_, term)| term.matches(node)).map(|(weight, _)| weight).sum()
    }

    /// The nodes that the required terms name, when each of them names some: no other
    /// has to be looked at.
    pub fn named_nodes(&self) -> Option<Vec<&str>> {
        let terms = self.required.as_ref().filter(|terms| !terms.is_empty())?;
        let mut names: Vec<&str> = Vec::new();
        for term in terms.iter() {
            names.extend(term.named_nodes()?);
        }
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

impl NodeTerm {
    /// Reads a `NodeSelectorTerm`.
    pub fn read(term: &Value) -> Self {
        let mut broken = false;
        let mut list = |field: &str, of_fields: bool| -> Box<[NodeRequirement]> {
            let all = term[field].as_array().into_iter().flatten();
            let mut read = Vec::new();
            for requirement in all {
                match requirement_of(requirement, of_fields) {
                    Some(requirement) => read.push(NodeRequirement(requirement)),
                    None => broken = true,
                }
            }
            read.into()
        };
        let (labels, fields) = (list("matchExpressions", false), list("matchFields", true));
        Self { labels, fields, broken }
    }

    /// Whether a node is meant.
    pub fn matches(&self, node: &NodeFacts) -> bool {
        let field = |key: &str| if key == "metadata.name" { &*node.name } else { "" };
        !(self.broken || (self.labels.is_empty() && self.fields.is_empty()))
            && self.labels.iter().all(|one| one.0.matches(node.labels.get(&one.0.key)))
            && self.fields.iter().all(|one| one.0.matches(Some(field(&one.0.key))))
    }

    fn named_nodes(&self) -> Option<Vec<&str>> {
        let named = |one: &&NodeRequirement| &*one.0.key == "metadata.name" && one.0.operator == Operator::In;
        let mut all = self.fields.iter().filter(named).map(|one| &one.0.values);
        let first = all.next()?;
        let in_others = all.fold(first.to_vec(), |names, values| {
            names.into_iter().filter(|name| values.contains(name)).collect()
        });
        Some(first.iter().filter(|name| in_others.contains(name)).map(|name| &**name).collect())
    }
}

fn requirement_of(value: &Value, of_field: bool) -> Option<Requirement> {
    let operator = match value["operator"].as_str()? {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" if !of_field => Operator::Exists,
        "DoesNotExist" if !of_field => Operator::DoesNotExist,
        "Gt" if !of_field => Operator::GreaterThan,
        "Lt" if !of_field => Operator::LessThan,
        _ => return None,
    };
    let texts = value["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut values: Vec<Box<str>> = texts.map(Into::into).collect();
    values.sort();
    let wanted = match operator {
        _ if of_field => values.len() == 1,
        Operator::In | Operator::NotIn => !values.is_empty(),
        Operator::Exists | Operator::DoesNotExist => values.is_empty(),
        Operator::GreaterThan | Operator::LessThan => values.len() == 1 && values[0].parse::<i64>().is_ok(),
    };
    wanted.then(|| Requirement {
        key: value["key"].as_str().unwrap_or_default().into(),
        operator,
        values: values.into(),
    })
}
