//! Writes `crates/api/src/facts/facts.txt`: the types that a default kube-apiserver
//! serves, with field names, types, protobuf numbers, list and merge facts. The
//! format is explained in `crates/api/src/facts/mod.rs`, which reads it.
//!
//! Types come from the published OpenAPI v3 documents, numbers from the proto files.
//! Enumerations are published only by a running server with its default feature
//! gates: give the directory of its dumped `/openapi/v3` documents as argument, or
//! the ones in the present table are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::go;
use crate::openapi::{self, Types, reference, strings, text};
use crate::proto::{self, Messages};
use crate::{internal, kinds, upstream};

/// Enumerations by type and field: `io.k8s.api.core.v1.Pod phase` → values.
type Enums = BTreeMap<(String, String), Vec<String>>;

/// Runs the task.
pub fn run() -> Result<()> {
    let kubernetes = upstream::module("k8s.io/kubernetes")?;
    let mut messages = Messages::new();
    for module in ["api", "apimachinery", "apiextensions-apiserver", "kube-aggregator"] {
        proto::read_below(&upstream::module(&format!("k8s.io/{module}"))?, &mut messages)?;
    }
    let served = kinds::served(&kubernetes)?;
    let mut types = Types::new();
    for (group, version) in &served {
        let document = if group.is_empty() { "api".to_owned() } else { format!("apis__{group}") };
        let path = kubernetes.join(format!("api/openapi-spec/v3/{document}__{version}_openapi.json"));
        openapi::read(&path, &mut types)?;
    }
    // What discovery answers, and the version, belong to no group.
    for document in ["api", "apis", "version"] {
        openapi::read(&kubernetes.join(format!("api/openapi-spec/v3/{document}_openapi.json")), &mut types)?;
    }
    let facts_dir = upstream::root().join("crates/api/src/facts");
    let table = facts_dir.join("facts.txt");
    let enums = match std::env::args().nth(2) {
        Some(dir) => dumped_enums(Path::new(&dir))?,
        None => present_enums(&std::fs::read_to_string(&table).unwrap_or_default()),
    };
    let structs = structs(&types)?;
    std::fs::write(&table, write(&types, &messages, &enums, &structs)?)?;
    std::fs::write(facts_dir.join("internal.txt"), internal::write()?)?;
    std::fs::write(
        upstream::root().join("crates/api/src/kinds/kinds.txt"),
        kinds::write(&kubernetes, &served)?,
    )?;
    Ok(())
}

/// The Go structs of every package that has types.
fn structs(types: &Types) -> Result<go::Structs> {
    let mut structs = go::Structs::default();
    let packages: BTreeSet<String> = types.keys().map(|name| go_package(split(name).0)).collect();
    for import in packages {
        let mut parts = import.splitn(3, '/');
        let module = format!("{}/{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let dir = upstream::module(&module)?.join(parts.next().unwrap_or_default());
        structs.read(&import, &dir)?;
    }
    Ok(structs)
}

/// `k8s.io/api/core/v1` for `io.k8s.api.core.v1`.
fn go_package(package: &str) -> String {
    format!("k8s.io/{}", package.trim_start_matches("io.k8s.").replace('.', "/"))
}

fn dumped_enums(dir: &Path) -> Result<Enums> {
    let mut types = Types::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        openapi::read(&entry?.path(), &mut types)?;
    }
    let mut enums = Enums::new();
    for (name, ty) in &types {
        for (field, schema) in ty.schema["properties"].as_object().into_iter().flatten() {
            let items = schema.get("items").unwrap_or(schema);
            let mut values: Vec<String> = strings(schema, "enum").iter().map(|v| v.to_string()).collect();
            values.extend(strings(items, "enum").iter().map(|v| v.to_string()));
            values.sort();
            values.dedup();
            if !values.is_empty() {
                enums.insert((name.clone(), field.clone()), values);
            }
        }
    }
    Ok(enums)
}

fn present_enums(table: &str) -> Enums {
    let mut enums = Enums::new();
    let (mut package, mut name) = (String::new(), String::new());
    for line in table.lines() {
        if let Some(rest) = line.strip_prefix("= ") {
            package = rest.split(' ').nth(1).unwrap_or_default().to_owned();
        } else if let Some(field) = line.strip_prefix(' ') {
            let mut words = field.split(' ');
            let field = words.next().unwrap_or_default().to_owned();
            if let Some(values) = words.find_map(|word| word.strip_prefix("enum:")) {
                let values = values.split('|').map(|value| value.replace('~', " "));
                enums.insert((name.clone(), field), values.collect());
            }
        } else {
            name = format!("{package}.{}", line.split(' ').next().unwrap_or_default());
        }
    }
    enums
}

