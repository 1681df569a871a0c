//! The data directory: where things lie, its format version, and who holds it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use carrack_network::plan::Prefix;
use carrack_server::files;
use nix::fcntl::{Flock, FlockArg};

/// Version of the directory's layout, in its file `format`.
const FORMAT: u32 = 1;

/// A data directory.
#[derive(Debug, Clone)]
pub struct Dirs {
    root: PathBuf,
}

/// Proof that no other process runs on the directory; released when dropped.
pub struct Held {
    _lock: Flock<File>,
}

impl Dirs {
    /// Opens the directory, making it when absent.
    ///
    /// # Errors
    /// When it was written by a newer version, or cannot be made.
    pub fn open(root: &Path) -> Result<Self> {
        let make = || {
            files::private_dir(root)?;
            fs::canonicalize(root)
        };
        let root = make().with_context(|| format!("cannot make the data directory {}", root.display()))?;
        let dirs = Self { root };
        dirs.check_format()?;
        Ok(dirs)
    }

    /// Opens the directory only if it is there.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn existing(root: &Path) -> Result<Option<Self>> {
        if root.join("format").exists() { Self::open(root).map(Some) } else { Ok(None) }
    }

    fn check_format(&self) -> Result<()> {
        let path = self.root.join("format");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(found) if found <= FORMAT => Ok(()),
                Ok(found) => bail!(
                    "{} has format {found}, this carrack knows up to {FORMAT}; use the newer version that wrote it",
                    self.root.display()
                ),
                Err(_) => {
                    bail!("{} does not hold a number; is this a carrack data directory?", path.display())
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write_private(&path, format!("{FORMAT}\n").as_bytes())
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Takes the directory for this process, noting its id for `carrack down`.
    ///
    /// # Errors
    /// When another process has it.
    pub fn hold(&self) -> Result<Held> {
        match Flock::lock(self.open_pid_file()?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Held::note(lock),
            Err((mut file, _)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                bail!(
                    "carrack runs already on {} (process {}); `carrack down` stops it",
                    self.root.display(),
                    pid.trim()
                )
            }
        }
    }

    /// As [`hold`](Self::hold), but waits until whoever has the directory lets it go.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub fn hold_when_free(&self) -> Result<Held> {
        match Flock::lock(self.open_pid_file()?, FlockArg::LockExclusive) {
            Ok(lock) => Held::note(lock),
            Err((_, error)) => Err(error).context("cannot take over the data directory"),
        }
    }

    fn open_pid_file(&self) -> Result<File> {
        let path = self.pid_file();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).with_context(|| format!("cannot open {}", path.display()))
    }

    /// The process that holds the directory, if one does.
    pub fn holder(&self) -> Option<i32> {
        let file = OpenOptions::new().read(true).write(true).open(self.pid_file()).ok()?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_) => None,
            Err((mut file, _)) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).ok()?;
                pid.trim().parse().ok()
            }
        }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("carrack.db")
    }

    /// The keys with which records are encrypted in the database.
    pub fn keys(&self) -> PathBuf {
        self.root.join(carrack_server::encryption::KEY_FILE)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// Where a detached process logs.
    pub fn log(&self) -> PathBuf {
        self.root.join("carrack.log")
    }

    /// Notes the address ranges that this run uses, for a `carrack down` that is not told.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn note_ranges(&self, ranges: &[Prefix]) -> Result<()> {
        let lines: Vec<String> = ranges.iter().map(Prefix::to_string).collect();
        write_private(&self.ranges_file(), (lines.join("\n") + "\n").as_bytes())
    }

    /// The address ranges of the last run; none before the first.
    pub fn ranges(&self) -> Vec<Prefix> {
        let text = fs::read_to_string(self.ranges_file()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn ranges_file(&self) -> PathBuf {
        self.root.join("ranges")
    }

    fn pid_file(&self) -> PathBuf {
        self.root.join("carrack.pid")
    }
}

impl Held {
    /// Notes in the locked file which process has it.
    fn note(lock: Flock<File>) -> Result<Self> {
        lock.set_len(0)?;
        (&*lock).write_all(format!("{}\n", std::process::id()).as_bytes())?;
        Ok(Self { _lock: lock })
    }
}

/// Writes a file that only its owner can read, all or nothing; it is on disk when this
/// returns.
///
/// # Errors
/// When it cannot be written, naming the path.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    files::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(&dir.path().join("data")).unwrap();
        let held = dirs.hold().unwrap();
        assert_eq!(dirs.holder(), Some(std::process::id() as i32));
        assert!(dirs.hold().is_err());
        drop(held);
        assert_eq!(dirs.holder(), None);
        dirs.hold().unwrap();
    }

    #[test]
    fn ranges_are_those_of_the_last_run() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(dir.path()).unwrap();
        assert_eq!(dirs.ranges(), []);
        for ranges in [["10.1.0.0/16", "10.2.0.0/20"], ["10.3.0.0/16", "fd00::/112"]] {
            let ranges = ranges.map(|range| range.parse().unwrap());
            dirs.note_ranges(&ranges).unwrap();
            assert_eq!(dirs.ranges(), ranges);
        }
    }

    #[test]
    fn refuses_a_newer_format() {
        let dir = tempfile::tempdir().unwrap();
        Dirs::open(dir.path()).unwrap();
        fs::write(dir.path().join("format"), "2\n").unwrap();
        assert!(Dirs::open(dir.path()).unwrap_err().to_string().contains("format 2"));
    }
}
