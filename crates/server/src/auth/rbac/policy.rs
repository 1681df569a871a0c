//! The default roles and bindings of Kubernetes v1.36, from one compact table.
//!
//! `policy.txt` holds the facts of upstream's `bootstrappolicy` (its golden files, the
//! controllers' roles included). A line that is not indented names an object, the
//! indented ones below it are a role's rules:
//!
//! ```text
//! clusterrole «name» [gathers=«aggregation label»] [to=«aggregation label»]
//! role «namespace» «name»
//!   «verbs» «groups» «resources» [name=«names»]
//!   «verbs» url «paths»
//! clusterbinding «name» «kind/role» «subjects»
//! binding «namespace» «name» «kind/role» «subjects»
//! ```

use carrack_api::Value;
use serde_json::json;

use super::rules::Rule;

const TABLE: &str = include_str!("policy.txt");
const GROUP: &str = "rbac.authorization.k8s.io";

/// Every default role and binding as an object of `rbac.authorization.k8s.io/v1`, with
/// its resource (`clusterroles.rbac.authorization.k8s.io`). Roles come before bindings.
pub fn objects() -> Vec<(&'static str, Value)> {
    let mut objects: Vec<(&'static str, Value)> = Vec::new();
    for line in TABLE.lines() {
        match line.strip_prefix("  ") {
            None => objects.extend(object(line)),
            Some(text) => {
                let rules = objects.last_mut().and_then(|(_, role)| role["rules"].as_array_mut());
                rules.expect("the table starts with an object").push(rule(text).to_value());
            }
        }
    }
    // What a role gathers is written into it afterwards.
    let gathering = objects.iter_mut().filter_map(|(_, object)| object.as_object_mut());
    gathering.filter(|role| role.contains_key("aggregationRule")).for_each(|role| _ = role.remove("rules"));
    objects.sort_by_key(|(resource, _)| resource.contains("bindings"));
    objects
}

/// The rules of one default cluster role.
pub fn cluster_role(name: &str) -> Vec<Rule> {
    let lines = TABLE.lines().skip_while(|line| {
        line.strip_prefix("clusterrole ").is_none_or(|rest| rest.split(' ').next() != Some(name))
    });
    lines.skip(1).map_while(|line| line.strip_prefix("  ")).map(rule).collect()
}

fn object(line: &str) -> Option<(&'static str, Value)> {
    let words: Vec<&str> = line.split(' ').collect();
    let (resource, kind, namespace, rest) = match words[..] {
        ["clusterrole", ref rest @ ..] => (super::index::CLUSTER_ROLES, "ClusterRole", "", rest),
        ["clusterbinding", ref rest @ ..] => {
            (super::index::CLUSTER_ROLE_BINDINGS, "ClusterRoleBinding", "", rest)
        }
        ["role", namespace, ref rest @ ..] => (super::index::ROLES, "Role", namespace, rest),
        ["binding", namespace, ref rest @ ..] => {
            (super::index::ROLE_BINDINGS, "RoleBinding", namespace, rest)
        }
        _ => return None,
    };
    let (name, rest) = rest.split_first()?;
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    if kind.ends_with("Binding") {
        let (role, subjects) = rest.split_first()?;
        let (role_kind, role_name) = role.split_once('/')?;
        object["roleRef"] = json!({"apiGroup": GROUP, "kind": role_kind, "name": role_name});
        if !subjects.is_empty() {
            object["subjects"] = subjects.iter().filter_map(|text| subject(text)).collect();
        }
        return Some((resource, object));
    }
    object["rules"] = json!([]);
    let selector = |label: &str| json!({"matchLabels": {aggregation(label): "true"}});
    for word in rest {
        match word.split_once('=')? {
            ("gathers", labels) => {
                let selectors: Vec<Value> = labels.split(',').map(selector).collect();
                object["aggregationRule"] = json!({ "clusterRoleSelectors": selectors });
            }
            ("to", labels) => {
                for label in labels.split(',') {
                    object["metadata"]["labels"][aggregation(label)] = "true".into();
                }
            }
            _ => return None,
        }
    }
    Some((resource, object))
}

fn aggregation(label: &str) -> String {
    format!("{GROUP}/aggregate-to-{label}")
}

fn subject(text: &str) -> Option<Value> {
    Some(match text.split_once('/')? {
        ("ServiceAccount", rest) => {
            let (namespace, name) = rest.split_once('/')?;
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        (kind, name) => json!({"apiGroup": GROUP, "kind": kind, "name": name}),
    })
}

fn rule(text: &str) -> Rule {
    let list = |text: &str, separator: char| -> Vec<Box<str>> {
        text.split(separator).map(|item| if item == "core" { "" } else { item }.into()).collect()
    };
    let mut words = text.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (verbs, groups, resources) = (list(next(), ','), next(), list(next(), ','));
    if groups == "url" {
        return Rule { verbs, urls: resources, ..Rule::default() };
    }
    let names = next().strip_prefix("name=").map(|names| list(names, ',')).unwrap_or_default();
    Rule { verbs, groups: list(groups, ','), resources, names, urls: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_every_default_object() {
        let objects = objects();
        let count = |kind: &str| objects.iter().filter(|(_, o)| o["kind"] == kind).count();
        let found = (count("ClusterRole"), count("ClusterRoleBinding"), count("Role"), count("RoleBinding"));
        assert_eq!(found, EXPECTED);
        let find = |name: &str| objects.iter().find(|(_, o)| o["metadata"]["name"] == name).map(|(_, o)| o);
        let admin = find("admin").unwrap();
        assert!(admin["aggregationRule"].is_object() && admin.get("rules").is_none());
        insta::assert_json_snapshot!("edit", find("system:aggregate-to-edit").unwrap()["metadata"]);
        insta::assert_json_snapshot!("scheduler_binding", find("system::leader-locking-kube-scheduler"));
        insta::assert_json_snapshot!("discovery", find("system:discovery"));
    }

    const EXPECTED: (usize, usize, usize, usize) = (69, 50, 7, 7);
}
