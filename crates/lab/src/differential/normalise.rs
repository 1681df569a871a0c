//! Answers without what two servers cannot agree on: uids, revisions, the time of day,
//! generated names, addresses and ports that a server picked, continue tokens.
//!
//! Whatever a request gave stays as it is.

use std::time::{SystemTime, UNIX_EPOCH};

use carrack_api::{proto, schema::Schema, time, yaml};
use serde_json::{Value, json};

use crate::https::Answer;

/// What became of a body.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// One tree.
    Tree(Value),
    /// Not a format that is known.
    Text(String),
}

/// An answer made comparable.
#[derive(Debug, Clone)]
pub struct Normal {
    /// Status code.
    pub code: u16,
    /// Headers that clients act on.
    pub headers: Value,
    /// The body.
    pub body: Body,
    /// managedFields, kept apart.
    pub managed: Vec<Value>,
    /// How the body is laid out: lines and the last one's end.
    pub layout: String,
}

/// Headers that are compared.
const HEADERS: &[&str] = &[
    "content-type",
    "warning",
    "cache-control",
    "retry-after",
    "www-authenticate",
    "location",
    "x-content-type-options",
    "allow",
    "vary",
];

/// Times later than this are of this run.
pub struct Clock(i64);

impl Clock {
    /// A clock of a run that starts now.
    pub fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(now.as_secs() as i64 - 3600)
    }

    fn is_recent(&self, text: &str) -> bool {
        text.len() >= 20 && time::to_unix(text).is_some_and(|(seconds, _)| seconds > self.0)
    }
}

/// Makes an answer comparable.
pub fn normal(answer: &Answer, schema: &Schema, clock: &Clock) -> Normal {
    let content_type = answer.header("content-type").join(", ");
    let mut body = read(&content_type, &answer.body, schema);
    let mut managed = Vec::new();
    match &mut body {
        Body::Tree(tree) => {
            if !tree["openapi"].is_null() || !tree["swagger"].is_null() {
                drop_prose(tree);
            }
            take_managed(tree, &mut managed);
            if let Some(name) = made_up_name(tree) {
                replaced(tree, &name);
            }
            tidy(tree, "", clock);
            ages(tree);
            order_rules(tree);
            order_components(tree);
        }
        Body::Text(text) => *text = said(text, clock),
    }
    managed.iter_mut().for_each(|tree| tidy(tree, "", clock));
    managed.iter_mut().for_each(order_managers);
    let headers = HEADERS
        .iter()
        .map(|name| {
            ((*name).to_owned(), answer.header(name).iter().map(|value| said(value, clock)).collect())
        })
        .filter(|(_, values): &(String, Value)| *values != json!([]))
        .collect();
    Normal { code: answer.code, headers, body, managed, layout: layout(&content_type, &answer.body) }
}

/// `one line` or `indented`, and what the body ends with.
fn layout(content_type: &str, body: &[u8]) -> String {
    if !content_type.starts_with("application/json") || body.is_empty() {
        return String::new();
    }
    let lines = body.iter().filter(|byte| **byte == b'\n').count();
    let shape = if body.starts_with(b"{\n") {
        "indented"
    } else if lines > 1 {
        "lines"
    } else {
        "one line"
    };
    let end = if body.ends_with(b"\n") { "newline" } else { "no newline" };
    format!("{shape}, {end}")
}

fn read(content_type: &str, body: &[u8], schema: &Schema) -> Body {
    let as_text = || Body::Text(String::from_utf8_lossy(body).into_owned());
    if content_type.starts_with("application/json") {
        // A watch is one tree after another.
        let stream = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
        let stream = stream.filter(|event| !event.as_ref().is_ok_and(is_of_time));
        return match stream.collect::<Result<Vec<_>, _>>() {
            Ok(mut trees) if trees.len() == 1 => Body::Tree(trees.remove(0)),
            Ok(trees) => Body::Tree(trees.into()),
            Err(_) => as_text(),
        };
    }
    if content_type.starts_with("application/yaml") {
        return yaml::read(body).map_or_else(|_| as_text(), |document| Body::Tree(document.value));
    }
    if content_type.starts_with("application/vnd.kubernetes.protobuf") {
        return message(body, schema).or_else(|| frames(body, schema)).map_or_else(
            || Body::Text(format!("protobuf that nobody can read: {} bytes", body.len())),
            Body::Tree,
        );
    }
    as_text()
}

