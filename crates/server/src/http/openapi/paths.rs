//! Writes down operations in the two dialects of documents.

use std::collections::BTreeSet;

use carrack_api::Value;
use serde_json::{Map, json};

use super::Dialect;
use super::operations::{Operation, Place, Shape};
use super::parameters::{self, Parameter};

/// What is written down of operations.
#[derive(Default)]
pub(super) struct Written {
    pub(super) paths: Map<String, Value>,
    /// The parameters that Swagger 2.0 shares, by name.
    pub(super) parameters: Map<String, Value>,
    /// The types that operations speak of.
    pub(super) types: BTreeSet<String>,
}

/// Adds a path.
pub(super) fn add(all: &mut Written, dialect: Dialect, place: &Place) {
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
        let written = writer.operation(operation, &place.tag, &common, &mut all.parameters);
        item.insert(operation.method.into(), written);
        let shapes = operation.answers.iter().map(|(_, shape)| shape);
        for shape in shapes.chain(operation.body.iter().map(|(shape, _)| shape)) {
            if let Shape::Type(name) = shape {
                all.types.insert(name.clone());
            }
        }
    }
    let mut parameters: Vec<(Parameter, &str)> = common.into_iter().map(|one| (one, "query")).collect();
    let of_path = |name: &&'static str| ((*name, "string", parameters::of_place(name)), "path");
    parameters.extend(place.parts.iter().map(of_path));
    parameters.sort_by_key(|((name, ..), place)| (*name, *place));
    if !parameters.is_empty() {
        let written = parameters.iter().map(|(one, place)| writer.parameter(one, place, &mut all.parameters));
        item.insert("parameters".into(), written.collect());
    }
    all.paths.insert(place.path.clone(), item.into());
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
    fn operation(
        &self,
        operation: &Operation,
        tag: &str,
        common: &[Parameter],
        shared: &mut Map<String, Value>,
    ) -> Value {
        let (group, version, kind) = &operation.of;
        let mut written = json!({
            "tags": [tag],
            "operationId": operation.id,
            "responses": self.answers(&operation.answers, operation.produces),
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let own = operation.parameters.iter().filter(|one| !common.contains(one));
        let mut parameters: Vec<Value> = own.map(|one| self.parameter(one, "query", shared)).collect();
        match self.dialect {
            Dialect::V2 => {
                if let Some((shape, required)) = &operation.body {
                    let mut body = json!({"name": "body", "in": "body", "schema": self.shape(shape)});
                    if *required {
                        body["required"] = true.into();
                    }
                    let name = match shape {
                        Shape::Type(name) => name.rsplit('.').next().unwrap_or_default(),
                        Shape::Text => "",
                    };
                    parameters.insert(0, share("body", parameters::of_place(name), body, shared));
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

    fn parameter(
        &self,
        (name, ty, ending): &Parameter,
        place: &str,
        shared: &mut Map<String, Value>,
    ) -> Value {
        let mut parameter = json!({"name": name, "in": place});
        if place == "path" {
            parameter["required"] = true.into();
        }
        match self.dialect {
            Dialect::V2 => {
                parameter["type"] = (*ty).into();
                parameter["uniqueItems"] = true.into();
                share(name, ending, parameter, shared)
            }
            Dialect::V3 => {
                parameter["schema"] = json!({"type": ty, "uniqueItems": true});
                parameter
            }
        }
    }
}

/// A reference to a parameter, which is shared; without an ending, the parameter itself.
fn share(name: &str, ending: &str, parameter: Value, shared: &mut Map<String, Value>) -> Value {
    if ending.is_empty() {
        return parameter;
    }
    let name = format!("{name}-{ending}");
    let reference = json!({ "$ref": format!("#/parameters/{name}") });
    shared.insert(name, parameter);
    reference
}
