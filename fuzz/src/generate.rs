//! Objects made from the schema alone, so that every kind and nearly every field is among
//! what a run starts from.

use std::collections::BTreeSet;

use carrack_api::schema::{Schema, Ty};
use serde_json::{Map, Value, json};

use crate::{KINDS, Random};

/// Objects within objects at most.
const DEPTH: usize = 7;

/// A value of a type: its fields by chance, some of them of other types than they should.
pub fn generate(schema: &Schema, ty: &Ty, random: &mut Random, depth: usize) -> Value {
    match ty {
        Ty::String => text(random).into(),
        Ty::Bytes => ["", "YQ==", "AAEC", "x"][random.below(4)].into(),
        Ty::Int32 | Ty::Int64 => {
            [0, 1, -1, 80, 65_536, i64::from(i32::MAX), i64::MAX, 3][random.below(8)].into()
        }
        Ty::Float => [0.5, -1.0, 1e300, 3.0][random.below(4)].into(),
        Ty::Bool => (random.below(2) == 0).into(),
        Ty::Quantity => {
            ["0", "1", "100m", "1.5Gi", "1e3", "-2Ki", "9223372036854775807"][random.below(7)].into()
        }
        Ty::IntOrString => [json!(80), json!("25%"), json!("http"), json!("")][random.below(4)].clone(),
        Ty::Time => [json!("2026-01-02T03:04:05Z"), json!(null)][random.below(2)].clone(),
        Ty::MicroTime => [json!("2026-01-02T03:04:05.000006Z"), json!(null)][random.below(2)].clone(),
        Ty::Any => [json!({"a": [1, "b"]}), json!("x"), json!({}), json!(1.5)][random.below(4)].clone(),
        Ty::List(item) if depth < DEPTH => {
            (0..1 + random.below(2)).map(|_| generate(schema, item, random, depth + 1)).collect()
        }
        Ty::Map(item) if depth < DEPTH => {
            let value = generate(schema, item, random, depth + 1);
            Value::Object([(text(random).to_owned(), value)].into_iter().collect())
        }
        Ty::Object(id) if depth < DEPTH => {
            let mut fields = Map::new();
            for field in &schema.object(*id).fields {
                // Deep objects have few fields, or none would fit the length of inputs.
                if field.required || random.below(2 + 3 * depth) == 0 {
                    let value = match (&field.allowed[..], random.below(4)) {
                        ([], _) | (_, 0) => generate(schema, &field.ty, random, depth + 1),
                        (allowed, _) => (&*allowed[random.below(allowed.len())]).into(),
                    };
                    fields.insert(field.name.to_string(), value);
                }
            }
            Value::Object(fields)
        }
        Ty::List(_) => json!([]),
        Ty::Map(_) | Ty::Object(_) => json!({}),
    }
}

fn text(random: &mut Random) -> &'static str {
    const TEXTS: [&str; 24] = [
        "",
        "a",
        "b",
        "web",
        "default",
        "a.b/c",
        "10.0.0.1",
        "10.0.0.0/24",
        "fd00::1",
        "::/0",
        "*",
        "a=b",
        "app",
        "tcp",
        "/a/../b",
        "Always",
        "kubernetes.io/os",
        "-",
        "A_b",
        "é",
        "%s",
        "1",
        "true",
        "../..",
    ];
    TEXTS[random.below(TEXTS.len())]
}

/// Every name of a field and every allowed value, for dictionaries.
pub fn words() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let kind = KINDS.iter().next().expect("there are kinds");
    for (_, object) in kind.versions[0].schema.objects() {
        for field in &object.fields {
            words.insert(field.name.to_string());
            words.extend(field.allowed.iter().map(ToString::to_string));
        }
    }
    words.extend(
        ["$patch", "$retainKeys", "$deleteFromPrimitiveList/finalizers", "$setElementOrder/containers"]
            .map(str::to_owned),
    );
    words
}