/// `core.v1` for `io.k8s.api.core.v1`.
fn short(package: &str) -> &str {
    let parts = package.rmatch_indices('.').nth(1);
    parts.map_or(package, |(at, _)| &package[at + 1..])
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

/// The scalar that a definition without fields stands for.
fn special(name: &str) -> Option<&'static str> {
    Some(match name.rsplit('.').next()? {
        "Quantity" => "quantity",
        "IntOrString" => "intstr",
        "Time" => "time",
        "MicroTime" => "microtime",
        "RawExtension" | "FieldsV1" | "JSON" => "any",
        "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => "any",
        "Patch" => "any",
        _ => return None,
    })
}

fn write(types: &Types, messages: &Messages, enums: &Enums, structs: &go::Structs) -> Result<String> {
    let mut out = String::from("# Written by `cargo xtask facts`; the format is explained in mod.rs.\n");
    let objects = || types.iter().filter(|(name, _)| special(name).is_none());
    let packages: BTreeSet<&str> = objects().map(|(name, _)| split(name).0).collect();
    let shorts: BTreeSet<&str> = packages.iter().map(|package| short(package)).collect();
    ensure!(shorts.len() == packages.len(), "short package names collide");
    for package in packages {
        let mut body = String::new();
        let mut group_version = None;
        for (name, ty) in objects().filter(|(name, _)| split(name).0 == package) {
            write!(body, "{}", split(name).1)?;
            let gvk = ty.schema["x-kubernetes-group-version-kind"].as_array();
            let own = gvk.into_iter().flatten().find(|gvk| gvk["group"] == "" || gvk_count(&ty.schema) == 1);
            if let Some(gvk) = own {
                let value = (text(gvk, "group").to_owned(), text(gvk, "version").to_owned());
                ensure!(text(gvk, "kind") == split(name).1, "{name}: kind and type differ");
                ensure!(*group_version.get_or_insert(value.clone()) == value, "{name}: a second group");
                body.push_str(" +");
            }
            if text(&ty.schema, "x-kubernetes-map-type") == "atomic" {
                body.push_str(" atomic");
            }
            body.push('\n');
            fields(&mut body, name, &ty.schema, messages, enums, structs)?;
        }
        write!(out, "= {} {package}", short(package))?;
        if let Some((group, version)) = group_version {
            write!(out, " {}{}{version}", group, if group.is_empty() { "" } else { "/" })?;
        }
        out.push('\n');
        out.push_str(&body);
    }
    Ok(out)
}

fn gvk_count(schema: &Value) -> usize {
    schema["x-kubernetes-group-version-kind"].as_array().map_or(0, Vec::len)
}

fn fields(
    out: &mut String,
    name: &str,
    schema: &Value,
    messages: &Messages,
    enums: &Enums,
    structs: &go::Structs,
) -> Result<()> {
    let Some(properties) = schema["properties"].as_object() else { return Ok(()) };
    let required = strings(schema, "required");
    let numbers = numbers(name, messages, &schema["properties"]);
    let (package, plain) = split(name);
    let go_name = format!("{}.{plain}", go_package(package));
    let places = places(&structs.order(&go_name), properties.keys().map(String::as_str), &numbers);
    for (field, facts) in properties {
        let ty = ty(facts, split(name).0).with_context(|| format!("{name}.{field}"))?;
        write!(out, " {field} {ty}")?;
        if let Some(path) = numbers.get(field.as_str()) {
            let path: Vec<String> = path.iter().map(u32::to_string).collect();
            write!(out, " {}", path.join("."))?;
        }
        if let Some(place) = places.iter().position(|name| name == field) {
            write!(out, " @{}", place + 1)?;
        }
        if required.contains(&field.as_str()) {
            out.push_str(" !");
        }
        if let Some(declared) = structs.field(&go_name, field) {
            go_facts(out, &ty, declared)?;
        }
        let inlined = structs.inlined(&go_name, field).unwrap_or_default();
        if !inlined.is_empty() && inlined != ["TypeMeta"] {
            write!(out, " in:{}", inlined.join("."))?;
        }
        merge_facts(out, facts)?;
        if let Some(values) = enums.get(&(name.to_owned(), field.clone())) {
            write!(out, " enum:{}", values.join("|").replace(' ', "~"))?;
        }
        let default = &facts["default"];
        if !matches!(default.to_string().as_str(), "null" | "\"\"" | "{}" | "0" | "false") {
            write!(out, " ={default}")?;
        }
        out.push('\n');
    }
    Ok(())
}

/// The fields in the order in which Go declares them, unless protobuf's numbers tell it.
fn places<'a>(
    declared: &[&'a str],
    fields: impl Iterator<Item = &'a str>,
    numbers: &BTreeMap<String, Vec<u32>>,
) -> Vec<&'a str> {
    let mut numbered: Vec<&str> = fields.collect();
    numbered.sort_by_key(|name| (numbers.get(*name).cloned().unwrap_or_default(), *name == "apiVersion"));
    let declared: Vec<&str> = declared.iter().copied().filter(|name| numbered.contains(name)).collect();
    let told = declared == numbered || declared.len() < numbered.len();
    if told { Vec::new() } else { declared }
}