fn message(body: &[u8], schema: &Schema) -> Option<Value> {
    let envelope = proto::open(body).ok()?;
    let types = |root: &carrack_api::schema::Object| {
        let (group, version) = carrack_api::kind::group_version(envelope.api_version);
        let of_kind = root
            .group_version_kinds
            .iter()
            .any(|(g, v, k)| **g == *group && **v == *version && **k == *envelope.kind);
        of_kind || root.name.ends_with(&format!("meta.v1.{}", envelope.kind))
    };
    // Metadata alone is in no table; it is what any object begins with.
    let root = match envelope.kind {
        "PartialObjectMetadata" => schema.find("io.k8s.api.core.v1.Namespace")?,
        "PartialObjectMetadataList" => schema.find("io.k8s.api.core.v1.NamespaceList")?,
        _ => schema.objects().find(|(_, object)| types(object))?.0,
    };
    let mut tree = proto::decode(schema, root, envelope.raw).ok()?;
    tree["apiVersion"] = envelope.api_version.into();
    tree["kind"] = envelope.kind.into();
    Some(tree)
}

/// Whether an event only says how far a watch has come: those are sent as time passes, and
/// how many come within a second is chance. (The one that ends the initial events is not.)
fn is_of_time(event: &Value) -> bool {
    event["type"] == "BOOKMARK" && event["object"]["metadata"]["annotations"].is_null()
}

/// The frames of a watch.
fn frames(body: &[u8], schema: &Schema) -> Option<Value> {
    let mut rest = body;
    let mut events = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let frame = rest.get(4..4 + length)?;
        rest = &rest[4 + length..];
        let root = schema.find("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent")?;
        let event = proto::decode(schema, root, frame);
        // The object inside is an envelope again, which the table cannot say.
        let start = frame.windows(4).position(|window| window == proto::MAGIC)?;
        let kind = event.ok().and_then(|event| event["type"].as_str().map(str::to_owned));
        events.push(json!({"type": kind, "object": message(&frame[start..], schema)}));
    }
    Some(events.into())
}

/// Takes descriptions out of schemas: upstream's are prose of its own for people, a wanted
/// difference in as many places as there are fields. Sets are put in order.
fn drop_prose(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "description" || !value.is_string());
            if let Some(Value::Array(required)) = fields.get_mut("required") {
                required.sort_by_key(Value::to_string);
            }
            fields.values_mut().for_each(drop_prose);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_prose),
        _ => {}
    }
}

/// Puts the rules of a SelfSubjectRulesReview in order: upstream walks a hash map of
/// bindings, and tells them in another order each time.
fn order_rules(tree: &mut Value) {
    if tree["kind"] != "SelfSubjectRulesReview" {
        return;
    }
    for list in ["resourceRules", "nonResourceRules"] {
        if let Some(rules) = tree["status"].get_mut(list).and_then(Value::as_array_mut) {
            rules.sort_by_key(Value::to_string);
        }
    }
}

/// Puts the components of the control plane in order: upstream asks them all at once, and
/// tells them as they answer.
fn order_components(tree: &mut Value) {
    const COMPONENTS: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];
    for list in ["items", "rows"] {
        let Some(items) = tree.get_mut(list).and_then(Value::as_array_mut) else { continue };
        let name = |item: &Value| {
            let meta = item.pointer("/object/metadata").or(item.get("metadata"));
            meta.and_then(|meta| meta["name"].as_str()).unwrap_or_default().to_owned()
        };
        let mut names: Vec<String> = items.iter().map(name).collect();
        names.sort();
        if names == COMPONENTS {
            items.sort_by_cached_key(name);
        }
    }
}

fn take_managed(tree: &mut Value, found: &mut Vec<Value>) {
    match tree {
        Value::Object(fields) => {
            if let Some(managed) = fields.remove("managedFields") {
                found.push(managed);
            }
            fields.values_mut().for_each(|value| take_managed(value, found));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| take_managed(item, found)),
        _ => {}
    }
}

/// Puts the managers of this run in order: they stand by the second in which they wrote,
/// and two servers do not reach the same second at once.
fn order_managers(managed: &mut Value) {
    let Some(entries) = managed.as_array_mut() else { return };
    let name = |entry: &Value| ["manager", "operation", "subresource"].map(|field| entry[field].to_string());
    let of_run = |entry: &Value| entry["time"] == "TIME";
    entries.chunk_by_mut(|a, b| of_run(a) && of_run(b)).for_each(|run| run.sort_by_key(name));
}

