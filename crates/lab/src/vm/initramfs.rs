//! An initial file system for a kernel: a cpio archive of the form "newc"
//! (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel).

use std::io::{Result, Write};

/// Writes an archive: directories first, each above what is in it.
pub struct Archive<W> {
    out: W,
    written: usize,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl<W: Write> Archive<W> {
    /// An empty one.
    pub fn new(out: W) -> Self {
        Self { out, written: 0, entries: 0 }
    }

    /// A directory.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, DIRECTORY, &[])
    }

    /// A file that can be executed.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.entry(path, PROGRAM, content)
    }

    /// The end of the archive.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        // ino, mode, uid, gid, nlink, mtime, filesize, four device numbers, namesize, check.
        let fields =
            [self.entries, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
        let head: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        self.write(b"070701")?;
        self.write(head.as_bytes())?;
        self.write(path.as_bytes())?;
        self.write(&[0])?;
        self.align()?;
        self.write(content)?;
        self.align()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn align(&mut self) -> Result<()> {
        self.write(&[0; 3][..self.written.wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_the_format_says() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("d").unwrap();
        archive.file("d/file", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let (mut at, mut found) = (0, Vec::new());
        let number =
            |at: usize| usize::from_str_radix(std::str::from_utf8(&bytes[at..at + 8]).unwrap(), 16).unwrap();
        while at < bytes.len() {
            assert_eq!((&bytes[at..at + 6], at % 4), (&b"070701"[..], 0));
            let (mode, size, name) = (number(at + 14), number(at + 54), number(at + 94));
            let data = (at + 110 + name).next_multiple_of(4);
            let path = std::str::from_utf8(&bytes[at + 110..at + 109 + name]).unwrap();
            found.push((path, mode, &bytes[data..data + size]));
            at = (data + size).next_multiple_of(4);
        }
        let (directory, program) = (DIRECTORY as usize, PROGRAM as usize);
        let expect = [("d", directory, &b""[..]), ("d/file", program, b"hello"), ("TRAILER!!!", 0, b"")];
        assert_eq!(found, expect);
    }
}
