//! Policy rules: what they allow, and whether some rules cover others. Pure.
//!
//! Follows upstream's `rbac/v1/evaluation_helpers.go` and component-helpers'
//! `rbac/validation` to the letter, oddities included: a rule's resource names do not
//! match a request without a name, and an asterisk in a URL counts only at its end.

use std::collections::BTreeMap;

use carrack_api::Value;
use serde_json::json;

use crate::request::Attributes;

/// One `PolicyRule`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// `get`, `*`, …
    pub verbs: Vec<Box<str>>,
    /// API groups; empty text is the core group.
    pub groups: Vec<Box<str>>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    pub resources: Vec<Box<str>>,
    /// Names; none means all.
    pub names: Vec<Box<str>>,
    /// `/healthz`, `/apis/*`, `*`.
    pub urls: Vec<Box<str>>,
}

impl Rule {
    /// Reads a rule of a Role; what is missing or of another type counts as empty.
    pub fn read(value: &Value) -> Self {
        let list = |field: &str| {
            let items = value.get(field).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(Into::into).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
        }
    }

    /// The rules of a Role or ClusterRole.
    pub fn read_all(role: &Value) -> Vec<Self> {
        role.get("rules").and_then(Value::as_array).into_iter().flatten().map(Self::read).collect()
    }

    /// The rule as JSON, as upstream writes it: resource rules without URLs and the
    /// other way round.
    pub fn to_value(&self) -> Value {
        let mut rule = json!({ "verbs": self.verbs });
        for (field, list) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ] {
            if !list.is_empty() {
                rule[field] = json!(list);
            }
        }
        rule
    }

    /// Whether the rule allows a request.
    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !any(&self.verbs, &attributes.verb) {
            return false;
        }
        if !attributes.is_resource {
            return self.urls.iter().any(|url| url_matches(url, &attributes.path));
        }
        any(&self.groups, &attributes.group)
            && self.resources.iter().any(|resource| resource_matches(resource, attributes))
            && (self.names.is_empty() || has(&self.names, &attributes.name))
    }

    /// Rules of one verb, resource and name each that say the same.
    fn atoms(&self) -> Vec<Self> {
        let one = |text: &str| vec![Box::from(text)];
        let mut atoms = Vec::new();
        let names: Vec<Option<&str>> =
            if self.names.is_empty() { vec![None] } else { self.names.iter().map(|n| Some(&**n)).collect() };
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    atoms.extend(names.iter().map(|name| Self {
                        verbs: one(verb),
                        groups: one(group),
                        resources: one(resource),
                        names: name.iter().map(|&name| name.into()).collect(),
                        urls: Vec::new(),
                    }));
                }
            }
        }
        for url in &self.urls {
            let of = |verb: &str| Self { verbs: one(verb), urls: one(url), ..Self::default() };
            atoms.extend(self.verbs.iter().map(|verb| of(verb)));
        }
        atoms
    }

    /// Whether the rule covers an atom.
    fn covers(&self, atom: &Self) -> bool {
        let url = |url: &str| self.urls.iter().any(|own| &**own == url || prefix_matches(own, url));
        (has(&self.verbs, "*") || has_all(&self.verbs, &atom.verbs))
            && (has(&self.groups, "*") || has_all(&self.groups, &atom.groups))
            && atom.resources.iter().all(|resource| self.covers_resource(resource))
            && (self.names.is_empty() || (!atom.names.is_empty() && has_all(&self.names, &atom.names)))
            && atom.urls.iter().all(|path| url(path))
    }

    fn covers_resource(&self, resource: &str) -> bool {
        has(&self.resources, "*")
            || has(&self.resources, resource)
            || resource
                .split_once('/')
                .is_some_and(|(_, sub)| self.resources.iter().any(|own| own.strip_prefix("*/") == Some(sub)))
    }

    /// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    fn compact_text(&self) -> String {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let part = |(name, list): &(&str, &Vec<Box<str>>)| {
            let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
            format!("{name}:[{}]", quoted.join(" "))
        };
        let parts: Vec<String> = parts.iter().filter(|(_, list)| !list.is_empty()).map(part).collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// What of `wanted` the rules in `held` do not cover, one line a rule, sorted, as an
/// escalation error lists it; `None` when all is covered.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Option<String> {
    let atoms = wanted.iter().flat_map(Rule::atoms);
    let uncovered: Vec<Rule> = atoms.filter(|atom| !held.iter().any(|rule| rule.covers(atom))).collect();
    if uncovered.is_empty() {
        return None;
    }
    let mut lines: Vec<String> = compact(uncovered).iter().map(Rule::compact_text).collect();
    lines.sort();
    lines.dedup();
    Some(lines.join("\n"))
}

