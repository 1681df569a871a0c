//! Reading requests: bodies within their limit, in any of the three encodings, and
//! the options in the query.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use carrack_api::decode::{self, Decoded};
use carrack_api::go::{echoed, quoted};
use carrack_api::status::Status;
use carrack_api::{Kind, Kinds, Value, proto};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http_body_util::BodyExt;

use crate::registry::{FieldValidation, Options, PatchType};
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
    let decoded = decoded.map_err(|error| error.to_status(&kind.kind, &v.name))?;
    let given = decoded.value["kind"].as_str().unwrap_or_default();
    if given != &*kind.kind && decoded.value["apiVersion"] == *api_version {
        let (path, name) = (carrack_api::field::Path::ROOT, decoded.value["metadata"]["name"].as_str());
        let detail = format!("must be {}", kind.kind);
        let error = carrack_api::field::Error::invalid(&path.child("kind"), given, &detail);
        return Err(Status::invalid(&kind.group, given, name.unwrap_or_default(), &[error]));
    }
    let has_version = decoded.value["apiVersion"].as_str().unwrap_or_default();
    if decoded.value.is_object() && has_version != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({has_version}) does not match the expected API version ({api_version})"
        )));
    }
    checked(decoded, names)
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
        // What it says it is is looked at first, and again only when the rest does not fit.
        Encoding::Json => decode::json(schema, root, body).map_err(|error| {
            let types = decode::type_meta(body).unwrap_or_default();
            check_types(&types.0, &types.1, api_version, kind).err().unwrap_or_else(|| wrong(error))
        })?,
        Encoding::Yaml => decode::yaml(schema, root, body).map_err(wrong)?,
        Encoding::Protobuf => {
            let envelope = proto::open(body).map_err(|error| wrong(error.of_unknown(body)))?;
            check_types(envelope.api_version, envelope.kind, api_version, kind)?;
            let value = proto::decode(schema, root, envelope.raw).map_err(wrong)?;
            Decoded { value, ..Decoded::default() }
        }
    };
    let has_version = decoded.value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if has_version.matches('/').count() > 1 {
        let reason = format!("unexpected GroupVersion string: {has_version}");
        return Err(wrong(decode::Error::unreadable(reason, body)));
    }
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
    // What a body leaves out is what was asked for.
    let has_version = if has_version.is_empty() { api_version } else { has_version };
    let has_kind = if has_kind.is_empty() { kind } else { has_kind };
    if has_version == api_version && has_kind == kind {
        return Ok(());
    }
    let (group, version) = carrack_api::kind::group_version(has_version);
    let apart = |group: &str| group.starts_with("apiextensions.") || group.starts_with("apiregistration.");
    let (asked, _) = carrack_api::kind::group_version(api_version);
    let known = is_known(group, version, has_kind)
        && if apart(asked) || apart(group) { asked == group } else { true };
    if !known {
        return Err(Status::bad_request(format!(
            "{} in version {} cannot be handled as a {kind}: {}",
            echoed(has_kind),
            quoted(version),
            decode::not_registered(has_kind, has_version)
        )));
    }
    if has_kind == kind && asked == group {
        return Err(Status::bad_request(format!(
            "the API version in the data ({has_version}) does not match the expected API version ({api_version})"
        )));
    }
    let hub = match asked {
        "" => "core",
        group => group.split('.').next().unwrap_or_default(),
    };
    Err(Status::bad_request(format!(
        "{has_kind} in version {version:?} cannot be handled as a {kind}: \
         converting ({version}.{has_kind}) to ({hub}.{kind}): unknown conversion"
    )))
}

/// Whether any built-in kind has the name in the version.
fn is_known(group: &str, version: &str, kind: &str) -> bool {
    static KINDS: LazyLock<Kinds> = LazyLock::new(carrack_api::kinds::builtin);
    KINDS.kind(group, version, kind).is_some()
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
    let stages: Vec<String> = query.all("dryRun").map(str::to_owned).collect();
    dry_run(&stages, &mut errors);
    let dry_run = !stages.is_empty();
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

/// Refuses dry runs of stages that nobody knows.
pub(crate) fn dry_run(values: &[String], errors: &mut carrack_api::field::Errors) {
    use carrack_api::field::{Error, Path};
    if values.iter().any(|value| value != "All") {
        errors.push(Error::unlisted(&Path::ROOT.child("dryRun"), values.to_vec(), &["All"]));
    }
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
