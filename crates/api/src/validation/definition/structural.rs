//! Which schemas are structural: every value has one type, said in one place, and
//! combinations only narrow what is said there.

use crate::crd::Props;
use crate::crd::pattern;
use crate::field::{Error, Errors, Path};

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Why a schema cannot be read as structural at all.
pub(super) fn unsupported(props: &Props) -> Option<String> {
    let mut found = None;
    props.walk(&mut |node| {
        let not = &node.unsupported;
        let what = match () {
            () if not.id => "'id'",
            () if not.schema => "'schema'",
            () if not.reference == Some(true) => "'$ref'",
            () if not.pattern_properties => "'patternProperties'",
            () if not.dependencies == Some(true) => "'dependencies'",
            () if not.additional_items => "'additionalItems'",
            () if !not.definitions.is_empty() => "'definitions'",
            () => "",
        };
        let reason = if !what.is_empty() {
            format!("OpenAPIV3Schema {what} is not supported")
        } else if node.preserve_unknown == Some(false) {
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned()
        } else if !node.tuple.is_empty() {
            "OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned()
        } else {
            return;
        };
        found.get_or_insert(reason);
    });
    found
}

/// What keeps a schema from being structural, sorted as upstream has it.
pub(super) fn check(props: &Props, path: &Path<'_>) -> Errors {
    let mut errors = Errors::new();
    invariants(props, Level::Root, path, &mut errors);
    complete(props, Some(props), path, path, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

fn invariants(props: &Props, level: Level, path: &Path<'_>, errors: &mut Errors) {
    if errors.len() > 200 {
        return;
    }
    if &*props.ty == "array" && props.items.is_none() {
        errors.push(Error::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = &props.items {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, inner) in &props.properties {
        invariants(inner, Level::Field, &properties.key(name), errors);
    }
    if props.additional.is_some() {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(Error::forbidden(&path, "must not be used at the root"));
        }
        if let Some(inner) = props.additional_schema() {
            invariants(inner, Level::Field, &path, errors);
        }
    }
    extensions(props, path, errors);
    values(props, is_either(&props.any_of), is_first_either(props), level, path, errors);
    types(props, level, path, errors);
    metadata(props, level, path, errors);
}

fn extensions(props: &Props, path: &Path<'_>, errors: &mut Errors) {
    if !props.int_or_string {
        return;
    }
    let detail = "must be false if x-kubernetes-int-or-string is true";
    for (set, name) in [
        (props.preserves(), "x-kubernetes-preserve-unknown-fields"),
        (props.embedded, "x-kubernetes-embedded-resource"),
    ] {
        if set {
            errors.push(Error::invalid(&path.child(name), true, detail));
        }
    }
}

fn types(props: &Props, level: Level, path: &Path<'_>, errors: &mut Errors) {
    let place = path.child("type");
    let ty = &*props.ty;
    if props.embedded && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match ty {
            "" => Error::required(&place, detail),
            ty => Error::invalid(&place, ty, detail),
        });
    } else if ty.is_empty() && !props.int_or_string && !props.preserves() {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(Error::required(&place, detail));
    }
    if props.embedded && props.additional.is_some() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(Error::forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.push(Error::invalid(&place, ty, "must be object at the root"));
    }
    if props.embedded && !props.preserves() && props.properties.is_empty() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&path.child("properties"), detail));
    }
}

fn metadata(props: &Props, level: Level, path: &Path<'_>, errors: &mut Errors) {
    let properties = path.child("properties");
    let is_resource = level == Level::Root || props.embedded;
    for name in ["kind", "apiVersion"] {
        let Some(inner) = props.properties.get(name) else { continue };
        if is_resource && &*inner.ty != "string" {
            let path = properties.key(name);
            errors.push(Error::invalid(&path.child("type"), &*inner.ty, "must be string"));
        }
    }
    let Some(inner) = props.properties.get("metadata") else { return };
    let path = properties.key("metadata");
    if is_resource && &*inner.ty != "object" {
        errors.push(Error::invalid(&path.child("type"), &*inner.ty, "must be object"));
    }
    if level == Level::Root && !only_names(inner) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(Error::forbidden(&path, detail));
    }
}

/// Whether a schema of metadata says something of names only.
fn only_names(props: &Props) -> bool {
    let names = props.properties.keys().all(|name| matches!(&**name, "name" | "generateName"));
    let bare = Props { properties: Default::default(), ty: "".into(), default: None, ..props.clone() };
    names && is_bare(&bare)
}

/// Whether a node says nothing.
fn is_bare(props: &Props) -> bool {
    format!("{props:?}") == format!("{:?}", Props::default())
}