/// Joins the verbs of rules about the same single resource (and name).
pub fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    type Place = (Box<str>, Box<str>, Option<Box<str>>);
    let (mut joined, mut rest) = (BTreeMap::<Place, Rule>::new(), Vec::new());
    for rule in rules {
        let simple = rule.groups.len() == 1
            && rule.resources.len() == 1
            && rule.names.len() <= 1
            && rule.urls.is_empty();
        if !simple {
            rest.push(rule);
            continue;
        }
        let place = (rule.groups[0].clone(), rule.resources[0].clone(), rule.names.first().cloned());
        match joined.get_mut(&place) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => _ = joined.insert(place, rule),
        }
    }
    rest.extend(joined.into_values());
    rest
}

fn has(list: &[Box<str>], text: &str) -> bool {
    list.iter().any(|item| &**item == text)
}

fn has_all(list: &[Box<str>], texts: &[Box<str>]) -> bool {
    texts.iter().all(|text| has(list, text))
}

fn any(list: &[Box<str>], text: &str) -> bool {
    list.iter().any(|item| &**item == "*" || &**item == text)
}

fn resource_matches(rule: &str, attributes: &Attributes) -> bool {
    let (resource, sub) = (&*attributes.resource, &*attributes.subresource);
    if rule == "*" {
        return true;
    }
    if sub.is_empty() {
        return rule == resource;
    }
    rule.split_once('/').is_some_and(|(head, tail)| tail == sub && (head == resource || head == "*"))
}

fn url_matches(rule: &str, path: &str) -> bool {
    rule == "*" || rule == path || prefix_matches(rule, path)
}

fn prefix_matches(rule: &str, path: &str) -> bool {
    rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<Box<str>> {
        text.split(',').filter(|t| !t.is_empty()).map(|t| if t == "core" { "" } else { t }.into()).collect()
    }

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        let urls = Vec::new();
        Rule {
            verbs: list(verbs),
            groups: list(groups),
            resources: list(resources),
            names: list(names),
            urls,
        }
    }

    fn url(verbs: &str, urls: &str) -> Rule {
        Rule { verbs: list(verbs), urls: list(urls), ..Rule::default() }
    }

    #[test]
    fn matches_requests_as_upstream_does() {
        let check = |rule: &Rule, verb: &str, group: &str, resource: &str, name: &str, expect: bool| {
            let attributes = Attributes::resource(verb, group, resource, "ns", name);
            assert_eq!(rule.allows(&attributes), expect, "{rule:?} {verb} {group} {resource} {name}");
        };
        let pods = rule("get,list", "core", "pods", "");
        check(&pods, "get", "", "pods", "a", true);
        check(&pods, "delete", "", "pods", "a", false);
        check(&pods, "get", "apps", "pods", "a", false);
        check(&pods, "get", "", "pods/log", "a", false);
        check(&pods, "get", "", "secrets", "a", false);
        check(&rule("*", "*", "*", ""), "x", "y", "z/w", "", true);
        let scale = rule("update", "apps", "*/scale", "");
        check(&scale, "update", "apps", "deployments/scale", "a", true);
        check(&scale, "update", "apps", "deployments", "a", false);
        check(&scale, "update", "apps", "deployments/status", "a", false);
        let named = rule("get,list", "core", "secrets", "one,two");
        check(&named, "get", "", "secrets", "two", true);
        check(&named, "get", "", "secrets", "three", false);
        check(&named, "list", "", "secrets", "", false);
        check(&url("get", "/x"), "get", "", "x", "", false);
        for (pattern, path, expect) in [
            ("*", "/a", true),
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/a", false),
            ("/a*", "/ab", true),
            ("/*/b", "/a/b", false),
        ] {
            assert_eq!(
                url("get", pattern).allows(&Attributes::path("get", path)),
                expect,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn covers_as_upstream_does() {
        let check = |held: &[Rule], wanted: &[Rule], expect: Option<&str>| {
            assert_eq!(missing(held, wanted).as_deref(), expect, "{held:?} {wanted:?}");
        };
        let all = rule("*", "*", "*", "");
        check(&[all.clone(), url("*", "*")], &[rule("get", "core", "pods", ""), url("get", "/a")], None);
        check(&[all], &[url("get", "/a")], Some(r#"{NonResourceURLs:["/a"], Verbs:["get"]}"#));
        check(
            &[rule("get", "core", "pods", "")],
            &[rule("get,list,watch", "core", "pods", "")],
            Some(r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#),
        );
        check(&[rule("get", "core", "pods", "a")], &[rule("get", "core", "pods", "a")], None);
        check(
            &[rule("get", "core", "pods", "a")],
            &[rule("get", "core", "pods", "")],
            Some(r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#),
        );
        check(
            &[rule("get", "core", "pods", "a")],
            &[rule("get", "core", "pods", "a,b")],
            Some(r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get"]}"#),
        );
        check(&[rule("get", "apps", "*/scale", "")], &[rule("get", "apps", "deployments/scale", "")], None);
        check(&[url("get", "/a/*")], &[url("get", "/a/b,/a/*")], None);
        // Rules of two owners together cover what none of them does alone.
        check(
            &[rule("get", "core", "pods", ""), rule("get", "core", "secrets", "")],
            &[rule("get", "core", "pods,secrets", "")],
            None,
        );
    }
}