/// What Go's declaration says of absent and zero values, and its named scalar types.
fn go_facts(out: &mut String, ty: &str, field: &go::Field) -> Result<()> {
    let collection = ty.starts_with("[]") || ty.starts_with("{}") || ty == "bytes";
    let scalar = matches!(ty, "string" | "int32" | "int64" | "float" | "bool");
    let omitted = field.omit_zero || (field.omit_empty && (collection || scalar));
    match (field.pointer, omitted) {
        (true, _) if field.omit_empty || field.omit_zero => {}
        (true, _) => out.push_str(" null"),
        (false, true) => out.push_str(" omit"),
        (false, false) if collection => out.push_str(" null"),
        (false, false) => out.push_str(" zero"),
    }
    let named = field.ty.contains('.') && !field.ty.starts_with(['[', 'm']);
    let of_named = field.ty.strip_prefix("[]").is_some_and(|item| item.contains('.'))
        && ["[]string", "[]int32", "[]int64"].contains(&ty);
    let by_named = field.ty.strip_prefix("map[").and_then(|map| map.split_once(']'));
    let by_named = by_named.is_some_and(|(key, _)| key.contains('.'));
    if named && (collection || scalar) || of_named || by_named {
        write!(out, " go:{}", field.ty)?;
    }
    Ok(())
}

fn merge_facts(out: &mut String, facts: &Value) -> Result<()> {
    match text(facts, "x-kubernetes-list-type") {
        "map" => write!(out, " key:{}", strings(facts, "x-kubernetes-list-map-keys").join(","))?,
        "set" => out.push_str(" set"),
        _ => {}
    }
    match text(facts, "x-kubernetes-map-type") {
        "atomic" => out.push_str(" atomic"),
        "granular" => out.push_str(" granular"),
        _ => {}
    }
    for strategy in text(facts, "x-kubernetes-patch-strategy").split(',') {
        match (strategy, text(facts, "x-kubernetes-patch-merge-key")) {
            ("merge", "") => out.push_str(" merge"),
            ("merge", key) => write!(out, " merge:{key}")?,
            ("replace", _) => out.push_str(" replace"),
            ("retainKeys", _) => out.push_str(" retain"),
            _ => {}
        }
    }
    Ok(())
}

/// The type as one word: a scalar, a type's name (with its short package when it is
/// of another one), `[]` or `{}` before an item's type.
fn ty(schema: &Value, package: &str) -> Result<String> {
    if let Some(name) = reference(schema) {
        let (home, plain) = split(name);
        return Ok(match special(name) {
            Some(word) => word.to_owned(),
            None if home == package => plain.to_owned(),
            None => format!("{}.{plain}", short(home)),
        });
    }
    let word = match (text(schema, "type"), text(schema, "format")) {
        ("string", "byte") => "bytes",
        ("string", _) => "string",
        ("integer", "int64") => "int64",
        ("integer", _) => "int32",
        ("number", _) => "float",
        ("boolean", _) => "bool",
        ("array", _) => return Ok(format!("[]{}", ty(&schema["items"], package)?)),
        ("object", _) => return Ok(format!("{{}}{}", ty(&schema["additionalProperties"], package)?)),
        (other, _) => anyhow::bail!("type {other:?}"),
    };
    Ok(word.to_owned())
}

/// Protobuf numbers by JSON name: those of the embedded messages, then the field's own.
fn numbers(name: &str, messages: &Messages, known: &Value) -> BTreeMap<String, Vec<u32>> {
    let mut numbers = BTreeMap::new();
    let full = name.replacen("io.k8s", "k8s.io", 1).replace('-', "_");
    embedded_numbers(&full, messages, known, &[], &mut numbers);
    numbers
}

fn embedded_numbers(
    message: &str,
    messages: &Messages,
    known: &Value,
    path: &[u32],
    numbers: &mut BTreeMap<String, Vec<u32>>,
) {
    let names = || known.as_object().into_iter().flatten().map(|(name, _)| name);
    for field in messages.get(message).into_iter().flatten() {
        let own = [path, &[field.number]].concat();
        if let Some(json) = names().find(|json| spelt(json) == spelt(&field.name)) {
            numbers.entry(json.clone()).or_insert(own);
        } else if let Some(inner) = field.message.as_ref().filter(|_| path.len() < 3) {
            embedded_numbers(inner, messages, known, &own, numbers);
        }
    }
}

/// Proto names are the JSON names, but for what proto cannot spell (`$ref`,
/// `x-kubernetes-…`) and for case (`uID`).
fn spelt(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_lowercase()
}
