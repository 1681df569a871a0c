//! What others than the administrator are told, for every verb and subresource.

use serde_json::{Value, json};

use super::super::case::{Case, MERGE, Target, ask, json, raw};
use super::super::objects::named;

/// A user without any right.
const NOBODY: &str = "nobody-here";

/// The cases of a kind.
pub fn cases(target: &Target<'_>, templates: &[Value], cases: &mut Vec<Case>) {
    let object = match templates.first() {
        Some(template) => named(template, "access", &target.namespace),
        None => json!({"apiVersion": target.api_version(), "kind": target.kind.kind}),
    };
    let (collection, path) = (target.collection(), target.object("access"));
    for verb in &target.kind.verbs {
        let request = match &**verb {
            "create" => json("POST", &collection, &object),
            "delete" => ask("DELETE", &path),
            "deletecollection" => ask("DELETE", &collection),
            "get" => ask("GET", &path),
            "list" => ask("GET", &collection),
            "patch" => raw("PATCH", &path, MERGE, "{}"),
            "update" => json("PUT", &path, &object),
            _ => ask("GET", &collection).query("watch=true&timeoutSeconds=1"),
        };
        cases.push(target.case(verb, "forbidden").then(request.acting_as(NOBODY)));
    }
    if target.has("list") && !target.namespace.is_empty() {
        let all = ask("GET", target.collection_in("")).acting_as(NOBODY);
        cases.push(target.case("list", "forbidden everywhere").then(all));
    }
    for sub in &target.kind.subresources {
        let row = format!("{}/{}", target.row(), sub.name);
        for verb in &sub.verbs {
            let path = format!("{path}/{}", sub.name);
            let request = match &**verb {
                "create" => json("POST", path, &object),
                "update" => json("PUT", path, &object),
                "patch" => raw("PATCH", path, MERGE, "{}"),
                "delete" => ask("DELETE", path),
                _ => ask("GET", path),
            };
            cases.push(Case::new(&row, verb, "forbidden").then(request.acting_as(NOBODY)));
        }
    }
    let strangers: [(&str, &[(&str, &str)]); 6] = [
        ("a service account", &[("Impersonate-User", "system:serviceaccount:default:default")]),
        ("a viewer's group", &[("Impersonate-User", "v"), ("Impersonate-Group", "viewers")]),
        ("a group without user", &[("Impersonate-Group", "g")]),
        ("an extra without user", &[("Impersonate-Extra-a", "b")]),
        ("anonymous", &[("Impersonate-User", "system:anonymous")]),
        ("masters", &[("Impersonate-User", "m"), ("Impersonate-Group", "system:masters")]),
    ];
    for (title, headers) in strangers {
        let mut request = ask("GET", &path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        cases.push(target.case("get", format!("as {title}")).then(request));
    }
}
