//! An applied configuration as it comes: YAML, of which JSON is a part. It stays
//! undecoded, so that what it claims is what was written.

use serde_json::{Number, Value};

use crate::{decode, yaml};

/// An applied configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Its tree, always an object.
    pub object: Value,
    /// Keys that came twice, such as `line 3: key "a" already set in map`.
    pub duplicates: Vec<String>,
}

/// Why a body is no configuration. Displays as upstream words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error decoding YAML: {0}")]
pub struct NoConfig(String);

impl Config {
    /// Reads a body. Bounded as every body is.
    ///
    /// # Errors
    /// It is no YAML, or no object.
    pub fn read(body: &[u8]) -> Result<Self, NoConfig> {
        let (mut object, duplicates) = match json(body) {
            Some(object) => (object, Vec::new()),
            None => {
                let converting = |why: String| NoConfig(format!("error converting YAML to JSON: {why}"));
                let document = yaml::read(body).map_err(|error| converting(error.to_string()))?;
                (document.value, document.duplicates)
            }
        };
        if object.is_null() {
            object = Value::Object(serde_json::Map::new());
        }
        if !object.is_object() {
            let what = decode::describe(&object);
            return Err(NoConfig(format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {what} into Go value of \
                 type map[string]interface {{}}"
            )));
        }
        let mut left = decode::MAX_COLLECTIONS;
        settle(&mut object, &mut left).ok_or_else(|| NoConfig(decode::TOO_MANY.into()))?;
        Ok(Self { object, duplicates })
    }
}

/// Nearly all bodies are JSON; one with keys twice is left to the YAML reader, which
/// knows its lines.
fn json(body: &[u8]) -> Option<Value> {
    let starts = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let decoded = decode::untyped(body).ok().filter(|_| starts == Some(&b'{'))?;
    decoded.strict.is_empty().then_some(decoded.value)
}

/// Makes whole numbers integers, and counts what a tree consists of.
fn settle(value: &mut Value, left: &mut usize) -> Option<()> {
    /// Up to here every whole number is one of a kind as a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT);
            if let Some(float) = float {
                *number = Number::from(float as i64);
            }
        }
        Value::Array(items) => {
            *left = left.checked_sub(1)?;
            items.iter_mut().try_for_each(|item| settle(item, left))?;
        }
        Value::Object(fields) => {
            *left = left.checked_sub(1)?;
            fields.values_mut().try_for_each(|field| settle(field, left))?;
        }
        _ => {}
    }
    Some(())
}
