//! Builds a tree from the events of a YAML parser, within bounds.

use std::collections::HashMap;

use granit_parser::{Event, ScalarStyle};
use serde_json::{Map, Value};

use super::{Document, Error, scalar};
use crate::decode::{MAX_COLLECTIONS, TOO_MANY};

/// Levels of nesting.
pub(super) const MAX_DEPTH: usize = 128;
/// Nodes that aliases may add, and bytes of text in them.
const MAX_ALIASED_NODES: usize = 100_000;
const MAX_ALIASED_BYTES: usize = 4 << 20;
/// Duplicate keys reported.
const MAX_DUPLICATES: usize = 100;

/// A collection being filled, and the anchor it will be known by.
struct Open {
    anchor: usize,
    line: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Value>),
    Map { entries: Map<String, Value>, merges: Vec<Value>, key: Option<Key> },
}

enum Key {
    Plain(String),
    Merge,
}

#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Open>,
    /// Anchored nodes with their numbers of nodes and bytes and their depth.
    anchors: HashMap<usize, (Value, Size)>,
    aliased: Size,
    collections: usize,
    root: Value,
    duplicates: Vec<String>,
}

#[derive(Default, Clone, Copy)]
struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

impl Builder {
    pub fn finish(self) -> Document {
        Document { value: self.root, duplicates: self.duplicates }
    }

    pub fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), Error> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_ref().map(|tag| tag.suffix());
                let merge = text == "<<" && style == ScalarStyle::Plain && tag.is_none();
                let value = scalar_value(&text, style, tag)?;
                self.node(value, anchor, line, merge)
            }
            Event::Alias(anchor) => self.alias(anchor, line),
            Event::SequenceStart(_, anchor, _) => self.start(anchor, line, Kind::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let kind = Kind::Map { entries: Map::new(), merges: Vec::new(), key: None };
                self.start(anchor, line, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn start(&mut self, anchor: usize, line: usize, kind: Kind) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Error::Refused("exceeded max depth"));
        }
        self.collections += 1;
        if self.collections > MAX_COLLECTIONS {
            return Err(Error::Refused(TOO_MANY));
        }
        self.open.push(Open { anchor, line, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.kind {
            Kind::List(items) => Value::Array(items),
            Kind::Map { entries, merges, .. } => Value::Object(merged(entries, merges)?),
        };
        self.node(value, open.anchor, open.line, false)
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), Error> {
        let (value, size) =
            self.anchors.get(&anchor).ok_or(Error::Refused("anchor value contains itself"))?;
        self.aliased.nodes += size.nodes;
        self.aliased.bytes += size.bytes;
        if self.aliased.nodes > MAX_ALIASED_NODES || self.aliased.bytes > MAX_ALIASED_BYTES {
            return Err(Error::Refused("document contains excessive aliasing"));
        }
        if self.open.len() + size.depth > MAX_DEPTH {
            return Err(Error::Refused("exceeded max depth"));
        }
        let value = value.clone();
        self.node(value, 0, line, false)
    }

    /// Puts a finished node where it belongs.
    fn node(&mut self, value: Value, anchor: usize, line: usize, merge: bool) -> Result<(), Error> {
        if anchor != 0 {
            let size = size(&value);
            // The copy kept for aliases counts as one.
            self.aliased.nodes += size.nodes;
            self.aliased.bytes += size.bytes;
            if self.aliased.nodes > MAX_ALIASED_NODES || self.aliased.bytes > MAX_ALIASED_BYTES {
                return Err(Error::Refused("document contains excessive aliasing"));
            }
            self.anchors.insert(anchor, (value.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = value;
            return Ok(());
        };
        match &mut open.kind {
            Kind::List(items) => items.push(value),
            Kind::Map { entries, merges, key } => match key.take() {
                None if merge => *key = Some(Key::Merge),
                None => *key = Some(Key::Plain(scalar::key(value)?)),
                Some(Key::Merge) => merges.push(value),
                Some(Key::Plain(name)) => {
                    if entries.contains_key(&name) && self.duplicates.len() < MAX_DUPLICATES {
                        self.duplicates.push(format!("line {line}: key {name:?} already set in map"));
                    }
                    entries.insert(name, value);
                }
            },
        }
        Ok(())
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&str>) -> Result<Value, Error> {
    match tag {
        None if style == ScalarStyle::Plain => scalar::plain(text),
        None | Some("str" | "binary" | "") => Ok(text.into()),
        Some("int" | "float" | "bool" | "null") => {
            let value = scalar::plain(text)?;
            let tag = tag.unwrap_or_default();
            let fits = match tag {
                "int" => value.is_i64() || value.is_u64(),
                "float" => value.is_number(),
                "bool" => value.is_boolean(),
                _ => value.is_null(),
            };
            if fits {
                return Ok(value);
            }
            Err(Error::NoJson(format!("yaml: cannot decode !!str `{text}` as a !!{tag}")))
        }
        Some(_) => Ok(text.into()),
    }
}

/// Adds what merge keys bring: own entries win over merged ones, earlier over later.
fn merged(mut entries: Map<String, Value>, merges: Vec<Value>) -> Result<Map<String, Value>, Error> {
    let wrong = Error::Refused("map merge requires map or sequence of maps as the value");
    for merge in merges {
        let maps = match merge {
            Value::Array(items) => items,
            single => vec![single],
        };
        for map in maps {
            let Value::Object(map) = map else { return Err(wrong) };
            for (key, value) in map {
                entries.entry(key).or_insert(value);
            }
        }
    }
    Ok(entries)
}

/// Depth is bounded by [`MAX_DEPTH`], so recursion is.
fn size(value: &Value) -> Size {
    let mut sum = Size { nodes: 1, bytes: 0, depth: 1 };
    let mut add = |inner: Size| {
        sum.nodes += inner.nodes;
        sum.bytes += inner.bytes;
        sum.depth = sum.depth.max(inner.depth + 1);
    };
    match value {
        Value::Array(items) => items.iter().for_each(|item| add(size(item))),
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            let inner = size(value);
            add(Size { bytes: inner.bytes + key.len(), ..inner });
        }),
        Value::String(text) => sum.bytes = text.len(),
        _ => {}
    }
    sum
}
