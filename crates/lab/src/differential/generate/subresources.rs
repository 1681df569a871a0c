//! Every subresource with every verb it has and one that it has not.

use serde_json::{Value, json};

use super::super::case::{APPLY, Case, MERGE, PATCH, PROTOBUF, STRATEGIC, Target, YAML, ask, json, raw};
use super::super::objects::{Objects, named};
use super::with_object;

/// Those that need a node or a peer to answer.
const ELSEWHERE: &[&str] = &["proxy", "exec", "attach", "portforward", "log"];

/// The cases of a kind.
pub fn cases(target: &Target<'_>, templates: &[Value], objects: &Objects, cases: &mut Vec<Case>) {
    let Some(small) = templates.first() else { return };
    let rich = templates.last().unwrap_or(small);
    for sub in &target.kind.subresources {
        let row = format!("{}/{}", target.row(), sub.name);
        let has = |verb: &str| sub.verbs.iter().any(|known| &**known == verb);
        for (at, template) in [small, rich].into_iter().enumerate() {
            let object = named(template, &format!("sub-{at}"), &target.namespace);
            let mut push = |verb: &str, title: &str, work: &dyn Fn(Case, &str) -> Case| {
                let case = Case::new(&row, verb, format!("{title} ({at})"));
                cases.push(with_object(target, &object, case, |case, path| {
                    work(case, &format!("{path}/{}", sub.name))
                }));
            };
            if ELSEWHERE.contains(&&*sub.name) {
                for verb in &sub.verbs {
                    let method = match &**verb {
                        "create" => "POST",
                        "update" => "PUT",
                        "patch" => "PATCH",
                        "delete" => "DELETE",
                        _ => "GET",
                    };
                    push(verb, "with nobody there", &|case, path| case.then(ask(method, path)));
                }
                continue;
            }
            if has("get") {
                push("get", "of a new object", &|case, path| {
                    case.then(ask("GET", path)).then(ask("GET", path).header("Accept", PROTOBUF))
                });
            }
            if has("update") {
                updates(&sub.name, &object, &mut push);
            }
            if has("patch") {
                patches(&sub.name, &mut push);
            }
            if has("create") {
                let api_version = carrack_api::kind::api_version(&sub.group, &sub.version);
                for (nth, body) in objects.of(&api_version, &sub.kind).iter().enumerate() {
                    let own_name = object["metadata"]["name"].as_str().unwrap_or_default();
                    let mut body = named(body, own_name, &target.namespace);
                    push("create", &format!("body {nth}"), &|case, path| {
                        case.then(json("POST", path, &body))
                    });
                    push("create", &format!("body {nth}, dry run"), &|case, path| {
                        case.then(json("POST", path, &body).query("dryRun=All"))
                    });
                    push("create", &format!("body {nth} twice"), &|case, path| {
                        case.then(json("POST", path, &body)).then(json("POST", path, &body))
                    });
                    body["metadata"]["name"] = "other".into();
                    push("create", &format!("body {nth} of another name"), &|case, path| {
                        case.then(json("POST", path, &body))
                    });
                }
                push("create", "no body", &|case, path| case.then(raw("POST", path, "application/json", "")));
                push("create", "an empty object", &|case, path| case.then(json("POST", path, &json!({}))));
            }
            push("create", "a verb it has not", &|case, path| {
                if has("create") {
                    case.then(ask("GET", path))
                } else {
                    case.then(json("POST", path, &object))
                }
            });
            push("delete", "a verb it has not", &|case, path| case.then(ask("DELETE", path)));
        }
        let absent = format!("{}/{}", target.object("absent"), sub.name);
        for verb in &sub.verbs {
            let request = match &**verb {
                "get" => ask("GET", &absent),
                "update" => json("PUT", &absent, &named(small, "absent", &target.namespace)),
                "patch" => raw("PATCH", &absent, MERGE, "{}"),
                _ => raw("POST", &absent, "application/json", "{}"),
            };
            cases.push(Case::new(&row, verb, "of an absent object").then(request));
        }
    }
}

type Push<'a> = &'a mut dyn FnMut(&str, &str, &dyn Fn(Case, &str) -> Case);

