//! Objects as upstream's messages show them: with the internal types' names of fields,
//! all of them, in Go's order (`internal.txt`, written by `cargo xtask facts`).
//!
//! Fields are found in the served object by their names without regard to case; the
//! few that have another name there are listed here.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

/// Fields that are named otherwise in what is served.
const OTHER_NAMES: [(&str, &str); 12] = [
    ("CephMonitors", "monitors"),
    ("RBDImage", "image"),
    ("RBDPool", "pool"),
    ("RadosUser", "user"),
    ("EndpointsName", "endpoints"),
    ("DiscoveryCHAPAuth", "chapAuthDiscovery"),
    ("SessionCHAPAuth", "chapAuthSession"),
    ("DataDiskURI", "diskURI"),
    ("IntValue", "int"),
    ("BoolValue", "bool"),
    ("StringValue", "string"),
    ("VersionValue", "version"),
];
/// Fields of metadata in Go's order.
const METADATA: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];
/// What internally belongs to a pod's security context.
const OF_THE_HOST: [&str; 5] = ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"];
/// Levels of nesting that are shown.
const MAX_DEPTH: usize = 64;

/// A struct's fields: name (none when embedded) and type.
type Fields = Vec<(Box<str>, Box<str>)>;

static TYPES: LazyLock<HashMap<Box<str>, Fields>> = LazyLock::new(|| {
    let mut types: HashMap<Box<str>, Fields> = HashMap::new();
    let mut open: Box<str> = "".into();
    for line in include_str!("internal.txt").lines() {
        match line.split_once(' ') {
            Some(("#", _)) | None => {}
            Some(("=", name)) => open = name.into(),
            Some((field, ty)) => {
                let field = if field == "+" { "" } else { field };
                types.entry(open.clone()).or_default().push((field.into(), ty.into()));
            }
        }
    }
    types
});

/// A value in Go's order.
enum Node {
    Plain(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// The value of a type (`core.PodSpec`) as Go's JSON encoder writes it.
pub fn json(ty: &str, value: &Value) -> String {
    let mut out = String::new();
    write(&node(ty, value, 0), None, &mut out);
    out
}

/// The same over several lines, indented by single spaces.
pub fn pretty(ty: &str, value: &Value) -> String {
    let mut out = String::new();
    write(&node(ty, value, 0), Some(0), &mut out);
    out
}

fn node(ty: &str, value: &Value, depth: usize) -> Node {
    if depth > MAX_DEPTH {
        return Node::Plain("null".into());
    }
    let pointed = ty.strip_prefix('*');
    if let Some(ty) = pointed {
        return if value.is_null() { Node::Plain("null".into()) } else { node(ty, value, depth) };
    }
    if let Some(ty) = ty.strip_prefix("[]") {
        return match value {
            Value::Array(items) => Node::List(items.iter().map(|item| node(ty, item, depth + 1)).collect()),
            _ => Node::Plain("null".into()),
        };
    }
    if let Some(ty) = ty.strip_prefix("{}") {
        return match value {
            Value::Object(entries) => {
                let entry = |(key, value): (&String, &Value)| (key.clone(), node(ty, value, depth + 1));
                Node::Object(entries.iter().map(entry).collect())
            }
            _ => Node::Plain("null".into()),
        };
    }
    let or = |zero: &str| Node::Plain(if value.is_null() { zero.into() } else { value.to_string() });
    match ty {
        "string" => or("\"\""),
        "bool" => or("false"),
        "int" | "intstr" => or("0"),
        "quantity" => or("\"0\""),
        "time" | "raw" => or("null"),
        "selector" => selector(value),
        "meta" => Node::Object(metadata(value)),
        ty => Node::Object(fields(ty, value, depth)),
    }
}

/// A label selector, or null.
fn selector(value: &Value) -> Node {
    if value.is_null() {
        return Node::Plain("null".into());
    }
    let present = |value: &Value, fields: &[&str]| {
        let fields = fields.iter().filter_map(|field| Some((*field, given(value, field)?)));
        fields.map(|(field, value)| (field.to_owned(), loose(value))).collect::<Vec<_>>()
    };
    let mut fields = present(value, &["matchLabels"]);
    let terms = crate::tree::items(value, "matchExpressions").iter();
    let terms: Vec<Node> =
        terms.map(|term| Node::Object(present(term, &["key", "operator", "values"]))).collect();
    if !terms.is_empty() {
        fields.push(("matchExpressions".into(), Node::List(terms)));
    }
    Node::Object(fields)
}

/// A field of a type that is shown by its served names, which leave out what is empty.
fn given<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    crate::tree::get(object, field).filter(|value| !crate::validation::empty_collection(value))
}

fn metadata(meta: &Value) -> Vec<(String, Node)> {
    let present = METADATA.iter().filter_map(|field| Some((*field, given(meta, field)?)));
    present.map(|(field, value)| (field.to_owned(), Node::Plain(value.to_string()))).collect()
}

fn fields(ty: &str, value: &Value, depth: usize) -> Vec<(String, Node)> {
    let mut out = Vec::new();
    for (name, field) in TYPES.get(ty).into_iter().flatten() {
        match (&**name, &**field) {
            ("", "meta") => out.extend(metadata(&value["metadata"])),
            ("", embedded) => out.extend(fields(embedded.trim_start_matches('*'), value, depth)),
            ("SecurityContext", field) if ty == "core.PodSpec" => {
                out.push((name.to_string(), node(field, &with_host(value), depth + 1)));
            }
            (name, field) => out.push((name.to_owned(), node(field, served(value, name), depth + 1))),
        }
    }
    out
}

/// A pod's security context with what internally belongs to it.
fn with_host(spec: &Value) -> Value {
    let mut context = spec.get("securityContext").and_then(Value::as_object).cloned().unwrap_or_default();
    for field in OF_THE_HOST {
        if let Some(value) = spec.get(field) {
            context.insert(field.into(), value.clone());
        }
    }
    if context.is_empty() && spec.get("securityContext").is_none_or(Value::is_null) {
        return Value::Null;
    }
    context.into()
}

/// The served field for an internal one.
fn served<'a>(value: &'a Value, name: &str) -> &'a Value {
    let other = OTHER_NAMES.iter().find(|(internal, _)| *internal == name).map(|(_, served)| *served);
    let find = |object: &'a Map<String, Value>| {
        let mut all = object.iter();
        all.find(|(key, _)| key.eq_ignore_ascii_case(name) || other == Some(key.as_str()))
    };
    value.as_object().and_then(find).map_or(&Value::Null, |(_, value)| value)
}

