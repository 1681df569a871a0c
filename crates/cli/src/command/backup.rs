//! `carrack backup`: everything the store holds, in one file, whether or not a server
//! runs on the data directory.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use carrack_store::backup::Reader;
use http_body_util::BodyExt;

use crate::args;
use crate::dirs::Dirs;
use crate::keep::{Live, Offline};
use crate::process;

/// Writes a backup.
///
/// # Errors
/// There is no cluster in the directory, or the file cannot be written. No half of a
/// backup is left under the file's name.
pub fn run(backup: &args::Backup) -> Result<()> {
    let dirs = existing(&backup.at)?;
    process::log("warn")?;
    let mut out = Output::create(&backup.file)?;
    process::runtime()?.block_on(async {
        if let Some(live) = Live::of(&dirs)? {
            let path = format!("backup?withKeys={}", backup.with_keys);
            let mut body = live.send("GET", &path, Vec::new()).await?;
            while let Some(frame) = body.frame().await {
                let frame = frame.context("the server's answer broke off")?;
                if let Ok(bytes) = frame.into_data() {
                    out.write(&bytes)?;
                }
            }
        } else {
            for piece in Offline::open(&dirs)?.keeper.backup(backup.with_keys)? {
                out.write(&piece.map_err(|why| anyhow::anyhow!("{why}"))?)?;
            }
        }
        anyhow::Ok(())
    })?;
    let records = out.finish()?;
    println!("wrote {records} objects to {}", backup.file.display());
    if backup.with_keys {
        println!("it holds the cluster's keys: whoever has it can read every Secret");
    } else {
        println!(
            "it holds no keys: to restore it elsewhere, keep a copy of {} and {} apart from it",
            dirs.keys().display(),
            dirs.root().join("pki/cluster.pem").display()
        );
    }
    Ok(())
}

/// The data directory of a command that must not make one.
pub(super) fn existing(at: &args::DataDir) -> Result<Dirs> {
    Dirs::existing(&at.data_dir)?.with_context(|| {
        format!("there is no cluster in {}; --data-dir names another", at.data_dir.display())
    })
}

/// A file that has its name only once it is whole; what goes in is read back on the way.
struct Output {
    path: PathBuf,
    part: PathBuf,
    file: File,
    reader: Reader,
}

impl Output {
    fn create(path: &Path) -> Result<Self> {
        let part = PathBuf::from(format!("{}.part", path.display()));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&part);
        let file = file.with_context(|| format!("cannot write {}", part.display()))?;
        Ok(Self { path: path.to_owned(), part, file, reader: Reader::default() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.part.display()))?;
        self.reader.push(bytes);
        while self.reader.next()?.is_some() {}
        Ok(())
    }

    fn finish(self) -> Result<u64> {
        let records = self.reader.finish()?;
        self.file.sync_all().with_context(|| format!("cannot write {}", self.part.display()))?;
        std::fs::rename(&self.part, &self.path)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(records)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Whole, it has another name by now.
        let _ = std::fs::remove_file(&self.part);
    }
}
