//! What holds of applying, whatever is applied: over generated configurations of a pod
//! and of a custom kind, and over bytes.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kind::{Kind, Version};
use crate::kinds;
use crate::schema::{Field, ListType, Object, Schema};
use crate::status::Status;

const TIME: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T00:00:01Z";

/// A custom kind: a set, a list with keys of which one has a default, a list and a map
/// that are whole, and a field that keeps what it does not know.
fn custom() -> Kind {
    let mut schema = Schema::default();
    let ports = schema.add(Object {
        name: "port".into(),
        loose: true,
        fields: [
            Field::new("port", Ty::Int64),
            Field { default: "\"TCP\"".into(), ..Field::new("protocol", Ty::String) },
            Field::new("name", Ty::String),
        ]
        .into(),
        ..Object::default()
    });
    let list = |item: Ty| Ty::List(Box::new(item));
    let spec = schema.add(Object {
        name: "spec".into(),
        loose: true,
        fields: [
            Field { list: ListType::Set, ..Field::new("set", list(Ty::String)) },
            Field {
                list: ListType::Map,
                list_keys: ["port".into(), "protocol".into()].into(),
                ..Field::new("ports", list(Ty::Object(ports)))
            },
            Field::new("whole", list(Ty::String)),
            Field { atomic: true, ..Field::new("sealed", Ty::Map(Box::new(Ty::String))) },
            Field::new("map", Ty::Map(Box::new(Ty::String))),
            Field::new("any", Ty::Any),
            Field::new("number", Ty::Int64),
        ]
        .into(),
        ..Object::default()
    });
    let meta = schema.add(Object {
        name: "meta".into(),
        fields: [Field::new("name", Ty::String), Field::new("labels", Ty::Map(Box::new(Ty::String)))].into(),
        ..Object::default()
    });
    let root = schema.add(Object {
        name: "Thing".into(),
        loose: true,
        fields: [
            Field::new("apiVersion", Ty::String),
            Field::new("kind", Ty::String),
            Field::new("metadata", Ty::Object(meta)),
            Field::new("spec", Ty::Object(spec)),
        ]
        .into(),
        ..Object::default()
    });
    let version = Version { name: "v1".into(), schema: Arc::new(schema), root, types: Box::default() };
    let kinds = kinds::builtin();
    let model = kinds.stored("configmaps").expect("a built-in kind");
    Kind {
        group: "x.io".into(),
        stored_group: "x.io".into(),
        kind: "Thing".into(),
        resource: "things.x.io".into(),
        versions: [version].into(),
        storage: 0,
        custom: true,
        ..Kind::clone(model)
    }
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![Just("a"), Just("b"), Just("c<")].prop_map(Value::from)
}

fn map_of(values: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    proptest::collection::btree_map("[k-n]", values, 1..3).prop_map(|map| json!(map)).boxed()
}

/// Maps of maps: what is a map for one and none for another merges one way only.
fn anything() -> impl Strategy<Value = Value> {
    map_of(map_of(prop_oneof![text(), any_number(), Just(json!([1, {"a": 2}]))]))
}

fn any_number() -> impl Strategy<Value = Value> {
    (0..3i64).prop_map(Value::from)
}

/// Items with other keys each.
fn ports() -> impl Strategy<Value = Value> {
    let port =
        (0..3u8, proptest::option::of(prop_oneof![Just("TCP"), Just("UDP")]), proptest::option::of(text()));
    proptest::collection::vec(port, 1..4).prop_map(|ports| {
        let mut seen = std::collections::HashSet::new();
        let fresh =
            ports.into_iter().filter(|(port, protocol, _)| seen.insert((*port, protocol.unwrap_or("TCP"))));
        let items = fresh.map(|(port, protocol, name)| {
            let mut item = json!({ "port": port });
            if let Some(protocol) = protocol {
                item["protocol"] = protocol.into();
            }
            if let Some(name) = name {
                item["name"] = name;
            }
            item
        });
        Value::Array(items.collect())
    })
}

