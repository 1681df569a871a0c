//! What a client accepts: the Accept header against what can be made, as upstream weighs
//! it: first whether the route has the type at all, then which clause fits best.
//!
//! One deliberate difference: a client that takes JSON and protobuf alike gets JSON, which
//! costs nothing to make.

use carrack_api::status::Status;
use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};

use crate::request::Query;

/// How an answer is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What of an object is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// All of it.
    Object,
    /// Columns.
    Table,
    /// Its metadata.
    Metadata,
    /// The metadata of each item of a list.
    MetadataList,
}

/// What a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) encoding: Encoding,
    pub(crate) form: Form,
    /// Tables and metadata in `meta.k8s.io/v1beta1`.
    pub(crate) beta: bool,
    /// Indented, for people.
    pub(crate) pretty: bool,
}

/// What a route can answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// An object.
    One,
    /// A list or a watch.
    Many,
}

/// The types that every route has, in the order of preference.
const TYPES: [(&str, Encoding); 3] = [
    ("application/json", Encoding::Json),
    ("application/yaml", Encoding::Yaml),
    ("application/vnd.kubernetes.protobuf", Encoding::Protobuf),
];
/// What lists and watches have besides.
const STREAMS: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// One media range of the header.
struct Clause<'a> {
    range: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Accept {
    /// Plain JSON.
    pub(crate) const JSON: Self =
        Self { encoding: Encoding::Json, form: Form::Object, beta: false, pretty: false };

    /// Reads the Accept header, and whether the answer is for a person.
    ///
    /// # Errors
    /// 406 when nothing that it names can be made.
    pub(crate) fn read(headers: &HeaderMap, query: &Query, route: Route) -> Result<Self, Status> {
        let text = header(headers);
        let mut accept = Self::JSON;
        if !matches!(text, "" | "application/json" | "*/*") {
            if !is_routed(text) {
                let mut types: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
                if route == Route::Many {
                    types.extend(STREAMS);
                }
                let list = types.join(", ");
                let message = format!("406: Not Acceptable\n\nAvailable representations: {list}");
                return Err(Status::of_route(406, "NotAcceptable", message));
            }
            accept = Self::best(text, true).ok_or_else(unmet)?;
        }
        accept.pretty |= is_for_people(headers, query);
        Ok(accept)
    }

    /// As [`Accept::read`], for a path that has no route of its own and so only weighs.
    ///
    /// # Errors
    /// 406 when nothing that it names can be made.
    pub(crate) fn weighed(headers: &HeaderMap, query: &Query) -> Result<Self, Status> {
        let mut accept = match header(headers) {
            "" | "application/json" | "*/*" => Self::JSON,
            text => Self::best(text, false).ok_or_else(unmet)?,
        };
        accept.pretty |= is_for_people(headers, query);
        Ok(accept)
    }

    /// Refuses other forms than the object itself.
    ///
    /// # Errors
    /// 406 when another one is asked for.
    pub(crate) fn whole(self) -> Result<Self, Status> {
        if self.form == Form::Object { Ok(self) } else { Err(unmet()) }
    }

    /// 406 for a table: what only acts and is never stored has no columns.
    pub(crate) fn no_table(self) -> Result<Self, Status> {
        if self.form == Form::Table { Err(unmet()) } else { Ok(self) }
    }

    /// 406: no watch is told in this way.
    pub(crate) fn no_stream() -> Status {
        let types = STREAMS.join(", ");
        Status::not_acceptable(format!("only the following media types are accepted: {types}"))
    }

    /// How to tell a failure; `None` when the header asks for what no failure can be.
    pub(crate) fn of_failure(headers: &HeaderMap, query: &Query) -> Option<Self> {
        let mut accept = match header(headers) {
            "" | "application/json" | "*/*" => Self::JSON,
            text => Self::best(text, false)?,
        };
        accept.pretty |= is_for_people(headers, query);
        Some(accept)
    }

    /// Whether it is JSON of whole objects, as records are kept.
    pub(crate) fn is_plain(self) -> bool {
        self == Self::JSON
    }

    /// Group and version of tables and metadata.
    pub(crate) fn meta_version(self) -> &'static str {
        if self.beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
    }

    /// The best clause that can be met.
    fn best(text: &str, transforms: bool) -> Option<Self> {
        let clauses = sorted(text);
        let mut first: Option<(Self, f32)> = None;
        for clause in &clauses {
            let fits = |(name, encoding): (&str, Encoding)| {
                let kind = clause.range == "*/*"
                    || clause.range == name
                    || (clause.range == "application/*" && name.starts_with("application/"));
                if kind { clause.met(encoding, transforms) } else { None }
            };
            let Some(met) = TYPES.into_iter().find_map(fits) else { continue };
            match first {
                None if met.encoding != Encoding::Protobuf => return Some(met),
                None => first = Some((met, clause.quality)),
                // Protobuf was asked for first; JSON does as well, and is there already.
                Some((protobuf, quality))
                    if met.encoding == Encoding::Json
                        && met.form == protobuf.form
                        && quality == clause.quality =>
                {
                    return Some(met);
                }
                Some(_) => {}
            }
        }
        first.map(|(accept, _)| accept)
    }
}