/// Whether a server made the name up: what was given, maybe cut, and five letters.
fn is_generated(name: &str, from: &str) -> bool {
    let head = name.len().checked_sub(5).and_then(|end| name.get(..end));
    !from.is_empty()
        && (name.starts_with(from) || head.is_some_and(|head| !head.is_empty() && from.starts_with(head)))
}

/// The letters of names that servers make up.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The name that a server made up for an object, or for one which it then refused, as the
/// refusal says.
fn made_up_name(tree: &Value) -> Option<String> {
    let meta = |field: &str| tree["metadata"][field].as_str().unwrap_or_default();
    if is_generated(meta("name"), meta("generateName")) {
        return Some(meta("name").to_owned());
    }
    let causes = tree["details"]["causes"].as_array()?;
    let name = tree["details"]["name"].as_str().filter(|name| name.len() > 5)?;
    // Some kinds look at the outcome only, which ends in letters that make no words.
    let made_up = name.bytes().rev().take(5).all(|letter| LETTERS.contains(&letter));
    let about = |cause: &Value| match cause["field"].as_str() {
        Some("metadata.generateName") => true,
        Some("metadata.name") => made_up,
        _ => false,
    };
    causes.iter().any(about).then(|| name.to_owned())
}

fn replaced(tree: &mut Value, name: &str) {
    match tree {
        Value::Object(fields) => fields.values_mut().for_each(|value| replaced(value, name)),
        Value::Array(items) => items.iter_mut().for_each(|item| replaced(item, name)),
        Value::String(text) => *text = text.replace(name, "NAME…"),
        _ => {}
    }
}

fn tidy(tree: &mut Value, field: &str, clock: &Clock) {
    match tree {
        Value::Object(fields) => {
            let generated = fields.get("generateName").and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(Value::String(name)) = fields.get_mut("name")
                && is_generated(name, &generated)
            {
                *name = format!("{generated}…");
            }
            for (name, value) in fields.iter_mut() {
                tidy(value, name, clock);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| tidy(item, field, clock)),
        Value::String(text) => {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            *text = match field {
                "resourceVersion" if digits => "REVISION".into(),
                "continue" if !text.is_empty() => "TOKEN".into(),
                "clusterIP" | "clusterIPs" if text.starts_with("10.96.") => "ADDRESS".into(),
                "serverAddress" | "kubernetes.io/peer-advertise-address" => "ADDRESS".into(),
                "token" if text.len() > 100 => "TOKEN".into(),
                // What the server writes itself is called after its program.
                "manager" if matches!(&**text, "carrack" | "kube-apiserver") => "SERVER".into(),
                _ => said(text, clock),
            };
        }
        Value::Number(number)
            if matches!(field, "nodePort" | "healthCheckNodePort")
                && number.as_i64().is_some_and(|port| (30_000..33_000).contains(&port)) =>
        {
            *tree = "PORT".into();
        }
        _ => {}
    }
}

/// A cell without addresses and ports that a server picked.
fn picked(cell: &str) -> String {
    if cell.starts_with("10.96.") {
        return "ADDRESS".into();
    }
    let ports = cell.split(',').map(|port| match port.split_once(':') {
        Some((own, rest)) if rest.starts_with('3') && rest.contains('/') => {
            format!("{own}:PORT{}", &rest[rest.find('/').unwrap_or(0)..])
        }
        _ => port.to_owned(),
    });
    ports.collect::<Vec<_>>().join(",")
}

/// Ages in the cells of tables, and what a server picked.
fn ages(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            if let Some(Value::Array(cells)) = fields.get_mut("cells") {
                for cell in cells {
                    let age = cell.as_str().is_some_and(|text| {
                        text.len() < 6
                            && text.ends_with('s')
                            && text.starts_with(|c: char| c.is_ascii_digit())
                    });
                    if age {
                        *cell = "AGE".into();
                    } else if let Some(text) = cell.as_str() {
                        *cell = picked(text).into();
                    }
                }
            }
            fields.values_mut().for_each(ages);
        }
        Value::Array(items) => items.iter_mut().for_each(ages),
        _ => {}
    }
}

