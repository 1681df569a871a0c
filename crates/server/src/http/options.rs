//! Options of lists, watches and deletions: out of the query or the body, refused in
//! upstream's order: what cannot be read (400), what does not go together (422), fields
//! that nobody can select by (400), revisions that are none (400).

use carrack_api::decode;
use carrack_api::field::{Error, Errors, Path};
use carrack_api::selector::{Fields, Labels};
use carrack_api::status::Status;
use carrack_api::{Kind, Value, proto};
use http::HeaderMap;

use super::input::{self, Encoding};
use crate::registry::{DeleteOptions, ListOptions, Propagation, VersionMatch, uncached};
use crate::request::Query;

/// A watch as it was asked for.
#[derive(Debug)]
pub(crate) struct WatchOptions {
    /// Label selector; none selects everything.
    pub(crate) labels: Option<Labels>,
    /// Field selector; none selects everything.
    pub(crate) fields: Option<Fields>,
    /// Where to start; 0 is anywhere.
    pub(crate) revision: Option<u64>,
    /// `sendInitialEvents`.
    pub(crate) initial: Option<bool>,
    /// `allowWatchBookmarks`.
    pub(crate) bookmarks: bool,
    /// Seconds; 0 leaves it to the server.
    pub(crate) timeout: u64,
}

/// What lists and watches have in common.
struct Selection {
    labels: Option<Labels>,
    fields: Option<Fields>,
    timeout: i64,
    limit: i64,
}

impl Selection {
    fn read(query: &Query) -> Result<Self, Status> {
        let timeout = number(query, "timeoutSeconds")?.unwrap_or(0);
        let limit = number(query, "limit")?.unwrap_or(0);
        let bad = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
        let labels = match query.text("labelSelector") {
            "" => None,
            text => Some(Labels::parse(text).map_err(|error| bad(&error))?),
        };
        let fields = match query.text("fieldSelector") {
            "" => None,
            text => Some(Fields::parse(text).map_err(|error| bad(&error))?),
        };
        Ok(Self { labels, fields, timeout, limit })
    }

