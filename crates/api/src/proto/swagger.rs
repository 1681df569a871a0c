//! OpenAPI v2 documents in protobuf, as client-go asks for them: the message
//! `openapi.v2.Document` of gnostic.
//!
//! It knows the parts that documents of an API server have; whatever begins with `x-` is
//! kept as YAML text, which JSON is. What has no place in the message is left out.

use serde_json::{Map, Value};

use super::wire::{put_bytes, put_message, put_number, put_varint};

/// The media type of the message.
pub const SWAGGER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The same as clients ask for it. It is not a valid media type, so no answer has it.
pub const SWAGGER_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// How a JSON value is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Flag,
    Whole,
    Double,
    /// Any JSON, as text.
    Any,
    Texts,
    Anys,
    Message(&'static Message),
    Messages(&'static Message),
    /// `{name: value}` as a message with a repeated field 1 of names and values.
    Named(&'static Message),
    /// What needs more than a number.
    Special(fn(&mut Vec<u8>, u32, &Value)),
}

/// A message: JSON names, numbers and forms, and the number of the extensions.
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    extensions: u32,
}

use Form::{Any, Anys, Double, Flag, Messages, Named, Special, Text, Texts, Whole};

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, Form::Message(&INFO)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Texts),
        ("consumes", 6, Texts),
        ("produces", 7, Texts),
        ("paths", 8, Special(paths)),
        ("definitions", 9, Named(&SCHEMA)),
    ],
    extensions: 16,
};

static INFO: Message =
    Message { fields: &[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], extensions: 7 };

static PATH_ITEM: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("get", 2, Form::Message(&OPERATION)),
        ("put", 3, Form::Message(&OPERATION)),
        ("post", 4, Form::Message(&OPERATION)),
        ("delete", 5, Form::Message(&OPERATION)),
        ("options", 6, Form::Message(&OPERATION)),
        ("head", 7, Form::Message(&OPERATION)),
        ("patch", 8, Form::Message(&OPERATION)),
        ("parameters", 9, Special(parameters)),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Special(parameters)),
        ("responses", 9, Special(responses)),
        ("schemes", 10, Texts),
        ("deprecated", 11, Flag),
    ],
    extensions: 13,
};

static BODY: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, Form::Message(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 6, Text),
        ("format", 7, Text),
        ("uniqueItems", 20, Flag),
    ],
    extensions: 23,
};

static PATH: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("uniqueItems", 19, Flag),
    ],
    extensions: 22,
};

static RESPONSE: Message =
    Message { fields: &[("description", 1, Text), ("schema", 2, Special(item))], extensions: 5 };

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Double),
        ("maximum", 7, Double),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Double),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Whole),
        ("minLength", 12, Whole),
        ("pattern", 13, Text),
        ("maxItems", 14, Whole),
        ("minItems", 15, Whole),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Whole),
        ("minProperties", 18, Whole),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, Special(additional)),
        ("type", 22, Special(types)),
        ("items", 23, Special(items)),
        ("allOf", 24, Messages(&SCHEMA)),
        ("properties", 25, Named(&SCHEMA)),
        ("discriminator", 26, Text),
        ("readOnly", 27, Flag),
        ("example", 30, Any),
    ],
    extensions: 31,
};

/// Encodes a document.
pub fn swagger(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    DOCUMENT.fields_of(document, &mut out);
    out
}

impl Message {
    fn fields_of(&self, value: &Value, out: &mut Vec<u8>) {
        let Some(map) = value.as_object() else { return };
        for (name, number, form) in self.fields {
            if let Some(value) = map.get(*name) {
                form.put(out, *number, value);
            }
        }
        for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
            nested(out, self.extensions, |out| {
                put_bytes(out, 1, name.as_bytes());
                any(out, 2, value);
            });
        }
    }

    fn put(&self, out: &mut Vec<u8>, number: u32, value: &Value) {
        nested(out, number, |out| self.fields_of(value, out));
    }
}

