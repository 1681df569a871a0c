//! Reads Go's side of a field out of upstream's `types.go` files: whether it is a
//! pointer, `omitempty`, `omitzero`, and the name of its type. Understands just the
//! plain struct declarations that API packages consist of.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// A field as Go declares it.
#[derive(Debug, Clone)]
pub struct Field {
    /// Whether the type is a pointer.
    pub pointer: bool,
    /// `omitempty` in the JSON tag.
    pub omit_empty: bool,
    /// `omitzero` in the JSON tag.
    pub omit_zero: bool,
    /// The type without its pointer, such as `v1.Protocol`, `[]v1.FinalizerName` or
    /// `map[v1.QualifiedName]v1.DeviceAttribute`.
    pub ty: String,
}

/// A struct: its fields by JSON name, and the types it inlines.
#[derive(Debug, Clone, Default)]
struct Struct {
    fields: BTreeMap<String, Field>,
    inline: Vec<String>,
    /// What it declares, in order.
    order: Vec<Declared>,
}

/// A line of a struct.
#[derive(Debug, Clone)]
enum Declared {
    /// A field, by its JSON name.
    Field(String),
    /// The name of an inlined type.
    Inline(String),
}

/// Structs by full name, such as `k8s.io/api/core/v1.PodSpec`.
#[derive(Debug, Default)]
pub struct Structs(BTreeMap<String, Struct>);

impl Structs {
    /// Adds the package of import path `import` that lies in `dir`.
    pub fn read(&mut self, import: &str, dir: &Path) -> Result<()> {
        for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let generated =
                name.starts_with("zz_") || name.starts_with("generated") || name.ends_with("_test.go");
            if name.ends_with(".go") && !generated {
                self.file(import, &std::fs::read_to_string(&path)?);
            }
        }
        Ok(())
    }

    fn file(&mut self, import: &str, text: &str) {
        let mut imports = BTreeMap::new();
        let mut open: Option<(String, Struct)> = None;
        for line in text.lines().map(str::trim) {
            if let Some((alias, path)) = import_line(line) {
                imports.insert(alias, path);
            } else if let Some(name) = line.strip_prefix("type ").and_then(|l| l.strip_suffix(" struct {")) {
                open = Some((format!("{import}.{name}"), Struct::default()));
            } else if line == "}" {
                if let Some((name, body)) = open.take() {
                    self.0.insert(name, body);
                }
            } else if let Some((_, body)) = &mut open {
                field_line(line, import, &imports, body);
            }
        }
    }

    /// The field of a JSON name, looked for in inlined structs too.
    pub fn field(&self, name: &str, json: &str) -> Option<&Field> {
        let body = self.0.get(name)?;
        let inlined = || body.inline.iter().find_map(|inner| self.field(inner, json));
        body.fields.get(json).or_else(inlined)
    }
}

impl Structs {
    /// The structs that a struct inlines on the way to a field, outermost first.
    pub fn inlined(&self, name: &str, json: &str) -> Option<Vec<&str>> {
        let body = self.0.get(name)?;
        if body.fields.contains_key(json) {
            return Some(Vec::new());
        }
        body.inline.iter().find_map(|inner| {
            let mut way = self.inlined(inner, json)?;
            way.insert(0, inner.rsplit('.').next().unwrap_or(inner));
            Some(way)
        })
    }
}

impl Structs {
    /// The JSON names of a struct's fields in the order in which Go encodes them.
    pub fn order(&self, name: &str) -> Vec<&str> {
        let declared = self.0.get(name).into_iter().flat_map(|body| &body.order);
        let names = declared.flat_map(|declared| match declared {
            Declared::Field(json) => vec![json.as_str()],
            Declared::Inline(inner) => self.order(inner),
        });
        names.collect()
    }
}

/// `metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"` or without the alias.
fn import_line(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("import ").unwrap_or(line);
    let (alias, rest) = line.split_once('"')?;
    let path = rest.strip_suffix('"')?;
    if !alias.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ') || !path.contains('/') {
        return None;
    }
    let alias = alias.trim();
    let alias = if alias.is_empty() { path.rsplit('/').next()? } else { alias };
    Some((alias.to_owned(), path.to_owned()))
}

fn field_line(line: &str, import: &str, imports: &BTreeMap<String, String>, body: &mut Struct) {
    let Some((declaration, tag)) = line.split_once('`') else { return };
    let Some((_, json)) = tag.split_once("json:\"") else { return };
    let Some((json, _)) = json.split_once('"') else { return };
    let mut options = json.split(',');
    let name = options.next().unwrap_or_default();
    let options: Vec<&str> = options.collect();
    let mut words = declaration.split_whitespace();
    let (Some(first), ty) = (words.next(), words.next()) else { return };
    if options.contains(&"inline") || (name.is_empty() && ty.is_none()) {
        let inner = full_name(first.trim_start_matches('*'), import, imports);
        body.order.push(Declared::Inline(inner.clone()));
        body.inline.push(inner);
        return;
    }
    let ty = ty.unwrap_or(first);
    let field = Field {
        pointer: ty.starts_with('*'),
        omit_empty: options.contains(&"omitempty"),
        omit_zero: options.contains(&"omitzero"),
        ty: type_name(ty, import, imports),
    };
    body.order.push(Declared::Field(name.to_owned()));
    body.fields.insert(name.to_owned(), field);
}

/// The type without its pointer, with its packages.
fn type_name(ty: &str, import: &str, imports: &BTreeMap<String, String>) -> String {
    let short = |ty: &str| short_name(&full_name(ty, import, imports));
    let entry = ty.strip_prefix("map[").and_then(|map| map.split_once(']'));
    match (ty.strip_prefix("[]"), entry) {
        (Some(item), _) => format!("[]{}", short(item)),
        (_, Some((key, value))) if !value.contains(['[', '*']) => {
            format!("map[{}]{}", short(key), short(value))
        }
        _ => short(ty.trim_start_matches('*')),
    }
}

fn full_name(ty: &str, import: &str, imports: &BTreeMap<String, String>) -> String {
    match ty.split_once('.') {
        Some((alias, name)) if imports.contains_key(alias) => format!("{}.{name}", imports[alias]),
        None if ty.starts_with(char::is_uppercase) => format!("{import}.{ty}"),
        _ => ty.to_owned(),
    }
}

/// `v1.Protocol` for `k8s.io/api/core/v1.Protocol`.
fn short_name(full: &str) -> String {
    full.rsplit('/').next().unwrap_or(full).to_owned()
}