/// Writes compactly, or from an indentation on.
fn write(node: &Node, indent: Option<usize>, out: &mut String) {
    let line = |out: &mut String, depth: usize| {
        if indent.is_some() {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', depth));
        }
    };
    let depth = indent.unwrap_or(0);
    let inner = indent.map(|depth| depth + 1);
    match node {
        Node::Plain(text) if indent.is_some() && text.starts_with(['{', '[']) && text.len() > 2 => {
            // A value without facts: its own order.
            let value = serde_json::from_str(text).unwrap_or_default();
            write(&loose(&value), indent, out);
        }
        Node::Plain(text) => out.push_str(text),
        Node::List(items) if items.is_empty() => out.push_str("[]"),
        Node::Object(entries) if entries.is_empty() => out.push_str("{}"),
        Node::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                write(item, inner, out);
            }
            line(out, depth);
            out.push(']');
        }
        Node::Object(entries) => {
            out.push('{');
            for (at, (name, value)) in entries.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push_str(if indent.is_some() { ": " } else { ":" });
                write(value, inner, out);
            }
            line(out, depth);
            out.push('}');
        }
    }
}

fn loose(value: &Value) -> Node {
    match value {
        Value::Array(items) => Node::List(items.iter().map(loose).collect()),
        Value::Object(fields) => {
            Node::Object(fields.iter().map(|(name, value)| (name.clone(), loose(value))).collect())
        }
        plain => Node::Plain(plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn structs_have_all_fields_in_gos_order() {
        let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            "selector": {"matchLabels": {"a": "b"}}});
        assert_eq!(
            json("core.PersistentVolumeClaimSpec", &claim),
            "{\"AccessModes\":[\"ReadWriteOnce\"],\"Selector\":{\"matchLabels\":{\"a\":\"b\"}},\"Resources\":{\"Limits\":null,\"Requests\":{\"storage\":\"1Gi\"}},\"VolumeName\":\"\",\"StorageClassName\":null,\"VolumeMode\":null,\"DataSource\":null,\"DataSourceRef\":null,\"VolumeAttributesClassName\":null}"
        );
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"hostNetwork": true}});
        let shown = json("core.PodTemplateSpec", &template);
        assert!(shown.starts_with("{\"labels\":{\"a\":\"b\"},\"Spec\":{\"Volumes\":null,"), "{shown}");
        assert!(shown.contains("\"SecurityContext\":{\"HostNetwork\":true,\"HostPID\":false,"), "{shown}");
        let empty = json!({"metadata": {"labels": {}}, "spec": {"volumes": [], "nodeSelector": {}}});
        let shown = json("core.PodTemplateSpec", &empty);
        assert!(shown.starts_with("{\"Spec\":{\"Volumes\":[],"), "{shown}");
        assert!(shown.contains("\"NodeSelector\":{},"), "{shown}");
        let claim = json!({"selector": {"matchLabels": {}, "matchExpressions": []}});
        assert!(json("core.PersistentVolumeClaimSpec", &claim).contains("\"Selector\":{},"));
        let policy = json!({"rules": [{"succeededCount": 1}]});
        assert_eq!(
            pretty("batch.SuccessPolicy", &policy),
            "{\n \"Rules\": [\n  {\n   \"SucceededIndexes\": null,\n   \"SucceededCount\": 1\n  }\n ]\n}"
        );
    }
}
