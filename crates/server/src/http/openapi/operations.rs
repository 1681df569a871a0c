//! What can be done at each path: methods, ids, parameters, bodies and answers, as upstream's
//! `apiserver/pkg/endpoints/installer.go` declares them. Pure; how a document writes them
//! down is said in `paths.rs`.

use carrack_api::Kind;

use super::parameters::{self, Parameter};
use super::schemas::META;

/// What a parameter, a body or an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// A type of the definitions, by name.
    Type(String),
    /// A string.
    Text,
}

/// One operation.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) id: String,
    /// `x-kubernetes-action`.
    pub(super) action: &'static str,
    /// Group, version, kind.
    pub(super) of: (String, String, String),
    pub(super) parameters: Vec<Parameter>,
    /// The body, and whether there has to be one.
    pub(super) body: Option<(Shape, bool)>,
    /// Media types of the body.
    pub(super) consumes: &'static [&'static str],
    pub(super) produces: &'static [&'static str],
    pub(super) answers: Vec<(&'static str, Shape)>,
}

/// A path with its operations.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: String,
    /// The group and version that it belongs to, as tags have them.
    pub(super) tag: String,
    /// Of `name`, `namespace` and `path`, those that are parts of the path.
    pub(super) parts: Vec<&'static str>,
    pub(super) operations: Vec<Operation>,
}

const ANY: &[&str] = &["*/*"];
const OBJECTS: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAMS: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const CUSTOM: &[&str] = &["application/json", "application/yaml"];
const LOG: &[&str] =
    &["text/plain", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const CUSTOM_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// Kinds of which a deletion answers the object rather than a Status.
const ANSWERED_WHEN_DELETED: &[&str] = &[
    "csidrivers.storage.k8s.io",
    "csinodes.storage.k8s.io",
    "deviceclasses.resource.k8s.io",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourceclaims.resource.k8s.io",
    "resourceclaimtemplates.resource.k8s.io",
    "resourcequotas",
    "resourceslices.resource.k8s.io",
    "serviceaccounts",
    "services",
    "storageclasses.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "volumeattributesclasses.storage.k8s.io",
];

/// Names of the types that a kind's operations speak of.
pub(super) struct Names<'a> {
    pub(super) own: &'a str,
    pub(super) list: &'a str,
    /// The type of a subresource's body, by its name.
    pub(super) sub: &'a dyn Fn(&str) -> String,
}

/// `CoreV1`, `RbacAuthorizationV1`: what ids have of a group and version.
pub(super) fn words(group: &str, version: &str) -> String {
    let group = if group.is_empty() { "core" } else { group.trim_end_matches(".k8s.io") };
    let words = group.split(['.', '-']).chain([version]);
    words.map(capital).collect()
}

/// `core_v1`, `rbacAuthorization_v1`.
pub(super) fn tag(group: &str, version: &str) -> String {
    let words = words(group, "");
    let mut letters = words.chars();
    let first = letters.next().map(|c| c.to_ascii_lowercase());
    let tail = if version.is_empty() { String::new() } else { format!("_{version}") };
    first.into_iter().chain(letters).collect::<String>() + &tail
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// The paths of a kind's version.
pub(super) fn places(kind: &Kind, index: usize, names: &Names<'_>) -> Vec<Place> {
    let version = &*kind.versions[index].name;
    let root = match &*kind.group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    Maker { kind, index, version, root, names }.places()
}

struct Maker<'a> {
    kind: &'a Kind,
    index: usize,
    version: &'a str,
    root: String,
    names: &'a Names<'a>,
}

