//! Writes `crates/api/src/kinds/kinds.txt`: the resources that a default
//! kube-apiserver serves, from upstream's published aggregated discovery. The format
//! is explained in `crates/api/src/kinds/mod.rs`, which reads it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::openapi::{strings, text};

/// Group-versions served by default, in the order of discovery: everything stable.
/// (`DefaultAPIResourceConfigSource` leaves out alpha and beta.)
pub fn served(kubernetes: &Path) -> Result<Vec<(String, String)>> {
    let mut served = vec![(String::new(), "v1".to_owned())];
    for group in groups(kubernetes)? {
        for version in group["versions"].as_array().into_iter().flatten() {
            let name = text(version, "version");
            if !name.contains("alpha") && !name.contains("beta") {
                served.push((text(&group["metadata"], "name").to_owned(), name.to_owned()));
            }
        }
    }
    Ok(served)
}

fn groups(kubernetes: &Path) -> Result<Vec<Value>> {
    let path = kubernetes.join("api/discovery/aggregated_v2.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let document: Value = serde_json::from_str(&text)?;
    Ok(document["items"].as_array().cloned().unwrap_or_default())
}

/// The table.
pub fn write(kubernetes: &Path, served: &[(String, String)]) -> Result<String> {
    let mut out = String::from("# Written by `cargo xtask facts`; the format is explained in mod.rs.\n");
    for (group, version) in served {
        let document = if group.is_empty() { "api".to_owned() } else { format!("apis__{group}") };
        let path = kubernetes.join(format!("api/discovery/{document}__{version}.json"));
        let document: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        let slash = if group.is_empty() { "" } else { "/" };
        writeln!(out, "= {group}{slash}{version}")?;
        let resources = document["resources"].as_array().cloned().unwrap_or_default();
        let name = |resource: &Value| text(resource, "name").to_owned();
        for resource in resources.iter().filter(|resource| !name(resource).contains('/')) {
            row(&mut out, resource)?;
            let prefix = format!("{}/", name(resource));
            for sub in resources.iter().filter(|sub| name(sub).starts_with(&prefix)) {
                subresource(&mut out, resource, sub, &prefix)?;
            }
        }
    }
    Ok(out)
}

fn row(out: &mut String, resource: &Value) -> Result<()> {
    let scope = if resource["namespaced"] == true { "namespaced" } else { "cluster" };
    let (plural, singular) = (text(resource, "name"), text(resource, "singularName"));
    write!(out, "{plural} {singular} {} {scope} {}", text(resource, "kind"), verbs(resource))?;
    for (flag, field) in [("short", "shortNames"), ("in", "categories")] {
        let values = strings(resource, field);
        if !values.is_empty() {
            write!(out, " {flag}:{}", values.join(","))?;
        }
    }
    out.push('\n');
    Ok(())
}

fn subresource(out: &mut String, parent: &Value, sub: &Value, prefix: &str) -> Result<()> {
    let name = text(sub, "name").trim_start_matches(prefix);
    write!(out, " {name} {} {}", text(sub, "kind"), verbs(sub))?;
    let (group, version) = (text(sub, "group"), text(sub, "version"));
    if !version.is_empty() && text(sub, "kind") != text(parent, "kind") {
        write!(out, " {group}{}{version}", if group.is_empty() { "" } else { "/" })?;
    }
    out.push('\n');
    Ok(())
}

/// `*` for all eight verbs of a stored resource.
fn verbs(resource: &Value) -> String {
    let mut verbs = strings(resource, "verbs");
    verbs.sort_unstable();
    let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    if verbs == all { "*".to_owned() } else { verbs.join(",") }
}
