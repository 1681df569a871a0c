//! Defaults of built-in kinds, as upstream's `pkg/apis/*/v1/defaults.go` sets them
//! after decoding and before admission. What needs other objects, time or chance
//! (addresses, ports, uid, tokens) is the server's part.
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
use crate::schema::{Schema, Ty, TypeId};

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
    /// Fields below which something has a default.
    inner: Vec<(Box<str>, Ty)>,
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
];

/// Sets the defaults of a decoded object of the kind's version `version`. Custom
/// kinds, whose defaults stand in their schema, are left as they are.
pub fn default_object(kind: &Kind, version: usize, object: &mut Value) {
    if !kind.custom
        && let Some(version) = kind.versions.get(version)
    {
        visit(plans(), version.root, object);
    }
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
        let default = |field: &crate::schema::Field| {
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
            inner: Vec::new(),
        });
    }
    let reaches = reaching(schema, &plans);
    for (id, object) in schema.objects() {
        let inner =
            object.fields.iter().filter(|field| holds(&field.ty).is_some_and(|id| reaches[id.0 as usize]));
        plans[id.0 as usize].inner = inner.map(|field| (field.name.clone(), field.ty.clone())).collect();
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

/// Whether something at or below each type has a default.
fn reaching(schema: &Schema, plans: &[Plan]) -> Vec<bool> {
    let mut reaches: Vec<bool> = plans
        .iter()
        .map(|p| p.rule.is_some() || !p.values.is_empty() || !p.gated.is_empty() || !p.amounts.is_empty())
        .collect();
    loop {
        let before = reaches.iter().filter(|reach| **reach).count();
        for (id, object) in schema.objects() {
            let below =
                |field: &crate::schema::Field| holds(&field.ty).is_some_and(|id| reaches[id.0 as usize]);
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
    plan.gated.iter().for_each(|field| {
        object.remove(*field);
    });
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
            visit_inner(plans, ty, value);
        }
    }
}

fn visit_inner(plans: &[Plan], ty: &Ty, value: &mut Value) {
    match (ty, value) {
        (Ty::Object(id), value) => visit(plans, *id, value),
        (Ty::List(ty), Value::Array(items)) => items.iter_mut().for_each(|item| visit_inner(plans, ty, item)),
        (Ty::Map(ty), Value::Object(fields)) => {
            fields.values_mut().for_each(|value| visit_inner(plans, ty, value));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
