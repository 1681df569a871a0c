//! Reading requests: bodies within their limit, in any of the three encodings, and
//! the options in the query.

use bytes::{Bytes, BytesMut};
use carrack_api::decode::{self, Decoded};
use carrack_api::selector::{Fields, Labels};
use carrack_api::status::Status;
use carrack_api::{Kind, Value, proto};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http_body_util::BodyExt;

use crate::registry::{
    DeleteOptions, FieldValidation, ListOptions, Options, PatchType, Propagation, VersionMatch,
};
use crate::request::Query;

/// The encodings of request bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// Letters of a field manager's name at most.
const MANAGER_LENGTH: usize = 128;

/// Collects a body.
///
/// # Errors
/// 413 naming the limit; 400 when the connection fails.
pub(crate) async fn collect<B>(body: B, limit: usize) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || Status::too_large(format!("Request entity too large: limit is {limit}"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Status::bad_request(format!("reading the body: {}", error.into())))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Err(too_large());
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

/// The media type of the body, without parameters; empty when absent.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// The encoding of the body.
///
/// # Errors
/// 415 for one that is not known.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    match media_type(headers) {
        "" | "*/*" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Encoding::Protobuf),
        _ => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// Decodes a body as `kind` of the group and version; a body may leave both out.
///
/// # Errors
/// 400.
pub(crate) fn decode(
    kind: &Kind,
    version: usize,
    encoding: Encoding,
    body: &[u8],
) -> Result<Decoded, Status> {
    let v = &kind.versions[version];
    let api_version = kind.api_version(version);
    let names = (&*api_version, &*kind.kind, &*v.name);
    if kind.definition.is_none() {
        return decode_as(&v.schema, v.root, names, encoding, body);
    }
    let decoded = match encoding {
        Encoding::Json => decode::object(kind, version, body),
        Encoding::Yaml => decode::object_yaml(kind, version, body),
        Encoding::Protobuf => return Err(not_protobuf()),
    };
    checked(decoded.map_err(|error| error.to_status(&kind.kind, &v.name))?, names)
}

/// 415: custom objects have no protobuf form.
fn not_protobuf() -> Status {
    Status::unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json, application/yaml",
    )
}

/// Decodes a body as a type; `names` are its apiVersion, kind and version.
///
/// # Errors
/// 400.
pub(crate) fn decode_as(
    schema: &carrack_api::schema::Schema,
    root: carrack_api::schema::TypeId,
    names: (&str, &str, &str),
    encoding: Encoding,
    body: &[u8],
) -> Result<Decoded, Status> {
    let (api_version, kind, version) = names;
    let wrong = |error: decode::Error| error.to_status(kind, version);
    let decoded = match encoding {
        Encoding::Json => decode::json(schema, root, body).map_err(wrong)?,
        Encoding::Yaml => decode::yaml(schema, root, body).map_err(wrong)?,
        Encoding::Protobuf => {
            let envelope = proto::open(body).map_err(wrong)?;
            check_types(envelope.api_version, envelope.kind, api_version, kind)?;
            let value = proto::decode(schema, root, envelope.raw).map_err(wrong)?;
            Decoded { value, strict: Vec::new() }
        }
    };
    checked(decoded, names)
}

/// Whether a body is an object of the right kind.
fn checked(decoded: Decoded, (api_version, kind, version): (&str, &str, &str)) -> Result<Decoded, Status> {
    if !decoded.value.is_object() {
        return Err(decode::Error::Unfit("the body is not an object".into()).to_status(kind, version));
    }
    let text = |field: &str| decoded.value.get(field).and_then(Value::as_str).unwrap_or_default();
    check_types(text("apiVersion"), text("kind"), api_version, kind)?;
    Ok(decoded)
}

