//! LimitRanger: a namespace's LimitRanges fill in what containers do not ask for, and
//! hold pods and claims to least and most amounts.

use std::sync::Arc;

use carrack_api::Value;
use carrack_api::quantity::Quantity;
use carrack_api::quota::{Amounts, pods};
use carrack_api::status::Status;
use carrack_store::Store;
use futures::future::BoxFuture;
use serde_json::json;

use super::{all_in, refuse};
use crate::auth::node::references::items;
use crate::registry::meta;
use crate::seams::{Admission, AdmissionRequest, Operation};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Above this, amounts are compared in whole units.
const MOST_MILLI: i64 = i64::MAX / 1000;

/// The plugin.
pub struct LimitRanger {
    store: Arc<dyn Store>,
}

/// One scope under a limit.
struct Scope<'a> {
    /// `Container`, `Pod`, `PersistentVolumeClaim`.
    kind: &'static str,
    requests: &'a Amounts,
    limits: &'a Amounts,
}

impl LimitRanger {
    /// Looks at the LimitRanges of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    fn ranges(&self, namespace: &str) -> Vec<Value> {
        all_in(&self.store, "limitranges", namespace)
    }

    fn skips(request: &AdmissionRequest<'_>) -> bool {
        request.old.is_some_and(meta::deleting)
    }
}

impl Admission for LimitRanger {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let create = request.operation == Operation::Create;
        let write = create || request.operation == Operation::Update;
        let concerned = request.is("pods", "") && create
            || request.is("pods", "resize") && request.operation == Operation::Update
            || request.is("persistentvolumeclaims", "") && write;
        concerned && !self.store.snapshot("limitranges").is_empty()
    }

    fn mutate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        if &*request.call.kind.resource == "pods" && !Self::skips(request) {
            self.ranges(&request.call.namespace).iter().for_each(|range| fill_in(range, object));
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let Some(object) = object.filter(|_| !Self::skips(request)) else {
            return Box::pin(std::future::ready(Ok(())));
        };
        let check = |range: &Value| {
            let errors = match &*request.call.kind.resource {
                "pods" => check_pod(range, object),
                _ => check_claim(range, object),
            };
            match aggregate(errors) {
                Some(detail) => Err(refuse(request, Some(object), &detail)),
                None => Ok(()),
            }
        };
        let answer = self.ranges(&request.call.namespace).iter().try_for_each(check);
        Box::pin(std::future::ready(answer))
    }
}

/// Several errors in one sentence, as apimachinery's aggregates show them.
fn aggregate(mut errors: Vec<String>) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    errors.retain(|error| seen.insert(error.clone()));
    match errors.len() {
        0 => None,
        1 => errors.pop(),
        _ => Some(format!("[{}]", errors.join(", "))),
    }
}

