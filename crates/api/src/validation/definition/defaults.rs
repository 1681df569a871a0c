//! Defaults in schemas: they fit the schema that they stand in.

use crate::crd::{Props, check, embedded, prune};
use crate::field::{Error, Errors, Path};

/// Rules of the defaults of a resource's schema.
pub(super) fn check(props: &Props, path: &Path<'_>, errors: &mut Errors) {
    visit(props, true, false, path, errors);
}

fn visit(props: &Props, is_root: bool, in_meta: bool, path: &Path<'_>, errors: &mut Errors) {
    let is_resource = is_root || props.embedded;
    let in_meta = in_meta && !is_resource;
    if let Some(default) = &props.default {
        let place = path.child("default");
        let mut pruned = default.clone();
        prune::value(&mut pruned, props);
        if !in_meta && pruned != *default {
            errors.push(Error::invalid(&place, default.clone(), "must not have unknown fields"));
        }
        let mut coerced = default.clone();
        match embedded::coerce(&mut coerced, props) {
            Err(reason) => errors.push(Error::invalid(&place, default.clone(), &reason)),
            Ok(_) => {
                let before = errors.len();
                embedded::validate(&coerced, props, &place, errors);
                if errors.len() == before {
                    check::create(default, props, &place, errors);
                }
            }
        }
    }
    if let Some(items) = &props.items {
        visit(items, false, in_meta, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, inner) in &props.properties {
        let is_meta = is_resource && matches!(&**name, "metadata" | "apiVersion" | "kind");
        visit(inner, false, in_meta || is_meta, &properties.key(name), errors);
    }
}