fn check_types(has_version: &str, has_kind: &str, api_version: &str, kind: &str) -> Result<(), Status> {
    if !has_version.is_empty() && has_version != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({has_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !has_kind.is_empty() && has_kind != kind {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let hub = group.split('.').next().unwrap_or_default();
        return Err(Status::bad_request(format!(
            "{has_kind} in version {version:?} cannot be handled as a {kind}: \
             converting ({version}.{has_kind}) to ({hub}.{kind}): unknown conversion"
        )));
    }
    Ok(())
}

/// Options of a write; `patch` is the sort of a patch.
///
/// # Errors
/// 422 for values that are not known, and for an apply that does not say who applies.
pub(crate) fn write_options(
    query: &Query,
    headers: &HeaderMap,
    kind: &str,
    patch: Option<PatchType>,
) -> Result<Options, Status> {
    use carrack_api::field::{Error, Path};
    let root = Path::ROOT;
    let mut errors = Vec::new();
    let manager = query.text("fieldManager");
    match patch {
        Some(PatchType::Apply) if manager.is_empty() => {
            errors.push(Error::required(&root.child("fieldManager"), "is required for apply patch"));
        }
        Some(PatchType::Json | PatchType::Merge | PatchType::Strategic) if query.get("force").is_some() => {
            errors.push(Error::forbidden(&root.child("force"), "may not be specified for non-apply patch"));
        }
        _ => {}
    }
    carrack_api::validation::meta::field_manager(manager, &root.child("fieldManager"), &mut errors);
    let dry_run = check_dry_run(query.all("dryRun")).unwrap_or_else(|error| {
        errors.push(error);
        false
    });
    let field_validation = match query.text("fieldValidation") {
        "" | "Warn" => FieldValidation::Warn,
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        other => {
            let supported = ["", "Ignore", "Strict", "Warn"];
            errors.push(Error::not_supported(&root.child("fieldValidation"), other, &supported));
            FieldValidation::Strict
        }
    };
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", kind, "", &errors));
    }
    let field_manager = if manager.is_empty() { manager_of_agent(headers) } else { manager.into() };
    let force = query.flag("force");
    Ok(Options { dry_run, field_manager, field_validation, force, ..Options::default() })
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &str) -> Result<bool, Status> {
    check_dry_run(values).map_err(|error| Status::invalid("meta.k8s.io", kind, "", &[error]))
}

fn check_dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, carrack_api::field::Error> {
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().all(|value| *value == "All") {
        return Ok(!values.is_empty());
    }
    let path = carrack_api::field::Path::ROOT;
    Err(carrack_api::field::Error::not_supported(&path.child("dryRun"), values, &["All"]))
}

/// `kubectl/v1.36 (linux)` → `kubectl`.
fn manager_of_agent(headers: &HeaderMap) -> Box<str> {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = agent.split('/').next().unwrap_or_default();
    match name {
        "" => "unknown".into(),
        name => name.chars().filter(|c| !c.is_control()).take(MANAGER_LENGTH).collect::<String>().into(),
    }
}

/// Options of a list.
///
/// # Errors
/// 400 for what cannot be read, 422 for what does not go together.
pub(crate) fn list_options(query: &Query, kind: &Kind, version: &str) -> Result<ListOptions, Status> {
    let revision_match = match query.text("resourceVersionMatch") {
        "" => None,
        "NotOlderThan" => Some(VersionMatch::NotOlderThan),
        "Exact" => Some(VersionMatch::Exact),
        other => {
            let supported = ["Exact", "NotOlderThan", ""];
            let path = carrack_api::field::Path::ROOT;
            let path = path.child("resourceVersionMatch");
            let error = carrack_api::field::Error::not_supported(&path, other, &supported);
            return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]));
        }
    };
    let options = ListOptions {
        labels: labels(query)?,
        fields: fields(query, kind, version)?,
        limit: number(query, "limit")?.unwrap_or(0) as usize,
        continue_token: query.text("continue").into(),
        revision: revision(query)?,
        revision_match,
    };
    check_match(&options)?;
    Ok(options)
}

