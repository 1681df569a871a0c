//! Writes a payload into a volume so that a reader sees the old files or the new
//! ones, never a mixture: upstream's AtomicWriter.
//!
//! Files live in `..<time>/`, `..data` is a symlink to that, and each visible name is
//! a symlink to `..data/<name>`. A change writes a new directory and swaps `..data`
//! by rename. Unchanged contents are not written again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use super::{File, Payload};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Brings `dir` to hold `payload`; true when something changed. `stamp` names the
/// new directory and differs from one call to the next; `fs_group` owns the files.
pub fn write(dir: &Path, payload: &Payload, stamp: &str, fs_group: Option<u32>) -> io::Result<bool> {
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && same(&dir.join(old), payload)
    {
        return Ok(false);
    }
    let name = format!("..{stamp}");
    let new = dir.join(&name);
    fs::create_dir_all(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        write_file(&new, path, file, fs_group)?;
    }
    let staged = dir.join(NEW_DATA);
    let _ = fs::remove_file(&staged);
    symlink(&name, &staged)?;
    fs::rename(&staged, dir.join(DATA))?;
    link_names(dir, payload)?;
    if let Some(old) = old {
        let _ = fs::remove_dir_all(dir.join(old));
    }
    Ok(true)
}

fn write_file(root: &Path, path: &str, file: &File, fs_group: Option<u32>) -> io::Result<()> {
    let full = root.join(path);
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&full)?;
    out.write_all(&file.data)?;
    if file.uid.is_some() || fs_group.is_some() {
        std::os::unix::fs::fchown(&out, file.uid, fs_group)?;
    }
    // The umask has no say; the group reads what it owns.
    let mode = if fs_group.is_some() { file.mode | ((file.mode & 0o400) >> 3) } else { file.mode };
    out.set_permissions(fs::Permissions::from_mode(mode))
}

/// Whether a directory holds just these files with these contents and modes.
fn same(root: &Path, payload: &Payload) -> bool {
    let mut found = BTreeSet::new();
    if list(root, "", &mut found).is_err() || found.len() != payload.len() {
        return false;
    }
    payload.iter().all(|(path, file)| {
        found.contains(path) && fs::read(root.join(path)).is_ok_and(|data| data == file.data)
    })
}

fn list(root: &Path, below: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            list(root, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// Makes the visible names, and removes those that are no longer there.
fn link_names(dir: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        match symlink(format!("{DATA}/{name}"), dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(&*name) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |text: &str| File { data: text.into(), mode: 0o640, uid: None };
        files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    #[test]
    fn swaps_whole_contents() {
        let dir = tempfile::tempdir().expect("a directory");
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        let first = payload(&[("a", "1"), ("d/b", "2")]);
        assert!(write(dir.path(), &first, "t1", None).expect("written"));
        assert!(!write(dir.path(), &first, "t2", None).expect("the same"));
        assert_eq!((read("a"), read("d/b")), (Some("1".into()), Some("2".into())));
        assert_eq!(fs::read_link(dir.path().join("a")).expect("a link"), Path::new("..data/a"));
        let mode = fs::metadata(dir.path().join("a")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(write(dir.path(), &payload(&[("a", "3"), ("c", "4")]), "t3", None).expect("written"));
        assert_eq!((read("a"), read("c"), read("d/b")), (Some("3".into()), Some("4".into()), None));
        let left: Vec<_> =
            fs::read_dir(dir.path()).expect("there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 4, "..t3, ..data, a, c: {left:?}");
        assert!(write(dir.path(), &Payload::new(), "t4", None).expect("emptied"));
        assert_eq!(read("a"), None);
    }
}