/// A text without uids, recent times and revisions.
fn said(text: &str, clock: &Clock) -> String {
    if clock.is_recent(text) {
        return "TIME".into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = uid(rest) {
            out.push_str("UID");
            rest = after;
        } else if let Some(end) = stamp(rest, clock) {
            out.push_str("TIME");
            rest = &rest[end..];
        } else if let Some(after) = rest.strip_prefix(FINGERPRINT) {
            out.push_str(FINGERPRINT);
            rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        } else if let Some(after) = rest.strip_prefix(HASH) {
            out.push_str(HASH);
            rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        } else if let Some(after) = rest.strip_prefix(NODE_PORT) {
            let port = after.get(..5).and_then(|port| port.parse().ok());
            let own = port.is_some_and(|port: i64| (30_000..33_000).contains(&port));
            out.push_str(NODE_PORT);
            out.push_str(if own { "PORT" } else { "" });
            rest = if own { &after[5..] } else { after };
        } else if let Some(manager) =
            [OWN_MANAGER, THEIR_MANAGER].into_iter().find(|own| rest.starts_with(own))
        {
            out.push_str(MANAGER);
            rest = &rest[manager.len()..];
        } else if let Some(after) = rest.strip_prefix(ADDRESSES) {
            out.push_str("ADDRESS");
            rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        } else if let Some(after) = rest.strip_prefix(VOLUME) {
            out.push_str(VOLUME);
            out.push('…');
            rest = after.get(5..).unwrap_or_default();
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    revisions(&out)
}

/// What comes before the digest of the client's certificate.
const FINGERPRINT: &str = "X509SHA256=";
/// What comes before the digest of a document of OpenAPI.
const HASH: &str = "?hash=";
/// What comes before a port of the nodes in an object that an error shows (`nodePort`,
/// `healthCheckNodePort`).
const NODE_PORT: &str = "odePort\\\":";
/// The server as the manager of an object that an error shows, and what is compared.
const OWN_MANAGER: &str = "\"manager\\\":\\\"carrack\\\"";
const THEIR_MANAGER: &str = "\"manager\\\":\\\"kube-apiserver\\\"";
const MANAGER: &str = "\"manager\\\":\\\"SERVER\\\"";
/// How the addresses begin that a server gives to services.
const ADDRESSES: &str = "10.96.";
/// What the volumes of tokens are called, before a generated ending.
const VOLUME: &str = "kube-api-access-";

/// What follows a uid that the text starts with; those that cases give are kept.
fn uid(text: &str) -> Option<&str> {
    let head = text.get(..36)?;
    let fits = head.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    (fits && !head.starts_with("11111111")).then(|| &text[36..])
}

/// The end of a recent time that the text starts with.
fn stamp(text: &str, clock: &Clock) -> Option<usize> {
    if !text.starts_with("20") {
        return None;
    }
    let end = text.bytes().position(|byte| byte == b'Z')? + 1;
    (end <= 30 && clock.is_recent(&text[..end])).then_some(end)
}

/// What announces a revision.
const MARKS: [&str; 7] = [
    "resource version: ",
    "resource version: REVISION (",
    "resourceVersion\":\"",
    // JSON that a message quotes.
    "resourceVersion\\\":\\\"",
    "current: ",
    "does not match the ResourceVersion in record (",
    "ResourceVersion in object meta: ",
];

/// Numbers after words that announce a revision.
fn revisions(text: &str) -> String {
    let mut out = text.to_owned();
    for mark in MARKS {
        let Some(at) = out.find(mark).map(|at| at + mark.len()) else { continue };
        let digits = out[at..].bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            out.replace_range(at..at + digits, "REVISION");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_have_one_name_as_managers() {
        let shown =
            |name: &str| format!(r#"Invalid value: "{{\"managedFields\":[{{\"manager\":\"{name}\"}}]}}""#);
        let clock = Clock::now();
        assert_eq!(said(&shown("carrack"), &clock), shown("SERVER"));
        assert_eq!(said(&shown("kube-apiserver"), &clock), shown("SERVER"));
        assert_eq!(said(&shown("carrack-2"), &clock), shown("carrack-2"));
    }

    #[test]
    fn managers_of_this_run_stand_in_one_order() {
        let entry =
            |manager: &str, time: &str| json!({"manager": manager, "operation": "Update", "time": time});
        let mut managed = json!([entry("old", "2020"), entry("lab", "TIME"), entry("SERVER", "TIME")]);
        order_managers(&mut managed);
        assert_eq!(managed, json!([entry("old", "2020"), entry("SERVER", "TIME"), entry("lab", "TIME")]));
    }
}
