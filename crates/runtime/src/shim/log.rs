//! The writing side of a container's log, in the CRI format: one line is
//! `<RFC3339Nano> <stdout|stderr> <F|P> <content>`, where P marks a piece of a line that
//! goes on in the next entry of the same stream.
//!
//! What always holds: at most [`MAX_LINE`] bytes of content an entry; entries are written
//! whole; the file rotates between entries, to `<path>.1`, `<path>.2`…, and the oldest goes.
//! A log that cannot be written (full disk) loses entries, never stalls the container.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Longest content of one entry (as in containerd).
pub const MAX_LINE: usize = 16 * 1024;

/// Names of the two streams.
pub const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// One container's log.
pub struct LogWriter {
    path: PathBuf,
    file: File,
    size: u64,
    max_bytes: u64,
    max_files: u32,
    carry: [Vec<u8>; 2],
}

impl LogWriter {
    /// Opens the file, making its directory; a log of an earlier process is continued.
    pub fn open(path: &Path, max_bytes: u64, max_files: u32) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = open(path)?;
        let size = file.metadata()?.len();
        let path = path.to_path_buf();
        Ok(Self { path, file, size, max_bytes, max_files, carry: Default::default() })
    }

    /// Takes output of stream 0 or 1; what is not yet a whole line waits.
    pub fn write(&mut self, stream: usize, bytes: &[u8], now: Timestamp) {
        let mut entries = Vec::new();
        format(&mut self.carry[stream], bytes, STREAMS[stream], now, &mut entries);
        self.append(&entries);
    }

    /// Writes what is left of a stream that ended without a newline.
    pub fn finish(&mut self, stream: usize, now: Timestamp) {
        let rest = std::mem::take(&mut self.carry[stream]);
        if !rest.is_empty() {
            let mut entry = Vec::new();
            push(&mut entry, now, STREAMS[stream], b'F', &rest);
            self.append(&entry);
        }
    }

    fn append(&mut self, entries: &[u8]) {
        if entries.is_empty() {
            return;
        }
        if self.size > 0 && self.size + entries.len() as u64 > self.max_bytes && self.max_bytes > 0 {
            self.rotate();
        }
        if self.file.write_all(entries).is_ok() {
            self.size += entries.len() as u64;
        }
    }

    /// The path has a log at every moment: whoever opens it meanwhile gets the old or the new.
    fn rotate(&mut self) {
        let beside = |end: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        let numbered = |n: u32| beside(&format!(".{n}"));
        let last = self.max_files.saturating_sub(1);
        for n in (1..last).rev() {
            let _ = fs::rename(numbered(n), numbered(n + 1));
        }
        if last > 0 {
            let first = numbered(1);
            let _ = fs::remove_file(&first);
            // A file system without links has a moment without a log.
            if fs::hard_link(&self.path, &first).is_err() {
                let _ = fs::rename(&self.path, &first);
            }
        }
        let fresh = beside(".new");
        let _ = fs::remove_file(&fresh);
        let made = open(&fresh).and_then(|file| fs::rename(&fresh, &self.path).map(|()| file));
        if let Ok(file) = made {
            self.file = file;
            self.size = 0;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Turns output into entries: whole lines and full pieces go to `out`, the rest to `carry`.
fn format(carry: &mut Vec<u8>, input: &[u8], stream: &str, now: Timestamp, out: &mut Vec<u8>) {
    for piece in input.split_inclusive(|b| *b == b'\n') {
        let (mut content, whole) = match piece.strip_suffix(b"\n") {
            Some(line) => (line, true),
            None => (piece, false),
        };
        while carry.len() + content.len() > MAX_LINE {
            let (head, tail) = content.split_at(MAX_LINE - carry.len());
            carry.extend_from_slice(head);
            push(out, now, stream, b'P', carry);
            carry.clear();
            content = tail;
        }
        if !whole {
            carry.extend_from_slice(content);
        } else if carry.is_empty() {
            push(out, now, stream, b'F', content);
        } else {
            carry.extend_from_slice(content);
            push(out, now, stream, b'F', carry);
            *carry = Vec::new();
        }
    }
}

fn push(out: &mut Vec<u8>, now: Timestamp, stream: &str, tag: u8, content: &[u8]) {
    write!(out, "{now:.9} {stream} {} ", tag as char).expect("writing to memory works");
    out.extend_from_slice(content);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&[u8]], expect: &str) {
        let (mut carry, mut out) = (Vec::new(), Vec::new());
        for chunk in chunks {
            format(&mut carry, chunk, "stdout", Timestamp::UNIX_EPOCH, &mut out);
        }
        let text = String::from_utf8(out).unwrap().replace("1970-01-01T00:00:00.000000000Z ", "");
        assert_eq!(text, expect, "{chunks:?}");
    }

    #[test]
    fn lines() {
        check(&[b"a\n"], "stdout F a\n");
        check(&[b"a", b"b\nc"], "stdout F ab\n");
        check(&[b"\n\n"], "stdout F \nstdout F \n");
        check(&[b"a\nb\n"], "stdout F a\nstdout F b\n");
        check(&[b""], "");
    }

    #[test]
    fn long_lines_are_cut() {
        let long = vec![b'x'; MAX_LINE + 3];
        let full = "x".repeat(MAX_LINE);
        check(&[&long, b"\n"], &format!("stdout P {full}\nstdout F xxx\n"));
        check(&[&long[..MAX_LINE], b"\n"], &format!("stdout F {full}\n"));
        check(&[&long[..10], &long, b"\n"], &format!("stdout P {full}\nstdout F {}\n", "x".repeat(13)));
    }

    #[test]
    fn rotation_keeps_so_many_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/0.log");
        let mut log = LogWriter::open(&path, 100, 3).unwrap();
        for n in 0..20 {
            log.write(0, format!("line {n} ..........\n").as_bytes(), Timestamp::UNIX_EPOCH);
        }
        let mut names: Vec<String> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.1", "0.log.2"]);
        assert!(fs::read_to_string(&path).unwrap().contains("line 19"));
        assert!(fs::metadata(&path).unwrap().len() <= 100);
    }
}
