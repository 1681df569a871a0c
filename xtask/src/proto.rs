//! Reads field numbers out of upstream's `generated.proto` files. Understands just
//! what go-to-protobuf writes: one field a line, no oneofs, no enums.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// A field: its name, number and, when it is a single message, that message's full name.
#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub number: u32,
    pub message: Option<String>,
}

/// Messages by full name, such as `k8s.io.api.core.v1.Pod`.
pub type Messages = BTreeMap<String, Vec<Field>>;

/// Adds the messages of every `generated.proto` below `dir`.
pub fn read_below(dir: &Path, messages: &mut Messages) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            read_below(&path, messages)?;
        } else if path.file_name().is_some_and(|name| name == "generated.proto") {
            read(&std::fs::read_to_string(&path)?, messages);
        }
    }
    Ok(())
}

fn read(text: &str, messages: &mut Messages) {
    let mut package = String::new();
    let mut current: Option<String> = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("package ") {
            package = name.trim_end_matches(';').to_owned();
        } else if let Some(name) = line.strip_prefix("message ") {
            let full = format!("{package}.{}", name.trim_end_matches([' ', '{', '}']));
            messages.insert(full.clone(), Vec::new());
            current = (!line.ends_with('}')).then_some(full);
        } else if line == "}" {
            current = None;
        } else if let (Some(message), Some(field)) = (&current, field(line, &package)) {
            messages.get_mut(message).expect("was just inserted").push(field);
        }
    }
}

fn field(line: &str, package: &str) -> Option<Field> {
    if line.starts_with("//") {
        return None;
    }
    let (declaration, number) = line.strip_suffix(';')?.rsplit_once(" = ")?;
    let (head, name) = declaration.rsplit_once(' ')?;
    let message = head.strip_prefix("optional ").and_then(|ty| match ty.strip_prefix('.') {
        Some(absolute) => Some(absolute.to_owned()),
        None if ty.starts_with(char::is_uppercase) => Some(format!("{package}.{ty}")),
        None => None,
    });
    Some(Field { name: name.to_owned(), number: number.parse().ok()?, message })
}