impl Maker<'_> {
    fn serves(&self, verb: &str) -> bool {
        self.kind.verbs.iter().any(|served| &**served == verb)
    }

    /// The plural below the root, or below what comes before it there.
    fn base(&self, before: &str) -> String {
        let namespace = if self.kind.namespaced { "/namespaces/{namespace}" } else { "" };
        format!("{}{before}{namespace}/{}", self.root, self.kind.plural)
    }

    fn places(&self) -> Vec<Place> {
        let base = self.base("");
        let scope: &[&'static str] = if self.kind.namespaced { &["namespace"] } else { &[] };
        let named: Vec<&'static str> = ["name"].iter().chain(scope).copied().collect();
        let mut places = vec![
            self.place(base.clone(), scope, &["list", "create", "deletecollection"]),
            self.place(format!("{base}/{{name}}"), &named, &["get", "update", "delete", "patch"]),
        ];
        if self.kind.namespaced {
            let everywhere = format!("{}/{}", self.root, self.kind.plural);
            places.push(self.place(everywhere, &[], &["list"]));
        }
        for sub in self.kind.subresources_of(self.index) {
            places.extend(self.subresource(sub, &format!("{base}/{{name}}"), &named));
        }
        if self.serves("watch") && self.kind.definition.is_none() {
            let watch = self.base("/watch");
            if self.serves("list") {
                places.push(self.place(watch.clone(), scope, &["watchlist"]));
                if self.kind.namespaced {
                    let everywhere = format!("{}/watch/{}", self.root, self.kind.plural);
                    places.push(self.place(everywhere, &[], &["watchlist"]));
                }
            }
            places.push(self.place(format!("{watch}/{{name}}"), &named, &["watch"]));
        }
        places.retain(|place| !place.operations.is_empty());
        places
    }

    fn place(&self, path: String, parts: &[&'static str], verbs: &[&str]) -> Place {
        let everywhere = self.kind.namespaced && !parts.contains(&"namespace");
        let served = |verb: &&&str| **verb == "watchlist" || self.serves(verb);
        let operations = verbs.iter().filter(served).map(|verb| {
            let mut operation = self.operation(verb, Shape::Type(self.names.own.to_owned()));
            operation.id = self.id(verb, everywhere, "");
            operation
        });
        self.at(path, parts, operations.collect())
    }

    fn at(&self, path: String, parts: &[&'static str], operations: Vec<Operation>) -> Place {
        Place { path, tag: tag(&self.kind.group, self.version), parts: parts.to_vec(), operations }
    }

    fn id(&self, verb: &str, everywhere: bool, sub: &str) -> String {
        let action = match verb {
            "get" => "read",
            "update" => "replace",
            "deletecollection" => "delete",
            "watchlist" => "watch",
            other => other,
        };
        let collection = if verb == "deletecollection" { "Collection" } else { "" };
        let namespaced = if self.kind.namespaced && !everywhere { "Namespaced" } else { "" };
        let list = if verb == "watchlist" { "List" } else { "" };
        let all = if everywhere { "ForAllNamespaces" } else { "" };
        let group = words(&self.kind.group, self.version);
        format!("{action}{group}{collection}{namespaced}{}{list}{sub}{all}", self.kind.kind)
    }

    /// An operation on a type, without id.
    fn operation(&self, verb: &str, own: Shape) -> Operation {
        let custom = self.kind.definition.is_some();
        let meta = |name: &str| Shape::Type(format!("{META}{name}"));
        let (method, action) = match verb {
            "list" => ("get", "list"),
            "watch" => ("get", "watch"),
            "watchlist" => ("get", "watchlist"),
            "create" => ("post", "post"),
            "update" => ("put", "put"),
            "patch" => ("patch", "patch"),
            "delete" => ("delete", "delete"),
            "deletecollection" => ("delete", "deletecollection"),
            _ => ("get", "get"),
        };
        let body = match verb {
            "create" | "update" => Some((own.clone(), true)),
            "patch" => Some((meta("Patch"), true)),
            "deletecollection" if custom => None,
            "delete" | "deletecollection" => Some((meta("DeleteOptions"), false)),
            _ => None,
        };
        let answer = match verb {
            "list" => Shape::Type(self.names.list.to_owned()),
            "watch" | "watchlist" => meta("WatchEvent"),
            "delete" if !ANSWERED_WHEN_DELETED.contains(&&*self.kind.resource) => meta("Status"),
            "deletecollection" => meta("Status"),
            _ => own,
        };
        let codes: &[&str] = match verb {
            "create" => &["200", "201", "202"],
            "patch" if custom => &["200"],
            "update" | "patch" => &["200", "201"],
            "delete" => &["200", "202"],
            _ => &["200"],
        };
        Operation {
            method,
            id: String::new(),
            action,
            of: (self.kind.group.to_string(), self.version.to_owned(), self.kind.kind.to_string()),
            parameters: parameters::of_verb(verb, custom).to_vec(),
            body,
            consumes: match (verb, custom) {
                ("patch", false) => PATCHES,
                ("patch", true) => CUSTOM_PATCHES,
                (_, true) => CUSTOM,
                _ => ANY,
            },
            produces: match verb {
                _ if custom => CUSTOM,
                "list" | "watch" | "watchlist" => STREAMS,
                _ => OBJECTS,
            },
            answers: codes.iter().map(|code| (*code, answer.clone())).collect(),
        }
    }

    fn subresource(
        &self,
        sub: &carrack_api::kind::Subresource,
        base: &str,
        named: &[&'static str],
    ) -> Vec<Place> {
        let version = if sub.group == self.kind.group { self.version } else { &*sub.version };
        let of = match self.kind.definition {
            // Said to be of the kind, whatever the body is.
            Some(_) => (self.kind.group.to_string(), self.version.to_owned(), self.kind.kind.to_string()),
            None => (sub.group.to_string(), version.to_owned(), sub.kind.to_string()),
        };
        let path = format!("{base}/{}", sub.name);
        let title = capital(&sub.name);
        if sub.kind.ends_with("Options") {
            return self.connections(&sub.name, &title, &of, &path, named);
        }
        let own = match &*sub.name {
            "log" => Shape::Text,
            _ if sub.kind == self.kind.kind => Shape::Type(self.names.own.to_owned()),
            name => Shape::Type((self.names.sub)(name)),
        };
        let verbs = ["get", "create", "update", "delete", "patch"];
        let served = verbs.iter().filter(|verb| sub.verbs.iter().any(|served| &**served == **verb));
        let operations = served.map(|verb| {
            let mut operation = self.operation(verb, own.clone());
            operation.id = self.id(verb, false, &title);
            operation.of = of.clone();
            if own == Shape::Text {
                operation.parameters = parameters::LOG.to_vec();
                operation.produces = LOG;
            }
            operation
        });
        vec![self.at(path, named, operations.collect())]
    }

    /// What streams: exec, attach, portforward, and proxy with and without a path.
    fn connections(
        &self,
        name: &str,
        title: &str,
        of: &(String, String, String),
        path: &str,
        named: &[&'static str],
    ) -> Vec<Place> {
        let methods: &[&'static str] = match name {
            "exec" | "attach" | "portforward" => &["get", "post"],
            _ => &["get", "put", "post", "delete", "options", "head", "patch"],
        };
        let query = parameters::of_connection(name, &self.kind.kind);
        let namespaced = if self.kind.namespaced { "Namespaced" } else { "" };
        let group = words(&self.kind.group, self.version);
        let place = |path: String, parts: &[&'static str], end: &str| {
            let operations = methods.iter().map(|method| Operation {
                method,
                id: format!("connect{group}{}{namespaced}{}{title}{end}", capital(method), self.kind.kind),
                action: "connect",
                of: of.clone(),
                parameters: query.to_vec(),
                body: None,
                consumes: ANY,
                produces: ANY,
                answers: vec![("200", Shape::Text)],
            });
            self.at(path, parts, operations.collect())
        };
        let mut places = vec![place(path.to_owned(), named, "")];
        if name == "proxy" {
            let parts: Vec<&'static str> = named.iter().copied().chain(["path"]).collect();
            places.push(place(format!("{path}/{{path}}"), &parts, "WithPath"));
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_become_words_and_tags() {
        for (group, version, expect, tagged) in [
            ("", "v1", "CoreV1", "core_v1"),
            ("apps", "v1", "AppsV1", "apps_v1"),
            ("rbac.authorization.k8s.io", "v1", "RbacAuthorizationV1", "rbacAuthorization_v1"),
            ("flowcontrol.apiserver.k8s.io", "v1", "FlowcontrolApiserverV1", "flowcontrolApiserver_v1"),
            ("example.com", "v1beta1", "ExampleComV1beta1", "exampleCom_v1beta1"),
        ] {
            assert_eq!(words(group, version), expect);
            assert_eq!(tag(group, version), tagged);
        }
    }
}
