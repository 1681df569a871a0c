//! Unpacks one image layer into a directory that overlayfs can use.
//!
//! What always holds: nothing is ever made outside of the directory: parents are resolved
//! by the kernel below it (`openat2` with `RESOLVE_IN_ROOT`), the last component is never
//! followed, `..` is refused. Whiteouts become what overlayfs takes for them. An archive
//! cannot plant overlayfs' own attributes. The digest answered is that of the bytes read.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, makedev, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::error::{Result, RuntimeError};
use crate::sys;

/// Bytes of one layer, unpacked.
const MAX_BYTES: u64 = 64 << 30;
/// Entries of one layer.
const MAX_ENTRIES: u64 = 4_000_000;

/// A layer unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the uncompressed archive: `sha256:…`.
    pub diff_id: String,
    /// Bytes of its files.
    pub size: u64,
}

/// Unpacks a layer (tar; gzip and zstd by their first bytes) into `dir`, which exists and
/// is empty.
pub fn unpack(layer: impl Read + Send, dir: &Path) -> Result<Unpacked> {
    let plain = decompress(layer).map_err(|e| RuntimeError::InvalidImage(format!("layer: {e}")))?;
    let mut reader = Hashing { inner: plain, hash: Sha256::new() };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(dir, flags, Mode::empty()).map_err(|e| RuntimeError::io("open", dir)(e.into()))?;
    let buffer = vec![0; 128 * 1024];
    let mut unpacker = Unpacker { root, cache: None, times: Vec::new(), size: 0, buffer };
    unpacker.archive(&mut reader)?;
    // What follows the end of the archive counts for the digest too.
    io::copy(&mut reader, &mut io::sink()).map_err(|e| RuntimeError::InvalidImage(format!("layer: {e}")))?;
    Ok(Unpacked { diff_id: format!("sha256:{}", hex(&reader.hash.finalize())), size: unpacker.size })
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Removes compression, known by its first bytes.
pub fn decompress<'a>(mut from: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut head = Vec::new();
    from.by_ref().take(4).read_to_end(&mut head)?;
    let kind: [u8; 4] = std::array::from_fn(|n| head.get(n).copied().unwrap_or(0));
    let whole = io::Cursor::new(head).chain(from);
    Ok(match kind {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Box::new(ruzstd::decoding::StreamingDecoder::new(whole).map_err(io::Error::other)?)
        }
        _ => Box::new(whole),
    })
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

struct Unpacker {
    root: OwnedFd,
    /// The directory of the entry before, which is mostly the next one's too.
    cache: Option<(String, OwnedFd)>,
    /// Times of directories, to be set when nothing changes in them any more.
    times: Vec<(String, i64)>,
    size: u64,
    buffer: Vec<u8>,
}

