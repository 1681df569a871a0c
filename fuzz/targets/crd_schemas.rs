//! CustomResourceDefinitions: one version of a definition (schema, columns, selectable
//! fields, subresources) and an object of it, as `{"version": …, "object": …}`. What
//! validation lets through must serve.
#![no_main]

use carrack_api::field::Path;
use carrack_api::{columns, crd, decode, defaults, validation, warnings};
use carrack_fuzz::{KINDS, mutate_json, use_object, within_bounds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use serde_json::{Value, json};

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let Ok(mut given) = serde_json::from_slice::<Value>(input) else { return };
    if !given.is_object() {
        return;
    }
    let (mut version, object) = (given["version"].take(), given["object"].take());
    if !version.is_object() {
        return;
    }
    version["name"] = "v1".into();
    version["served"] = true.into();
    version["storage"] = true.into();
    let body = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "tests.example.org"},
        "spec": {"group": "example.org", "scope": "Namespaced", "versions": [version],
            "names": {"plural": "tests", "singular": "test", "kind": "Test", "listKind": "TestList"}},
    });
    let (kind, at) = KINDS.kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").expect("a kind");
    let Ok(decoded) = decode::object(kind, at, body.to_string().as_bytes()) else { return };
    let mut definition = decoded.value;
    defaults::default_object(kind, at, &mut definition);
    let _ = warnings::of(kind, &definition, None);
    if !validation::validate_create(kind, &definition).is_empty() {
        return;
    }
    let taken = crd::names::Taken::default();
    let Some(status) = crd::names::decide(&definition, &taken, "2026-01-01T00:00:00Z") else { return };
    definition["status"] = status;
    let Some(custom) = crd::kind(&definition) else { return };
    let _ = columns::definitions(&custom, 0);
    let schema = &custom.facts(0).expect("facts of the version").schema;
    let _ = crd::openapi::schema(schema, "#/definitions/");
    let mut errors = Vec::new();
    crd::check::create(&object, schema, &Path::ROOT, &mut errors);
    let Ok(decoded) = decode::object(&custom, 0, object.to_string().as_bytes()) else { return };
    if decoded.value.is_object() {
        let old = decoded.value.clone();
        let _ = validation::validate_update(&custom, &decoded.value, &old);
        use_object(&custom, 0, decoded.value);
    }
}));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_json(data, size, max_size, seed, 0)
});