fn updates(sub: &str, object: &Value, push: Push<'_>) {
    let mut changed = object.clone();
    changed["metadata"]["labels"]["changed"] = json!("by-subresource");
    changed["metadata"]["annotations"]["changed"] = json!("by-subresource");
    changed["status"]["conditions"] = json!([{"type": "Tried", "status": "True", "reason": "Case", "message": "m", "lastTransitionTime": "2020-01-02T03:04:05Z"}]);
    let with = |field: &str, value: Value| {
        let mut changed = changed.clone();
        changed["metadata"][field] = value;
        changed
    };
    if sub == "scale" {
        let scale = |spec: Value, meta: Value| {
            let name = &object["metadata"]["name"];
            let mut body = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": name}, "spec": spec});
            for (field, value) in meta.as_object().into_iter().flatten() {
                body["metadata"][field] = value.clone();
            }
            body
        };
        for (title, body) in [
            ("to 5", scale(json!({"replicas": 5}), json!({}))),
            ("to nothing", scale(json!({}), json!({}))),
            ("to -1", scale(json!({"replicas": -1}), json!({}))),
            ("with the revision", scale(json!({"replicas": 2}), json!({"resourceVersion": "@rv@"}))),
            ("with an old revision", scale(json!({"replicas": 2}), json!({"resourceVersion": "1"}))),
            ("of another name", scale(json!({"replicas": 2}), json!({"name": "other"}))),
            (
                "of another uid",
                scale(json!({"replicas": 2}), json!({"uid": "11111111-1111-1111-1111-111111111111"})),
            ),
            ("by the object", object.clone()),
        ] {
            push("update", title, &|case, path| {
                case.then(json("PUT", path, &body)).then(ask("GET", path)).then(ask("GET", parent(path)))
            });
        }
        return;
    }
    for (title, body) in [
        ("with the revision", with("resourceVersion", json!("@rv@"))),
        ("without revision", changed.clone()),
        ("with an old revision", with("resourceVersion", json!("1"))),
        ("of another name", with("name", json!("other"))),
        ("of another uid", with("uid", json!("11111111-1111-1111-1111-111111111111"))),
        ("the object as it was", object.clone()),
    ] {
        push("update", title, &|case, path| {
            case.then(json("PUT", path, &body)).then(ask("GET", parent(path)))
        });
    }
    push("update", "dry run", &|case, path| {
        case.then(json("PUT", path, &changed).query("dryRun=All")).then(ask("GET", parent(path)))
    });
    push("update", "in YAML both ways", &|case, path| {
        case.then(raw("PUT", path, YAML, changed.to_string()).header("Accept", YAML))
    });
}

/// The object's path.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(parent, _)| parent)
}

fn patches(sub: &str, push: Push<'_>) {
    let change = match sub {
        "scale" => json!({"spec": {"replicas": 4}}),
        "approval" => {
            json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "r"}]}})
        }
        _ => {
            json!({"metadata": {"labels": {"p": "q"}, "annotations": {"p": "q"}}, "spec": {"paused": true, "replicas": 9}, "status": {"conditions": [{"type": "T", "status": "True", "lastTransitionTime": "2020-01-02T03:04:05Z"}], "phase": "Failed", "replicas": 3}})
        }
    };
    for content_type in [MERGE, STRATEGIC] {
        push("patch", content_type, &|case, path| {
            case.then(raw("PATCH", path, content_type, change.to_string())).then(ask("GET", parent(path)))
        });
        push("patch", &format!("a wrong type, {content_type}"), &|case, path| {
            let body = json!({"spec": "x", "status": "y"});
            case.then(raw("PATCH", path, content_type, body.to_string()))
        });
    }
    push("patch", "JSON patch", &|case, path| {
        let body = json!([{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}]);
        case.then(raw("PATCH", path, PATCH, body.to_string()))
    });
    push("patch", "apply", &|case, path| {
        let mut body = change.clone();
        let (api_version, kind) = if sub == "scale" { ("autoscaling/v1", "Scale") } else { ("v1", "Wrong") };
        body["apiVersion"] = api_version.into();
        body["kind"] = kind.into();
        case.then(raw("PATCH", path, APPLY, body.to_string()).query("fieldManager=me"))
    });
}
