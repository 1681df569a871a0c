//! Secret files: replaced in one step, readable by their owner only, and on disk, with the
//! directories that lead to them, when a call returns: what is acknowledged hangs on them.

use std::fs;
use std::io::{ErrorKind, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a directory (and those above it) that only its owner may enter; one that is
/// there already is left as it is, for an administrator may have opened it on purpose.
///
/// # Errors
/// It cannot be made.
pub fn private_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        private_dir(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        // Somebody else was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }?;
    // A directory's name is in the one above it.
    sync(above.unwrap_or(Path::new(".")))
}

/// Replaces a file in one step: a crash leaves the old one or the new one.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    // A file left over from a crash keeps its own mode unless told.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    path.parent().map_or(Ok(()), sync)
}

fn sync(directory: &Path) -> Result<()> {
    fs::File::open(directory)?.sync_all()
}
