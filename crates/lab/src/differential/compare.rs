//! What differs between two answers, each difference named by its mechanism so that many
//! cases of one cause fall into one cluster.

use serde_json::Value;

use super::normalise::{Body, Normal};

/// One difference.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Which part of the answer: `code`, `cause missing`, `object`, ….
    pub class: &'static str,
    /// What it is about, without names and values: a message's template or a field.
    pub about: String,
    /// The field, where there is one.
    pub path: String,
    /// What Carrack says.
    pub ours: String,
    /// What upstream says.
    pub theirs: String,
}

/// Where to stop in a tree that is another one altogether.
const MOST: usize = 100;

/// Compares two answers; in order of weight.
pub fn compare(ours: &Normal, theirs: &Normal) -> Vec<Difference> {
    let mut found = Vec::new();
    let (ours_status, theirs_status) = (status(ours), status(theirs));
    if ours.code != theirs.code {
        codes(ours, theirs, &mut found);
        return found;
    }
    match (ours_status, theirs_status) {
        (Some(ours), Some(theirs)) => statuses(ours, theirs, &mut found),
        _ => bodies(&ours.body, &theirs.body, &mut found),
    }
    headers(&ours.headers, &theirs.headers, &mut found);
    if ours.layout != theirs.layout {
        let about = format!("{} instead of {}", ours.layout, theirs.layout);
        found.push(difference("layout", &about, "", &ours.layout, &theirs.layout));
    }
    if ours.managed != theirs.managed {
        let show = |managed: &[Value]| serde_json::to_string(managed).unwrap_or_default();
        let mut inner = Vec::new();
        trees("", &ours.managed.clone().into(), &theirs.managed.clone().into(), &mut inner);
        let first = inner.first().map(|difference| difference.about.clone()).unwrap_or_default();
        found.push(difference("managedFields", &first, "", &show(&ours.managed), &show(&theirs.managed)));
    }
    found
}

fn difference(class: &'static str, about: &str, path: &str, ours: &str, theirs: &str) -> Difference {
    Difference { class, about: about.into(), path: path.into(), ours: ours.into(), theirs: theirs.into() }
}

/// The Status of a refusal.
fn status(answer: &Normal) -> Option<&Value> {
    match &answer.body {
        Body::Tree(tree) if tree["kind"] == "Status" && answer.code >= 400 => Some(tree),
        _ => None,
    }
}

fn message(answer: &Normal) -> String {
    match &answer.body {
        Body::Tree(tree) => match tree["message"].as_str() {
            Some(message) if answer.code >= 400 => message.to_owned(),
            _ => tree.to_string(),
        },
        Body::Text(text) => text.clone(),
    }
}

