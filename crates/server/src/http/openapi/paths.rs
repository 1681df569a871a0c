//! Writes down operations in the two dialects of documents.

use std::collections::BTreeSet;

use carrack_api::Value;
use serde_json::{Map, json};

use super::Dialect;
use super::operations::{Operation, Parameter, Place, Shape};

/// Adds a path; notes the types that it speaks of.
pub(super) fn add(
    all: &mut Map<String, Value>,
    dialect: Dialect,
    place: &Place,
    types: &mut BTreeSet<String>,
) {
    let writer = Writer { dialect };
    // What all operations of a path take is said once.
    let common: Vec<Parameter> = match place.operations.split_first() {
        Some((first, rest)) => {
            let by_all = |one: &&Parameter| rest.iter().all(|other| other.parameters.contains(one));
            first.parameters.iter().filter(by_all).copied().collect()
        }
        None => return,
    };
    let mut item = Map::new();
    for operation in &place.operations {
        item.insert(operation.method.into(), writer.operation(operation, &place.tag, &common));
        let shapes = operation.answers.iter().map(|(_, shape)| shape);
        for shape in shapes.chain(operation.body.iter().map(|(shape, _)| shape)) {
            if let Shape::Type(name) = shape {
                types.insert(name.clone());
            }
        }
    }
    let mut parameters: Vec<(&str, Value)> =
        common.iter().map(|(name, ty)| (*name, writer.parameter(name, "query", ty))).collect();
    parameters.extend(place.parts.iter().map(|name| (*name, writer.parameter(name, "path", "string"))));
    parameters.sort_by(|(a, one), (b, other)| a.cmp(b).then(one["in"].as_str().cmp(&other["in"].as_str())));
    if !parameters.is_empty() {
        item.insert("parameters".into(), parameters.into_iter().map(|(_, parameter)| parameter).collect());
    }
    all.insert(place.path.clone(), item.into());
}

/// Adds a path that only tells of other paths, or of the server.
pub(super) fn add_root(
    all: &mut Map<String, Value>,
    dialect: Dialect,
    (path, id, tag): (&str, &str, &str),
    answer: Option<&str>,
    media: &[&str],
) {
    let writer = Writer { dialect };
    let shape = answer.map_or(Shape::Text, |name| Shape::Type(name.to_owned()));
    let mut operation = json!({
        "tags": [tag],
        "operationId": id,
        "responses": writer.answers(&[("200", shape)], media),
    });
    if dialect == Dialect::V2 {
        if answer.is_some() {
            operation["consumes"] = json!(media);
        }
        operation["produces"] = json!(media);
        operation["schemes"] = json!(["https"]);
    }
    all.insert(path.to_owned(), json!({ "get": operation }));
}

struct Writer {
    dialect: Dialect,
}

impl Writer {
    fn operation(&self, operation: &Operation, tag: &str, common: &[Parameter]) -> Value {
        let (group, version, kind) = &operation.of;
        let mut written = json!({
            "tags": [tag],
            "operationId": operation.id,
            "responses": self.answers(&operation.answers, operation.produces),
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let own = operation.parameters.iter().filter(|one| !common.contains(one));
        let mut parameters: Vec<Value> = own.map(|(name, ty)| self.parameter(name, "query", ty)).collect();
        match self.dialect {
            Dialect::V2 => {
                if let Some((shape, required)) = &operation.body {
                    let mut body = json!({"name": "body", "in": "body", "schema": self.shape(shape)});
                    if *required {
                        body["required"] = true.into();
                    }
                    parameters.insert(0, body);
                }
                written["consumes"] = json!(operation.consumes);
                written["produces"] = json!(operation.produces);
                written["schemes"] = json!(["https"]);
            }
            Dialect::V3 => {
                if let Some((shape, required)) = &operation.body {
                    let mut body = json!({"content": self.content(shape, operation.consumes)});
                    if *required {
                        body["required"] = true.into();
                    }
                    written["requestBody"] = body;
                }
            }
        }
        if !parameters.is_empty() {
            written["parameters"] = parameters.into();
        }
        written
    }

    fn answers(&self, answers: &[(&str, Shape)], media: &[&str]) -> Value {
        let mut all = Map::new();
        for (code, shape) in answers {
            let said = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let answer = match self.dialect {
                Dialect::V2 => json!({"description": said, "schema": self.shape(shape)}),
                Dialect::V3 => json!({"description": said, "content": self.content(shape, media)}),
            };
            all.insert((*code).to_owned(), answer);
        }
        all.insert("401".into(), json!({"description": "Unauthorized"}));
        all.into()
    }

    fn content(&self, shape: &Shape, media: &[&str]) -> Map<String, Value> {
        media.iter().map(|ty| ((*ty).to_owned(), json!({"schema": self.shape(shape)}))).collect()
    }

    fn shape(&self, shape: &Shape) -> Value {
        match shape {
            Shape::Type(name) => self.dialect.reference(name),
            Shape::Text => json!({"type": "string"}),
        }
    }

    fn parameter(&self, name: &str, place: &str, ty: &str) -> Value {
        let mut parameter = json!({"name": name, "in": place});
        match self.dialect {
            Dialect::V2 => {
                parameter["type"] = ty.into();
                parameter["uniqueItems"] = true.into();
            }
            Dialect::V3 => parameter["schema"] = json!({"type": ty, "uniqueItems": true}),
        }
        if place == "path" {
            parameter["required"] = true.into();
        }
        parameter
    }
}
