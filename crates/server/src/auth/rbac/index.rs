//! Roles and bindings by whom they bind, so that a decision looks at the asking
//! user's bindings only.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use carrack_api::selector::Labels;
use carrack_api::{Header, Record, Value};

use super::rules::Rule;
use crate::auth::follow::Index;
use crate::request::User;

pub(super) const ROLES: &str = "roles.rbac.authorization.k8s.io";
pub(super) const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
pub(super) const ROLE_BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
pub(super) const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";

/// Namespace and name.
type Named = (Box<str>, Box<str>);

/// All roles and bindings.
#[derive(Default)]
pub(super) struct Grants {
    roles: HashMap<Named, Arc<[Rule]>>,
    cluster_roles: HashMap<Box<str>, ClusterRole>,
    /// By namespace; cluster role bindings are under the empty one.
    bindings: HashMap<Box<str>, Subjects>,
    roles_changed: bool,
}

struct ClusterRole {
    /// As stored; for an aggregated role, what it gathers.
    rules: Arc<[Rule]>,
    header: Header,
    /// Selectors of the roles that an aggregated role gathers.
    gathers: Option<Vec<Labels>>,
}

/// The bindings of one namespace, by whom they bind.
#[derive(Default)]
struct Subjects {
    all: HashMap<Box<str>, Arc<Binding>>,
    users: HashMap<Box<str>, Vec<(Arc<Binding>, usize)>>,
    groups: HashMap<Box<str>, Vec<(Arc<Binding>, usize)>>,
}

/// A role binding or cluster role binding.
pub(super) struct Binding {
    namespace: Box<str>,
    name: Box<str>,
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// `roleRef`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoleRef {
    pub(super) kind: Box<str>,
    pub(super) name: Box<str>,
}

struct Subject {
    kind: Box<str>,
    namespace: Box<str>,
    name: Box<str>,
}

/// Says by what a request is allowed: `ClusterRoleBinding "b" of ClusterRole "r" to Group "g"`.
pub(super) struct Source<'a>(&'a Binding, usize);

// === impl Grants ===

impl Index for Grants {
    const RESOURCES: &'static [&'static str] = &[ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS];

    fn apply(&mut self, record: &Record, gone: bool) {
        let (namespace, name) = (record.key.namespace(), record.key.name());
        let object = || record.decode();
        match record.key.resource() {
            ROLES => {
                let key = (namespace.into(), name.into());
                match gone {
                    true => _ = self.roles.remove(&key),
                    false => _ = self.roles.insert(key, Rule::read_all(&object()).into()),
                }
            }
            CLUSTER_ROLES => {
                self.roles_changed = true;
                match gone {
                    true => _ = self.cluster_roles.remove(name),
                    false => {
                        let role = ClusterRole::read(&object(), record.header());
                        self.cluster_roles.insert(name.into(), role);
                    }
                }
            }
            _ => {
                let subjects = self.bindings.entry(namespace.into()).or_default();
                subjects.remove(name);
                if !gone {
                    subjects.insert(Binding::read(&object(), namespace, name));
                }
            }
        }
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.roles_changed) {
            self.aggregate();
        }
    }
}

impl Grants {
    /// Calls `visit` with every rule that applies to a user in a namespace (empty:
    /// cluster-wide), and every role that is bound but missing, until it says `false`.
    pub(super) fn visit<'a>(
        &'a self,
        user: &User,
        namespace: &str,
        visit: &mut dyn FnMut(Result<(Source<'a>, &'a Rule), String>) -> bool,
    ) {
        let namespaces = ["", namespace];
        let relevant = if namespace.is_empty() { &namespaces[..1] } else { &namespaces[..] };
        for subjects in relevant.iter().filter_map(|&namespace| self.bindings.get(namespace)) {
            for (binding, subject) in subjects.of(user) {
                match self.rules_of(&binding.role, &binding.namespace) {
                    Ok(rules) => {
                        let mut rules = rules.iter().map(|rule| Ok((Source(binding, subject), rule)));
                        if !rules.all(&mut *visit) {
                            return;
                        }
                    }
                    Err(error) if !visit(Err(error.clone())) => return,
                    Err(_) => {}
                }
            }
        }
    }

    /// The rules of a role as a binding in `namespace` refers to it.
    pub(super) fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<&Arc<[Rule]>, String> {
        let missing = |kind: &str| format!("{kind}.rbac.authorization.k8s.io {:?} not found", role.name);
        match &*role.kind {
            "Role" => {
                let key = (namespace.into(), role.name.clone());
                self.roles.get(&key).ok_or_else(|| missing("role"))
            }
            "ClusterRole" => {
                let role = self.cluster_roles.get(&role.name);
                role.map(|role| &role.rules).ok_or_else(|| missing("clusterrole"))
            }
            other => Err(format!("unsupported role reference kind: {other:?}")),
        }
    }

    /// Names of the aggregated roles and what they gather.
    pub(super) fn gathered(&self) -> Vec<(Box<str>, Arc<[Rule]>)> {
        let aggregated = self.cluster_roles.iter().filter(|(_, role)| role.gathers.is_some());
        aggregated.map(|(name, role)| (name.clone(), role.rules.clone())).collect()
    }

    /// Gathers the rules of aggregated roles, which may gather each other.
    fn aggregate(&mut self) {
        let mut aggregated: Vec<Box<str>> = Vec::new();
        aggregated
            .extend(self.cluster_roles.iter().filter(|(_, r)| r.gathers.is_some()).map(|(n, _)| n.clone()));
        aggregated.sort();
        for name in &aggregated {
            let mut seen = vec![name.clone()];
            let mut rules = Vec::new();
            self.gather(name, &mut seen, &mut rules);
            if let Some(role) = self.cluster_roles.get_mut(name) {
                role.rules = rules.into();
            }
        }
    }

    fn gather(&self, name: &str, seen: &mut Vec<Box<str>>, rules: &mut Vec<Rule>) {
        let selectors = self.cluster_roles.get(name).and_then(|role| role.gathers.as_ref());
        let mut sources: Vec<(&Box<str>, &ClusterRole)> = self.cluster_roles.iter().collect();
        sources
            .retain(|(_, role)| selectors.into_iter().flatten().any(|wanted| wanted.matches(&role.header)));
        sources.sort_by_key(|(name, _)| *name);
        for (source, role) in sources {
            if seen.contains(source) {
                continue;
            }
            seen.push(source.clone());
            match role.gathers {
                Some(_) => self.gather(source, seen, rules),
                None => rules.extend(
                    role.rules.iter().filter(|rule| !rules.contains(rule)).cloned().collect::<Vec<_>>(),
                ),
            }
        }
    }
}

