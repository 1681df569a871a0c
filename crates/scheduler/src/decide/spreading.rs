//! Topology spread constraints as pods, or the defaults, say them.

use carrack_api::Value;

use super::labels::{LabelSet, Selector};

/// A constraint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpreadConstraint {
    /// How much fuller a domain may be than the emptiest.
    pub max_skew: i64,
    /// Label that makes the domains.
    pub topology_key: Box<str>,
    /// Whether it must hold (`DoNotSchedule`), or only should.
    pub hard: bool,
    /// Which pods are counted, but for `match_label_keys`.
    pub selector: Selector,
    /// Domains below which the emptiest counts as empty.
    pub min_domains: usize,
    /// Whether only nodes count that the pod's node selector and affinity allow.
    pub honor_affinity: bool,
    /// Whether only nodes count whose taints the pod tolerates.
    pub honor_taints: bool,
    /// Labels whose values pods must share to be counted.
    pub match_label_keys: Box<[Box<str>]>,
}

impl SpreadConstraint {
    /// Reads a `TopologySpreadConstraint`.
    pub fn read(constraint: &Value) -> Self {
        let keys = constraint["matchLabelKeys"].as_array().into_iter().flatten();
        Self {
            max_skew: constraint["maxSkew"].as_i64().unwrap_or(1),
            topology_key: constraint["topologyKey"].as_str().unwrap_or_default().into(),
            hard: constraint["whenUnsatisfiable"] == "DoNotSchedule",
            selector: Selector::read(&constraint["labelSelector"]),
            min_domains: constraint["minDomains"].as_u64().map_or(1, |count| count as usize),
            honor_affinity: constraint["nodeAffinityPolicy"] != "Ignore",
            honor_taints: constraint["nodeTaintsPolicy"] == "Honor",
            match_label_keys: keys.filter_map(Value::as_str).map(Into::into).collect(),
        }
    }

    /// A default of the scheduler; what it selects depends on the pod.
    pub fn soft(topology_key: &str, max_skew: i64) -> Self {
        Self {
            max_skew,
            topology_key: topology_key.into(),
            hard: false,
            selector: Selector::default(),
            min_domains: 1,
            honor_affinity: true,
            honor_taints: false,
            match_label_keys: Box::default(),
        }
    }

    /// The selector for a pod with these labels.
    pub fn selector_for(&self, labels: &LabelSet) -> Selector {
        let shared = self.match_label_keys.iter();
        let shared: Vec<(&str, &str)> = shared.filter_map(|key| Some((&**key, labels.get(key)?))).collect();
        if shared.is_empty() {
            return self.selector.clone();
        }
        self.selector.and(&Selector::equals(shared))
    }
}