impl Clause<'_> {
    /// What is made of the clause in an encoding; `None` when it asks for more.
    fn met(&self, encoding: Encoding, transforms: bool) -> Option<Accept> {
        let (mut kind, mut version, mut group) = (None, None, None);
        let mut accept = Accept { encoding, ..Accept::JSON };
        for (name, value) in &self.parameters {
            match *name {
                "as" => kind = Some(*value),
                "v" => version = Some(*value),
                "g" => group = Some(*value),
                "stream" if !value.is_empty() && (*value != "watch" || encoding == Encoding::Yaml) => {
                    return None;
                }
                "sv" if !value.is_empty() => return None,
                "pretty" => accept.pretty = *value == "1",
                _ => {}
            }
        }
        if kind.is_none() && version.is_none() && group.is_none() {
            return Some(accept);
        }
        if !transforms || group != Some("meta.k8s.io") {
            return None;
        }
        accept.beta = match version {
            Some("v1") => false,
            Some("v1beta1") => true,
            _ => return None,
        };
        accept.form = match kind {
            Some("Table") if encoding != Encoding::Protobuf => Form::Table,
            Some("PartialObjectMetadata") => Form::Metadata,
            Some("PartialObjectMetadataList") => Form::MetadataList,
            _ => return None,
        };
        Some(accept)
    }
}

/// How a page about the server itself is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// For people.
    Text,
    /// As an object of `config.k8s.io`.
    Object { encoding: Encoding, version: &'static str },
}

/// What a client accepts of a page that is text, or an object of a kind for those who name
/// the kind.
///
/// # Errors
/// 406 when it accepts neither.
pub(crate) fn page(headers: &HeaderMap, kind: &str) -> Result<Page, Status> {
    let text = header(headers);
    if text.is_empty() {
        return Ok(Page::Text);
    }
    let object = |clause: &Clause<'_>, encoding: Encoding| {
        let value =
            |wanted: &str| clause.parameters.iter().find(|(name, _)| *name == wanted).map(|(_, v)| *v);
        let version = ["v1alpha1", "v1beta1"].into_iter().find(|known| value("v") == Some(*known))?;
        let named = value("as") == Some(kind) && value("g") == Some("config.k8s.io");
        named.then_some(Page::Object { encoding, version })
    };
    let met = sorted(text).into_iter().find_map(|clause| {
        let fits = |name: &str| {
            let (head, _) = name.split_once('/').unwrap_or_default();
            clause.range == "*/*" || clause.range == name || clause.range.strip_suffix("/*") == Some(head)
        };
        let transforms = clause.parameters.iter().any(|(name, _)| matches!(*name, "as" | "v" | "g"));
        let objects =
            TYPES.into_iter().filter(|(name, encoding)| *encoding != Encoding::Protobuf && fits(name));
        let as_object = objects.filter_map(|(_, encoding)| object(&clause, encoding)).next();
        as_object.or_else(|| (fits("text/plain") && !transforms).then_some(Page::Text))
    });
    met.ok_or_else(|| {
        let types = "application/json, application/yaml, text/plain";
        Status::not_acceptable(format!("only the following media types are accepted: {types}"))
    })
}

/// Refuses a client that does not take the only type that a route has.
///
/// # Errors
/// 406.
pub(crate) fn only(headers: &HeaderMap, name: &str) -> Result<(), Status> {
    let text = header(headers);
    let fits = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        range == "*/*" || range == name
    };
    if text.is_empty() || text.split(',').any(fits) {
        return Ok(());
    }
    let message = format!("406: Not Acceptable\n\nAvailable representations: {name}");
    Err(Status::of_route(406, "NotAcceptable", message))
}

fn unmet() -> Status {
    let types = TYPES.map(|(name, _)| name).join(", ");
    Status::not_acceptable(format!("only the following media types are accepted: {types}"))
}

fn header(headers: &HeaderMap) -> &str {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default().trim()
}

/// Whether a route has any of the types, whatever their parameters say.
fn is_routed(text: &str) -> bool {
    text.split(',').any(|range| {
        let range = range.split(';').next().unwrap_or_default().trim();
        range == "*/*" || TYPES.iter().any(|(name, _)| *name == range)
    })
}

/// The clauses of the header, the most wanted first.
fn sorted(text: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = text.split(',').filter_map(clause).collect();
    let wild = |clause: &Clause<'_>| clause.range.matches('*').count();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(wild(a).cmp(&wild(b))));
    clauses
}