impl ClusterRole {
    fn read(object: &Value, header: &Header) -> Self {
        let selectors = object.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
        let gathers = selectors.filter(|all| !all.is_empty()).map(|all| {
            // An unreadable selector gathers nothing, rather than everything.
            all.iter().map(|one| Labels::from_value(one).unwrap_or_else(|_| Labels::nothing())).collect()
        });
        Self { rules: Rule::read_all(object).into(), header: header.clone(), gathers }
    }
}

// === impl Subjects ===

impl Subjects {
    fn insert(&mut self, binding: Binding) {
        let binding = Arc::new(binding);
        for (at, subject) in binding.subjects.iter().enumerate() {
            let (map, name) = match &*subject.kind {
                "User" => (&mut self.users, subject.name.clone()),
                "Group" => (&mut self.groups, subject.name.clone()),
                "ServiceAccount" => {
                    let own = &binding.namespace;
                    let namespace = if subject.namespace.is_empty() { own } else { &subject.namespace };
                    if namespace.is_empty() {
                        continue;
                    }
                    let user = format!("system:serviceaccount:{namespace}:{}", subject.name);
                    (&mut self.users, user.into())
                }
                _ => continue,
            };
            map.entry(name).or_default().push((binding.clone(), at));
        }
        self.all.insert(binding.name.clone(), binding);
    }

    fn remove(&mut self, name: &str) {
        let Some(binding) = self.all.remove(name) else { return };
        for map in [&mut self.users, &mut self.groups] {
            map.retain(|_, bindings| {
                bindings.retain(|(known, _)| !Arc::ptr_eq(known, &binding));
                !bindings.is_empty()
            });
        }
    }

    fn of<'a>(&'a self, user: &User) -> impl Iterator<Item = (&'a Binding, usize)> {
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        let lists = self.users.get(&*user.name).into_iter().chain(groups.collect::<Vec<_>>());
        lists.flatten().map(|(binding, subject)| (&**binding, *subject))
    }
}

// === impl Binding ===

impl Binding {
    fn read(object: &Value, namespace: &str, name: &str) -> Self {
        let subjects = object.get("subjects").and_then(Value::as_array).into_iter().flatten();
        let subject = |value: &Value| Subject {
            kind: text(value, "kind"),
            namespace: text(value, "namespace"),
            name: text(value, "name"),
        };
        Self {
            namespace: namespace.into(),
            name: name.into(),
            role: RoleRef::read(object),
            subjects: subjects.map(subject).collect(),
        }
    }
}

impl RoleRef {
    /// The role that a binding refers to.
    pub(super) fn read(binding: &Value) -> Self {
        let role = binding.get("roleRef").unwrap_or(&Value::Null);
        Self { kind: text(role, "kind"), name: text(role, "name") }
    }
}

fn text(value: &Value, field: &str) -> Box<str> {
    value.get(field).and_then(Value::as_str).unwrap_or_default().into()
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(binding, at) = self;
        let Binding { namespace, name, role, subjects } = binding;
        match &**namespace {
            "" => write!(f, "ClusterRoleBinding {name:?}")?,
            namespace => write!(f, "RoleBinding {:?}", format!("{name}/{namespace}"))?,
        }
        write!(f, " of {} {:?} to ", role.kind, role.name)?;
        let Subject { kind, namespace: own, name } = &subjects[*at];
        if &**kind != "ServiceAccount" {
            return write!(f, "{kind} {name:?}");
        }
        let home = if own.is_empty() { namespace } else { own };
        write!(f, "{kind} {:?}", format!("{name}/{home}"))
    }
}
