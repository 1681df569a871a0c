//! Scripts of kubectl commands and what they say, normalised so that two servers, or
//! two days, can be compared.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::machine::output;

/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs each line of a script as kubectl arguments (a shell splits them) and returns a
/// transcript: the line, its exit code when it is not 0, and what it said. `kubectl` makes a
/// command that runs the given shell text with `$K` being kubectl; a line that says `$K`
/// itself is shell as it stands. Empty lines and comments are skipped.
///
/// # Errors
/// A command cannot be run.
pub fn transcript(script: &str, kubectl: impl Fn(&str) -> Result<Command>) -> Result<String> {
    let mut text = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let shell = if line.contains("$K ") { line.to_owned() } else { format!("$K {line}") };
        let output = output(kubectl(&shell)?, LIMIT)?;
        let _ = writeln!(text, "$ kubectl {line}");
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        for line in said.lines() {
            let _ = writeln!(text, "{}", normal(line));
        }
        if let Some(code) = output.status.code().filter(|code| *code != 0) {
            let _ = writeln!(text, "(exit code {code})");
        }
        text.push('\n');
    }
    Ok(text)
}

/// What a line of kubectl's own log says (`W1121 05:20:42.462300 20017 diff.go:723] …`).
fn logged(line: &str) -> Option<&str> {
    let (head, said) = line.split_once("] ")?;
    let level = head.starts_with(['I', 'W', 'E']) && head.get(1..5)?.bytes().all(|b| b.is_ascii_digit());
    (level && head.contains(".go:")).then_some(said)
}

/// A line without what differs from run to run: uids, revisions, times, ages, generated
/// endings, addresses; and with columns that are one space apart.
pub fn normal(line: &str) -> String {
    if let Some(said) = logged(line) {
        return said.to_owned();
    }
    let fields = [
        "resourceVersion:",
        "\"resourceVersion\":",
        "uid:",
        "\"uid\":",
        "Timestamp:",
        "\"creationTimestamp\":",
        "time:",
        "\"time\":",
    ];
    if let Some(field) =
        fields.iter().find(|field| line.trim_start().trim_start_matches("- ").starts_with(**field))
    {
        let at = line.find(field.trim_end_matches(':')).unwrap_or(0);
        return format!("{}{field} …", &line[..at]);
    }
    if line.starts_with("--- /tmp/") || line.starts_with("+++ /tmp/") {
        return line[..3].to_owned();
    }
    if let Some((field, _)) = line.split_once(':').filter(|_| line.ends_with(" +0000")) {
        return format!("{field}: TIME");
    }
    let indent: String = line.chars().take_while(|c| *c == ' ').collect();
    let words: Vec<String> = line.split_whitespace().map(word).collect();
    format!("{indent}{}", words.join(" "))
}

fn word(word: &str) -> String {
    for (place, short) in [("/tmp/LIVE-", "LIVE"), ("/tmp/MERGED-", "MERGED")] {
        if let Some(rest) = word.strip_prefix(place) {
            return format!("{short}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
    }
    if let Some((name, _)) = word.split_once("kube-api-access-") {
        return format!("{name}kube-api-access-…");
    }
    let word = &*generated(word);
    let bare = word.trim_matches(|c: char| "\",;()".contains(c));
    let is_age = bare.len() < 8
        && bare.starts_with(|c: char| c.is_ascii_digit())
        && bare.chars().all(|c| c.is_ascii_digit() || "smhd".contains(c))
        && bare.ends_with(['s', 'm', 'h', 'd']);
    let is_time = bare.len() >= 20 && bare.as_bytes().get(10) == Some(&b'T') && bare.ends_with('Z');
    let is_uid = bare.len() == 36 && bare.matches('-').count() == 4;
    match (is_age, is_time, is_uid) {
        (true, ..) => word.replace(bare, "AGE"),
        (_, true, _) => word.replace(bare, "TIME"),
        (.., true) => word.replace(bare, "UID"),
        _ => word.to_owned(),
    }
}

/// A word without the generated end of a pod's name, its address, and digests.
fn generated(word: &str) -> String {
    let in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let random = |end: &str| end.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c));
    let mut text = String::new();
    for piece in word.split_inclusive(|c| !in_name(c)) {
        let name = piece.trim_end_matches(|c| !in_name(c));
        let rest = &piece[name.len()..];
        let parts: Vec<&str> = name.rsplitn(3, '-').collect();
        match *parts {
            [end, hash, base] if end.len() == 5 && hash.len() >= 8 && random(end) && random(hash) => {
                text.push_str(&format!("{base}-HASH-POD{rest}"));
            }
            [digest] if digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit()) => {
                text.push_str(&format!("DIGEST{rest}"));
            }
            [address] if address.starts_with("10.42.") => text.push_str(&format!("10.42.ADDRESS{rest}")),
            _ => text.push_str(piece),
        }
    }
    text
}

/// Compares a transcript with a golden file, or writes the file when `UPDATE_GOLDEN` is
/// set. Returns the first differences; empty when they agree.
///
/// # Errors
/// The file cannot be read or written.
pub fn compare(golden: &Path, transcript: &str) -> Result<String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, transcript)?;
        return Ok(String::new());
    }
    let expected = std::fs::read_to_string(golden)?;
    let mut text = String::new();
    let (mut want, mut have) = (sections(&expected), sections(transcript));
    want.reverse();
    have.reverse();
    while let (Some(want), Some(have)) = (want.pop(), have.pop()) {
        if want != have {
            let _ = writeln!(text, "--- wanted\n{want}\n--- said\n{have}\n");
        }
    }
    if !(want.is_empty() && have.is_empty()) {
        text.push_str("the number of commands differs\n");
    }
    Ok(text)
}

/// One command with what it said each.
fn sections(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = text.match_indices("$ kubectl ").map(|(at, _)| at).collect();
    starts.push(text.len());
    starts.windows(2).map(|ends| text[ends[0]..ends[1]].trim_end()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_what_differs() {
        let check = |line: &str, expect: &str| assert_eq!(normal(line), expect);
        check("web   1/1     Running   0    12s", "web 1/1 Running 0 AGE");
        check("    resourceVersion: \"77\"", "    resourceVersion: …");
        check("  uid: 0b7bb2a4-5d67-4b17-9c2a-6a1e6e5c0a01", "  uid: …");
        check("at 2026-11-21T02:14:10Z", "at TIME");
        check("Start Time:   Sat, 21 Nov 2026 02:14:10 +0000", "Start Time: TIME");
        check("[pod/web-5cddf9856-mhmcv/web] on 10.42.0.7", "[pod/web-HASH-POD/web] on 10.42.ADDRESS");
    }
}
