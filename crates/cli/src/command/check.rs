//! `carrack check`: looks through a database, or a backup, and says what is wrong.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use carrack_server::encryption::Encryption;
use carrack_store::Local;
use carrack_store::backup::{Entry, Reader};

use super::backup::existing;
use crate::args;
use crate::dirs::Dirs;
use crate::process;

/// Checks a backup, or the database of a data directory.
///
/// # Errors
/// Something is wrong with it; or a server runs on the directory.
pub fn run(check: &args::Check) -> Result<()> {
    process::log("warn")?;
    match &check.file {
        Some(file) => backup(file),
        None => database(&existing(&check.at)?),
    }
}

fn database(dirs: &Dirs) -> Result<()> {
    ensure!(
        dirs.holder().is_none(),
        "a server runs on {}: it checked every record when it started; to check what it holds now, \
         make a backup and check that, or stop it",
        dirs.root().display()
    );
    let _held = dirs.hold()?;
    let encryption = Arc::new(Encryption::open_or_create(&dirs.keys())?);
    let objects = Local::check(&dirs.database(), encryption)?;
    println!("{}: {objects} objects, everything is well", dirs.database().display());
    Ok(())
}

fn backup(path: &Path) -> Result<()> {
    let unreadable = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(unreadable)?;
    let (mut reader, mut piece, mut said) = (Reader::default(), vec![0; 1 << 20], String::new());
    loop {
        let read = file.read(&mut piece).with_context(unreadable)?;
        reader.push(&piece[..read]);
        while let Some(entry) = reader.next()? {
            match entry {
                Entry::About(about) => {
                    said += &format!(", taken {} by carrack {}", about.time, about.version)
                }
                Entry::File(name, _) => said += &format!(", with {name}"),
                Entry::Record(_) => {}
            }
        }
        if read == 0 {
            break;
        }
    }
    println!("{}: {} objects{said}; everything is well", path.display(), reader.finish()?);
    Ok(())
}
