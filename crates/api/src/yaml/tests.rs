//! Facts about YAML as Kubernetes reads it.

use super::*;
use serde_json::json;

fn check(text: &str, expect: Value) {
    assert_eq!(read(text.as_bytes()).map(|d| d.value), Ok(expect), "{text}");
}

#[test]
fn scalars_are_yaml_1_1() {
    for (text, expect) in [
        ("yes", json!(true)),
        ("off", json!(false)),
        ("y", json!(true)),
        ("\"yes\"", json!("yes")),
        ("!!str yes", json!("yes")),
        ("~", json!(null)),
        ("010", json!(8)),
        ("0o10", json!(8)),
        ("0x1f", json!(31)),
        ("0b11", json!(3)),
        ("1_000", json!(1000)),
        ("-7", json!(-7)),
        ("+7", json!(7)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000)),
        (".5", json!(0.5)),
        ("5.", json!(5)),
        ("09", json!(9)),
        ("18446744073709551615", json!(18446744073709551615u64)),
        ("2026-01-02", json!("2026-01-02")),
        ("1.2.3", json!("1.2.3")),
        ("12:30", json!("12:30")),
        ("0.5Gi", json!("0.5Gi")),
        ("100m", json!("100m")),
        ("-", json!([null])),
        ("", json!(null)),
    ] {
        check(text, expect);
    }
}

#[test]
fn documents_and_keys() {
    check("a: 1\nb: [x, {c: d}]\n", json!({"a": 1, "b": ["x", {"c": "d"}]}));
    check("---\na: 1\n---\nb: 2\n", json!({"a": 1}));
    check("1: a\ntrue: b\n1.5: c\n", json!({"1": "a", "true": "b", "1.5": "c"}));
    check("on: push", json!({"true": "push"}));
    check("x: &a {k: v}\nz: *a\n", json!({"x": {"k": "v"}, "z": {"k": "v"}}));
    check(
        "b: &b {k: 1, l: 2}\nc:\n  <<: *b\n  l: 3\n",
        json!({"b": {"k": 1, "l": 2}, "c": {"k": 1, "l": 3}}),
    );
    check("a: |\n  two\n  lines\n", json!({"a": "two\nlines\n"}));
}

#[test]
fn reports_duplicates_and_lets_the_last_win() {
    let document = read(b"a: 1\nb:\n  c: 1\n  c: 2\na: 3\n").unwrap();
    assert_eq!(document.value, json!({"a": 3, "b": {"c": 2}}));
    assert_eq!(
        document.duplicates,
        [r#"line 4: key "c" already set in map"#, r#"line 5: key "a" already set in map"#]
    );
}

#[test]
fn stands_bombs() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let refused = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(refused(&bomb), "yaml: document contains excessive aliasing");
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), vec!["*a"; 1000].join(","));
    assert_eq!(refused(&long), "yaml: document contains excessive aliasing");
    assert!(read("[".repeat(100_000).as_bytes()).is_err());
    assert!(read("- ".repeat(100_000).as_bytes()).is_err());
    assert!(refused("a: &a [*a]").starts_with("yaml: "));
    assert!(refused("a: b: c").starts_with("yaml: mapping values"));
    assert_eq!(refused(".nan"), "json: unsupported value: .nan");
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "[a-z0-9&*:{}\\[\\]!<>|\"' \n,.-]{0,80}") {
        let _ = read(text.as_bytes());
    }
}
