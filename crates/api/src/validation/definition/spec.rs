//! Rules of `spec`: group, scope, versions, names, subresources, columns, conversion.

use serde_json::{Value, json};

use super::super::{names as words, rules};
use super::{fields, internal, schema};
use crate::crd::Props;
use crate::field::{Error, Errors, Path};
use crate::tree::{flag, get, items, text, texts};

/// Fields that stand beside the versions when all versions have the same.
struct Common {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Common {
    fn of(versions: &[Value]) -> Self {
        let Some((first, rest)) = versions.split_first() else {
            return Self { schema: false, subresources: false, columns: false, selectable: false };
        };
        let same = |field: &str| rest.iter().all(|version| crate::tree::same_field(version, first, field));
        Self {
            schema: same("schema"),
            subresources: same("subresources"),
            columns: same("additionalPrinterColumns"),
            selectable: same("selectableFields"),
        }
    }

    fn own(&self) -> internal::Own {
        internal::Own {
            schema: !self.schema,
            subresources: !self.subresources,
            columns: !self.columns,
            selectable: !self.selectable,
        }
    }
}

/// Rules of a definition's spec.
pub(super) fn check(definition: &Value, errors: &mut Errors) {
    let root = Path::ROOT;
    let path = root.child("spec");
    let spec = &definition["spec"];
    let versions = items(spec, "versions");
    let common = Common::of(versions);
    group(text(spec, "group"), &path.child("group"), errors);
    match text(spec, "scope") {
        "" => errors.push(Error::required(&path.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        other => {
            errors.push(rules::not_supported(&path.child("scope"), other, &["Cluster", "Namespaced"]));
        }
    }
    let versions_path = path.child("versions");
    for (at, version) in versions.iter().enumerate() {
        if get(&version["schema"], "openAPIV3Schema").is_none() {
            let at = versions_path.index(at);
            let schema = at.child("schema");
            errors.push(Error::required(&schema.child("openAPIV3Schema"), ""));
        }
    }
    for (at, version) in versions.iter().enumerate() {
        one_version(version, &common, &versions_path.index(at), errors);
    }
    flags(spec, versions, &common, &versions_path, errors);
    if let Some(first) = versions.first() {
        let wrong = words::dns1035_label(text(first, "name"));
        if !text(first, "name").is_empty() && !wrong.is_empty() {
            errors.push(Error::invalid(&path.child("version"), text(first, "name"), &wrong.join(",")));
        }
    }
    let names_path = path.child("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(&spec["names"], field).is_empty() {
            errors.push(Error::required(&names_path.child(field), ""));
        }
    }
    names(&spec["names"], &names_path, errors);
    if let Some(first) = versions.first() {
        common_fields(versions, first, &common, &path, errors);
    }
    conversion(spec, &path.child("conversion"), errors);
}

fn group(group: &str, path: &Path<'_>, errors: &mut Errors) {
    let wrong = words::dns_subdomain(group);
    if group.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !wrong.is_empty() {
        errors.push(Error::invalid(path, group, &wrong.join(",")));
    } else if !group.contains('.') {
        errors.push(Error::invalid(path, group, "should be a domain with at least one dot"));
    }
}

fn has_status(version: &Value) -> bool {
    get(&version["subresources"], "status").is_some()
}

fn one_version(version: &Value, common: &Common, path: &Path<'_>, errors: &mut Errors) {
    let name = text(version, "name");
    let wrong = words::dns1035_label(name);
    if !wrong.is_empty() {
        errors.push(Error::invalid(&path.child("name"), name, &wrong.join(",")));
    }
    deprecation(version, &path.child("deprecationWarning"), errors);
    if !common.schema {
        schema::check(&version["schema"], has_status(version), &path.child("schema"), errors);
    }
    if !common.subresources {
        subresources(&version["subresources"], &path.child("subresources"), errors);
    }
    if !common.columns {
        columns(version, path, errors);
    }
    if !common.selectable {
        let detail = "may only be set when `version.schema.openAPIV3Schema` is not included";
        let schema = if common.schema { &Value::Null } else { &version["schema"] };
        selectable(version, schema, detail, &path.child("selectableFields"), errors);
    }
}

fn common_fields(versions: &[Value], first: &Value, common: &Common, path: &Path<'_>, errors: &mut Errors) {
    if common.schema {
        let status = versions.iter().any(has_status);
        schema::check(&first["schema"], status, &path.child("validation"), errors);
    }
    if common.subresources {
        subresources(&first["subresources"], &path.child("subresources"), errors);
    }
    if common.columns {
        columns(first, path, errors);
    }
    if common.selectable {
        let detail = "may only be set when validations.schema is included";
        let schema = if common.schema { &first["schema"] } else { &Value::Null };
        selectable(first, schema, detail, &path.child("selectableFields"), errors);
    }
}

fn deprecation(version: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    let mut wrong = |detail: &str| errors.push(Error::invalid(path, warning, detail));
    if !flag(version, "deprecated") {
        return wrong("can only be set for deprecated versions");
    }
    if warning.len() > 256 {
        wrong("must be <= 256 characters long");
    }
    if warning.is_empty() {
        wrong("must not be an empty string");
    }
    let printable = |c: char| c == ' ' || !(c.is_control() || c.is_whitespace());
    if let Some((at, _)) = warning.char_indices().find(|(_, c)| !printable(*c)) {
        wrong(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}

/// Names are told apart, and one of them is stored.
fn flags(spec: &Value, versions: &[Value], common: &Common, path: &Path<'_>, errors: &mut Errors) {
    let shown = || internal::versions(spec, &common.own());
    let unique = versions
        .iter()
        .enumerate()
        .all(|(at, version)| versions[..at].iter().all(|other| text(other, "name") != text(version, "name")));
    if !unique {
        errors.push(rules::invalid_json(path, &shown(), "must contain unique version names"));
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(rules::invalid_json(path, &shown(), detail));
    }
}

/// Rules of names, in spec and in status.
pub(super) fn names(names: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["plural", "singular"] {
        let name = text(names, field);
        let wrong = words::dns1035_label(name);
        if !name.is_empty() && !wrong.is_empty() {
            errors.push(Error::invalid(&path.child(field), name, &wrong.join(",")));
        }
    }
    for field in ["kind", "listKind"] {
        let name = text(names, field);
        let wrong = words::dns1035_label(&name.to_lowercase());
        if !name.is_empty() && !wrong.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.push(Error::invalid(&path.child(field), name, &detail));
        }
    }
    let mut list = |field: &str| {
        for (at, name) in texts(names, field).enumerate() {
            let wrong = words::dns1035_label(name);
            if !wrong.is_empty() {
                errors.push(Error::invalid(&path.child(field).index(at), name, &wrong.join(",")));
            }
        }
    };
    list("shortNames");
    let kind = text(names, "kind");
    let same = !kind.is_empty() && kind == text(names, "listKind");
    if same {
        let detail = "kind and listKind may not be the same";
        errors.push(Error::invalid(&path.child("listKind"), kind, detail));
    }
    for (at, name) in texts(names, "categories").enumerate() {
        let wrong = words::dns1035_label(name);
        if !wrong.is_empty() {
            errors.push(Error::invalid(&path.child("categories").index(at), name, &wrong.join(",")));
        }
    }
}

fn subresources(subresources: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(scale) = get(subresources, "scale") else { return };
    let mut check = |field: &str, prefixes: &[&str], detail: &str| {
        let name = format!("scale.{field}");
        let place = path.child(&name);
        let value = text(scale, field);
        match (value, field) {
            ("", "labelSelectorPath") => {}
            ("", _) => errors.push(Error::required(&place, "")),
            _ if !value.starts_with('.') => errors.push(not_simple(&place, value)),
            _ if !prefixes.iter().any(|prefix| value.starts_with(prefix)) => {
                errors.push(Error::invalid(&place, value, detail));
            }
            _ => {}
        }
    };
    check("specReplicasPath", &[".spec."], "should be a json path under .spec");
    check("statusReplicasPath", &[".status."], "should be a json path under .status");
    check(
        "labelSelectorPath",
        &[".spec.", ".status."],
        "should be a json path under either .spec or .status",
    );
}

fn not_simple(path: &Path<'_>, value: &str) -> Error {
    Error::invalid(path, value, "must be a simple json path starting with .")
}

fn columns(version: &Value, path: &Path<'_>, errors: &mut Errors) {
    const TYPES: &str = "must be one of boolean,date,integer,number,string";
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (at, column) in items(version, "additionalPrinterColumns").iter().enumerate() {
        let list = path.child("additionalPrinterColumns");
        let path = list.index(at);
        if text(column, "name").is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        }
        match text(column, "type") {
            "" => errors.push(Error::required(&path.child("type"), TYPES)),
            "boolean" | "date" | "integer" | "number" | "string" => {}
            other => errors.push(Error::invalid(&path.child("type"), other, TYPES)),
        }
        let format = text(column, "format");
        if !format.is_empty() && !FORMATS.contains(&format) {
            let detail = format!("must be one of {}", FORMATS.join(","));
            errors.push(Error::invalid(&path.child("format"), format, &detail));
        }
        match text(column, "jsonPath") {
            "" => errors.push(Error::required(&path.child("JSONPath"), "")),
            value if !value.starts_with('.') => errors.push(not_simple(&path.child("JSONPath"), value)),
            _ => {}
        }
    }
}

/// Fields that one version may name for selectors.
const MAX_SELECTABLE: usize = 8;

fn selectable(version: &Value, schema: &Value, missing: &str, path: &Path<'_>, errors: &mut Errors) {
    let fields = items(version, "selectableFields");
    if fields.is_empty() {
        return;
    }
    let Some(schema) = get(schema, "openAPIV3Schema") else {
        errors.push(Error::invalid(path, "", missing));
        return;
    };
    let schema = Props::read(schema);
    let mut seen: Vec<String> = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let item = path.index(at);
        let place = item.child("jsonPath");
        let given = text(field, "jsonPath");
        if given.is_empty() {
            errors.push(Error::required(&place, ""));
            continue;
        }
        let (found, found_path) = match fields::find(given, &schema, false) {
            Ok(found) => found,
            Err(reason) => {
                errors.push(Error::invalid(&place, given, &format!("is an invalid path: {reason}")));
                continue;
            }
        };
        if found_path.starts_with("metadata") {
            errors.push(Error::invalid(&place, given, "must not point to fields in metadata"));
        }
        if !matches!(&*found.ty, "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and \
                          strings with formats are allowed.";
            errors.push(Error::invalid(&place, given, detail));
        }
        if seen.contains(&found_path) {
            let mut error = Error::invalid(&place, given, "");
            error.kind = crate::field::Kind::Duplicate;
            error.message = error.message.replacen("Invalid value", "Duplicate value", 1);
            errors.push(error);
        } else {
            seen.push(found_path);
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(Error::too_many(path, seen.len(), MAX_SELECTABLE));
    }
}

fn conversion(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(conversion) = get(spec, "conversion") else { return };
    let strategy = text(conversion, "strategy");
    match strategy {
        "" => errors.push(Error::required(&path.child("strategy"), "")),
        "None" | "Webhook" => {}
        other => errors.push(rules::not_supported(&path.child("strategy"), other, &["None", "Webhook"])),
    }
    let webhook = &conversion["webhook"];
    let client = get(webhook, "clientConfig");
    let reviews: Vec<&str> = texts(webhook, "conversionReviewVersions").collect();
    let (config_path, reviews_path) =
        (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if strategy != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.push(Error::forbidden(&config_path, detail));
        }
        if !reviews.is_empty() {
            errors.push(Error::forbidden(&reviews_path, detail));
        }
        return;
    }
    match client {
        None => errors.push(Error::required(&config_path, "required when strategy is set to Webhook")),
        Some(client) => {
            if get(client, "url").is_none() == get(client, "service").is_none() {
                errors.push(Error::required(&config_path, "exactly one of url or service is required"));
            }
        }
    }
    if reviews.is_empty() {
        errors.push(Error::required(&reviews_path, ""));
        return;
    }
    for (at, review) in reviews.iter().enumerate() {
        let place = reviews_path.index(at);
        if reviews[..at].contains(review) {
            errors.push(Error::invalid(&place, *review, "duplicate version"));
            continue;
        }
        rules::invalid_each(errors, &place, *review, words::dns1035_label(review));
    }
    if !reviews.iter().any(|review| matches!(*review, "v1" | "v1beta1")) {
        let detail = "must include at least one of v1, v1beta1";
        errors.push(Error::invalid(&reviews_path, json!(reviews), detail));
    }
}