fn set() -> impl Strategy<Value = Value> {
    proptest::sample::subsequence(vec!["x", "y", "z", "w"], 1..4)
        .prop_shuffle()
        .prop_map(|items| json!(items))
}

/// A configuration of some of the fields.
fn config() -> impl Strategy<Value = Value> {
    let fields: Vec<BoxedStrategy<Option<(&'static str, Value)>>> = vec![
        maybe("set", set().boxed()),
        maybe("ports", ports().boxed()),
        maybe("whole", set().boxed()),
        maybe("sealed", map_of(text())),
        maybe("map", map_of(text())),
        maybe("any", anything().boxed()),
        maybe("number", any_number().boxed()),
    ];
    (fields, proptest::option::of(map_of(text()))).prop_map(|(fields, labels)| {
        let spec: Map<String, Value> =
            fields.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut config = json!({"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "t"}});
        // Upstream's rules for what is empty are its own: who applies an empty list owns
        // nothing, and an empty map is lost with the last member that another had in it.
        if !spec.is_empty() {
            config["spec"] = spec.into();
        }
        if let Some(labels) = labels {
            config["metadata"]["labels"] = labels;
        }
        config
    })
}

fn maybe(name: &'static str, value: BoxedStrategy<Value>) -> BoxedStrategy<Option<(&'static str, Value)>> {
    proptest::option::of(value.prop_map(move |value| (name, value))).boxed()
}

struct World {
    kind: Kind,
}

impl World {
    fn new() -> Self {
        Self { kind: custom() }
    }

    fn apply(
        &self,
        manager: &str,
        time: &str,
        live: Option<&Value>,
        config: &Value,
        force: bool,
    ) -> Result<Value, Status> {
        let types = Types::of(&self.kind, 0, "x.io/v1", "");
        let write = Write { manager, api_version: "x.io/v1", time, subresource: "" };
        let applied = apply(&types, &write, live, config, force)?;
        let mut object = applied.object.or_else(|| live.cloned()).unwrap_or_else(|| config.clone());
        // As decoding does for the server.
        prune_nulls(&mut object);
        match applied.managed {
            Some(managed) => object["metadata"]["managedFields"] = managed,
            None => drop(object["metadata"].as_object_mut().map(|meta| meta.remove("managedFields"))),
        }
        Ok(object)
    }
}

fn prune_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(prune_nulls);
    }
}

/// What each manager owns.
fn owned(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut owned: Vec<_> = entries
        .map(|e| (e["manager"].as_str().unwrap_or_default().to_owned(), e["fieldsV1"].clone()))
        .collect();
    owned.sort_by(|a, b| a.0.cmp(&b.0));
    owned
}

fn without_owners(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"].as_object_mut().map(|meta| meta.remove("managedFields"));
    object
}

