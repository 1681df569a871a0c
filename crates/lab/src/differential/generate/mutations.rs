//! Mutated objects as requests: created, replaced and patched, mostly as dry runs against
//! one object of the kind, some for real.

use serde_json::{Value, json};

use super::super::case::{Case, MERGE, PATCH, STRATEGIC, Target, ask, json, raw};
use super::super::mutate::{self, Mutation};
use super::super::objects::named;
use super::super::random::Random;
use super::{removed, with_object};

/// Every mutation of every object of a kind, each in one of the ways there are.
pub fn pool(target: &Target<'_>, templates: &[Value], random: &mut Random) -> Vec<Case> {
    let version = &target.kind.versions[target.version];
    let mut pool = Vec::new();
    for (at, template) in templates.iter().enumerate() {
        let object = named(template, &format!("mutant-{at}"), &target.namespace);
        for mutation in mutate::all(&version.schema, version.root, &object, random) {
            pool.push(case(target, &object, &mutation, random));
        }
    }
    pool
}

fn case(target: &Target<'_>, object: &Value, mutation: &Mutation, random: &mut Random) -> Case {
    let collection = target.collection();
    let mutant = mutation.on(object);
    let way = if target.kind.stored() { random.below(20) } else { 0 };
    let own_name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let path = target.object(&own_name);
    let named = |verb: &str, how: &str| target.case(verb, format!("{} {how}", mutation.title()));
    let updatable = target.has("update") && target.has("patch");
    match way {
        0..=8 => named("create", "dry").then(json("POST", collection, &mutant).query("dryRun=All")),
        9..=11 => {
            let case = named("create", "").then(json("POST", &collection, &mutant));
            // A mutated name may be any; the one that was made is known from the answer.
            let name = mutant["metadata"]["name"].as_str().unwrap_or("@name@").to_owned();
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-.:@".contains(c));
            if plain { removed(case, &target.object(&name), object) } else { case }
        }
        12..=15 if updatable => {
            let mut body = mutant;
            if body["metadata"].is_object() {
                body["metadata"]["resourceVersion"] = json!("@rv@");
            }
            let case = named("update", "");
            with_object(target, object, case, |case, path| {
                case.then(json("PUT", path, &body)).then(ask("GET", path))
            })
        }
        16..=17 if updatable => {
            let body = json!([mutation.operation(object)]).to_string();
            let case = named("patch", "by JSON patch");
            with_object(target, object, case, |case, path| case.then(raw("PATCH", path, PATCH, body)))
        }
        18..=19 if updatable && let Some(patch) = mutation.merge_patch() => {
            let kind = if way == 18 { MERGE } else { STRATEGIC };
            let case = named("patch", if way == 18 { "by merge patch" } else { "by strategic merge" });
            with_object(target, object, case, |case, path| {
                case.then(raw("PATCH", path, kind, patch.to_string()))
            })
        }
        _ => {
            let request = json("POST", collection, &mutant).query("dryRun=All");
            let _ = path;
            named("create", "dry").then(request)
        }
    }
}