    /// Whether the kind can be selected by the fields.
    fn check_fields(&self, kind: &Kind, version: &str) -> Result<(), Status> {
        let Some(fields) = &self.fields else { return Ok(()) };
        let index = kind.versions.iter().position(|v| &*v.name == version).unwrap_or(kind.storage);
        let selectable = kind.facts(index).map_or(&kind.selectable, |facts| &facts.selectable);
        let known = |field: &str| {
            field == "metadata.name"
                // (What is in none does not say so, unless nothing else is said of its kind.)
                || (field == "metadata.namespace"
                    && (kind.namespaced || (!kind.custom && kind.selectable.is_empty())))
                || selectable.iter().any(|selectable| &**selectable == field)
        };
        let Some(field) = fields.fields().find(|field| !known(field)) else { return Ok(()) };
        Err(Status::bad_request(match &*kind.resource {
            "jobs.batch" => format!("field label {field:?} not supported for Job"),
            "resourceslices.resource.k8s.io" => {
                let api_version = carrack_api::kind::api_version(&kind.group, version);
                format!("field label not supported for {api_version}, Kind={}: {field}", kind.kind)
            }
            _ if kind.custom || !kind.selectable.is_empty() => format!("field label not supported: {field}"),
            _ => format!(
                "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            ),
        }))
    }
}

/// Options of a list.
///
/// # Errors
/// 400 for what cannot be read, 422 for what does not go together.
pub(crate) fn list(query: &Query, kind: &Kind, version: &str) -> Result<ListOptions, Status> {
    let selection = Selection::read(query)?;
    refuse("ListOptions", list_errors(query))?;
    selection.check_fields(kind, version)?;
    let continue_token = query.text("continue");
    let revision_match = match query.text("resourceVersionMatch") {
        "NotOlderThan" => Some(VersionMatch::NotOlderThan),
        "Exact" => Some(VersionMatch::Exact),
        _ => None,
    };
    let revision = if continue_token.is_empty() {
        revision(query.text("resourceVersion"), "invalid resource version: ")?
    } else {
        match query.text("resourceVersion") {
            "" | "0" => None,
            // Whether the token can be read is found out first.
            _ => Some(u64::MAX),
        }
    };
    // Any revision is what is at hand, and that is everything.
    let all = revision == Some(0) && !uncached(kind);
    let limit = if all { 0 } else { usize::try_from(selection.limit).unwrap_or(0) };
    // Without a match, a page of a known revision is a page of exactly that one.
    let revision_match = match (revision_match, revision) {
        (None, Some(revision)) if limit > 0 && revision > 0 => Some(VersionMatch::Exact),
        (revision_match, _) => revision_match,
    };
    Ok(ListOptions {
        labels: selection.labels,
        fields: selection.fields,
        limit,
        continue_token: continue_token.into(),
        revision,
        revision_match,
    })
}

/// Options of a watch.
///
/// # Errors
/// As [`list`].
pub(crate) fn watch(query: &Query, kind: &Kind, version: &str) -> Result<WatchOptions, Status> {
    let selection = Selection::read(query)?;
    let initial = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
    let version_match = query.text("resourceVersionMatch");
    // From what there is on, an old watch is one that asks for the initial events by name.
    let from_what_is = matches!(query.text("resourceVersion"), "" | "0");
    let (initial, version_match) = match initial {
        None if version_match.is_empty() && from_what_is => (Some(true), "NotOlderThan"),
        initial => (initial, version_match),
    };
    refuse("ListOptions", watch_errors(query, initial, version_match))?;
    selection.check_fields(kind, version)?;
    Ok(WatchOptions {
        labels: selection.labels,
        fields: selection.fields,
        revision: revision(query.text("resourceVersion"), "")?,
        initial,
        bookmarks: query.flag("allowWatchBookmarks"),
        timeout: u64::try_from(selection.timeout).unwrap_or(0),
    })
}

fn list_errors(query: &Query) -> Errors {
    let (path, mut errors) = (Path::ROOT.child("resourceVersionMatch"), Errors::new());
    let (version_match, revision) = (query.text("resourceVersionMatch"), query.text("resourceVersion"));
    let mut forbid = |detail: &str| errors.push(Error::forbidden(&path, detail));
    if !version_match.is_empty() {
        if revision.is_empty() {
            forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !query.text("continue").is_empty() {
            forbid("resourceVersionMatch is forbidden when continue is provided");
        }
        if !matches!(version_match, "Exact" | "NotOlderThan") {
            errors.push(Error::unlisted(&path, version_match, &["Exact", "NotOlderThan", ""]));
        }
        if version_match == "Exact" && revision == "0" {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(Error::forbidden(&path, detail));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        let path = Path::ROOT.child("sendInitialEvents");
        errors.push(Error::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    errors
}

fn watch_errors(query: &Query, initial: Option<bool>, version_match: &str) -> Errors {
    let (path, mut errors) = (Path::ROOT.child("resourceVersionMatch"), Errors::new());
    let mut forbid = |detail: &str| errors.push(Error::forbidden(&path, detail));
    if initial.is_some() && version_match != "NotOlderThan" {
        forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !version_match.is_empty() {
        if initial.is_none() {
            forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
        }
        if version_match != "NotOlderThan" {
            errors.push(Error::unlisted(&path, version_match, &["NotOlderThan"]));
        }
        if !query.text("continue").is_empty() {
            let detail = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(Error::forbidden(&path, detail));
        }
    }
    errors
}

fn refuse(kind: &str, errors: Errors) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", kind, "", &errors)) }
}

/// A revision; `None` when unset. `said` comes before what is wrong with it.
///
/// # Errors
/// 400.
pub(crate) fn revision(text: &str, said: &str) -> Result<Option<u64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let why =
        if text.bytes().all(|byte| byte.is_ascii_digit()) { "value out of range" } else { "invalid syntax" };
    text.parse().map(Some).map_err(|_| {
        Status::bad_request(format!(
            "{said}resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
        ))
    })
}

/// A number in the query.
fn number(query: &Query, name: &str) -> Result<Option<i64>, Status> {
    match query.text(name) {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            let digits = text.trim_start_matches(['-', '+']).bytes().all(|byte| byte.is_ascii_digit());
            let why = if digits { "value out of range" } else { "invalid syntax" };
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
        }),
    }
}

/// Delete options from the body, or else from the query; and whether it is a dry run.
///
/// # Errors
/// 400 for what cannot be read, 422 for what does not go together.
pub(crate) fn delete(
    query: &Query,
    headers: &HeaderMap,
    body: &[u8],
    api_version: &str,
) -> Result<(DeleteOptions, bool), Status> {
    let (mut options, policy, dry_run) = if body.is_empty() {
        let given = |name: &str| Some(query.text(name)).filter(|text| !text.is_empty()).map(Box::from);
        let options = DeleteOptions {
            grace: number(query, "gracePeriodSeconds")?,
            uid: given("uid"),
            resource_version: given("resourceVersion"),
            orphan: query.get("orphanDependents").map(|_| query.flag("orphanDependents")),
            ..DeleteOptions::default()
        };
        let dry_run: Vec<String> = query.all("dryRun").map(str::to_owned).collect();
        let policy = query.get("propagationPolicy").filter(|policy| !policy.is_empty());
        (options, policy.map(str::to_owned), dry_run)
    } else {
        let value = delete_body(headers, body, api_version)?;
        let text = |value: &Value| value.as_str().map(Box::from);
        let options = DeleteOptions {
            grace: value["gracePeriodSeconds"].as_i64(),
            orphan: value["orphanDependents"].as_bool(),
            uid: text(&value["preconditions"]["uid"]),
            resource_version: text(&value["preconditions"]["resourceVersion"]),
            ..DeleteOptions::default()
        };
        let dry_run = value["dryRun"].as_array().into_iter().flatten();
        let dry_run = dry_run.filter_map(Value::as_str).map(str::to_owned).collect();
        (options, value["propagationPolicy"].as_str().map(str::to_owned), dry_run)
    };
    let (path, mut errors) = (Path::ROOT.child("propagationPolicy"), Errors::new());
    if let (Some(policy), Some(_)) = (&policy, options.orphan) {
        let detail = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(Error::invalid(&path, policy.as_str(), detail));
    }
    options.propagation = match (policy.as_deref(), options.orphan) {
        (None, None) => None,
        (None, Some(true)) | (Some("Orphan"), _) => Some(Propagation::Orphan),
        (None, Some(false)) | (Some("Background"), _) => Some(Propagation::Background),
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (Some(other), _) => {
            errors.push(Error::unlisted(&path, other, &["Foreground", "Background", "Orphan", "nil"]));
            None
        }
    };
    input::dry_run(&dry_run, &mut errors);
    refuse("DeleteOptions", errors)?;
    Ok((options, !dry_run.is_empty()))
}

/// The body of a deletion. It may say that it is of any group and version.
fn delete_body(headers: &HeaderMap, body: &[u8], api_version: &str) -> Result<Value, Status> {
    let schema = carrack_api::facts::schema();
    let root = schema
        .find("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")
        .ok_or_else(|| Status::internal("the facts lack DeleteOptions"))?;
    let wrong = |error: decode::Error| Status::bad_request(error.to_string());
    let encoding = input::encoding(headers)?;
    let (has_version, has_kind) = match encoding {
        Encoding::Json => decode::type_meta(body).unwrap_or_default(),
        Encoding::Yaml => Default::default(),
        Encoding::Protobuf => {
            let envelope = proto::open(body).map_err(wrong)?;
            (envelope.api_version.to_owned(), envelope.kind.to_owned())
        }
    };
    if !matches!(&*has_kind, "" | "DeleteOptions") {
        let has_version = if has_version.is_empty() { api_version } else { &has_version };
        return Err(Status::bad_request(decode::not_registered(&has_kind, has_version)));
    }
    Ok(match encoding {
        Encoding::Json => decode::json(&schema, root, body).map_err(wrong)?.value,
        Encoding::Yaml => decode::yaml(&schema, root, body).map_err(wrong)?.value,
        Encoding::Protobuf => {
            let envelope = proto::open(body).map_err(wrong)?;
            proto::decode(&schema, root, envelope.raw).map_err(wrong)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_say_all_that_does_not_go_together() {
        let kinds = carrack_api::kinds::builtin();
        let (pods, _) = kinds.resource("", "v1", "pods").unwrap();
        let check = |text: &str, expect: &str| {
            let said = list(&Query::parse(text).unwrap(), pods, "v1").unwrap_err().message;
            assert_eq!(said, expect, "{text}");
        };
        check(
            "resourceVersionMatch=Bogus",
            "ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is \
             forbidden unless resourceVersion is provided, resourceVersionMatch: Unsupported value: \"Bogus\": \
             supported values: \"Exact\", \"NotOlderThan\", \"\"]",
        );
        check("limit=x&resourceVersionMatch=y", "strconv.ParseInt: parsing \"x\": invalid syntax");
        check("fieldSelector=spec.unknown%3Dx", "field label not supported: spec.unknown");
        for (group, plural, refused) in [
            ("", "pods", false),
            ("", "persistentvolumes", false),
            ("", "nodes", true),
            ("", "namespaces", true),
            ("resource.k8s.io", "resourceslices", true),
        ] {
            let (kind, _) = kinds.resource(group, "v1", plural).unwrap();
            let asked = list(&Query::parse("fieldSelector=metadata.namespace%3Da").unwrap(), kind, "v1");
            assert_eq!(asked.is_err(), refused, "{plural}");
        }
        check(
            "resourceVersion=x",
            "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": \
             invalid syntax",
        );
    }

    #[test]
    fn what_lists_its_fields_and_lies_in_no_namespace_is_not_selected_by_one() {
        let kinds = carrack_api::kinds::builtin();
        for (group, plural, known) in [
            ("", "pods", true),
            ("", "nodes", false),
            ("", "namespaces", false),
            ("", "persistentvolumes", true),
            ("certificates.k8s.io", "certificatesigningrequests", false),
        ] {
            let (kind, _) = kinds.resource(group, "v1", plural).unwrap();
            let query = Query::parse("fieldSelector=metadata.namespace%3Dx").unwrap();
            assert_eq!(list(&query, kind, "v1").is_ok(), known, "{plural}");
        }
    }

    #[test]
    fn old_watches_ask_for_initial_events() {
        let kinds = carrack_api::kinds::builtin();
        let (pods, _) = kinds.resource("", "v1", "pods").unwrap();
        let asked = |text: &str| watch(&Query::parse(text).unwrap(), pods, "v1");
        for (text, initial) in [
            ("", Some(true)),
            ("resourceVersion=0", Some(true)),
            ("resourceVersion=7", None),
            ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", Some(false)),
            ("resourceVersion=7&continue=x", None),
        ] {
            assert_eq!(asked(text).unwrap().initial, initial, "{text}");
        }
        assert_eq!(
            asked("continue=x").unwrap_err().message,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is \
             forbidden when continue is provided"
        );
    }

    #[test]
    fn a_body_decides_alone() {
        let query = Query::parse("gracePeriodSeconds=x&dryRun=All").unwrap();
        let body = br#"{"gracePeriodSeconds":1,"orphanDependents":true}"#;
        let (options, dry_run) = delete(&query, &HeaderMap::new(), body, "v1").unwrap();
        assert_eq!((options.grace, options.propagation), (Some(1), Some(Propagation::Orphan)));
        assert!(!dry_run);
        assert_eq!(delete(&query, &HeaderMap::new(), b"", "v1").unwrap_err().code, 400);
    }
}