fn clause(text: &str) -> Option<Clause<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let range = match parts.next().unwrap_or_default() {
        "*" => "*/*",
        range if range.contains('/') => range,
        _ => return None,
    };
    let mut quality = 1.0;
    let mut parameters = Vec::new();
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match (name.trim(), value.trim().trim_matches('"')) {
            ("q", value) => quality = value.parse().unwrap_or(1.0),
            pair => parameters.push(pair),
        }
    }
    Some(Clause { range, quality, parameters })
}

/// Whether `pretty` or the client's name says that a person reads the answer.
fn is_for_people(headers: &HeaderMap, query: &Query) -> bool {
    match query.text("pretty") {
        "" => {
            let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|name| agent.starts_with(name))
        }
        value => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
    }
}

/// JSON with a field a line, two spaces a level.
pub(crate) fn indented(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = 0;
    let (mut quoted, mut escaped) = (false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * depth));
    };
    let mut bytes = json.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if quoted {
            out.push(byte);
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => {
                quoted = true;
                out.push(byte);
            }
            b'{' | b'[' => {
                out.push(byte);
                while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
                if matches!(bytes.peek(), Some(b'}' | b']')) {
                    out.extend(bytes.next());
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            byte if byte.is_ascii_whitespace() => {}
            byte => out.push(byte),
        }
    }
    out
}

/// Whether upstream's router itself refuses a request, before whoever would warn of anything.
pub(crate) fn is_unrouted(status: &Status) -> bool {
    ["406: ", "415: "].iter().any(|start| status.message.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_text_unless_their_kind_is_named() {
        let check = |text: &str, expect: Option<Page>| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, text.parse().unwrap());
            assert_eq!(page(&headers, "Flagz").ok(), expect, "{text}");
        };
        let object = |encoding, version| Some(Page::Object { encoding, version });
        check("", Some(Page::Text));
        check("text/plain", Some(Page::Text));
        check("*/*", Some(Page::Text));
        check("application/json", None);
        check("application/json, text/*;q=0.5", Some(Page::Text));
        check("application/json;as=Flagz;v=v1beta1;g=config.k8s.io", object(Encoding::Json, "v1beta1"));
        check("application/yaml;as=Flagz;v=v1alpha1;g=config.k8s.io", object(Encoding::Yaml, "v1alpha1"));
        check("application/json;as=Statusz;v=v1beta1;g=config.k8s.io", None);
        check("text/plain;as=Flagz;v=v1beta1;g=config.k8s.io", None);
        check("application/vnd.kubernetes.protobuf", None);
    }

    fn accept(text: &str) -> Result<Accept, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, text.parse().unwrap());
        Accept::read(&headers, &Query::default(), Route::One)
    }

    #[test]
    fn reads_what_clients_accept() {
        use Encoding::{Json, Protobuf, Yaml};
        let check = |text: &str, expect: Option<(Encoding, Form, bool)>| {
            let seen = accept(text).ok().map(|accept| (accept.encoding, accept.form, accept.beta));
            assert_eq!(seen, expect, "{text}");
        };
        let plain = |encoding| Some((encoding, Form::Object, false));
        check("", plain(Json));
        check("*/*", plain(Json));
        check("text/html,application/xhtml+xml,*/*;q=0.8", plain(Json));
        check("application/vnd.kubernetes.protobuf,application/json", plain(Json));
        check("application/vnd.kubernetes.protobuf,application/json;q=0.5", plain(Protobuf));
        check("application/vnd.kubernetes.protobuf", plain(Protobuf));
        check("application/yaml", plain(Yaml));
        check("application/json;q=0.1, application/yaml", plain(Yaml));
        let table = |beta| Some((Json, Form::Table, beta));
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", table(false));
        check("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", table(true));
        check("application/json;as=Table;v=v7;g=meta.k8s.io, application/json", plain(Json));
        let metadata = Some((Json, Form::MetadataList, false));
        check("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", metadata);
        for refused in [
            "text/html",
            "application/*",
            "application/json;as=Table",
            "application/json;as=Other;v=v1;g=meta.k8s.io",
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
        ] {
            check(refused, None);
        }
    }

    #[test]
    fn says_which_step_refuses() {
        assert!(accept("text/html").unwrap_err().message.starts_with("406: Not Acceptable\n\nAvailable"));
        let message = accept("application/json;as=Table").unwrap_err().message;
        assert!(message.starts_with("only the following media types are accepted: application/json"));
    }

    #[test]
    fn indents_without_reading_what_is_quoted() {
        let check = |text: &str, expect: &str| assert_eq!(indented(text.as_bytes()), expect.as_bytes());
        check(
            r#"{"a":[],"b":{ },"c":[1,{"d":"x{,:\"]"}]}"#,
            "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": \"x{,:\\\"]\"\n    }\n  ]\n}",
        );
        check("{\"a\":\"\\\\\"}\n", "{\n  \"a\": \"\\\\\"\n}");
    }
}
