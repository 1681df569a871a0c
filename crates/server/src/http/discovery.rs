//! Discovery: which groups, versions and resources there are, in the old form
//! (a document each) and the aggregated one (one document, `apidiscovery.k8s.io/v2`).

use std::sync::Arc;

use carrack_api::kind::compare_versions;
use carrack_api::status::Status;
use carrack_api::{Kind, Kinds, Value};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, VARY};
use http::request::Parts;
use http::{Response, StatusCode};
use serde_json::json;

use super::accept::{Accept, Route};
use super::paths::{no_page, no_route};
use super::{Body, State, output};
use crate::registry::no_such_resource;
use crate::request::RequestInfo;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Groups in the order of the table, each with its versions, preferred first.
pub(crate) fn groups(kinds: &Kinds) -> Vec<(Box<str>, Vec<Box<str>>)> {
    let mut groups: Vec<(Box<str>, Vec<Box<str>>)> = Vec::new();
    for kind in kinds.iter() {
        let at = groups.iter().position(|(group, _)| *group == kind.group).unwrap_or_else(|| {
            groups.push((kind.group.clone(), Vec::new()));
            groups.len() - 1
        });
        let served = kind.versions.iter().enumerate().filter(|(index, _)| kind.is_served(*index));
        for (_, version) in served {
            if !groups[at].1.contains(&version.name) {
                groups[at].1.push(version.name.clone());
            }
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by(|a, b| compare_versions(b, a));
    }
    groups
}

/// Answers `/api…` and `/apis…`.
pub(crate) fn answer(
    state: &State,
    parts: &Parts,
    info: &RequestInfo,
    path: &str,
) -> Result<Response<Body>, Status> {
    let kinds = state.registry.kinds();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let aggregated = accepts_aggregated(parts);
    // Versions have routes; lists of groups only weigh what is accepted.
    let routed = || Accept::read(&parts.headers, &info.query, Route::One)?.whole();
    let weighed = || Accept::weighed(&parts.headers, &info.query);
    match &segments[..] {
        ["api"] if aggregated => Ok(aggregate(&kinds, true)),
        ["apis"] if aggregated => Ok(aggregate(&kinds, false)),
        ["api"] => Ok(document(
            routed()?,
            &json!({
                "kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": addresses(&state.parts.config.advertised),
            }),
        )),
        ["apis"] => {
            let groups: Vec<Value> =
                groups(&kinds).iter().filter(|(group, _)| !group.is_empty()).map(group_object).collect();
            Ok(document(weighed()?, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})))
        }
        ["apis", group] => {
            let found = groups(&kinds).into_iter().find(|(name, _)| &**name == *group);
            let mut object = group_object(&found.ok_or_else(no_page)?);
            object["kind"] = "APIGroup".into();
            object["apiVersion"] = "v1".into();
            Ok(document(weighed()?, &object))
        }
        ["api", version] => Ok(document(routed()?, &resources(&kinds, "", version)?)),
        ["apis", group, version] if groups(&kinds).iter().any(|(name, _)| **name == **group) => {
            let list = resources(&kinds, group, version)?;
            Ok(document(routed()?, &list))
        }
        ["api" | "apis", "", ..] => Err(no_route()),
        ["api", ..] => Err(no_such_resource()),
        _ => Err(no_page()),
    }
}

/// Where clients reach the server, wherever they are.
fn addresses(advertised: &str) -> Value {
    match advertised {
        "" => json!([]),
        address => json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]),
    }
}

fn accepts_aggregated(parts: &Parts) -> bool {
    let accept = parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|clause| {
        let has = |part: &str| clause.split(';').any(|p| p.trim() == part);
        has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList")
    })
}

/// A document in the encoding that is asked for.
fn document(accept: Accept, value: &Value) -> Response<Body> {
    output::named(accept, "io.k8s.apimachinery.pkg.apis.meta.v1", value, StatusCode::OK)
}

fn group_object((group, versions): &(Box<str>, Vec<Box<str>>)) -> Value {
    let version = |v: &str| json!({"groupVersion": format!("{group}/{v}"), "version": v});
    let all: Vec<Value> = versions.iter().map(|v| version(v)).collect();
    json!({"name": &**group, "preferredVersion": all[0], "versions": all})
}

