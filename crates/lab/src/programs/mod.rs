//! `make programs`: unmodified programs of others, against `carrack server` with simulated
//! nodes, over protobuf as they come.

mod controllers;
mod helm;
mod kwok;
mod operator;

pub use controllers::upstream_controllers;
pub use helm::charts;
pub use kwok::kwok;
pub use operator::operator;

use anyhow::{Result, ensure};

/// Whether `text` has every one of `parts`.
fn has(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    Ok(())
}

/// The end of what a program said, for the report of what went wrong.
fn last_words(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
