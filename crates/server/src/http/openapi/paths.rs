//! Paths of OpenAPI documents: as much of each operation as clients look at, which is
//! its action, its kind, its query parameters and the media types of its body.

use carrack_api::{Kind, Value};
use serde_json::{Map, json};

use super::Dialect;

/// Method, action in OpenAPI's words, verb in discovery's.
type Operation = (&'static str, &'static str, &'static str);

const COLLECTION: &[Operation] = &[
    ("get", "list", "list"),
    ("post", "post", "create"),
    ("delete", "deletecollection", "deletecollection"),
];
const ONE: &[Operation] = &[
    ("get", "get", "get"),
    ("put", "put", "update"),
    ("patch", "patch", "patch"),
    ("delete", "delete", "delete"),
];
const SUBRESOURCE: &[Operation] = &[
    ("get", "get", "get"),
    ("post", "post", "create"),
    ("put", "put", "update"),
    ("patch", "patch", "patch"),
    ("delete", "delete", "delete"),
];

/// Adds the paths of a kind's version.
pub(super) fn add(all: &mut Map<String, Value>, dialect: Dialect, kind: &Kind, index: usize) {
    let own = &kind.versions[index];
    let version = &*own.name;
    let body = own.schema.object(own.root).name.to_string();
    let root = match &*kind.group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let base = match kind.namespaced {
        true => format!("{root}/namespaces/{{namespace}}/{}", kind.plural),
        false => format!("{root}/{}", kind.plural),
    };
    let own = (&*kind.group, version, &*kind.kind);
    let path = Path { dialect, namespaced: kind.namespaced, custom: kind.custom, body: &body };
    let item = path.item(COLLECTION, &kind.verbs, own, false);
    insert(all, base.clone(), item);
    insert(all, format!("{base}/{{name}}"), path.item(ONE, &kind.verbs, own, true));
    if kind.namespaced && kind.verbs.iter().any(|verb| &**verb == "list") {
        let list = [COLLECTION[0]];
        let everywhere = Path { namespaced: false, ..path };
        insert(all, format!("{root}/{}", kind.plural), everywhere.item(&list, &kind.verbs, own, false));
    }
    for sub in kind.subresources_of(index) {
        let of = if sub.group == kind.group { version } else { &sub.version };
        let item = path.item(SUBRESOURCE, &sub.verbs, (&sub.group, of, &sub.kind), true);
        insert(all, format!("{base}/{{name}}/{}", sub.name), item);
    }
}

fn insert(all: &mut Map<String, Value>, path: String, item: Value) {
    if item.as_object().is_some_and(|item| item.len() > 1) {
        all.insert(path, item);
    }
}

#[derive(Clone, Copy)]
struct Path<'a> {
    dialect: Dialect,
    namespaced: bool,
    custom: bool,
    body: &'a str,
}

impl Path<'_> {
    fn item(
        self,
        operations: &[Operation],
        verbs: &[Box<str>],
        of: (&str, &str, &str),
        named: bool,
    ) -> Value {
        let mut item = Map::new();
        for (method, action, verb) in operations {
            if verbs.iter().any(|served| &**served == *verb) {
                item.insert((*method).into(), self.operation(action, of));
            }
        }
        let mut parameters = Vec::new();
        for (name, wanted) in [("name", named), ("namespace", self.namespaced)] {
            if wanted {
                parameters.push(self.parameter(name, "path", "string"));
            }
        }
        item.insert("parameters".into(), parameters.into());
        Value::Object(item)
    }

    fn operation(self, action: &str, (group, version, kind): (&str, &str, &str)) -> Value {
        let queries: &[(&str, &str)] = match action {
            "list" | "deletecollection" => &[
                ("allowWatchBookmarks", "boolean"),
                ("continue", "string"),
                ("fieldSelector", "string"),
                ("labelSelector", "string"),
                ("limit", "integer"),
                ("resourceVersion", "string"),
                ("resourceVersionMatch", "string"),
                ("sendInitialEvents", "boolean"),
                ("timeoutSeconds", "integer"),
                ("watch", "boolean"),
            ],
            "post" | "put" => {
                &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")]
            }
            "patch" => &[
                ("dryRun", "string"),
                ("fieldManager", "string"),
                ("fieldValidation", "string"),
                ("force", "boolean"),
            ],
            "delete" => &[
                ("dryRun", "string"),
                ("gracePeriodSeconds", "integer"),
                ("orphanDependents", "boolean"),
                ("propagationPolicy", "string"),
            ],
            _ => &[],
        };
        let parameters: Vec<Value> =
            queries.iter().map(|(name, ty)| self.parameter(name, "query", ty)).collect();
        let mut operation = json!({
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        let media: &[&str] = match action {
            "post" | "put" => &["*/*"],
            "patch" if self.custom => &["application/json-patch+json", "application/merge-patch+json"],
            "patch" => &[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
            ],
            _ => return operation,
        };
        match self.dialect {
            Dialect::V2 => operation["consumes"] = json!(media),
            Dialect::V3 => {
                let schema = match action {
                    "patch" => Dialect::V3.reference("io.k8s.apimachinery.pkg.apis.meta.v1.Patch"),
                    _ => Dialect::V3.reference(self.body),
                };
                let content: Map<String, Value> =
                    media.iter().map(|ty| ((*ty).to_owned(), json!({"schema": schema}))).collect();
                operation["requestBody"] = json!({"content": content, "required": true});
            }
        }
        operation
    }

    fn parameter(self, name: &str, place: &str, ty: &str) -> Value {
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