/// `anyOf: [{type: integer}, {type: string}]`, which goes with int-or-string.
fn is_either(any_of: &[Props]) -> bool {
    let only =
        |props: &Props, ty: &str| &*props.ty == ty && is_bare(&Props { ty: "".into(), ..props.clone() });
    matches!(any_of, [first, second] if only(first, "integer") && only(second, "string"))
}

fn is_first_either(props: &Props) -> bool {
    props.all_of.first().is_some_and(|first| is_either(&first.any_of))
}

fn values(
    props: &Props,
    skip_any_of: bool,
    skip_first: bool,
    level: Level,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if errors.len() > 200 {
        return;
    }
    let list = |name, all: &[Props], errors: &mut Errors| {
        let list = path.child(name);
        for (at, inner) in all.iter().enumerate() {
            nested(inner, false, level, &list.index(at), errors);
        }
    };
    if !skip_any_of {
        list("anyOf", &props.any_of, errors);
    }
    let all_of = path.child("allOf");
    for (at, inner) in props.all_of.iter().enumerate() {
        nested(inner, skip_first && at == 0, level, &all_of.index(at), errors);
    }
    list("oneOf", &props.one_of, errors);
    if let Some(inner) = &props.not {
        nested(inner, false, level, &path.child("not"), errors);
    }
    let text = &*props.pattern.text;
    if !text.is_empty()
        && let Err(reason) = pattern::compile(text)
    {
        let detail = format!("must be a valid regular expression, but isn't: {reason}");
        errors.push(Error::invalid(&path.child("pattern"), text, &detail));
    }
}

/// A node of a combination: it may only narrow.
fn nested(props: &Props, skip_any_of: bool, level: Level, path: &Path<'_>, errors: &mut Errors) {
    values(props, skip_any_of, false, level, path, errors);
    if let Some(items) = &props.items {
        nested(items, false, level, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, inner) in &props.properties {
        nested(inner, false, Level::Field, &properties.key(name), errors);
    }
    let additional = !matches!(props.additional, None | Some(crate::crd::props::Additional::Any(false)));
    for (set, name, detail) in [
        (!props.ty.is_empty(), "type", "must be empty to be structural"),
        (additional, "additionalProperties", "must be undefined to be structural"),
        (props.default.is_some(), "default", "must be undefined to be structural"),
        (!props.title.is_empty(), "title", "must be empty to be structural"),
        (!props.description.is_empty(), "description", "must be empty to be structural"),
        (props.nullable, "nullable", "must be false to be structural"),
        (props.preserves(), "x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        (props.embedded, "x-kubernetes-embedded-resource", "must be false to be structural"),
        (props.int_or_string, "x-kubernetes-int-or-string", "must be false to be structural"),
        (!props.list_keys.is_empty(), "x-kubernetes-list-map-keys", "must be empty to be structural"),
        (props.list_type.is_some(), "x-kubernetes-list-type", "must be undefined to be structural"),
        (props.map_type.is_some(), "x-kubernetes-map-type", "must be undefined to be structural"),
        (!props.rules.is_empty(), "x-kubernetes-validations", "must be empty to be structural"),
    ] {
        if set {
            errors.push(Error::forbidden(&path.child(name), detail));
        }
    }
    if props.properties.contains_key("metadata") {
        let detail = "must not be specified in a nested context";
        errors.push(Error::forbidden(&properties.key("metadata"), detail));
    }
}

/// What a combination speaks of must be there outside of it.
fn complete(props: &Props, outer: Option<&Props>, at: &Path<'_>, from: &Path<'_>, errors: &mut Errors) {
    if errors.len() > 200 {
        return;
    }
    if let Some(not) = &props.not {
        nested_complete(not, outer, at, &from.child("not"), errors);
    }
    for (name, all) in [("allOf", &props.all_of), ("anyOf", &props.any_of), ("oneOf", &props.one_of)] {
        let list = from.child(name);
        for (index, inner) in all.iter().enumerate() {
            nested_complete(inner, outer, at, &list.index(index), errors);
        }
    }
}

fn nested_complete(
    props: &Props,
    outer: Option<&Props>,
    at: &Path<'_>,
    from: &Path<'_>,
    errors: &mut Errors,
) {
    let missing =
        |at: &Path<'_>, from: &Path<'_>| Error::required(at, &format!("because it is defined in {from}"));
    let Some(outer) = outer else {
        errors.push(missing(at, from));
        return;
    };
    complete(props, Some(outer), at, from, errors);
    if let Some(items) = &props.items {
        nested_complete(items, outer.items.as_deref(), &at.child("items"), &from.child("items"), errors);
    }
    let (at, from) = (at.child("properties"), from.child("properties"));
    for (name, inner) in &props.properties {
        match outer.properties.get(name) {
            Some(outer) => nested_complete(inner, Some(outer), &at.key(name), &from.key(name), errors),
            None => errors.push(missing(&at.key(name), &from.key(name))),
        }
    }
}