fn causes(status: &Value) -> Vec<(String, String, String)> {
    let text = |cause: &Value, field: &str| cause[field].as_str().unwrap_or_default().to_owned();
    let list = status["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|cause| (text(cause, "reason"), text(cause, "field"), text(cause, "message"))).collect()
}

fn codes(ours: &Normal, theirs: &Normal, found: &mut Vec<Difference>) {
    let show = |answer: &Normal| format!("{} {}", answer.code, message(answer));
    if theirs.code == 0 {
        found.push(difference("no answer", "there is none", "", &show(ours), &show(theirs)));
        return;
    }
    let (class, refused) = match (ours.code < 400, theirs.code < 400) {
        (true, false) => ("accepted, refused there", Some(theirs)),
        (false, true) => ("refused, accepted there", Some(ours)),
        _ => ("code", None),
    };
    let Some(refused) = refused else {
        let about = format!("{} instead of {}: {}", ours.code, theirs.code, template(&message(theirs)));
        found.push(difference(class, &about, "", &show(ours), &show(theirs)));
        return;
    };
    let causes = status(refused).map(causes).unwrap_or_default();
    if causes.is_empty() {
        found.push(difference(class, &template(&message(refused)), "", &show(ours), &show(theirs)));
    }
    for (_, field, text) in causes.iter().take(3) {
        found.push(difference(class, &template(text), &spread(field), &show(ours), &show(theirs)));
    }
}

fn statuses(ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    let (mut our_causes, mut their_causes) = (causes(ours), causes(theirs));
    let (our_text, their_text) = (ours["message"].to_string(), theirs["message"].to_string());
    if our_causes != their_causes {
        let before = found.len();
        for (reason, field, text) in their_causes.iter().filter(|cause| !our_causes.contains(cause)) {
            let about = format!("{reason}: {}", template(text));
            found.push(difference("cause missing", &about, &spread(field), &our_text, &their_text));
        }
        for (reason, field, text) in our_causes.iter().filter(|cause| !their_causes.contains(cause)) {
            let about = format!("{reason}: {}", template(text));
            found.push(difference("cause too many", &about, &spread(field), &our_text, &their_text));
        }
        if found.len() == before {
            sort_of_maps(&mut our_causes);
            sort_of_maps(&mut their_causes);
            if our_causes == their_causes {
                return;
            }
            our_causes.sort();
            their_causes.sort();
            let class = if our_causes == their_causes { "order of causes" } else { "repeated causes" };
            let field = theirs["details"]["causes"][0]["field"].as_str().unwrap_or_default();
            found.push(difference(class, &tail(&spread(field)), &spread(field), &our_text, &their_text));
        }
        return;
    }
    if our_text != their_text {
        let about = format!("{} instead of {}", template(&our_text), template(&their_text));
        found.push(difference("message", &about, "", &our_text, &their_text));
    }
    let mut inner = Vec::new();
    trees("", ours, theirs, &mut inner);
    for found_inside in inner.into_iter().filter(|difference| difference.path != "message") {
        found.push(Difference { class: "status", ..found_inside });
    }
}

/// Puts neighbours about the same map in one order: Go walks a map in any.
fn sort_of_maps(causes: &mut [(String, String, String)]) {
    let of_map =
        |field: &str| ["labels", "annotations", "matchLabels"].iter().any(|map| field.ends_with(map));
    causes.chunk_by_mut(|a, b| a.1 == b.1 && of_map(&a.1)).for_each(|run| run.sort());
}

fn headers(ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    let names = ours.as_object().into_iter().chain(theirs.as_object()).flat_map(|fields| fields.keys());
    let names: std::collections::BTreeSet<&String> = names.collect();
    for name in names {
        let (ours, theirs) = (&ours[name], &theirs[name]);
        if ours == theirs {
            continue;
        }
        if name == "warning" {
            warnings(ours, theirs, found);
        } else {
            let about = format!("{name}: {ours} instead of {theirs}");
            found.push(difference("header", &about, "", &ours.to_string(), &theirs.to_string()));
        }
    }
}

/// Each warning that only one of the two gives; else their order.
fn warnings(ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (our_list, their_list) = (list(ours), list(theirs));
    let before = found.len();
    let only = |some: &[Value], others: &[Value], what: &str, found: &mut Vec<Difference>| {
        for warning in some.iter().filter(|warning| !others.contains(warning)) {
            let text = warning.as_str().unwrap_or_default();
            // The warning stands in quotes, and so do values in it.
            let text = text.strip_prefix("299 - \"").and_then(|text| text.strip_suffix('"')).unwrap_or(text);
            let about = format!("{what}: {}", template(&text.replace("\\\"", "\"")));
            found.push(difference("warning", &about, "", &ours.to_string(), &theirs.to_string()));
        }
    };
    only(&their_list, &our_list, "missing", found);
    only(&our_list, &their_list, "too many", found);
    if found.len() == before {
        found.push(difference("warning", "order", "", &ours.to_string(), &theirs.to_string()));
    }
}

/// Whether upstream broke down over a request, and left the client without an answer,
/// which Carrack refuses in good order: there is nothing to compare.
pub fn broke_down(ours: &Normal, theirs: &Normal) -> bool {
    (400..500).contains(&ours.code) && theirs.code == 0 && message(theirs).contains(super::send::NO_ANSWER)
}

fn bodies(ours: &Body, theirs: &Body, found: &mut Vec<Difference>) {
    match (ours, theirs) {
        (Body::Tree(ours), Body::Tree(theirs)) => trees("", ours, theirs, found),
        (Body::Text(ours), Body::Text(theirs)) if ours == theirs => {}
        (Body::Text(ours), Body::Text(theirs)) => {
            found.push(difference("text", &template(theirs), "", ours, theirs));
        }
        (ours, theirs) => {
            found.push(difference(
                "format",
                "another format",
                "",
                &format!("{ours:?}"),
                &format!("{theirs:?}"),
            ));
        }
    }
}

fn trees(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    if ours == theirs || found.len() >= MOST {
        return;
    }
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match (a.get(name), b.get(name)) {
                    (Some(ours), Some(theirs)) => trees(&path, ours, theirs, found),
                    (ours, theirs) => leaf(&path, ours, theirs, found),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (ours, theirs)) in a.iter().zip(b).enumerate() {
                trees(&format!("{path}[{at}]"), ours, theirs, found);
            }
        }
        _ => leaf(path, Some(ours), Some(theirs), found),
    }
}