impl Unpacker {
    fn archive(&mut self, reader: &mut (impl Read + Send)) -> Result<()> {
        let mut archive = tar::Archive::new(reader);
        let bad = |e: io::Error| RuntimeError::InvalidImage(format!("layer: {e}"));
        let mut count = 0;
        for entry in archive.entries().map_err(bad)? {
            let mut entry = entry.map_err(bad)?;
            count += 1;
            if count > MAX_ENTRIES {
                return Err(RuntimeError::InvalidImage(format!("more than {MAX_ENTRIES} files in a layer")));
            }
            let path = clean(&String::from_utf8_lossy(&entry.path_bytes()))?;
            self.entry(&mut entry, &path)
                .map_err(|e| RuntimeError::InvalidImage(format!("layer: \"{path}\": {e}")))?;
        }
        for (path, time) in std::mem::take(&mut self.times).into_iter().rev() {
            let (parent, name) = self.place(&path).map_err(io::Error::from).map_err(bad)?;
            // A later entry may have removed it.
            let _ = set_time(&parent, &name, time);
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>, path: &str) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        if path.is_empty() {
            return self.root_entry(entry);
        }
        let (parent, name) = self.place(path)?;
        if let Some(hidden) = name.strip_prefix(".wh.") {
            return whiteout(&parent, hidden);
        }
        let mode = Mode::from_bits_truncate(entry.header().mode()? & 0o7777);
        let exists = fstatat(&parent, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok();
        let was_dir = exists.is_some_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR);
        if exists.is_some() && !(was_dir && kind == EntryType::Directory) {
            self.remove(&parent, &name, was_dir)?;
        }
        match kind {
            EntryType::Directory => {
                if !was_dir {
                    mkdirat(&parent, name.as_str(), Mode::from_bits_truncate(0o755))?;
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(entry, &parent, &name)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                symlinkat(&*String::from_utf8_lossy(&target), &parent, name.as_str())?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = clean(&String::from_utf8_lossy(&target)).map_err(io::Error::other)?;
                let (from, from_name) = self.place(&target)?;
                linkat(&from, from_name.as_str(), &parent, name.as_str(), LinkatFlags::empty())?;
                return Ok(());
            }
            EntryType::Char | EntryType::Block => {
                let header = entry.header();
                let device = makedev(
                    header.device_major()?.unwrap_or(0).into(),
                    header.device_minor()?.unwrap_or(0).into(),
                );
                let kind = if kind == EntryType::Char { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
                mknodat(&parent, name.as_str(), kind, mode, device)?;
            }
            EntryType::Fifo => mknodat(&parent, name.as_str(), SFlag::S_IFIFO, mode, 0)?,
            _ => return Ok(()),
        }
        self.attributes(entry, &parent, &name, path, kind, mode)
    }

    fn file(&mut self, entry: &mut impl Read, parent: &OwnedFd, name: &str) -> io::Result<()> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(parent, name, flags, Mode::from_bits_truncate(0o600))?;
        let mut file = File::from(fd);
        loop {
            let n = match entry.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            file.write_all(&self.buffer[..n])?;
            self.size += n as u64;
            if self.size > MAX_BYTES {
                return Err(io::Error::other(format!("the layer is larger than {MAX_BYTES} bytes")));
            }
        }
    }

    /// Owner before mode, for chown takes set-user-id away; times last.
    fn attributes(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        parent: &OwnedFd,
        name: &str,
        path: &str,
        kind: EntryType,
        mode: Mode,
    ) -> io::Result<()> {
        let owner = Uid::from_raw(entry.header().uid()? as u32);
        let group = Gid::from_raw(entry.header().gid()? as u32);
        fchownat(parent, name, Some(owner), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if kind != EntryType::Symlink {
            // The name was made by us a moment ago and is no link.
            fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink)?;
        }
        for (key, value) in xattrs(entry)? {
            let at = CString::new(format!("/proc/self/fd/{}/{name}", parent.as_raw_fd()))?;
            match sys::set_xattr(&at, &CString::new(key)?, &value) {
                // A file system without them can hold the rest of the image all the same.
                Ok(()) | Err(Errno::EOPNOTSUPP) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let time = entry.header().mtime()? as i64;
        if kind == EntryType::Directory {
            self.times.push((path.to_owned(), time));
            return Ok(());
        }
        Ok(set_time(parent, name, time)?)
    }

    fn root_entry(&self, entry: &tar::Entry<'_, impl Read>) -> io::Result<()> {
        let mode = Mode::from_bits_truncate(entry.header().mode()? & 0o7777);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(&self.root, ".", flags, Mode::empty())?;
        nix::unistd::fchown(
            &root,
            Some(Uid::from_raw(entry.header().uid()? as u32)),
            Some(Gid::from_raw(entry.header().gid()? as u32)),
        )?;
        Ok(fchmod(&root, mode)?)
    }

    /// The directory of `path` below the root, made when missing, and the last component.
    fn place(&mut self, path: &str) -> nix::Result<(OwnedFd, String)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = name.to_owned();
        if let Some((cached, fd)) = &self.cache
            && cached == parent
        {
            return Ok((fd.try_clone().map_err(|_| Errno::EMFILE)?, name));
        }
        let fd = match self.directory(parent) {
            Err(Errno::ENOENT) => self.make_directories(parent)?,
            found => found?,
        };
        self.cache = Some((parent.to_owned(), fd.try_clone().map_err(|_| Errno::EMFILE)?));
        Ok((fd, name))
    }

    fn directory(&self, path: &str) -> nix::Result<OwnedFd> {
        let path = CString::new(if path.is_empty() { "." } else { path }).map_err(|_| Errno::EINVAL)?;
        let resolve = sys::RESOLVE_IN_ROOT | sys::RESOLVE_NO_MAGICLINKS;
        sys::openat2(Some(self.root.as_fd()), &path, libc::O_PATH | libc::O_DIRECTORY, 0, resolve)
    }

    fn make_directories(&self, path: &str) -> nix::Result<OwnedFd> {
        let mut current = self.directory("")?;
        let mut walked = String::new();
        for part in path.split('/').filter(|p| !p.is_empty()) {
            walked = format!("{walked}/{part}");
            match mkdirat(&current, part, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e),
            }
            current = self.directory(&walked)?;
        }
        Ok(current)
    }

    /// Removes what a later entry of the same layer replaces.
    fn remove(&mut self, parent: &OwnedFd, name: &str, dir: bool) -> io::Result<()> {
        self.cache = None;
        if dir {
            // Below our own descriptor, and remove_dir_all follows no links.
            return std::fs::remove_dir_all(format!("/proc/self/fd/{}/{name}", parent.as_raw_fd()));
        }
        Ok(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?)
    }
}

/// overlayfs' own forms: a 0:0 character device hides a name, an attribute hides all that
/// lower layers have in a directory.
fn whiteout(parent: &OwnedFd, hidden: &str) -> io::Result<()> {
    if hidden == ".wh..opq" {
        let at = CString::new(format!("/proc/self/fd/{}", parent.as_raw_fd()))?;
        // setxattr, for the descriptor's link is to be followed: "<dir>/." does that.
        let at = CString::new([at.as_bytes(), b"/."].concat())?;
        return Ok(sys::set_xattr(&at, c"trusted.overlay.opaque", b"y")?);
    }
    if hidden.starts_with(".wh.") {
        return Ok(());
    }
    if matches!(hidden, "" | "." | "..") {
        return Err(io::Error::other("a whiteout without a name"));
    }
    match mknodat(parent, hidden, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Extended attributes of an entry, but those that steer overlayfs.
fn xattrs(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let key = extension.key().unwrap_or_default();
        if let Some(name) = key.strip_prefix("SCHILY.xattr.")
            && (name.starts_with("user.") || name == "security.capability")
        {
            found.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

fn set_time(parent: &OwnedFd, name: &str, seconds: i64) -> nix::Result<()> {
    let time = TimeSpec::new(seconds, 0);
    utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)
}

/// A relative path without empty parts and dots.
fn clean(path: &str) -> Result<String> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") || path.contains('\0') {
        return Err(RuntimeError::InvalidImage(format!("layer: \"{path}\" leads outside")));
    }
    Ok(parts.join("/"))
}

/// Opens the directory `dir` for syncing the file system it is on.
pub fn sync_file_system(dir: &Path) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = openat(AT_FDCWD, dir, flags, Mode::empty())?;
    Ok(nix::unistd::syncfs(&dir)?)
}
