//! `carrack restore`: puts a backup in the place of everything that the store holds, on
//! a running server or on a data directory that nobody serves.
//!
//! Objects get new revisions above all that were told before, so that every client
//! notices, by 410 Expired, and lists again.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use carrack_server::maintenance::{KEY_FILES, RestoreOptions};
use carrack_store::backup::{Entry, Reader};
use serde_json::json;

use crate::args;
use crate::dirs::{Dirs, write_private};
use crate::keep::{Live, Offline};
use crate::process;

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Restores a backup.
///
/// # Errors
/// The backup cannot be read; nothing has changed then.
pub fn run(restore: &args::Restore) -> Result<()> {
    let dirs = Dirs::open(&restore.at.data_dir)?;
    process::log("warn")?;
    let unreadable = || format!("cannot read {}", restore.file.display());
    let mut file = File::open(&restore.file).with_context(unreadable)?;
    let done = process::runtime()?.block_on(async {
        if let Some(live) = Live::of(&dirs)? {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).with_context(unreadable)?;
            let path = format!("restore?withoutSealed={}", restore.without_sealed);
            return live.json("POST", &path, bytes).await;
        }
        let held = dirs.hold()?;
        place_keys(&dirs, &restore.file)?;
        let offline = Offline::open_to_replace(&dirs, held)?;
        let options = RestoreOptions { without_sealed: restore.without_sealed };
        let mut taking = offline.keeper.restore(options);
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece).with_context(unreadable)? {
                0 => break,
                read => taking.push(&piece[..read])?,
            }
        }
        let done = taking.finish().await?;
        anyhow::Ok(json!({
            "objects": done.objects, "leftOut": done.left_out, "revision": done.revision,
            "taken": done.about.time,
        }))
    })?;
    let text = |field: &str| done[field].to_string().trim_matches('"').to_owned();
    println!(
        "restored {} objects as of {}; revisions go on from {}, and every client lists again",
        text("objects"),
        text("taken"),
        text("revision")
    );
    if done["leftOut"] != 0 {
        println!("left out {} objects whose key is not at hand", text("leftOut"));
    }
    Ok(())
}

/// Takes the keys out of a backup that has them, where the directory has none.
fn place_keys(dirs: &Dirs, file: &Path) -> Result<()> {
    let mut reader = Reader::default();
    let mut input = File::open(file)?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = input.read(&mut piece)?;
        reader.push(&piece[..read]);
        while let Some(entry) = reader.next()? {
            match entry {
                Entry::File(name, content) if KEY_FILES.contains(&&*name) => {
                    place(&dirs.root().join(&name), &content)?;
                }
                Entry::File(..) | Entry::About(_) => {}
                // Keys come before all records.
                Entry::Record(_) => return Ok(()),
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
}

fn place(path: &Path, content: &[u8]) -> Result<()> {
    match fs::read(path) {
        Ok(there) if there == content => {}
        Ok(_) => println!("{} stays as it is; the backup has another", path.display()),
        Err(_) => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            }
            write_private(path, content)?;
            println!("{} taken from the backup", path.display());
        }
    }
    Ok(())
}
