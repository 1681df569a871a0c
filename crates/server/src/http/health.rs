//! `/healthz`, `/livez`, `/readyz`, with `?verbose` and `?exclude=`.

use http::header::X_CONTENT_TYPE_OPTIONS;
use http::{Response, StatusCode};

use super::{Body, State, output};
use crate::request::RequestInfo;

/// The paths of health.
const ROOTS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Checks that upstream has for the steps of its start, in its order. Those that are done
/// once here too are asked ([`Progress`](crate::bootstrap::Progress)); of the others there
/// is nothing to do, and they are named for those who ask for one or leave it out.
const STEPS: &[&str] = &[
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/peer-endpoint-reconciler-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
    "poststarthook/storage-readiness",
    "poststarthook/start-legacy-token-tracking-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
];

/// A check's name and what it found.
type Checked<'a> = (&'a str, Result<(), String>);

/// The checks of a path of health, in the order in which they are told.
fn checks<'a>(state: &'a State, root: &str) -> Vec<Checked<'a>> {
    let mut checks: Vec<Checked<'_>> = vec![("ping", Ok(())), ("log", Ok(()))];
    if root != "/readyz" {
        checks.push(("loopback-serving-certificate", Ok(())));
    }
    checks.extend(store(state, root));
    let asked = |name: &str| state.parts.checks.iter().find(|check| &*check.name == name);
    checks.extend(STEPS.iter().map(|step| (*step, asked(step).map_or(Ok(()), |check| (check.probe)()))));
    if root == "/readyz" {
        let closing = *state.closing.borrow();
        checks.push(("shutdown", if closing { Err("process is shutting down".into()) } else { Ok(()) }));
    }
    for check in state.parts.checks.iter().filter(|check| !STEPS.contains(&&*check.name)) {
        if check.live || root != "/livez" {
            checks.push((&check.name, (check.probe)()));
        }
    }
    checks
}

/// The paths of health and of each check.
pub(crate) fn paths(state: &State) -> Vec<String> {
    let of = |root: &'static str| {
        let each = checks(state, root).into_iter().map(move |(name, _)| format!("{root}/{name}"));
        [root.to_owned()].into_iter().chain(each)
    };
    ROOTS.into_iter().flat_map(of).collect()
}

/// What the checks find, as `/metrics/slis` tells it (KEP-3466).
pub(crate) fn metrics(state: &State) -> String {
    const NAME: &str = "kubernetes_healthcheck";
    let mut text = format!("# HELP {NAME} [STABLE] The result of a check of health.\n# TYPE {NAME} gauge\n");
    for root in ROOTS {
        for (name, outcome) in checks(state, root) {
            let (root, well) = (root.trim_start_matches('/'), u8::from(outcome.is_ok()));
            text += &format!("{NAME}{{name={name:?},type={root:?}}} {well}\n");
        }
    }
    text
}

/// Answers a health path; `None` when it is not one.
pub(crate) fn answer(state: &State, info: &RequestInfo) -> Option<Response<Body>> {
    let path = &*info.attributes.path;
    let (root, one) = ROOTS.into_iter().find_map(|root| {
        let rest = path.strip_prefix(root)?;
        match rest {
            "" => Some((root, None)),
            rest => rest.strip_prefix('/').map(|name| (root, Some(name))),
        }
    })?;
    let checks = checks(state, root);
    if let Some(one) = one {
        let (name, outcome) = checks.into_iter().find(|(name, _)| *name == one)?;
        return Some(match outcome {
            Ok(()) => {
                let mut response = output::text(StatusCode::OK, "ok");
                response.headers_mut().remove(X_CONTENT_TYPE_OPTIONS);
                response
            }
            Err(why) => failed(format!("internal server error: {name}: {why}\n")),
        });
    }
    let excluded: Vec<&str> = info.query.all("exclude").collect();
    let mut lines = String::new();
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|name| checks.iter().all(|(known, _)| known != *name))
        .map(|name| format!("{name:?}"))
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        lines += &format!("warn: some health checks cannot be excluded: no matches for {unknown}\n");
    }
    let mut all_well = true;
    for (name, outcome) in &checks {
        match outcome {
            _ if excluded.contains(name) => lines += &format!("[+]{name} excluded: ok\n"),
            Ok(()) => lines += &format!("[+]{name} ok\n"),
            Err(_) => {
                all_well = false;
                lines += &format!("[-]{name} failed: reason withheld\n");
            }
        }
    }
    let what = root.trim_start_matches('/');
    if !all_well {
        return Some(failed(format!("{lines}{what} check failed\n")));
    }
    Some(match info.query.get("verbose") {
        Some(_) => output::text(StatusCode::OK, format!("{lines}{what} check passed\n")),
        None => output::text(StatusCode::OK, "ok"),
    })
}

/// The checks that upstream names after its own store. Ours has answered by being asked.
fn store(state: &State, root: &str) -> Vec<(&'static str, Result<(), String>)> {
    let _ = state.registry.store().revision();
    match root {
        "/readyz" => vec![("etcd", Ok(())), ("etcd-readiness", Ok(())), ("informer-sync", Ok(()))],
        _ => vec![("etcd", Ok(()))],
    }
}

fn failed(text: String) -> Response<Body> {
    output::text(StatusCode::INTERNAL_SERVER_ERROR, text)
}
