//! Rules of `metadata`, the same for every kind but for what a name may look like
//! (apimachinery's `ValidateObjectMeta` and `ValidateObjectMetaUpdate`).

use serde_json::{Map, Value};

use super::names::{self, Messages};
use super::rules::{self, full, invalid_each};
use crate::Kind;
use crate::field::{Error, Errors, Path};
use crate::tree::{entries, flag, get, int, items, same, text, texts};

/// Annotations in all, keys and values.
const MAX_ANNOTATIONS_BYTES: usize = 256 << 10;

/// What names of a kind may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameRule {
    PathSegment,
    Subdomain,
    /// The same, of which only the outcome of a generateName is looked at, in newer words.
    LongName,
    Label,
    IpAddress,
    /// APIService: `version.group`, checked with its spec.
    VersionAndGroup,
    /// CustomResourceDefinition: `plural.group`, checked with its spec.
    Definition,
}

fn name_rule(kind: &Kind) -> NameRule {
    if kind.custom {
        return NameRule::Subdomain;
    }
    match (&*kind.group, &*kind.plural) {
        ("", "namespaces" | "services") | ("apps", "statefulsets") => NameRule::Label,
        ("networking.k8s.io", "ipaddresses") => NameRule::IpAddress,
        ("apiregistration.k8s.io", _) => NameRule::VersionAndGroup,
        ("apiextensions.k8s.io", _) => NameRule::Definition,
        ("", "replicationcontrollers") | ("resource.k8s.io", "deviceclasses") => NameRule::LongName,
        ("", "events") => NameRule::PathSegment,
        ("rbac.authorization.k8s.io" | "certificates.k8s.io" | "policy", _) => NameRule::PathSegment,
        _ => NameRule::Subdomain,
    }
}

/// Rules of a new object's metadata.
pub fn create(kind: &Kind, object: &Value, errors: &mut Errors) {
    let none = Value::Object(Map::new());
    let meta = get(object, "metadata").unwrap_or(&none);
    let path = Path::ROOT.child("metadata");
    let rule = name_rule(kind);
    let prefix = text(meta, "generateName");
    if !prefix.is_empty() {
        invalid_each(errors, &path.child("generateName"), prefix, check_prefix(rule, prefix, object));
    }
    match text(meta, "name") {
        "" => errors.push(Error::required(&path.child("name"), "name or generateName is required")),
        name => invalid_each(errors, &path.child("name"), name, check_name(rule, name, object)),
    }
    namespace(kind, meta, &path, errors);
    common(meta, &path, errors);
    if knows_finalizers(kind) {
        qualified_finalizers(meta, &path, errors);
    }
}

/// What holds of every name once a kind has nothing to say against it: it is to stand in a
/// path.
pub fn segments(meta: &Value, errors: &mut Errors) {
    let path = Path::ROOT.child("metadata");
    let prefix = text(meta, "generateName");
    invalid_each(errors, &path.child("generateName"), prefix, names::path_segment_prefix(prefix));
    let name = text(meta, "name");
    invalid_each(errors, &path.child("name"), name, names::path_segment(name));
}

/// Whether a kind's finalizers need a domain; groups outside the core do not ask.
fn knows_finalizers(kind: &Kind) -> bool {
    let plain = [
        "node.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "coordination.k8s.io",
        "policy",
    ];
    // Older Events have next to no rules.
    let is_event = kind.group.is_empty() && &*kind.kind == "Event";
    !kind.custom && !is_event && !plain.contains(&&*kind.group)
}

/// Rules that the registry itself has of the metadata of every object that replaces
/// another (`rest.BeforeUpdate`); a kind's own rules follow and repeat some of them.
pub fn replaced(kind: &Kind, new: &Value, old: &Value, errors: &mut Errors) {
    let none = Value::Object(Map::new());
    let meta = get(new, "metadata").unwrap_or(&none);
    let path = Path::ROOT.child("metadata");
    let prefix = text(meta, "generateName");
    if !prefix.is_empty() {
        invalid_each(errors, &path.child("generateName"), prefix, names::path_segment_prefix(prefix));
    }
    match text(meta, "name") {
        "" => errors.push(Error::required(&path.child("name"), "name or generateName is required")),
        name => invalid_each(errors, &path.child("name"), name, names::path_segment(name)),
    }
    namespace(kind, meta, &path, errors);
    common(meta, &path, errors);
    changes(new, old, errors);
}

/// Rules of the metadata of an object that replaces `old` (`ValidateObjectMetaUpdate`).
pub fn update(kind: &Kind, new: &Value, old: &Value, errors: &mut Errors) {
    changes(new, old, errors);
    if knows_finalizers(kind) {
        qualified_finalizers(&new["metadata"], &Path::ROOT.child("metadata"), errors);
    }
}