/// The kinds of a group and version, with the index of the version in each.
pub(crate) fn served<'a>(
    kinds: &'a Kinds,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = (&'a Arc<Kind>, usize)> {
    kinds.iter().filter(move |kind| &*kind.group == group).filter_map(move |kind| {
        let index = kind.versions.iter().position(|v| &*v.name == version)?;
        kind.is_served(index).then_some((kind, index))
    })
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Result<Value, Status> {
    let mut all = Vec::new();
    for (kind, index) in served(kinds, group, version) {
        let mut row = json!({
            "name": &*kind.plural, "singularName": &*kind.singular, "namespaced": kind.namespaced,
            "kind": &*kind.kind, "verbs": kind.advertised(),
        });
        if !kind.short_names.is_empty() {
            row["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            row["categories"] = json!(kind.categories);
        }
        if kind.verbs.iter().any(|verb| &**verb == "create") && kind.stored() {
            row["storageVersionHash"] = storage_hash(kind).into();
        }
        all.push(row);
        for sub in kind.subresources_of(index) {
            let mut row = json!({
                "name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
                "namespaced": kind.namespaced, "kind": &*sub.kind, "verbs": sub.verbs,
            });
            if sub.group != kind.group {
                row["group"] = (&*sub.group).into();
                row["version"] = (&*sub.version).into();
            }
            all.push(row);
        }
    }
    if all.is_empty() {
        return Err(no_such_resource());
    }
    let group_version = carrack_api::kind::api_version(group, version);
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": all});
    // The core group's is older than the field.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Ok(list)
}

/// Eight bytes that change when the stored form of a kind does, in base64.
fn storage_hash(kind: &Kind) -> String {
    use base64::Engine;
    use sha2::Digest;
    let stored = match (&*kind.group, &*kind.kind) {
        // Upstream still stores these in the version before, for one release.
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy" | "MutatingAdmissionPolicyBinding") => {
            "v1beta1"
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => "v1beta1",
        _ => &kind.versions[kind.storage].name,
    };
    let digest = sha2::Sha256::digest(format!("{}/{stored}/{}", kind.stored_group, kind.kind));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

fn aggregate(kinds: &Kinds, core: bool) -> Response<Body> {
    let mut items = Vec::new();
    for (group, versions) in groups(kinds).iter().filter(|(group, _)| group.is_empty() == core) {
        let versions: Vec<Value> = versions
            .iter()
            .map(|version| {
                let resources: Vec<Value> = served(kinds, group, version)
                    .map(|(kind, index)| aggregated_resource(kind, index))
                    .collect();
                json!({"version": &**version, "resources": resources, "freshness": "Current"})
            })
            .collect();
        let mut metadata = json!({});
        if !group.is_empty() {
            metadata["name"] = (&**group).into();
        }
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    let mut response = document(Accept::JSON, &body);
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(AGGREGATED));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

fn aggregated_resource(kind: &Kind, index: usize) -> Value {
    let version = &*kind.versions[index].name;
    let response_kind = |g: &str, v: &str, k: &str| json!({"group": g, "version": v, "kind": k});
    let mut row = json!({
        "resource": &*kind.plural,
        "responseKind": if kind.custom { response_kind(&kind.group, version, &kind.kind) } else { response_kind("", "", &kind.kind) },
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": &*kind.singular,
        "verbs": kind.advertised(),
    });
    if !kind.short_names.is_empty() {
        row["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        row["categories"] = json!(kind.categories);
    }
    let mut subresources: Vec<_> = kind.subresources_of(index).collect();
    if !kind.custom {
        // In order of name, as upstream has them.
        subresources.sort_by_key(|sub| &sub.name);
    }
    let subresources: Vec<Value> = subresources
        .into_iter()
        .map(|sub| {
            // Built-in kinds only name what is another's.
            let (g, v) = match (sub.group == kind.group, kind.custom) {
                (true, true) => (&*sub.group, version),
                (true, false) => ("", ""),
                (false, _) => (&*sub.group, &*sub.version),
            };
            json!({
                "subresource": &*sub.name,
                "responseKind": response_kind(g, v, &sub.kind),
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        row["subresources"] = subresources.into();
    }
    row
}
