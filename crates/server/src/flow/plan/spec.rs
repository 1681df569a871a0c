//! FlowSchemas and PriorityLevelConfigurations as they are worked with.

use std::collections::BTreeMap;

use carrack_api::Value;

use super::super::builtin;

/// All schemas in the order in which they are tried, and the levels they lead to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Spec {
    /// By precedence, then name. The last one, `catch-all`, fits every request.
    pub(crate) schemas: Vec<Schema>,
    pub(crate) levels: Vec<Level>,
}

/// A FlowSchema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schema {
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
    pub(crate) precedence: i64,
    /// Index in [`Spec::levels`].
    pub(crate) level: usize,
    pub(crate) distinguisher: Distinguisher,
    pub(crate) rules: Vec<Rules>,
}

/// What tells the flows of a schema apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distinguisher {
    None,
    User,
    Namespace,
}

/// Subjects, and the requests of theirs that are meant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) resource: Vec<ResourceRule>,
    pub(crate) non_resource: Vec<NonResourceRule>,
}

/// Whom a rule is about; a name may be `*`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Subject {
    User(Box<str>),
    Group(Box<str>),
    ServiceAccount { namespace: Box<str>, name: Box<str> },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResourceRule {
    pub(crate) verbs: Names,
    pub(crate) groups: Names,
    pub(crate) resources: Names,
    pub(crate) cluster_scope: bool,
    pub(crate) namespaces: Names,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NonResourceRule {
    pub(crate) verbs: Names,
    pub(crate) urls: Vec<Box<str>>,
}

/// A list of names, or all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Names {
    All,
    Only(Vec<Box<str>>),
}

/// A PriorityLevelConfiguration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Level {
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
    pub(crate) mode: Mode,
    pub(crate) shares: u32,
    /// Per cent of the nominal limit that others may have while it is not needed.
    pub(crate) lendable: u32,
    /// Per cent of the nominal limit that may be had of others; `None` is no limit.
    pub(crate) borrowing: Option<u32>,
}

/// What a level does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Serves them at once, however many there are.
    Exempt,
    /// Refuses those beyond its limit.
    Reject,
    /// Lets them wait in one of so many queues, chosen from a hand of them, that hold so
    /// many requests each.
    Queue { queues: usize, hand: usize, length: usize },
}

impl Names {
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|one| **one == *name),
        }
    }

    fn read(value: &Value) -> Self {
        let names = texts(value);
        if names.len() == 1 && &*names[0] == "*" { Self::All } else { Self::Only(names) }
    }
}

impl Spec {
    /// Puts objects together, by name. What is missing of the mandatory ones is as it is
    /// built in; schemas whose level does not exist fit nothing.
    pub(crate) fn of(schemas: &BTreeMap<Box<str>, Value>, levels: &BTreeMap<Box<str>, Value>) -> Self {
        let with_mandatory = |given: &BTreeMap<Box<str>, Value>, mandatory: Vec<Value>| {
            let missing = mandatory.into_iter().filter(|object| !given.contains_key(&name(object)));
            given.values().cloned().chain(missing).collect::<Vec<Value>>()
        };
        let levels: Vec<Level> =
            with_mandatory(levels, builtin::mandatory_levels()).iter().map(level).collect();
        let find = |name: &str| levels.iter().position(|level| *level.name == *name);
        let mut schemas: Vec<Schema> = with_mandatory(schemas, builtin::mandatory_schemas())
            .iter()
            .filter_map(|object| {
                let level = object["spec"]["priorityLevelConfiguration"]["name"].as_str()?;
                Some(schema(object, find(level)?))
            })
            .collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Self { schemas, levels }
    }
}

fn name(object: &Value) -> Box<str> {
    text(&object["metadata"]["name"])
}

fn text(value: &Value) -> Box<str> {
    value.as_str().unwrap_or_default().into()
}

fn texts(value: &Value) -> Vec<Box<str>> {
    list(value).filter_map(Value::as_str).map(Into::into).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> Option<u32> {
    value.as_i64().and_then(|number| u32::try_from(number).ok())
}

fn level(object: &Value) -> Level {
    let spec = &object["spec"];
    let exempt = spec["type"] == "Exempt";
    let common = if exempt { &spec["exempt"] } else { &spec["limited"] };
    let queuing = &common["limitResponse"]["queuing"];
    let size = |field: &str, least: usize| {
        queuing[field].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(least).max(least)
    };
    let mode = match () {
        () if exempt => Mode::Exempt,
        () if common["limitResponse"]["type"] == "Queue" => {
            let queues = size("queues", 1);
            Mode::Queue { queues, hand: size("handSize", 1).min(queues), length: size("queueLengthLimit", 1) }
        }
        () => Mode::Reject,
    };
    Level {
        name: name(object),
        uid: text(&object["metadata"]["uid"]),
        mode,
        shares: number(&common["nominalConcurrencyShares"]).unwrap_or(if exempt { 0 } else { 30 }),
        lendable: number(&common["lendablePercent"]).unwrap_or(0),
        borrowing: number(&common["borrowingLimitPercent"]),
    }
}

fn schema(object: &Value, level: usize) -> Schema {
    let spec = &object["spec"];
    Schema {
        name: name(object),
        uid: text(&object["metadata"]["uid"]),
        precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
        level,
        distinguisher: match spec["distinguisherMethod"]["type"].as_str() {
            Some("ByUser") => Distinguisher::User,
            Some("ByNamespace") => Distinguisher::Namespace,
            _ => Distinguisher::None,
        },
        rules: list(&spec["rules"]).map(rules).collect(),
    }
}

fn rules(value: &Value) -> Rules {
    let resource = |rule: &Value| ResourceRule {
        verbs: Names::read(&rule["verbs"]),
        groups: Names::read(&rule["apiGroups"]),
        resources: Names::read(&rule["resources"]),
        cluster_scope: rule["clusterScope"] == true,
        namespaces: Names::read(&rule["namespaces"]),
    };
    let non_resource = |rule: &Value| NonResourceRule {
        verbs: Names::read(&rule["verbs"]),
        urls: texts(&rule["nonResourceURLs"]),
    };
    let subject = |subject: &Value| {
        Some(match subject["kind"].as_str()? {
            "User" => Subject::User(text(&subject["user"]["name"])),
            "Group" => Subject::Group(text(&subject["group"]["name"])),
            "ServiceAccount" => Subject::ServiceAccount {
                namespace: text(&subject["serviceAccount"]["namespace"]),
                name: text(&subject["serviceAccount"]["name"]),
            },
            _ => return None,
        })
    };
    Rules {
        subjects: list(&value["subjects"]).filter_map(subject).collect(),
        resource: list(&value["resourceRules"]).map(resource).collect(),
        non_resource: list(&value["nonResourceRules"]).map(non_resource).collect(),
    }
}
