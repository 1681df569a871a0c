//! Reads upstream's internal types, whose names of fields stand in its messages about
//! structs: in the order in which Go declares them, as far as messages reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result};

use crate::upstream;

/// Types that messages show; what they hold comes along.
const ROOTS: &[&str] = &[
    "core.PodTemplateSpec",
    "core.PersistentVolumeSpec",
    "core.PersistentVolumeSource",
    "core.PersistentVolumeClaimSpec",
    "core.VolumeNodeAffinity",
    "core.ScopeSelector",
    "batch.PodFailurePolicy",
    "batch.SuccessPolicy",
    "storage.VolumeAttachmentSpec",
    "policy.PodDisruptionBudgetSpec",
    "flowcontrol.FlowSchemaSpec",
    "flowcontrol.PriorityLevelConfigurationSpec",
    "resource.ResourceClaimSpec",
    "resource.ResourceClaimTemplateSpec",
    "resource.AllocationResult",
    "resource.DeviceAttribute",
];
const PACKAGES: &[&str] = &["core", "batch", "storage", "policy", "flowcontrol", "resource"];

/// A declaration: another name of a type, or a struct's fields (an embedded one has no name).
enum Type {
    Alias(String),
    Struct(Vec<(String, String)>),
}

/// The table, as text.
pub fn write() -> Result<String> {
    let module = upstream::module("k8s.io/kubernetes")?;
    let mut types = BTreeMap::new();
    for package in PACKAGES {
        let path = module.join("pkg/apis").join(package).join("types.go");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        read(package, &text, &mut types);
    }
    let mut wanted: Vec<String> = ROOTS.iter().map(|root| (*root).to_owned()).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        if let Some(Type::Struct(fields)) = types.get(&name) {
            wanted.extend(fields.iter().map(|(_, ty)| inner(&resolved(ty, &types)).to_owned()));
        }
    }
    let mut out = "# Written by `cargo xtask facts`: upstream's internal types, in Go's order.\n".to_owned();
    for name in seen {
        let Some(Type::Struct(fields)) = types.get(&name) else { continue };
        writeln!(out, "= {name}")?;
        for (field, ty) in fields {
            writeln!(out, "{} {}", if field.is_empty() { "+" } else { field }, resolved(ty, &types))?;
        }
    }
    Ok(out)
}

fn inner(ty: &str) -> &str {
    ty.trim_start_matches(['*', '[', ']', '{', '}'])
}

/// The type with other names of plain types replaced.
fn resolved(ty: &str, types: &BTreeMap<String, Type>) -> String {
    let name = inner(ty);
    match types.get(name) {
        Some(Type::Alias(other)) => {
            let prefix = &ty[..ty.len() - name.len()];
            format!("{prefix}{}", resolved(other, types))
        }
        _ => ty.to_owned(),
    }
}

fn read(package: &str, text: &str, types: &mut BTreeMap<String, Type>) {
    let mut open: Option<(String, Vec<(String, String)>)> = None;
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default().trim();
        let words: Vec<&str> = code.split_whitespace().collect();
        match (&mut open, &words[..]) {
            (_, ["type", name, "struct", "{"]) => open = Some((format!("{package}.{name}"), Vec::new())),
            (None, ["type", name, other]) => {
                types.insert(format!("{package}.{name}"), Type::Alias(ty(package, other)));
            }
            (Some(_), ["}"]) => {
                if let Some((name, fields)) = open.take() {
                    types.insert(name, Type::Struct(fields));
                }
            }
            (Some((_, fields)), [embedded]) if embedded.starts_with(|c: char| c.is_alphabetic()) => {
                fields.push((String::new(), ty(package, embedded)));
            }
            (Some((_, fields)), [name, field, ..]) if name.starts_with(char::is_uppercase) => {
                fields.push(((*name).to_owned(), ty(package, field)));
            }
            _ => {}
        }
    }
}

/// `*` pointer, `[]` list, `{}` map, and a name with its package.
fn ty(package: &str, text: &str) -> String {
    if let Some(rest) = text.strip_prefix('*') {
        return format!("*{}", ty(package, rest));
    }
    if text == "[]byte" {
        return "*string".into();
    }
    if let Some(rest) = text.strip_prefix("[]") {
        return format!("[]{}", ty(package, rest));
    }
    if let Some((_, rest)) = text.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        return format!("{{}}{}", ty(package, rest));
    }
    match text {
        "string" | "bool" => text.to_owned(),
        "int" | "int32" | "int64" | "uint32" | "uint64" | "float64" => "int".into(),
        "types.UID" => "string".into(),
        "resource.Quantity" | "apiresource.Quantity" => "quantity".into(),
        "intstr.IntOrString" => "intstr".into(),
        "metav1.Time" | "metav1.MicroTime" => "time".into(),
        "metav1.LabelSelector" => "selector".into(),
        "metav1.ObjectMeta" => "meta".into(),
        "runtime.RawExtension" | "runtime.Object" => "raw".into(),
        other => match other.split_once('.') {
            Some(("api" | "core" | "corev1" | "v1", name)) => format!("core.{name}"),
            Some(_) => other.to_owned(),
            None => format!("{package}.{other}"),
        },
    }
}
