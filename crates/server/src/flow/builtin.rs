//! The FlowSchemas and PriorityLevelConfigurations that every cluster has, as upstream's
//! `apis/flowcontrol/bootstrap` has them. Pure.

use carrack_api::Value;
use serde_json::json;

/// Kept as it is here unless someone says `"false"`.
pub(crate) const AUTO_UPDATE_SPEC: &str = "apf.kubernetes.io/autoupdate-spec";

/// Whom managedFields name.
pub(crate) const MANAGER: &str = "api-priority-and-fairness-config-producer-v1";

const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Whether an object stays as it is built in, whatever it says.
pub(crate) fn is_mandatory(object: &Value) -> bool {
    matches!(object["metadata"]["name"].as_str(), Some("exempt" | "catch-all"))
}

/// Levels that are there even if nobody made them.
pub(super) fn mandatory_levels() -> Vec<Value> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let catch_all = json!({"type": "Limited", "limited": {
        "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}});
    vec![object("exempt", &exempt), object("catch-all", &catch_all)]
}

/// Schemas that are there even if nobody made them.
pub(super) fn mandatory_schemas() -> Vec<Value> {
    let everyone = [group(UNAUTHENTICATED), group(AUTHENTICATED)];
    vec![
        schema("exempt", "exempt", 1, "", &[group("system:masters")], Some(&anything()), Some(&any_path())),
        schema("catch-all", "catch-all", 10_000, "ByUser", &everyone, Some(&anything()), Some(&any_path())),
    ]
}

/// Everything, by resource.
pub(crate) fn objects() -> Vec<(&'static str, Value)> {
    let levels = mandatory_levels().into_iter().chain(suggested_levels());
    let schemas = mandatory_schemas().into_iter().chain(suggested_schemas());
    levels.map(|level| (super::LEVELS, level)).chain(schemas.map(|schema| (super::SCHEMAS, schema))).collect()
}

fn suggested_levels() -> Vec<Value> {
    let level = |name: &str, shares: u32, lendable: u32, queues: u32, hand: u32| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": queuing}});
        object(name, &json!({"type": "Limited", "limited": limited}))
    };
    vec![
        level("system", 30, 33, 64, 6),
        level("node-high", 40, 25, 64, 6),
        level("leader-election", 10, 0, 16, 4),
        level("workload-high", 40, 50, 128, 6),
        level("workload-low", 100, 90, 128, 6),
        level("global-default", 20, 50, 128, 6),
    ]
}

fn suggested_schemas() -> Vec<Value> {
    let everyone = [group(UNAUTHENTICATED), group(AUTHENTICATED)];
    let nodes = [group("system:nodes")];
    let (manager, scheduler) = (user("system:kube-controller-manager"), user("system:kube-scheduler"));
    let accounts =
        json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}});
    let probes = json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]);
    let leases = |verbs: Value| json!({"verbs": verbs, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["*"]});
    let of_nodes = json!([
        {"verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "namespaces": ["*"], "clusterScope": true},
        leases(json!(["*"])),
    ]);
    let elections = json!([leases(json!(["get", "create", "update"]))]);
    let candidates = [manager.clone(), scheduler.clone(), accounts.clone()];
    let all = |name: &str, level: &str, precedence: u32, by: &str, subjects: &[Value]| {
        schema(name, level, precedence, by, subjects, Some(&anything()), Some(&any_path()))
    };
    vec![
        schema("probes", "exempt", 2, "", &everyone, None, Some(&probes)),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            &candidates,
            Some(&elections),
            None,
        ),
        schema("system-node-high", "node-high", 400, "ByUser", &nodes, Some(&of_nodes), None),
        all("system-nodes", "system", 500, "ByUser", &nodes),
        all("kube-controller-manager", "workload-high", 800, "ByNamespace", &[manager]),
        all("kube-scheduler", "workload-high", 800, "ByNamespace", &[scheduler]),
        all("kube-system-service-accounts", "workload-high", 900, "ByNamespace", &[accounts]),
        all("service-accounts", "workload-low", 9000, "ByUser", &[group("system:serviceaccounts")]),
        all("global-default", "global-default", 9900, "ByUser", &everyone),
    ]
}

fn object(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "annotations": {AUTO_UPDATE_SPEC: "true"}}, "spec": spec})
}

fn schema(
    name: &str,
    level: &str,
    precedence: u32,
    by: &str,
    subjects: &[Value],
    resource: Option<&Value>,
    non_resource: Option<&Value>,
) -> Value {
    let mut rules = json!({ "subjects": subjects });
    for (field, value) in [("resourceRules", resource), ("nonResourceRules", non_resource)] {
        if let Some(value) = value {
            rules[field] = value.clone();
        }
    }
    let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rules]});
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({ "type": by });
    }
    object(name, &spec)
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn anything() -> Value {
    json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}])
}

fn any_path() -> Value {
    json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}])
}
