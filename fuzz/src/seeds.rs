//! Writes what each target starts from, made from the cases in the repository and from the
//! schema, and a dictionary of field names: `seeds DIRECTORY`.

use std::fs;
use std::path::{Path, PathBuf};

use carrack_api::schema::Ty;
use carrack_api::{Value, proto};
use carrack_fuzz::{OBJECTS, ROWS, Random, generate, words};
use serde_json::json;

/// Bytes of a seed at most: libFuzzer's usual limit of inputs.
const MOST: usize = 4096;

struct Seeds(PathBuf, usize);

impl Seeds {
    fn put(&mut self, target: &str, bytes: &[u8]) {
        if bytes.len() <= MOST {
            self.1 += 1;
            let dir = self.0.join(target).join("seeds");
            fs::create_dir_all(&dir).expect("a directory");
            fs::write(dir.join(format!("{:05}", self.1)), bytes).expect("a seed");
        }
    }

    fn put_json(&mut self, target: &str, header: &[u8], value: &Value) {
        self.put(target, &[header, value.to_string().as_bytes()].concat());
    }
}

fn main() {
    let dir = std::env::args().nth(1).expect("usage: seeds DIRECTORY");
    let mut seeds = Seeds(Path::new(&dir).to_owned(), 0);
    for (at, (kind, version)) in ROWS.iter().enumerate() {
        let v = &kind.versions[*version];
        for seed in 0..3 {
            let mut random = Random::new(seed * 1000 + at as u32);
            let mut object = generate(&v.schema, &Ty::Object(v.root), &mut random, 0);
            object["apiVersion"] = kind.api_version(*version).into();
            object["kind"] = (&*kind.kind).into();
            bodies(&mut seeds, at as u8, &object);
        }
    }
    for (at, (kind, version, object)) in OBJECTS.iter().enumerate() {
        let row = ROWS.iter().position(|(other, v)| std::ptr::eq(*other, *kind) && v == version);
        bodies(&mut seeds, row.expect("a row") as u8, object);
        let at = at as u8;
        changes(&mut seeds, at, object);
    }
    texts(&mut seeds);
    definitions(&mut seeds);
    let dictionary: String =
        words().iter().filter(|word| is_plain(word)).map(|word| format!("{word:?}\n")).collect();
    fs::write(Path::new(&dir).join("words"), dictionary).expect("a dictionary");
    println!("{} seeds", seeds.1);
}

/// Whether libFuzzer reads a word of a dictionary as it stands.
fn is_plain(word: &str) -> bool {
    word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

/// An object as a body in every encoding.
fn bodies(seeds: &mut Seeds, row: u8, object: &Value) {
    seeds.put_json("json", &[row], object);
    let yaml = |value: &Value| {
        let mut text = String::new();
        write_yaml(&mut text, value, 0);
        text
    };
    seeds.put("yaml", &[&[row], yaml(object).as_bytes()].concat());
    let (kind, version) = ROWS[usize::from(row)];
    let v = &kind.versions[version];
    let decoded = carrack_api::decode::object_value(kind, version, object.clone());
    if let Ok(raw) = decoded
        .map_err(drop)
        .and_then(|decoded| proto::encode(&v.schema, v.root, &decoded.value).map_err(drop))
    {
        seeds
            .put("protobuf", &[&[row], &*proto::wrap(&kind.api_version(version), &kind.kind, &raw)].concat());
    }
}

/// Patches, configurations and owners for an object.
fn changes(seeds: &mut Seeds, at: u8, object: &Value) {
    seeds.put_json("merge_patch", &[at], object);
    seeds.put_json("strategic_patch", &[at], object);
    let operations: Vec<Value> = ["metadata", "spec", "data", "rules"]
        .iter()
        .filter_map(|field| {
            Some(json!({"op": "replace", "path": format!("/{field}"), "value": object.get(*field)?}))
        })
        .chain([json!({"op": "test", "path": "/kind", "value": object["kind"]})])
        .chain([json!({"op": "copy", "from": "/metadata", "path": "/spec"})])
        .chain([json!({"op": "move", "from": "/metadata/name", "path": "/metadata/labels"})])
        .chain([
            json!({"op": "remove", "path": "/spec"}),
            json!({"op": "add", "path": "/spec/containers/-", "value": {}}),
        ])
        .collect();
    seeds.put_json("json_patch", &[at], &operations.into());
    for how in [0, 4, 2, 12] {
        seeds.put_json("apply", &[at, how], object);
    }
    let (kind, version, _) = &OBJECTS[usize::from(at)];
    let api_version = kind.api_version(*version);
    let types = carrack_api::managed::Types::of(kind, *version, &api_version, "");
    let write = carrack_api::managed::Write {
        manager: "a",
        api_version: &api_version,
        time: "2026-01-01T00:00:00Z",
        subresource: "",
    };
    let mut owned = object.clone();
    carrack_api::managed::update(&types, &write, None, &mut owned);
    seeds.put_json("managed_fields", &[at], &owned["metadata"]["managedFields"]);
    let queries = [
        "limit=1&labelSelector=a=b,!c&fieldSelector=metadata.name=a&resourceVersion=1&resourceVersionMatch=Exact",
        "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan",
        "dryRun=All&fieldManager=a&fieldValidation=Strict&force=true",
        "propagationPolicy=Foreground&gracePeriodSeconds=0&pretty=true",
    ];
    for (way, query) in queries.iter().cycle().take(10).enumerate() {
        let header =
            [&[at, way as u8, way as u8 % 4 + 4 * (way as u8 % 3)], query.as_bytes(), b"\n"].concat();
        seeds.put_json("requests", &header, object);
    }
}

fn texts(seeds: &mut Seeds) {
    let directives = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}], "$retainKeys": ["containers"],
        "containers": [{"name": "c", "$patch": "delete"}, {"$patch": "replace"}]},
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"$patch": "replace"}}});
    seeds.put_json("strategic_patch", &[0], &directives);
    for text in [
        "a=b,c!=d,e in (f,g),!h,i notin (j),k",
        "a==b",
        "x>1,y<2",
        "metadata.name=a,spec.nodeName!=b",
        "a\\,b=c\\=d",
        "labelSelector=a%3Db&x",
    ] {
        seeds.put("selectors", text.as_bytes());
    }
    for text in [
        r#"{"v":"meta.k8s.io/v1","rv":10,"start":"default/a","remaining":3,"since":1767225600}"#,
        r#"{"v":"meta.k8s.io/v1","rv":-1,"start":"a"}"#,
        "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MTAsInN0YXJ0IjoiYSJ9",
    ] {
        seeds.put("continue_tokens", text.as_bytes());
    }
    let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]});
    seeds.put_json("selectors", &[], &selector);
    for text in [
        "1",
        "100m",
        "1.5Gi",
        "-0.001k",
        "1e3",
        "12E-6",
        "9223372036854775807",
        "1n 2u",
        "+.5Ei",
        "0.0000000001",
    ] {
        seeds.put("quantities", text.as_bytes());
    }
    for text in [
        "* * * * *",
        "*/5 0-3,7 1 jan-mar mon",
        "@every 1h30m",
        "@daily",
        "TZ=Europe/Berlin 0 0 ? * *",
        "2026-01-02T03:04:05.678901Z",
    ] {
        seeds.put("cron", text.as_bytes());
    }
    for text in [
        ".metadata.name",
        ".spec.containers[*].image",
        "..name",
        ".status.conditions[?(@.type==\"Ready\")].status",
        "['a','b'][0:3:1]",
        ".x[-1]",
    ] {
        seeds.put("jsonpath", &[&[0], text.as_bytes()].concat());
    }
}

