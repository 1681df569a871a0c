//! YAML bodies as the trees that `sigs.k8s.io/yaml` makes of them: YAML 1.1 scalars
//! (`yes` is true, `0o17` and `017` are octal), the last of duplicate keys wins and
//! each is reported, keys become strings, merge keys merge.
//!
//! Bounded: depth 128, and aliases may not blow a small body up. One document; more
//! are ignored, as upstream does.

mod build;
mod scalar;

use granit_parser::{Event, Options, Parser, ScanError};
use serde_json::Value;

/// A document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    /// Its tree.
    pub value: Value,
    /// Duplicate keys, such as `line 3: key "a" already set in map`.
    pub duplicates: Vec<String>,
}

/// Why a text is no YAML; displays as `yaml: …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be parsed.
    #[error("yaml: {}{reason}", place(*.line))]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// It is refused as a whole.
    #[error("yaml: {0}")]
    Refused(&'static str),
    /// It has no JSON form.
    #[error("{0}")]
    NoJson(String),
}

/// Where upstream's parser says that something is; of the first line it says nothing.
fn place(line: usize) -> String {
    if line > 1 { format!("line {line}: ") } else { String::new() }
}

impl From<ScanError> for Error {
    fn from(error: ScanError) -> Self {
        Self::Syntax { line: error.marker().line(), reason: error.kind().to_string() }
    }
}

/// Reads the first document of a text. No document at all is null.
pub fn read(body: &[u8]) -> Result<Document, Error> {
    let text = std::str::from_utf8(body).map_err(|_| Error::Refused("invalid UTF-8"))?;
    let mut options = Options::default();
    options.flow_nesting_limit = build::MAX_DEPTH;
    options.block_nesting_limit = build::MAX_DEPTH;
    let mut builder = build::Builder::default();
    for step in Parser::new_from_str_with_options(text, options) {
        let (event, span) = step?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        builder.event(event, span.start.line())?;
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests;
