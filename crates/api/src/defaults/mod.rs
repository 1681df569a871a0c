//! Defaults of built-in kinds, as upstream's `pkg/apis/*/v1/defaults.go` sets them
//! after decoding and before admission. What needs other objects, time or chance
//! (addresses, ports, uid, tokens) is the server's part.
//!
//! Fields behind feature gates that are off by default are dropped later, when their
//! ownership is noted ([`drop_gated`]).
//!
//! Defaults belong to types, not kinds: a probe gets its period wherever it stands. So
//! one walk along the schema fills in the published defaults and runs each type's rule,
//! parents before children. Subtrees in which nothing has a default are skipped. (Zero
//! values that upstream's encoder shows are decoding's part.)

mod core;
mod image;
mod others;
mod workloads;

use std::sync::LazyLock;

use serde_json::Value;

use crate::Kind;
use crate::facts;
use crate::quantity::Quantity;
use crate::schema::{Field, Object, Schema, Ty, TypeId};
use crate::tree::{get, items_mut};

pub use image::pull_policy;

/// Sets what one object of a type lacks. The value is an object.
type Rule = fn(&mut Value);

/// What is to be done at a type.
#[derive(Default)]
struct Plan {
    /// Published defaults by field.
    values: Vec<(Box<str>, Value)>,
    rule: Option<Rule>,
    /// Lists of resources: amounts are rounded up to thousandths.
    amounts: Vec<Box<str>>,
    /// Fields behind feature gates that are off by default: dropped, as upstream does.
    gated: &'static [&'static str],
    /// Whether it goes when nothing else is left of it.
    vanishes: bool,
    /// Fields below which something has a default.
    inner: Vec<(Box<str>, Ty)>,
    /// Fields below which something is behind a gate.
    inner_gated: Vec<(Box<str>, Ty)>,
}

/// Fields that a default kube-apiserver v1.36 drops, by type without the leading `io.k8s.`.
const GATED: &[(&str, &[&str])] = &[
    // GenericWorkload
    ("api.core.v1.PodSpec", &["schedulingGroup"]),
    // ContainerStopSignals
    ("api.core.v1.Lifecycle", &["stopSignal"]),
    // ClusterTrustBundleProjection, PodCertificateRequest
    ("api.core.v1.VolumeProjection", &["clusterTrustBundle", "podCertificate"]),
    // MaxUnavailableStatefulSet
    ("api.apps.v1.RollingUpdateStatefulSetStrategy", &["maxUnavailable"]),
    // VolumeLimitScaling
    ("api.storage.v1.CSIDriverSpec", &["preventPodSchedulingIfMissing"]),
    // CoordinatedLeaderElection
    ("api.coordination.v1.LeaseSpec", &["strategy", "preferredHolder"]),
    // DRANodeAllocatableResources
    ("api.resource.v1.Device", &["nodeAllocatableResourceMappings"]),
    // DRAListTypeAttributes
    ("api.resource.v1.DeviceAttribute", &["bools", "ints", "strings", "versions"]),
];

/// What goes altogether when nothing is left of it but what was behind a gate.
const VANISHES: &str = "api.core.v1.Lifecycle";

/// Sets the defaults of a decoded object of the kind's version `version`. Custom
/// kinds, whose defaults stand in their schema, are left as they are.
pub fn default_object(kind: &Kind, version: usize, object: &mut Value) {
    if !kind.custom
        && let Some(version) = kind.versions.get(version)
    {
        visit(plans(), version.root, object);
    }
}

/// Sets the defaults that are the time: that of a device's taints.
pub fn stamp(kind: &Kind, now: impl FnOnce() -> String, object: &mut Value) {
    if &*kind.resource != "resourceslices.resource.k8s.io" {
        return;
    }
    let Some(spec) = object.get_mut("spec") else { return };
    let mut untimed = items_mut(spec, "devices")
        .iter_mut()
        .flat_map(|device| items_mut(device, "taints"))
        .filter(|taint| get(taint, "timeAdded").is_none())
        .peekable();
    if untimed.peek().is_some() {
        let now = Value::from(now());
        untimed.for_each(|taint| taint["timeAdded"] = now.clone());
    }
}

/// The same for a body of a built-in type that is no kind's (TokenRequest).
pub fn default_type(root: TypeId, body: &mut Value) {
    visit(plans(), root, body);
}

/// Drops what a default kube-apiserver does not know. Upstream's strategies do so when they
/// prepare an object, so that whoever wrote such a field owns it although it is gone.
pub fn drop_gated(kind: &Kind, version: usize, object: &mut Value) {
    if !kind.custom
        && let Some(version) = kind.versions.get(version)
    {
        ungate(plans(), version.root, object);
    }
}

/// Returns whether the object itself is to go.
fn ungate(plans: &[Plan], id: TypeId, value: &mut Value) -> bool {
    let plan = &plans[id.0 as usize];
    let Some(object) = value.as_object_mut() else { return false };
    let before = object.len();
    plan.gated.iter().for_each(|field| {
        object.remove(*field);
    });
    for (field, ty) in &plan.inner_gated {
        let Some(value) = object.get_mut(&**field) else { continue };
        let mut goes = false;
        each(ty, value, &mut |id, value| goes |= ungate(plans, id, value));
        if goes {
            object.remove(&**field);
        }
    }
    plan.vanishes && before > 0 && object.is_empty()
}