/// Versions of definitions with what schemas may hold.
fn definitions(seeds: &mut Seeds) {
    let object = json!({"apiVersion": "example.org/v1", "kind": "Test", "metadata": {"name": "a"},
        "spec": {"size": 3, "names": ["a"], "items": [{"name": "a", "port": 1}], "any": {"x": 1}, "when": "2026-01-01T00:00:00Z"}});
    let item = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "maxLength": 10},
        "port": {"x-kubernetes-int-or-string": true, "default": 80}}});
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 10, "exclusiveMaximum": true, "multipleOf": 1, "default": 1},
        "ratio": {"type": "number", "nullable": true, "enum": [0.5, 1]},
        "names": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "set", "items": {"type": "string", "pattern": "^[a-z]+(\\d|x{2,3})*$"}},
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": item},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "map": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 3},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "when": {"type": "string", "format": "date-time"}},
        "oneOf": [{"required": ["size"]}, {"not": {"required": ["size"]}}],
        "anyOf": [{"properties": {"size": {"minimum": 1}}}], "allOf": [{}]});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": {"type": "object"}}}});
    seeds.put_json("crd_schemas", &[], &json!({"object": object, "version": {"schema": schema,
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.sel"}},
        "selectableFields": [{"jsonPath": ".spec.size"}],
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}, {"name": "Names", "type": "string", "jsonPath": ".spec.items[?(@.name==\"a\")].port"}]}}));
    for format in [
        "byte",
        "uuid",
        "ipv4",
        "cidr",
        "email",
        "duration",
        "date",
        "hostname",
        "uri",
        "mac",
        "k8s-short-name",
    ] {
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "string", "format": format}}}});
        seeds.put_json("crd_schemas", &[], &json!({"object": {"apiVersion": "example.org/v1", "kind": "Test", "metadata": {"name": "a"}, "spec": "a"}, "version": {"schema": schema}}));
    }
}

/// Block style, with anchors for what is empty, so that the reader's own features are met.
fn write_yaml(out: &mut String, value: &Value, indent: usize) {
    let pad = "  ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                out.push_str(&format!("\n{pad}{name}: "));
                write_yaml(out, value, indent + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&format!("\n{pad}- "));
                write_yaml(out, item, indent + 1);
            }
        }
        Value::String(text)
            if text.len() % 3 == 0 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric()) =>
        {
            out.push_str(text);
        }
        other => out.push_str(&other.to_string()),
    }
}