fn leaf(path: &str, ours: Option<&Value>, theirs: Option<&Value>, found: &mut Vec<Difference>) {
    let show = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    let path = spread(path);
    let what = match (ours, theirs) {
        (None, _) => "is missing",
        (_, None) => "is too much",
        (Some(Value::Array(_)), Some(Value::Array(_))) => "has another length",
        _ => "differs",
    };
    let about = format!("{} {what}", tail(&path));
    found.push(Difference { class: "object", about, path, ours: show(ours), theirs: show(theirs) });
}

/// A path whose indexes and keys are all the same.
fn spread(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for character in path.chars() {
        match character {
            '[' => {
                inside = true;
                out.push_str("[*]");
            }
            ']' => inside = false,
            _ if inside => {}
            other => out.push(other),
        }
    }
    out
}

/// The last two names of a path.
fn tail(path: &str) -> String {
    let names: Vec<&str> = path.split('.').collect();
    names[names.len().saturating_sub(2)..].join(".")
}

impl Difference {
    /// Takes the names of what the case is about out of the mechanism.
    pub fn spread_names(&mut self, names: &[(String, &str)]) {
        for (name, place) in names {
            self.about = replaced(&self.about, name, place);
        }
    }
}

/// Replaces a word, not parts of longer ones.
fn replaced(text: &str, name: &str, place: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric();
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        out.push_str(before);
        out.push_str(if whole { place } else { name });
        rest = after;
    }
    out + rest
}

/// A message without names, values and numbers.
pub fn template(message: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut escaped = false;
    for character in message.trim_matches('"').replace("\\\"", "\"").chars() {
        if let Some(end) = quote {
            if !escaped && character == end {
                quote = None;
                out.push_str("…\"");
            }
            escaped = !escaped && character == '\\';
        } else if character == '"' || character == '`' {
            quote = Some(character);
            out.push('"');
        } else if character.is_ascii_digit() {
            if !out.ends_with('#') {
                out.push('#');
            }
        } else {
            out.push(character);
        }
    }
    match out.char_indices().nth(240) {
        Some((at, _)) => format!("{}…", &out[..at]),
        None => out,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn warnings_are_told_by_their_text() {
        let check = |ours: Value, theirs: Value, expect: &[&str]| {
            let mut found = Vec::new();
            warnings(&ours, &theirs, &mut found);
            let abouts: Vec<&str> = found.iter().map(|difference| &*difference.about).collect();
            assert_eq!(abouts, expect);
        };
        let (one, other) =
            ("299 - \"stored and not evaluated\"", "299 - \"field \\\"spec.x\\\" is unknown\"");
        check(json!([one]), Value::Null, &["too many: stored and not evaluated"]);
        check(json!([]), json!([other]), &["missing: field \"…\" is unknown"]);
        check(json!([one, other]), json!([other, one]), &["order"]);
    }

    #[test]
    fn only_refusals_stand_for_no_answer() {
        let answer = |code: u16, text: &str| Normal {
            code,
            headers: json!({}),
            body: Body::Text(text.to_owned()),
            managed: Vec::new(),
            layout: String::new(),
        };
        let none = answer(0, "no answer: the answer ends too early");
        assert!(broke_down(&answer(422, ""), &none));
        assert!(!broke_down(&answer(201, ""), &none) && !broke_down(&answer(500, ""), &none));
        assert!(!broke_down(&none, &answer(422, "")) && !broke_down(&none, &none));
    }
}
