//! `/statusz` and `/flagz`: how the server runs and with which settings, as text for people
//! and as `config.k8s.io` for programs (KEP-4827, KEP-4828).

use carrack_api::Value;
use carrack_api::status::Status;
use http::request::Parts;
use http::{Response, StatusCode};
use serde_json::json;

use super::accept::{self, Encoding, Page};
use super::{Body, State, output, paths};
use crate::clock::rfc3339;

const COMPONENT: &str = "kube-apiserver";
/// First segments of paths that are no use to whoever looks for a mistake.
const NOT_DEBUGGING: [&str; 5] = ["apis", "api", "openid", "openapi", ".well-known"];

/// Answers about a path that is one of these.
pub(super) fn answer(state: &State, parts: &Parts, path: &str) -> Option<Result<Response<Body>, Status>> {
    let (kind, told): (_, fn(&State) -> Value) = match path {
        "/statusz" => ("Statusz", status),
        "/flagz" => ("Flagz", flags),
        _ => return None,
    };
    let page = accept::page(&parts.headers, kind);
    Some(page.map(|page| page_of(page, kind, told(state))))
}

fn page_of(page: Page, kind: &str, told: Value) -> Response<Body> {
    let (encoding, version) = match page {
        Page::Text => {
            let text = if kind == "Statusz" { status_text(&told) } else { flags_text(&told) };
            return output::respond(StatusCode::OK, "text/plain; charset=utf-8", Body::from(text));
        }
        Page::Object { encoding, version } => (encoding, version),
    };
    let mut object = json!({"kind": kind, "apiVersion": format!("config.k8s.io/{version}"),
        "metadata": {"name": COMPONENT}});
    if let (Some(object), Value::Object(told)) = (object.as_object_mut(), told) {
        object.extend(told);
    }
    let mut response = match encoding {
        Encoding::Yaml => output::respond(StatusCode::OK, "application/yaml", output::yaml(&object)),
        _ => output::json(StatusCode::OK, object.to_string() + "\n"),
    };
    if version == "v1alpha1" {
        let name = kind.to_lowercase();
        let warning =
            format!("This version of the {name} endpoint is deprecated. Please use a newer version.");
        output::warn(&mut response, &[warning]);
    }
    response
}

fn status(state: &State) -> Value {
    let mut folders: Vec<String> = paths::listed(state)
        .iter()
        .filter_map(|path| path.split('/').nth(1))
        .filter(|folder| !folder.is_empty() && !NOT_DEBUGGING.contains(folder))
        .map(|folder| format!("/{folder}"))
        .collect();
    folders.sort();
    folders.dedup();
    let mut numbers = state.parts.config.git_version.trim_start_matches('v').split('.');
    let version = [numbers.next(), numbers.next()].map(Option::unwrap_or_default).join(".");
    let seconds = state.registry.now().duration_since(state.started).as_secs().max(0);
    json!({"startTime": rfc3339(state.started), "uptimeSeconds": seconds, "goVersion": "none",
        "binaryVersion": version, "emulationVersion": version, "paths": folders})
}

fn flags(state: &State) -> Value {
    json!({ "flags": state.parts.config.flags })
}

/// What both pages begin with.
fn heading(page: &str) -> String {
    format!(
        "\n{COMPONENT} {page}\nWarning: This endpoint is not meant to be machine parseable, has no formatting \
         compatibility guarantees and is for debugging purposes only.\n"
    )
}

fn status_text(told: &Value) -> String {
    let text = |field: &str| told[field].as_str().unwrap_or_default();
    let seconds = told["uptimeSeconds"].as_i64().unwrap_or_default();
    let up = format!("{} hr {:02} min {:02} sec", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let paths: Vec<&str> = told["paths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "{}\nStarted: {}\nUp: {up}\nGo version: {}\nBinary version: {}\nEmulation version: {}\nPaths: {}\n",
        heading("statusz"),
        text("startTime"),
        text("goVersion"),
        text("binaryVersion"),
        text("emulationVersion"),
        paths.join(" ")
    )
}

fn flags_text(told: &Value) -> String {
    let flags = told["flags"].as_object().into_iter().flatten();
    flags.fold(heading("flagz"), |page, (name, value)| {
        page + &format!("{name}: {}\n", value.as_str().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_people_line_by_line() {
        let told = json!({"startTime": "2026-01-01T00:00:00Z", "uptimeSeconds": 3723, "goVersion": "none",
            "binaryVersion": "1.36", "emulationVersion": "1.36", "paths": ["/livez", "/metrics"]});
        let page = status_text(&told);
        assert!(page.starts_with("\nkube-apiserver statusz\nWarning: "), "{page}");
        assert!(page.contains("\nUp: 1 hr 02 min 03 sec\n") && page.ends_with("\nPaths: /livez /metrics\n"));
        let page = flags_text(&json!({"flags": {"domain": "cluster.local", "store": "sqlite"}}));
        assert!(page.ends_with("\ndomain: cluster.local\nstore: sqlite\n"), "{page}");
    }
}