/// Plans by type id of the built-in arena.
fn plans() -> &'static [Plan] {
    static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| plan(&facts::schema()));
    &PLANS
}

fn plan(schema: &Schema) -> Vec<Plan> {
    let rules = || core::RULES.iter().chain(workloads::RULES).chain(others::RULES);
    let mut plans: Vec<Plan> = Vec::new();
    for (_, object) in schema.objects() {
        let default = |field: &Field| {
            let value = serde_json::from_str(&field.default).ok()?;
            Some((field.name.clone(), value))
        };
        let short = object.name.strip_prefix("io.k8s.").unwrap_or(&object.name);
        plans.push(Plan {
            values: object.fields.iter().filter_map(default).collect(),
            amounts: object
                .fields
                .iter()
                .filter(|field| amounts(short, &field.ty))
                .map(|f| f.name.clone())
                .collect(),
            rule: rules().find(|(name, _)| *name == short).map(|(_, rule)| *rule),
            gated: GATED.iter().find(|(name, _)| *name == short).map_or(&[], |(_, fields)| fields),
            vanishes: short == VANISHES,
            inner: Vec::new(),
            inner_gated: Vec::new(),
        });
    }
    let below = |reaches: &[bool], object: &Object| {
        let reached = |field: &&Field| holds(&field.ty).is_some_and(|id| reaches[id.0 as usize]);
        object.fields.iter().filter(reached).map(|field| (field.name.clone(), field.ty.clone())).collect()
    };
    let has_default = |p: &Plan| p.rule.is_some() || !p.values.is_empty() || !p.amounts.is_empty();
    let defaulted = reaching(schema, plans.iter().map(has_default).collect());
    let gated = reaching(schema, plans.iter().map(|plan| !plan.gated.is_empty()).collect());
    for (id, object) in schema.objects() {
        plans[id.0 as usize].inner = below(&defaulted, object);
        plans[id.0 as usize].inner_gated = below(&gated, object);
    }
    plans
}

/// Whether a field is a list of resources and their amounts.
fn amounts(ty: &str, field: &Ty) -> bool {
    matches!(field, Ty::Map(inner) if **inner == Ty::Quantity) && !ty.starts_with("api.resource.")
}

/// Rounds the amounts of a list up to thousandths, as upstream does wherever there is one.
fn round_up(list: &mut Value) {
    for amount in list.as_object_mut().into_iter().flat_map(|list| list.values_mut()) {
        // Whole and thousandth amounts, which are nearly all, have none of these units.
        let fine = |text: &str| text.contains(['.', 'n', 'u', 'e', 'E']);
        let Some(exact) = amount.as_str().filter(|text| fine(text)).and_then(|t| Quantity::parse(t).ok())
        else {
            continue;
        };
        let rounded = Quantity::from_milli(exact.milli_value(), exact.format());
        if exact.minus(rounded).sign() != 0 && exact.milli_value() != i64::MAX {
            *amount = rounded.to_string().into();
        }
    }
}

/// Of which types something at or below them is marked.
fn reaching(schema: &Schema, mut reaches: Vec<bool>) -> Vec<bool> {
    loop {
        let before = reaches.iter().filter(|reach| **reach).count();
        for (id, object) in schema.objects() {
            let below = |field: &Field| holds(&field.ty).is_some_and(|id| reaches[id.0 as usize]);
            if object.fields.iter().any(below) {
                reaches[id.0 as usize] = true;
            }
        }
        if reaches.iter().filter(|reach| **reach).count() == before {
            return reaches;
        }
    }
}

/// The object type that a field holds, in a list or map or by itself.
fn holds(ty: &Ty) -> Option<TypeId> {
    match ty {
        Ty::Object(id) => Some(*id),
        Ty::List(inner) | Ty::Map(inner) => holds(inner),
        _ => None,
    }
}

fn visit(plans: &[Plan], id: TypeId, value: &mut Value) {
    let plan = &plans[id.0 as usize];
    let Some(object) = value.as_object_mut() else { return };
    for (field, default) in &plan.values {
        let unset = |value: &Value| value.is_null() || (value == "" && default.is_string());
        if object.get(&**field).is_none_or(unset) {
            object.insert(field.to_string(), default.clone());
        }
    }
    for field in &plan.amounts {
        if let Some(list) = object.get_mut(&**field) {
            round_up(list);
        }
    }
    if let Some(rule) = plan.rule {
        rule(value);
    }
    for (field, ty) in &plan.inner {
        if let Some(value) = value.get_mut(&**field) {
            each(ty, value, &mut |id, value| visit(plans, id, value));
        }
    }
}

/// Does something to every object that a field holds, in a list or map or by itself.
fn each(ty: &Ty, value: &mut Value, visit: &mut dyn FnMut(TypeId, &mut Value)) {
    match (ty, value) {
        (Ty::Object(id), value) => visit(*id, value),
        (Ty::List(ty), Value::Array(items)) => items.iter_mut().for_each(|item| each(ty, item, visit)),
        (Ty::Map(ty), Value::Object(fields)) => fields.values_mut().for_each(|value| each(ty, value, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
