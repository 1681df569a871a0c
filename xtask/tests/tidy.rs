//! The house rules that a machine can check: pure cores, one direction between
//! crates, one table of kinds, small files that say why they exist.
//!
//! A rule is changed here on purpose or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that may be longer than [`LONGEST`], each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];
const LONGEST: usize = 600;

/// Which of our crates a crate may lean on (architecture.md, "The rooms").
const ROOMS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("store", &["api"]),
    ("server", &["api", "store"]),
    ("client", &["api"]),
    ("controllers", &["api", "client"]),
    ("scheduler", &["api", "client"]),
    ("runtime", &["api"]),
    ("network", &["api"]),
    ("node", &["api", "client", "runtime", "network"]),
];

/// What pure code may not reach for.
const IMPURE: &[&str] = &[
    "tokio",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "rand::",
    "std::fs",
    "std::process",
    "std::thread",
    "TcpStream",
    "UdpSocket",
    "TcpListener",
    "hyper::",
    "reqwest",
];

struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root").to_owned()
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut open = vec![root().join("crates"), root().join("xtask")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("readable").map(|e| e.expect("readable").path()) {
            if entry.is_dir() && !entry.ends_with("target") {
                open.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let path = entry.strip_prefix(root()).expect("below the root").display().to_string();
                found.push(Source { path, text: fs::read_to_string(&entry).expect("UTF-8") });
            }
        }
    }
    assert!(found.len() > 20, "the walk found the project");
    found
}

/// The part of a file before its tests, without comments.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    body.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn check(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn every_file_says_why_it_exists() {
    let silent = sources().into_iter().filter(|s| !s.text.starts_with("//! ")).map(|s| s.path).collect();
    check("a file starts with `//!`: its purpose, what holds in it, what it does not do", silent);
}

#[test]
fn files_are_small() {
    let lines: BTreeMap<String, usize> =
        sources().into_iter().map(|s| (s.path, s.text.lines().count())).collect();
    let listed = |path: &str| LONG_FILES.iter().any(|(file, _)| *file == path);
    let long = lines.iter().filter(|(path, n)| **n > LONGEST && !listed(path));
    check(
        "past 600 lines, look for the two things in it",
        long.map(|(path, n)| format!("{path}: {n}")).collect(),
    );
    let stale = LONG_FILES.iter().filter(|(path, _)| lines.get(*path).is_none_or(|n| *n <= LONGEST));
    check("listed as long, and is not", stale.map(|(path, _)| path.to_string()).collect());
}

#[test]
fn cores_are_pure() {
    let pure = |path: &str| {
        path.starts_with("crates/api/src/")
            || (path.starts_with("crates/")
                && path.split('/').any(|part| matches!(part.trim_end_matches(".rs"), "decide" | "plan")))
    };
    let mut broken = Vec::new();
    for source in sources().into_iter().filter(|s| pure(&s.path)) {
        let code = code(&source.text);
        let says = |word: &str| {
            let inside = |at: usize| code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            code.match_indices(word).any(|(at, _)| !inside(at))
        };
        for word in IMPURE.iter().filter(|word| says(word)) {
            broken.push(format!("{}: {word}", source.path));
        }
    }
    check("decide, plan and all of api take now, seed and snapshot as arguments", broken);
}

#[test]
fn crates_lean_one_way() {
    let mut broken = Vec::new();
    for (room, allowed) in ROOMS {
        let manifest =
            fs::read_to_string(root().join(format!("crates/{room}/Cargo.toml"))).expect("readable");
        let normal = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for line in normal.lines().filter_map(|line| line.strip_prefix("carrack-")) {
            let on = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if !allowed.contains(&on) {
                broken.push(format!("{room} leans on {on}"));
            }
        }
    }
    check("only server touches store; nobody reaches back", broken);
}

#[test]
fn kinds_come_from_one_table() {
    let row = |s: &Source| {
        !s.path.starts_with("crates/api/") && !s.path.contains("/tests") && code(&s.text).contains("Kind {\n")
    };
    let literal = sources().into_iter().filter(row);
    let elsewhere = literal.filter(|s| code(&s.text).contains("short_names:")).map(|s| s.path).collect();
    check("a kind is a row of api::kinds, or a custom resource's definition", elsewhere);
}

#[test]
fn nothing_is_left_for_later_in_silence() {
    let marks =
        ["todo!(", "unimplemented!(", concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ig", "nore")];
    let mut broken = Vec::new();
    for source in sources().into_iter().filter(|s| s.path != "xtask/tests/tidy.rs") {
        for mark in marks.iter().filter(|mark| source.text.contains(**mark)) {
            broken.push(format!("{}: {mark}", source.path));
        }
    }
    check("what is missing is an issue, not a mark", broken);
}

#[test]
fn unsafe_code_lives_in_one_place_per_crate() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        let has =
            code(&source.text).lines().any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        let module = source.path.split('/').any(|part| part.trim_end_matches(".rs") == "sys");
        if has && !module && !source.path.contains("/tests/") {
            let room = source.path.split('/').take(2).collect::<Vec<_>>().join("/");
            places.entry(room).or_default().push(source.path);
        }
    }
    check("unsafe lives in a crate's `sys` module", places.into_values().flatten().collect());
}