/// What may not change, or not so, by the rules of every server.
pub fn changes(new: &Value, old: &Value, errors: &mut Errors) {
    let none = Value::Object(Map::new());
    let (new, old) = (get(new, "metadata").unwrap_or(&none), get(old, "metadata").unwrap_or(&none));
    let path = Path::ROOT.child("metadata");
    if get(old, "deletionTimestamp").is_some() {
        no_new_finalizers(new, old, &path, errors);
    }
    if text(new, "resourceVersion").is_empty() {
        errors.push(Error::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    if int(new, "generation").unwrap_or(0) < int(old, "generation").unwrap_or(0) {
        let value = new.get("generation").cloned().unwrap_or_else(|| 0.into());
        errors.push(Error::invalid(&path.child("generation"), value, "must not be decremented"));
    }
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        if !same(new.get(field), old.get(field)) {
            let value = new.get(field).cloned().unwrap_or_default();
            errors.push(Error::invalid(&path.child(field), value, rules::IMMUTABLE));
        }
    }
    labels(new, "labels", &path.child("labels"), errors);
    annotations(new, &path.child("annotations"), errors);
    owner_references(new, &path.child("ownerReferences"), errors);
    managed_fields(new, &path.child("managedFields"), errors);
}

/// Rules of the metadata of a resource that is embedded in another, which may have any
/// name, or none.
pub fn embedded(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    let prefix = text(meta, "generateName");
    invalid_each(errors, &path.child("generateName"), prefix, names::path_segment_prefix(prefix));
    if !text(meta, "name").is_empty() {
        let name = text(meta, "name");
        invalid_each(errors, &path.child("name"), name, names::path_segment(name));
    }
    if !text(meta, "namespace").is_empty() {
        let namespace = text(meta, "namespace");
        invalid_each(errors, &path.child("namespace"), namespace, names::dns_label(namespace));
    }
    common(meta, path, errors);
    qualified_finalizers(meta, path, errors);
}

fn check_prefix(rule: NameRule, prefix: &str, object: &Value) -> Messages {
    let masked = names::mask_trailing_dash(prefix);
    match rule {
        NameRule::PathSegment => names::path_segment_prefix(prefix),
        NameRule::Subdomain => names::dns_subdomain(&masked),
        NameRule::LongName => Messages::new(),
        NameRule::Label => names::dns_label(&masked),
        NameRule::IpAddress => ip_address(prefix),
        // It is held against the whole name too.
        NameRule::VersionAndGroup => check_name(rule, prefix, object),
        NameRule::Definition => super::definition::name(object, prefix, &masked),
    }
}

fn check_name(rule: NameRule, name: &str, object: &Value) -> Messages {
    match rule {
        NameRule::PathSegment => names::path_segment(name),
        NameRule::Subdomain => names::dns_subdomain(name),
        NameRule::LongName => names::long_name(name),
        NameRule::Label => names::dns_label(name),
        NameRule::IpAddress => ip_address(name),
        NameRule::Definition => super::definition::name(object, name, name),
        NameRule::VersionAndGroup => {
            let spec = &object["spec"];
            let wanted = format!("{}.{}", text(spec, "version"), text(spec, "group"));
            let wrong = names::path_segment(name);
            if wrong.is_empty() && name != wanted {
                return vec![format!("must be `spec.version+\".\"+spec.group`: {wanted:?}")];
            }
            wrong
        }
    }
}

fn ip_address(name: &str) -> Messages {
    super::net::ip_messages(name)
}

fn namespace(kind: &Kind, meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    let namespace = text(meta, "namespace");
    let path = path.child("namespace");
    match (kind.namespaced, namespace) {
        (true, "") => errors.push(Error::required(&path, "")),
        (true, name) => invalid_each(errors, &path, name, names::dns_label(name)),
        (false, "") => {}
        (false, _) => errors.push(Error::forbidden(&path, "not allowed on this type")),
    }
}

fn common(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    rules::non_negative(errors, &path.child("generation"), int(meta, "generation").unwrap_or(0));
    labels(meta, "labels", &path.child("labels"), errors);
    annotations(meta, &path.child("annotations"), errors);
    owner_references(meta, &path.child("ownerReferences"), errors);
    finalizers(meta, &path.child("finalizers"), errors);
    managed_fields(meta, &path.child("managedFields"), errors);
}

/// A map of labels in `field` of `object`, whose path is given.
pub fn labels(object: &Value, field: &str, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in entries(object, field) {
        if full(errors) {
            break;
        }
        invalid_each(errors, path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        invalid_each(errors, path, value, names::label_value(value));
    }
}

/// The annotations of `meta`, whose path is given.
pub fn annotations(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in entries(meta, "annotations") {
        if full(errors) {
            break;
        }
        invalid_each(errors, path, key, names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS_BYTES {
        errors.push(Error::too_long(path, MAX_ANNOTATIONS_BYTES));
    }
}

/// What a template for claims may not say, in Go's order.
const NOT_OF_TEMPLATES: [&str; 13] = [
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
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// The metadata of a template for claims: labels and annotations, nothing else.
pub fn template_metadata(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    annotations(meta, &path.child("annotations"), errors);
    labels(meta, "labels", &path.child("labels"), errors);
    for field in NOT_OF_TEMPLATES.iter().filter(|field| get(meta, field).is_some()) {
        // (Upstream names Go's fields, with a small first letter.)
        let name = if *field == "uid" { "uID" } else { field };
        errors.push(Error::forbidden(&path.child(name), "cannot be set"));
    }
}

fn owner_references(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut controller = String::new();
    for owner in items(meta, "ownerReferences") {
        if full(errors) {
            break;
        }
        // (Upstream names the list, not the item.)
        let value = text(owner, "apiVersion");
        if value.matches('/').count() > 1 || value.rsplit('/').next().is_none_or(str::is_empty) {
            errors.push(Error::invalid(&path.child("apiVersion"), value, "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                errors.push(Error::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        if (text(owner, "apiVersion"), text(owner, "kind")) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(Error::invalid(path, owner.clone(), detail));
        }
        if flag(owner, "controller") {
            let current = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
            if controller.is_empty() {
                controller = current;
            } else {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {controller} and {current}"
                );
                errors.push(rules::invalid_struct(path, &meta["ownerReferences"], &detail));
            }
        }
    }
}

fn finalizers(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    for finalizer in texts(meta, "finalizers") {
        if full(errors) {
            break;
        }
        invalid_each(errors, path, finalizer, names::qualified_name(finalizer));
    }
    let has = |name: &str| texts(meta, "finalizers").any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(Error::invalid(path, meta["finalizers"].clone(), detail));
    }
}

/// Finalizers without a domain must be ones that Kubernetes itself knows.
fn qualified_finalizers(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (at, finalizer) in texts(meta, "finalizers").enumerate() {
        if full(errors) {
            break;
        }
        qualified_finalizer(finalizer, &path.child("finalizers").index(at), errors);
    }
}

/// The same of one finalizer.
pub fn qualified_finalizer(finalizer: &str, path: &Path<'_>, errors: &mut Errors) {
    if !finalizer.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(&finalizer) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(Error::invalid(path, finalizer, detail));
    }
}

fn no_new_finalizers(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    let known: std::collections::BTreeSet<&str> = texts(old, "finalizers").collect();
    let mut extra: Vec<&str> =
        texts(new, "finalizers").filter(|finalizer| !known.contains(finalizer)).collect();
    extra.sort_unstable();
    if !extra.is_empty() {
        let list: Vec<String> = extra.iter().map(|name| format!("{name:?}")).collect();
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            list.join(", ")
        );
        errors.push(Error::forbidden(&path.child("finalizers"), &detail));
    }
}

fn managed_fields(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (at, entry) in items(meta, "managedFields").iter().enumerate() {
        if full(errors) {
            break;
        }
        let path = path.index(at);
        let operation = text(entry, "operation");
        if !["Apply", "Update"].contains(&operation) {
            let detail = "must be `Apply` or `Update`";
            errors.push(Error::invalid(&path.child("operation"), operation, detail));
        }
        let fields_type = text(entry, "fieldsType");
        if !["", "FieldsV1"].contains(&fields_type) {
            errors.push(Error::invalid(&path.child("fieldsType"), fields_type, "must be `FieldsV1`"));
        }
        field_manager(text(entry, "manager"), &path.child("manager"), errors);
        if text(entry, "subresource").len() > 256 {
            errors.push(Error::too_long(&path.child("subresource"), 256));
        }
    }
}

/// A field manager's name, in an entry or as a query parameter.
pub fn field_manager(manager: &str, path: &Path<'_>, errors: &mut Errors) {
    if manager.len() > 128 {
        errors.push(Error::too_long(path, 128));
    }
    for (at, character) in manager.char_indices() {
        if character.is_control() || (character.is_whitespace() && character != ' ') {
            let detail = format!("invalid character U+{:04X} (at position {at})", character as u32);
            errors.push(Error::invalid(path, manager, &detail));
        }
    }
}