/// Maps have no order, and neither have sets of items here.
fn unordered(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(unordered).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), unordered(value))).collect(),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Applying the same again changes nothing, its time included.
    #[test]
    fn applying_is_idempotent(before in config(), config in config()) {
        let world = World::new();
        let first = world.apply("other", TIME, None, &before, false).unwrap();
        let once = world.apply("me", TIME, Some(&first), &config, true).unwrap();
        let twice = world.apply("me", LATER, Some(&once), &config, true).unwrap();
        prop_assert_eq!(&once, &twice);
        let without_force = world.apply("me", LATER, Some(&once), &config, false).unwrap();
        prop_assert_eq!(once, without_force);
    }

    /// What two managers apply who do not touch the same fields is the same in either order.
    #[test]
    fn disjoint_managers_commute(a in config(), b in config()) {
        let world = World::new();
        let run = |first: (&str, &Value), second: (&str, &Value)| {
            let one = world.apply(first.0, TIME, None, first.1, false)?;
            world.apply(second.0, TIME, Some(&one), second.1, false)
        };
        let (ab, ba) = (run(("a", &a), ("b", &b)), run(("b", &b), ("a", &a)));
        // Conflicts are symmetric.
        prop_assert_eq!(ab.is_ok(), ba.is_ok());
        if let (Ok(ab), Ok(ba)) = (ab, ba) {
            prop_assert_eq!(owned(&ab), owned(&ba));
            let empty_or = |object: &Value| unordered(&without_owners(object));
            prop_assert_eq!(empty_or(&ab), empty_or(&ba));
        }
    }

    /// A manager that applies nothing any more leaves what others apply.
    #[test]
    fn leaving_removes_exactly_ones_own(a in config(), b in config()) {
        let world = World::new();
        let alone = world.apply("a", TIME, None, &a, false).unwrap();
        let both = world.apply("b", TIME, Some(&alone), &b, false);
        if let Ok(both) = both {
            let nothing = json!({"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "t"}});
            let left = world.apply("b", LATER, Some(&both), &nothing, false).unwrap();
            prop_assert_eq!(owned(&left), owned(&alone));
            for (_, fields) in owned(&alone) {
                // All that a applied is there as a applied it.
                let types = Types::of(&world.kind, 0, "x.io/v1", "");
                let there = fields::of(types.schema, types.root, &left);
                prop_assert!(set::is_subset(fields.as_object().unwrap(), &there));
            }
            let again = world.apply("a", LATER, Some(&left), &a, false).unwrap();
            prop_assert_eq!(unordered(&without_owners(&left)), unordered(&without_owners(&alone)));
            prop_assert_eq!(unordered(&without_owners(&left)), unordered(&without_owners(&again)));
        }
    }

    /// Whoever is forced out owns nothing of what was taken.
    #[test]
    fn force_takes_over(a in config(), b in config()) {
        let world = World::new();
        let first = world.apply("a", TIME, None, &a, false).unwrap();
        let taken = world.apply("b", TIME, Some(&first), &b, true).unwrap();
        let again = world.apply("b", TIME, Some(&taken), &b, false);
        prop_assert!(again.is_ok());
    }

    /// An update gives the manager all that is new, and applying that as it is conflicts
    /// with nobody.
    #[test]
    fn updates_and_applies_see_the_same_fields(a in config(), b in config()) {
        let world = World::new();
        let types = Types::of(&world.kind, 0, "x.io/v1", "");
        let write = Write { manager: "u", api_version: "x.io/v1", time: TIME, subresource: "" };
        let mut first = a.clone();
        update(&types, &write, None, &mut first);
        let mut second = b.clone();
        update(&types, &write, Some(&first), &mut second);
        prop_assert!(world.apply("me", TIME, Some(&second), &b, false).is_ok());
    }

    /// Bytes never panic, nor does any JSON that is applied to a pod.
    #[test]
    fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..200), config in config(), key in "[a-zA-Z]{1,12}") {
        if let Ok(config) = Config::read(&bytes) {
            prop_assert!(config.object.is_object());
        }
        let kinds = kinds::builtin();
        let pod = kinds.stored("pods").unwrap();
        let types = Types::of(pod, 0, "v1", "");
        let write = Write { manager: "m", api_version: "v1", time: TIME, subresource: "" };
        let mut body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": config["metadata"], "spec": config["spec"]});
        body["spec"]["containers"] = config["spec"]["any"].clone();
        body["metadata"][&key] = config["spec"].clone();
        body["metadata"]["finalizers"] = config["spec"]["ports"].clone();
        let text = body.to_string();
        let config = Config::read(text.as_bytes()).unwrap();
        let live = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "t", "uid": "u"},
            "spec": {"containers": [{"name": "a"}, {"name": "a"}], "nodeSelector": {"a": "b"}}});
        prop_assert!(config.object.is_object());
        for (live, force) in [(None, true), (Some(&live), false)] {
            if let Err(status) = apply(&types, &write, live, &config.object, force) {
                prop_assert!(matches!(status.code, 400 | 409 | 500), "{status}");
            }
        }
    }
}
