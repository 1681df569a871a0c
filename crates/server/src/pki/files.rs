//! Secret files: whole or absent, readable by their owner only.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::PkiError;

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::Io { path, source }
}

/// Makes a directory, and those above it, that only its owner may enter.
pub(super) fn private_dir(path: &Path) -> Result<(), PkiError> {
    crate::files::private_dir(path).map_err(failed(path))
}

/// The text of a file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // Not text: treat as damaged, which callers find out by its contents.
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(error) => Err(failed(path)(error)),
    }
}

/// Replaces a file in one step: a crash leaves the old one or the new one.
pub(super) fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    crate::files::write(path, text.as_bytes()).map_err(failed(path))
}

/// The PEM blocks of a text, each with its first and last line.
pub(super) fn blocks(text: &str) -> Vec<String> {
    let (mut all, mut block) = (Vec::new(), String::new());
    for line in text.lines() {
        if line.starts_with("-----BEGIN ") {
            block.clear();
        }
        block.push_str(line);
        block.push('\n');
        if line.starts_with("-----END ") {
            all.push(std::mem::take(&mut block));
        }
    }
    all
}
