//! `/healthz`, `/livez`, `/readyz`, with `?verbose` and `?exclude=`.

use http::{Response, StatusCode};

use super::{Body, State, output};
use crate::request::RequestInfo;

/// Answers a health path; `None` when it is not one.
pub(crate) fn answer(state: &State, info: &RequestInfo) -> Option<Response<Body>> {
    let path = info.attributes.path.trim_end_matches('/');
    let (root, one) = ["/healthz", "/livez", "/readyz"].into_iter().find_map(|root| {
        let rest = path.strip_prefix(root)?;
        match rest {
            "" => Some((root, None)),
            rest => rest.strip_prefix('/').map(|name| (root, Some(name))),
        }
    })?;
    let mut checks: Vec<(&str, Result<(), String>)> = vec![("ping", Ok(())), ("log", Ok(()))];
    checks.extend(store(state, root));
    if root == "/readyz" {
        let closing = *state.closing.borrow();
        checks.push(("shutdown", if closing { Err("process is shutting down".into()) } else { Ok(()) }));
    }
    for check in &state.parts.checks {
        if check.live || root != "/livez" {
            checks.push((&check.name, (check.probe)()));
        }
    }
    if let Some(one) = one {
        let (name, outcome) = checks.into_iter().find(|(name, _)| *name == one)?;
        return Some(match outcome {
            Ok(()) => output::text(StatusCode::OK, "ok"),
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