/// Gives containers the default requests and limits that they lack.
fn fill_in(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (Amounts::default(), Amounts::default());
    for limit in items(range, "/spec/limits").filter(|limit| limit["type"] == "Container") {
        let lay = |over: &mut Amounts, field: &str| {
            Amounts::read(&limit[field]).iter().for_each(|(name, amount)| over.set(name, amount));
        };
        lay(&mut requests, "defaultRequest");
        lay(&mut limits, "default");
    }
    let mut notes = Vec::new();
    for (list, title) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let set_limits = add_missing(container, "limits", &limits);
            let set_requests = add_missing(container, "requests", &requests);
            let name = container["name"].as_str().unwrap_or_default();
            for (names, what) in [(set_requests, "request"), (set_limits, "limit")] {
                if !names.is_empty() {
                    notes.push(format!("{} {what} for {title} {name}", names.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        let annotations = meta::of(pod).entry("annotations").or_insert_with(|| json!({}));
        if annotations.is_null() {
            *annotations = json!({});
        }
        annotations[ANNOTATION] = note.into();
    }
}

fn add_missing(container: &mut Value, field: &str, defaults: &Amounts) -> Vec<String> {
    let mut names = Vec::new();
    for (name, amount) in defaults.iter() {
        if container["resources"][field].get(name).is_none_or(Value::is_null) {
            container["resources"][field][name] = amount.to_string().into();
            names.push(name.to_owned());
        }
    }
    names
}

fn check_pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in items(range, "/spec/limits") {
        match limit["type"].as_str() {
            Some("Container") => {
                for container in
                    ["/spec/containers", "/spec/initContainers"].iter().flat_map(|l| items(pod, l))
                {
                    let list = |field: &str| Amounts::read(&container["resources"][field]);
                    let (requests, limits) = (list("requests"), list("limits"));
                    check(
                        limit,
                        &Scope { kind: "Container", requests: &requests, limits: &limits },
                        &mut errors,
                    );
                }
            }
            Some("Pod") => {
                let (requests, limits) = whole(pod);
                check(limit, &Scope { kind: "Pod", requests: &requests, limits: &limits }, &mut errors);
            }
            _ => {}
        }
    }
    errors
}

/// What a pod's author asks for: neither overhead nor what it holds already counts.
fn whole(pod: &Value) -> (Amounts, Amounts) {
    let mut bare = json!({ "spec": pod["spec"] });
    if let Some(spec) = bare["spec"].as_object_mut() {
        spec.remove("overhead");
    }
    (pods::requests(&bare), pods::limits(&bare))
}

fn check(limit: &Value, scope: &Scope<'_>, errors: &mut Vec<String>) {
    let list = |field: &str| Amounts::read(&limit[field]);
    for (name, least) in list("min").iter() {
        errors.extend(below(scope, name, least));
    }
    for (name, most) in list("max").iter() {
        errors.extend(above(scope, name, most));
    }
    for (name, ratio) in list("maxLimitRequestRatio").iter() {
        errors.extend(beyond_ratio(scope, name, ratio));
    }
}

fn check_claim(range: &Value, claim: &Value) -> Vec<String> {
    let requests = Amounts::read(&claim["spec"]["resources"]["requests"]);
    let none = Amounts::default();
    let kind = "PersistentVolumeClaim";
    let scope = Scope { kind, requests: &requests, limits: &none };
    let mut errors = Vec::new();
    for limit in items(range, "/spec/limits").filter(|limit| limit["type"] == kind) {
        for (name, least) in Amounts::read(&limit["min"]).iter() {
            errors.extend(below(&scope, name, least));
        }
        for (name, most) in Amounts::read(&limit["max"]).iter() {
            let words = format!("maximum {name} usage per {kind} is {most}");
            errors.extend(match requests.get(name) {
                None => Some(format!("{words}.  No request is specified")),
                Some(request) if more(request, most) => Some(format!("{words}, but request is {request}")),
                Some(_) => None,
            });
        }
    }
    errors
}

/// Compares in thousandths, or in whole units where those are too many.
fn more(a: Quantity, b: Quantity) -> bool {
    let small = a.value() <= MOST_MILLI && b.value() <= MOST_MILLI;
    if small { a.milli_value() > b.milli_value() } else { a.value() > b.value() }
}

fn below(scope: &Scope<'_>, name: &str, least: Quantity) -> Option<String> {
    let words = format!("minimum {name} usage per {} is {least}", scope.kind);
    let Some(request) = scope.requests.get(name) else {
        return Some(format!("{words}.  No request is specified"));
    };
    if more(least, request) {
        return Some(format!("{words}, but request is {request}"));
    }
    let limit = scope.limits.get(name).filter(|limit| more(least, *limit))?;
    Some(format!("{words}, but limit is {limit}"))
}

fn above(scope: &Scope<'_>, name: &str, most: Quantity) -> Option<String> {
    let words = format!("maximum {name} usage per {} is {most}", scope.kind);
    let Some(limit) = scope.limits.get(name) else {
        return Some(format!("{words}.  No limit is specified"));
    };
    if more(limit, most) {
        return Some(format!("{words}, but limit is {limit}"));
    }
    let request = scope.requests.get(name).filter(|request| more(*request, most))?;
    Some(format!("{words}, but request is {request}"))
}

fn beyond_ratio(scope: &Scope<'_>, name: &str, ratio: Quantity) -> Option<String> {
    let words = format!("{name} max limit to request ratio per {} is {ratio}", scope.kind);
    let some = |amount: Option<Quantity>| amount.filter(|amount| !amount.is_zero());
    let Some(request) = some(scope.requests.get(name)) else {
        return Some(format!("{words}, but no request is specified or request is 0"));
    };
    let Some(limit) = some(scope.limits.get(name)) else {
        return Some(format!("{words}, but no limit is specified or limit is 0"));
    };
    let small = request.value() <= MOST_MILLI && limit.value() <= MOST_MILLI;
    let amount = |q: Quantity| if small { q.milli_value() } else { q.value() } as f64;
    let observed = amount(limit) / amount(request);
    let most =
        if ratio.value() <= MOST_MILLI { ratio.milli_value() as f64 / 1000.0 } else { ratio.value() as f64 };
    (observed > most).then(|| format!("{words}, but provided ratio is {observed:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limit: Value) -> Value {
        json!({"spec": {"limits": [limit]}})
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn fills_in_what_is_not_said() {
        let range = range(json!({"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"},
            "defaultRequest": {"cpu": "100m"}}));
        let mut pod = pod(json!({"limits": {"memory": "2Gi"}}));
        fill_in(&range, &mut pod);
        let resources = json!({"limits": {"cpu": "500m", "memory": "2Gi"}, "requests": {"cpu": "100m"}});
        assert_eq!(pod["spec"]["containers"][0]["resources"], resources);
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
        );
    }

    #[test]
    fn holds_to_limits() {
        let check = |kind: &str, limit: Value, resources: Value, expect: Option<&str>| {
            let mut limit = limit;
            limit["type"] = kind.into();
            let found = aggregate(check_pod(&range(limit.clone()), &pod(resources)));
            assert_eq!(found.as_deref(), expect, "{limit}");
        };
        let cpu =
            |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        check("Container", json!({"min": {"cpu": "50m"}}), cpu("50m", "1"), None);
        check(
            "Container",
            json!({"min": {"cpu": "50m"}}),
            cpu("10m", "1"),
            Some("minimum cpu usage per Container is 50m, but request is 10m"),
        );
        check(
            "Container",
            json!({"min": {"cpu": "50m"}, "max": {"cpu": "1"}}),
            json!({}),
            Some(
                "[minimum cpu usage per Container is 50m.  No request is specified, maximum cpu usage per \
                 Container is 1.  No limit is specified]",
            ),
        );
        check(
            "Pod",
            json!({"max": {"cpu": "1"}}),
            cpu("1", "1500m"),
            Some("maximum cpu usage per Pod is 1, but limit is 1500m"),
        );
        check(
            "Pod",
            json!({"maxLimitRequestRatio": {"cpu": "2"}}),
            cpu("1", "2500m"),
            Some("cpu max limit to request ratio per Pod is 2, but provided ratio is 2.500000"),
        );
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        let limit = range(json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}));
        assert_eq!(check_claim(&limit, &claim("1Gi")), Vec::<String>::new());
        let expect = "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi";
        assert_eq!(check_claim(&limit, &claim("2Gi")), [expect]);
    }
}
