//! Cases from the table of kinds, the field table and a seed.
//!
//! What is special about a verb is asked once for every kind (`writes`, `patches`,
//! `deletes`, `reads`, `access`) and makes half of the wanted number, chosen by chance when
//! there are more; the rest are mutations of each kind's objects, shared out by how many
//! there could be.

pub mod access;
pub mod deletes;
pub mod documents;
pub mod manifests;
pub mod mutations;
pub mod patches;
pub mod reads;
pub mod subresources;
pub mod writes;

use std::collections::BTreeSet;

use carrack_api::kind::Kind;
use carrack_api::kinds;
use serde_json::{Value, json};

use super::case::{Case, MERGE, Target, ask, json, raw};
use super::objects::Objects;
use super::random::Random;

/// What to generate.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed of every choice.
    pub seed: u64,
    /// How many cases, about.
    pub cases: usize,
    /// Only these resources, such as `pods`; all when empty.
    pub only: Vec<String>,
}

/// A kind's cases, with what must be there before and go after.
pub struct Batch {
    /// The row of the coverage.
    pub row: String,
    /// All of its cases.
    pub cases: Vec<Case>,
}

/// Everything there is to ask, kind by kind.
pub fn batches(plan: &Plan, objects: &Objects) -> Vec<Batch> {
    let kinds = kinds::builtin();
    let wanted = |kind: &Kind| plan.only.is_empty() || plan.only.iter().any(|name| **name == *kind.plural);
    let mut batches = Vec::new();
    let mut pools = Vec::new();
    for kind in kinds.iter().filter(|kind| wanted(kind)) {
        for version in 0..kind.versions.len() {
            let target = target(kind, version);
            let templates = objects.of(&target.api_version(), &kind.kind);
            let mut random = Random::new(plan.seed, &target.row());
            let mut cases = Vec::new();
            prepare(&target, &mut cases);
            writes::cases(&target, templates, &mut random, &mut cases);
            if kind.stored() {
                reads::cases(&target, templates, &mut cases);
                patches::cases(&target, templates, &mut cases);
                deletes::cases(&target, templates, &mut cases);
                subresources::cases(&target, templates, objects, &mut cases);
            }
            access::cases(&target, templates, &mut cases);
            pools.push(mutations::pool(&target, templates, &mut random));
            batches.push(Batch { row: target.row(), cases });
        }
    }
    let mut random = Random::new(plan.seed, "which");
    let fixed: Vec<usize> = batches.iter().map(|batch| batch.cases.len()).collect();
    let pooled: Vec<usize> = pools.iter().map(Vec::len).collect();
    let asked = shares(plan.cases / 2, &fixed);
    let kept = batches.iter_mut().zip(asked).map(|(batch, share)| {
        batch.cases = chosen(std::mem::take(&mut batch.cases), share, &mut random);
        batch.cases.len()
    });
    let fixed: usize = kept.sum();
    let mutated = shares(plan.cases.saturating_sub(fixed), &pooled);
    for ((batch, pool), share) in batches.iter_mut().zip(pools).zip(mutated) {
        batch.cases.extend(random.some(pool, share));
    }
    batches
}

/// About `count` of the cases: those that others need, one of each verb of a row, and of
/// the rest as many as chance picks.
fn chosen(cases: Vec<Case>, count: usize, random: &mut Random) -> Vec<Case> {
    let mut places: Vec<usize> = (0..cases.len()).collect();
    places = random.some(places, count);
    let mut seen = BTreeSet::new();
    places.extend((0..cases.len()).filter(|at| {
        let case = &cases[*at];
        case.needed || (case.title != "forbidden" && seen.insert((case.row.clone(), case.verb.clone())))
    }));
    let places: BTreeSet<usize> = places.into_iter().collect();
    cases.into_iter().enumerate().filter(|(at, _)| places.contains(at)).map(|(_, case)| case).collect()
}

/// Shares `wanted` out among pools by the root of their sizes, so that large kinds get more
/// and small ones enough.
fn shares(wanted: usize, sizes: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; sizes.len()];
    let mut left = wanted;
    while left > 0 {
        let open: Vec<usize> = (0..sizes.len()).filter(|at| shares[*at] < sizes[*at]).collect();
        let weight: f64 = open.iter().map(|at| (sizes[*at] as f64).sqrt()).sum();
        if open.is_empty() {
            break;
        }
        let round = left as f64;
        for at in open {
            let share = (round * (sizes[at] as f64).sqrt() / weight).ceil() as usize;
            let share = share.min(sizes[at] - shares[at]).min(left);
            shares[at] += share;
            left -= share;
        }
    }
    shares
}

fn target(kind: &Kind, version: usize) -> Target<'_> {
    let group = kind.group.split('.').next().unwrap_or_default();
    let namespace = match kind.namespaced {
        true if group.is_empty() => format!("d-{}", kind.plural),
        true => format!("d-{group}-{}", kind.plural),
        false => String::new(),
    };
    Target { kind, version, namespace }
}

/// The namespace and the account that pods need.
fn prepare(target: &Target<'_>, cases: &mut Vec<Case>) {
    if target.namespace.is_empty() || target.version > 0 {
        return;
    }
    let namespace = &target.namespace;
    let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let case = Case::new("", "", format!("namespace {namespace}"))
        .prepared(json("POST", "/api/v1/namespaces", &made))
        .prepared(json("POST", format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &account));
    cases.push(case.needed());
}

/// A case that makes an object, does something with it, and removes it.
fn with_object(
    target: &Target<'_>,
    object: &Value,
    case: Case,
    work: impl FnOnce(Case, &str) -> Case,
) -> Case {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let path = target.object(&name);
    let case = work(case.prepared(json("POST", target.collection(), object)), &path);
    removed(case, &path, object)
}

/// Removes what a case made, whatever holds it.
fn removed(case: Case, path: &str, object: &Value) -> Case {
    let kind = object["kind"].as_str().unwrap_or_default();
    let free = json!({"metadata": {"finalizers": null}});
    let mut case = case.cleaned(raw("PATCH", path, MERGE, free.to_string()));
    case = case.cleaned(ask("DELETE", path).query("gracePeriodSeconds=0&propagationPolicy=Background"));
    if kind == "CustomResourceDefinition" {
        // Its objects go first, which somebody else sees to.
        case = case.cleaned(ask("GET", path));
    }
    if kind == "Namespace" {
        let name = &object["metadata"]["name"];
        let free = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": {}});
        case = case.cleaned(json("PUT", format!("{path}/finalize"), &free));
    }
    case
}