/// What `ValidateListOptions` refuses.
fn check_match(options: &ListOptions) -> Result<(), Status> {
    use carrack_api::field::{Error, Path};
    let path = Path::ROOT.child("resourceVersionMatch");
    let error = match (options.revision_match, options.revision) {
        (None, _) => return Ok(()),
        (Some(_), None) => {
            Error::forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided")
        }
        (Some(_), _) if !options.continue_token.is_empty() => {
            Error::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided")
        }
        (Some(VersionMatch::Exact), Some(0)) => {
            Error::forbidden(&path, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
        }
        _ => return Ok(()),
    };
    Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
}

/// The label selector, if there is one.
pub(crate) fn labels(query: &Query) -> Result<Option<Labels>, Status> {
    match query.text("labelSelector") {
        "" => Ok(None),
        text => Labels::parse(text).map(Some).map_err(|error| Status::bad_request(error.to_string())),
    }
}

/// The field selector, if there is one, of a version of a kind.
pub(crate) fn fields(query: &Query, kind: &Kind, version: &str) -> Result<Option<Fields>, Status> {
    let text = query.text("fieldSelector");
    if text.is_empty() {
        return Ok(None);
    }
    let fields = Fields::parse(text).map_err(|error| Status::bad_request(error.to_string()))?;
    let index = kind.versions.iter().position(|v| &*v.name == version).unwrap_or(kind.storage);
    let selectable = kind.facts(index).map_or(&kind.selectable, |facts| &facts.selectable);
    let known = |field: &str| {
        matches!(field, "metadata.name" | "metadata.namespace")
            || selectable.iter().any(|selectable| &**selectable == field)
    };
    if let Some(field) = fields.fields().find(|field| !known(field)) {
        let api_version = carrack_api::kind::api_version(&kind.group, version);
        return Err(Status::bad_request(format!(
            "Unable to find {:?} that match label selector \"\", field selector {text:?}: \
             field label not supported: {field}",
            format!("{api_version}, Resource={}", kind.plural)
        )));
    }
    Ok(Some(fields))
}

/// `resourceVersion`; `None` when unset.
pub(crate) fn revision(query: &Query) -> Result<Option<u64>, Status> {
    match query.text("resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!(
                "Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))
        }),
    }
}

/// A non-negative number.
pub(crate) fn number(query: &Query, name: &str) -> Result<Option<u64>, Status> {
    match query.text(name) {
        "" => Ok(None),
        text => text
            .parse::<i64>()
            .map(|n| Some(n.max(0) as u64))
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
    }
}

/// Delete options from the body, or else from the query; and whether it is a dry run.
///
/// # Errors
/// 400 for what cannot be read, 422 for what does not go together.
pub(crate) fn delete_options(
    query: &Query,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(DeleteOptions, bool), Status> {
    if body.is_empty() {
        let orphan = query.get("orphanDependents").map(|text| text == "true" || text == "1");
        let options = DeleteOptions {
            grace: match query.text("gracePeriodSeconds") {
                "" => None,
                text => Some(text.parse().map_err(|_| {
                    Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
                })?),
            },
            propagation: propagation(query.text("propagationPolicy"), orphan)?,
            ..DeleteOptions::default()
        };
        return Ok((options, dry_run(query.all("dryRun"), "DeleteOptions")?));
    }
    let schema = carrack_api::facts::schema();
    let root = schema
        .find("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")
        .ok_or_else(|| Status::internal("the facts lack DeleteOptions"))?;
    let wrong = |error: decode::Error| error.to_status("DeleteOptions", "v1");
    let value = match encoding(headers)? {
        Encoding::Json => decode::json(&schema, root, body).map_err(wrong)?.value,
        Encoding::Yaml => decode::yaml(&schema, root, body).map_err(wrong)?.value,
        Encoding::Protobuf => {
            let envelope = proto::open(body).map_err(wrong)?;
            proto::decode(&schema, root, envelope.raw).map_err(wrong)?
        }
    };
    let text = |value: &Value| value.as_str().map(Box::from);
    let options = DeleteOptions {
        grace: value["gracePeriodSeconds"].as_i64(),
        propagation: propagation(
            value["propagationPolicy"].as_str().unwrap_or_default(),
            value["orphanDependents"].as_bool(),
        )?,
        uid: text(&value["preconditions"]["uid"]),
        resource_version: text(&value["preconditions"]["resourceVersion"]),
    };
    let in_body = value["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let dry = dry_run(in_body, "DeleteOptions")? || dry_run(query.all("dryRun"), "DeleteOptions")?;
    Ok((options, dry))
}

fn propagation(policy: &str, orphan: Option<bool>) -> Result<Option<Propagation>, Status> {
    use carrack_api::field::{Error, Path};
    let path = Path::ROOT.child("propagationPolicy");
    let refuse = |error| Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error]));
    match (policy, orphan) {
        ("", None) => Ok(None),
        ("", Some(true)) => Ok(Some(Propagation::Orphan)),
        ("", Some(false)) => Ok(Some(Propagation::Background)),
        (policy, Some(_)) => refuse(Error::invalid(
            &path,
            policy,
            "orphanDependents and deletionPropagation cannot be both set",
        )),
        ("Orphan", None) => Ok(Some(Propagation::Orphan)),
        ("Background", None) => Ok(Some(Propagation::Background)),
        ("Foreground", None) => Ok(Some(Propagation::Foreground)),
        (other, None) => {
            refuse(Error::not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]))
        }
    }
}
