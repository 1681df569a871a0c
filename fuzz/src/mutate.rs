//! Mutations of JSON as a tree: bytes changed at random are hardly ever JSON again.

use std::sync::LazyLock;

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Map, Value, json};

/// Random numbers from a seed (SplitMix64).
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u32) -> Self {
        Self(u64::from(seed))
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| crate::words().into_iter().collect());

/// Mutates an input of `header` bytes and JSON, mostly as a tree.
pub fn mutate_json(data: &mut [u8], size: usize, max_size: usize, seed: u32, header: usize) -> usize {
    let mut random = Random::new(seed);
    let whole = size <= header || random.below(3) == 0;
    let tree = if whole { None } else { serde_json::from_slice::<Value>(&data[header..size]).ok() };
    let Some(mut tree) = tree else { return fuzzer_mutate(data, size, max_size) };
    for _ in 0..=random.below(4) {
        mutate_tree(&mut tree, &mut random);
    }
    let text = tree.to_string();
    if header + text.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    if random.below(8) == 0 && header > 0 {
        data[random.below(header)] = random.below(256) as u8;
    }
    data[header..header + text.len()].copy_from_slice(text.as_bytes());
    header + text.len()
}

/// Changes one place of a tree.
pub fn mutate_tree(tree: &mut Value, random: &mut Random) {
    let count = nodes(tree);
    let copy = {
        let mut at = random.below(count);
        nth(tree, &mut at).cloned().unwrap_or_default()
    };
    let mut at = random.below(count);
    let Some(node) = nth(tree, &mut at) else { return };
    match (random.below(8), &mut *node) {
        (0, _) => *node = scalar(random),
        (1, _) => *node = copy,
        (2 | 3, Value::Object(fields)) => {
            let value = if random.below(2) == 0 { scalar(random) } else { copy };
            fields.insert(word(random), value);
        }
        (4, Value::Object(fields)) => {
            if let Some(name) = fields.keys().nth(random.below(fields.len())).cloned() {
                let value = fields.remove(&name);
                if random.below(2) == 0 {
                    fields.insert(word(random), value.unwrap_or_default());
                }
            }
        }
        (2 | 3, Value::Array(items)) => {
            let at = random.below(items.len() + 1);
            items.insert(at, copy);
        }
        (4, Value::Array(items)) if !items.is_empty() => drop(items.remove(random.below(items.len()))),
        (5, Value::Array(items)) => items.reverse(),
        (5 | 6, Value::String(text)) => {
            let at =
                (0..=text.len()).filter(|at| text.is_char_boundary(*at)).nth(random.below(text.len() + 1));
            text.insert_str(at.unwrap_or(0), &word(random));
        }
        (7, _) => {
            let inner = node.take();
            *node = if random.below(2) == 0 { json!([inner]) } else { json!({ word(random): inner }) };
        }
        _ => *node = scalar(random),
    }
}

fn word(random: &mut Random) -> String {
    const SIGNS: [&str; 14] =
        ["", "/", "-", ".", "0", "*", "=", ",", "~1", "~0", "k:{\"name\":\"a\"}", "f:a", "v:1", "é"];
    match random.below(4) {
        0 => SIGNS[random.below(SIGNS.len())].to_owned(),
        _ => WORDS[random.below(WORDS.len())].clone(),
    }
}

fn scalar(random: &mut Random) -> Value {
    match random.below(14) {
        0 => Value::Null,
        1 => json!(""),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(i64::MAX),
        5 => json!(1.5),
        6 => json!(1e300),
        7 => json!(true),
        8 => Value::Object(Map::new()),
        9 => json!([]),
        10 => json!(u64::MAX),
        11 => json!(i64::MIN),
        _ => word(random).into(),
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    }
}

fn nth<'v>(value: &'v mut Value, at: &mut usize) -> Option<&'v mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, at)),
        Value::Object(fields) => fields.values_mut().find_map(|field| nth(field, at)),
        _ => None,
    }
}
