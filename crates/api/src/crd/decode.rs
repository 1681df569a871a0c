//! Decoding of objects of custom kinds: what comes out is pruned, its metadata is
//! canonical, and what was dropped is told with its path.
//!
//! (After upstream's `unstructuredSchemaCoercer`.) Values of wrong types and nulls that
//! are allowed stay: validation judges them.

use serde_json::{Number, Value};

use super::{Definition, embedded, prune};
use crate::decode::{self, Decoded, Error};

/// Brings a tree that was read without a schema into the form of a version.
///
/// # Errors
/// Metadata, apiVersion or kind of a wrong type.
pub fn settle(definition: &Definition, version: usize, read: Decoded) -> Result<Decoded, Error> {
    let Decoded { mut value, mut strict, .. } = read;
    numbers(&mut value);
    let Some(object) = value.as_object_mut() else {
        let what = decode::describe(&value);
        let reason = format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}");
        return Err(Error::Unfit(reason));
    };
    for name in ["apiVersion", "kind"] {
        if let Some(wrong) = object.get(name).filter(|value| !value.is_string() && !value.is_null()) {
            let found = embedded::go_value_and_type(wrong);
            return Err(Error::Unfit(format!(".{name} accessor error: {found}, expected string")));
        }
    }
    let schema = &definition.versions[version].schema;
    let mut unknown = Vec::new();
    if let Some(meta) = object.get_mut("metadata") {
        unknown.extend(embedded::metadata(meta, "metadata").map_err(Error::Unfit)?);
    }
    unknown.extend(prune::resource(&mut value, schema));
    prune::nulls(&mut value, Some(schema));
    unknown.extend(embedded::coerce(&mut value, schema).map_err(Error::Unfit)?);
    strict.extend(unknown.into_iter().map(|path| format!("unknown field {path:?}")));
    Ok(Decoded { value, strict, ..Decoded::default() })
}

/// An object as it was stored in one version, in the form of another: pruned by both
/// schemas, and defaulted by the one in which it was stored.
pub fn from_storage(definition: &Definition, stored: usize, version: usize, object: &mut Value) {
    let fit = |index: usize, object: &mut Value| {
        let schema = &definition.versions[index].schema;
        prune::resource(object, schema);
        prune::nulls(object, Some(schema));
        // What was once accepted may not fit any more: it stays as it is.
        let _ = embedded::coerce(object, schema);
    };
    fit(stored, object);
    prune::default(object, &definition.versions[stored].schema);
    if stored != version {
        fit(version, object);
    }
}

/// Numbers as a round trip through Go leaves them: whole ones without a fraction,
/// those beyond 64 bits as floating-point.
fn numbers(value: &mut Value) {
    match value {
        Value::Number(number) if !number.is_i64() => {
            let Some(float) = number.as_f64() else { return };
            let whole = float.fract() == 0.0 && float.abs() < 9.2e18;
            *number = match Number::from_f64(float) {
                _ if whole => Number::from(float as i64),
                Some(float) => float,
                None => return,
            };
        }
        Value::Object(fields) => fields.values_mut().for_each(numbers),
        Value::Array(items) => items.iter_mut().for_each(numbers),
        _ => {}
    }
}
