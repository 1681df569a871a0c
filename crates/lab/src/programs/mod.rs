//! `make programs`: unmodified programs of others, against `carrack server` with simulated
//! nodes, over protobuf as they come.

mod controllers;
mod helm;

pub use controllers::upstream_controllers;
pub use helm::charts;

use anyhow::{Result, ensure};

/// Whether `text` has every one of `parts`.
fn has(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    Ok(())
}