impl Form {
    fn put(self, out: &mut Vec<u8>, number: u32, value: &Value) {
        match self {
            Self::Text => put_bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
            Self::Flag => put_number(out, number, value.as_bool().unwrap_or_default().into()),
            Self::Whole => put_number(out, number, value.as_i64().unwrap_or_default() as u64),
            Self::Double => {
                put_varint(out, u64::from(number) << 3 | 1);
                out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
            }
            Self::Any => any(out, number, value),
            Self::Texts => texts(out, number, value),
            Self::Anys => list(value).for_each(|value| any(out, number, value)),
            Self::Message(message) => message.put(out, number, value),
            Self::Messages(message) => list(value).for_each(|value| message.put(out, number, value)),
            Self::Named(message) => nested(out, number, |out| {
                entries(value)
                    .for_each(|(name, value)| named(out, 1, name, |out| message.put(out, 2, value)));
            }),
            Self::Special(put) => put(out, number, value),
        }
    }
}

fn paths(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| {
        entries(value).for_each(|(path, item)| named(out, 2, path, |out| PATH_ITEM.put(out, 2, item)));
    });
}

/// Parameter or reference, in the body or not, and where else.
fn parameters(out: &mut Vec<u8>, number: u32, value: &Value) {
    for parameter in list(value) {
        nested(out, number, |out| {
            nested(out, 1, |out| match parameter["in"].as_str().unwrap_or_default() {
                "body" => BODY.put(out, 1, parameter),
                "path" => nested(out, 2, |out| PATH.put(out, 4, parameter)),
                _ => nested(out, 2, |out| QUERY.put(out, 3, parameter)),
            });
        });
    }
}

fn responses(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| {
        for (code, response) in entries(value) {
            named(out, 1, code, |out| nested(out, 2, |out| RESPONSE.put(out, 1, response)));
        }
    });
}

fn item(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| SCHEMA.put(out, 1, value));
}

fn additional(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| match value {
        Value::Bool(flag) => put_number(out, 2, u64::from(*flag)),
        schema => SCHEMA.put(out, 1, schema),
    });
}

fn types(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| texts(out, 1, value));
}

fn items(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| list(value).for_each(|schema| SCHEMA.put(out, 1, schema)));
}

/// One text or several.
fn texts(out: &mut Vec<u8>, number: u32, value: &Value) {
    list(value).filter_map(Value::as_str).for_each(|text| put_bytes(out, number, text.as_bytes()));
}

fn any(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| put_bytes(out, 2, value.to_string().as_bytes()));
}

fn named(out: &mut Vec<u8>, number: u32, name: &str, put: impl FnOnce(&mut Vec<u8>)) {
    nested(out, number, |out| {
        put_bytes(out, 1, name.as_bytes());
        put(out);
    });
}

/// The items of a list, or the one value that is none.
fn list(value: &Value) -> std::slice::Iter<'_, Value> {
    value.as_array().map_or_else(|| std::slice::from_ref(value).iter(), |items| items.iter())
}

fn entries(value: &Value) -> serde_json::map::Iter<'_> {
    static NONE: std::sync::OnceLock<Map<String, Value>> = std::sync::OnceLock::new();
    value.as_object().unwrap_or_else(|| NONE.get_or_init(Map::new)).iter()
}

fn nested(out: &mut Vec<u8>, number: u32, put: impl FnOnce(&mut Vec<u8>)) {
    let Ok(()) = put_message(out, number, |out| {
        put(out);
        Ok::<(), std::convert::Infallible>(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn documents_are_gnostics_messages() {
        for (document, expect) in [
            (json!({"swagger": "2.0"}), "0a03322e30"),
            // 9: definitions, 1: named schema, name "A", 2: schema, 22: type "object".
            (json!({"definitions": {"A": {"type": "object"}}}), "4a120a100a0141120bb201080a066f626a656374"),
            // 8: paths, 2: "/a", 2: item, 9: parameter 1: 2: 4: required, in path.
            (
                json!({"paths": {"/a": {"parameters": [{"in": "path", "required": true}]}}}),
                "421812160a022f6112104a0e0a0c120a22080801120470617468",
            ),
            // An extension as text: 16: name, 2: any, 2: yaml.
            (json!({"x-a": [1]}), "82010c0a03782d611205 12035b315d"),
        ] {
            let expect: String = expect.split_whitespace().collect();
            assert_eq!(hex(&swagger(&document)), expect, "{document}");
        }
    }
}
