//! Reading container logs back: the CRI format, tail, since, limits, and following a log
//! that grows and rotates.
//!
//! What always holds: following costs nothing while nothing is written (inotify, no
//! polling); memory is bounded by one chunk, however long the log is; a line that does not
//! parse is passed on as it is rather than lost. Which file belongs to which container,
//! also the previous one, is the agent's knowledge: it passes the path.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use jiff::Timestamp;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// How often the files of a log are looked at until no rotation is under way.
const LOOKS: usize = 1000;
/// A line longer than this is passed on in pieces (the writer cuts at 16 KiB).
const MAX_LINE: usize = 256 * 1024;

/// What to read (`PodLogOptions`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on when the end is reached, until the container ends.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail_lines: Option<u64>,
    /// Only what was written at or after this time.
    pub since: Option<Timestamp>,
    /// End after so many bytes of output.
    pub limit_bytes: Option<u64>,
    /// Begin each line with its RFC 3339 time and a space.
    pub timestamps: bool,
    /// Only `stdout` or `stderr`.
    pub stream: Option<LogStream>,
}

/// One of the two streams in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// An entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry<'a> {
    /// As it is written, RFC 3339 with nanoseconds.
    pub time: &'a str,
    /// Where it came from.
    pub stream: LogStream,
    /// False when the line goes on in the next entry of its stream.
    pub complete: bool,
    /// Without the newline.
    pub content: &'a [u8],
}

/// Parses one line, without its newline; None when it is not in the CRI format.
pub fn parse(line: &[u8]) -> Option<LogEntry<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = match parts.next()? {
        b"stdout" => LogStream::Stdout,
        b"stderr" => LogStream::Stderr,
        _ => return None,
    };
    // Tags may be joined by colons; the first one says whether the line is whole.
    let complete = match parts.next()?.split(|b| *b == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(LogEntry { time, stream, complete, content: parts.next().unwrap_or_default() })
}

/// Reads a log. `ended` becomes ready when the container has ended; it matters with
/// `follow` only, and None there means "follow for ever".
///
/// # Errors
/// When the file cannot be opened, such as `NotFound`.
pub fn open(
    path: &Path,
    options: LogOptions,
    ended: Option<BoxFuture<'static, ()>>,
) -> io::Result<LogReader> {
    // Watch first, so that nothing falls between.
    let watch = options.follow.then(|| watch(path)).transpose()?;
    let mut file = File::open(path)?;
    if let Some(lines) = options.tail_lines {
        let start = tail_start(&mut file, lines)?;
        file.seek(SeekFrom::Start(start))?;
    }
    let format = Format::new(&options);
    Ok(LogReader { path: path.to_path_buf(), file, watch, ended, format, finishing: false, done: false })
}

/// A log being read.
pub struct LogReader {
    path: PathBuf,
    file: File,
    watch: Option<AsyncFd<OwnedFd>>,
    ended: Option<BoxFuture<'static, ()>>,
    format: Format,
    finishing: bool,
    done: bool,
}

impl LogReader {
    /// The next piece of output; None at the end.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        while !self.done {
            match self.step().await {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Some(Ok(piece)),
                Err(e) => {
                    self.done = true;
                    return Some(Err(e));
                }
            }
        }
        None
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        futures::stream::unfold(self, |mut reader| async move {
            let piece = reader.next().await?;
            Some((piece, reader))
        })
    }

    async fn step(&mut self) -> io::Result<Bytes> {
        let mut chunk = vec![0; CHUNK];
        let n = self.file.read(&mut chunk)?;
        if n > 0 {
            let piece = self.format.feed(&chunk[..n]);
            self.done = self.format.is_full();
            return Ok(piece.into());
        }
        if self.reopen()? {
            return Ok(Bytes::new());
        }
        if self.watch.is_none() || self.finishing {
            self.done = true;
            return Ok(self.format.finish().into());
        }
        self.wait().await?;
        Ok(Bytes::new())
    }

    /// Goes on in the new file when the one at hand has been rotated away.
    fn reopen(&mut self) -> io::Result<bool> {
        if self.watch.is_none() {
            return Ok(false);
        }
        let (Ok(there), here) = (std::fs::metadata(&self.path), self.file.metadata()?) else {
            return Ok(false);
        };
        if identity_of(&there) == identity_of(&here) {
            return Ok(false);
        }
        // What was written to the old one between our last read and its rotation.
        if here.len() > self.file.stream_position()? {
            return Ok(true);
        }
        self.file = next_file(&self.path, identity_of(&here))?;
        Ok(true)
    }

    async fn wait(&mut self) -> io::Result<()> {
        let Some(watch) = &self.watch else { return Ok(()) };
        let ended = async {
            match &mut self.ended {
                Some(ended) => ended.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = watch.readable() => {
                let mut guard = ready?;
                let mut events = [0; 4096];
                // What happened does not matter: the file is looked at anyway.
                let _ = guard.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), &mut events)?));
            }
            () = ended => {
                self.ended = None;
                self.finishing = true;
            }
        }
        Ok(())
    }
}

/// What tells a file from others, whatever its name.
type Identity = (u64, u64);

/// The file that follows the one with that identity: it may have been rotated away more
/// than once since it was looked at last.
fn next_file(path: &Path, old: Identity) -> io::Result<File> {
    for _ in 0..LOOKS {
        // A rotation under way shows holes and files in two places: looked at again.
        let files = generations(path)?;
        let whole = files.iter().zip(0..).all(|((n, _), expected)| *n == expected);
        if whole && files == generations(path)? {
            let place = files.iter().position(|(_, identity)| *identity == old);
            // One that is gone was older than all that are left.
            let next = place.map_or(files.len(), |at| at).saturating_sub(1);
            if let Some((n, identity)) = files.get(next)
                && let Ok(file) = File::open(generation(path, *n))
                && identity_of(&file.metadata()?) == *identity
            {
                return Ok(file);
            }
        }
        std::thread::yield_now();
    }
    File::open(path)
}

fn generation(path: &Path, n: u32) -> PathBuf {
    if n == 0 { path.to_path_buf() } else { PathBuf::from(format!("{}.{n}", path.display())) }
}

/// The log at the path (0) and those rotated away, the newest first.
fn generations(path: &Path) -> io::Result<Vec<(u32, Identity)>> {
    let name = path.file_name().unwrap_or_default();
    let mut numbers = vec![0];
    for entry in std::fs::read_dir(path.parent().unwrap_or(Path::new("/")))? {
        let entry = entry?.file_name();
        let end = entry.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        let digits = end.and_then(|end| std::str::from_utf8(end.strip_prefix(b".")?).ok());
        numbers.extend(digits.and_then(|digits| digits.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    numbers.dedup();
    let identified = numbers
        .into_iter()
        .filter_map(|n| Some((n, identity_of(&std::fs::metadata(generation(path, n)).ok()?))));
    Ok(identified.collect())
}

fn identity_of(metadata: &std::fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn watch(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let what = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(dir, what)?;
    sys::async_fd(inotify.as_fd().try_clone_to_owned()?)
}

/// Where the last `lines` lines begin.
fn tail_start(file: &mut (impl Read + Seek), lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    let (mut at, mut found) = (end, 0);
    let mut block = vec![0; 8192];
    while at > 0 && lines > 0 {
        let length = (at as usize).min(block.len());
        at -= length as u64;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut block[..length])?;
        for n in (0..length).rev().filter(|n| block[*n] == b'\n') {
            let position = at + n as u64;
            // The newline of the last line itself does not begin another.
            if position + 1 == end {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(position + 1);
            }
        }
    }
    Ok(if lines == 0 { end } else { 0 })
}

/// From bytes of a log file to bytes of output. Pure.
struct Format {
    since: Option<Timestamp>,
    stream: Option<LogStream>,
    timestamps: bool,
    left: Option<u64>,
    carry: Vec<u8>,
    /// The next entry of a stream goes on with a line.
    inside: [bool; 2],
}

impl Format {
    fn new(options: &LogOptions) -> Self {
        Self {
            since: options.since,
            stream: options.stream,
            timestamps: options.timestamps,
            left: options.limit_bytes,
            carry: Vec::new(),
            inside: [false; 2],
        }
    }

    fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(line) if self.carry.is_empty() => self.line(line, &mut out),
                Some(line) => {
                    let mut whole = std::mem::take(&mut self.carry);
                    whole.extend_from_slice(line);
                    self.line(&whole, &mut out);
                }
                None => {
                    self.carry.extend_from_slice(piece);
                    if self.carry.len() > MAX_LINE {
                        out.append(&mut self.carry);
                    }
                }
            }
        }
        self.limit(out)
    }

    fn finish(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.carry);
        let mut out = Vec::new();
        // Half an entry is being written: without its end it says nothing.
        if !rest.is_empty() && parse(&rest).is_none() {
            out = rest;
        }
        self.limit(out)
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(entry) = parse(line) else {
            out.extend_from_slice(line);
            out.push(b'\n');
            return;
        };
        if self.stream.is_some_and(|s| s != entry.stream) {
            return;
        }
        if let (Some(since), Ok(time)) = (self.since, entry.time.parse::<Timestamp>())
            && time < since
        {
            return;
        }
        let inside = &mut self.inside[entry.stream as usize];
        if self.timestamps && !*inside {
            out.extend_from_slice(entry.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.content);
        if entry.complete {
            out.push(b'\n');
        }
        *inside = !entry.complete;
    }

    fn limit(&mut self, mut out: Vec<u8>) -> Vec<u8> {
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LOG: &str = "\
2024-05-01T10:00:00.000000001Z stdout F one
2024-05-01T10:00:01.000000000Z stderr F two
2024-05-01T10:00:02.000000000Z stdout P thr
2024-05-01T10:00:02.000000001Z stdout F ee
not in the format
2024-05-01T10:00:03.000000000Z stdout F 
";

    async fn read(options: LogOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let mut reader = open(&path, options, None).unwrap();
        let mut text = Vec::new();
        while let Some(piece) = reader.next().await {
            text.extend(piece.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn options() {
        let all = LogOptions::default;
        let whole = "one\ntwo\nthree\nnot in the format\n\n";
        assert_eq!(read(all()).await, whole);
        let tail = |n| LogOptions { tail_lines: Some(n), ..all() };
        assert_eq!(read(tail(0)).await, "");
        assert_eq!(read(tail(2)).await, "not in the format\n\n");
        assert_eq!(read(tail(100)).await, whole);
        assert_eq!(read(LogOptions { limit_bytes: Some(5), ..all() }).await, "one\nt");
        let since = Some("2024-05-01T10:00:02Z".parse().unwrap());
        assert_eq!(read(LogOptions { since, ..all() }).await, "three\nnot in the format\n\n");
        let stream = Some(LogStream::Stderr);
        assert_eq!(read(LogOptions { stream, ..all() }).await, "two\nnot in the format\n");
        let stamped = read(LogOptions { timestamps: true, tail_lines: Some(4), ..all() }).await;
        assert_eq!(
            stamped,
            "2024-05-01T10:00:02.000000000Z three\nnot in the format\n2024-05-01T10:00:03.000000000Z \n"
        );
    }

    #[tokio::test]
    async fn follows_through_a_rotation_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2024-05-01T10:00:00.0Z stdout F a\n").unwrap();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let ended = Box::pin(async { drop(ended.await) });
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut reader = open(&path, options, Some(ended)).unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), "a\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        writeln!(file, "2024-05-01T10:00:00.0Z stdout F b").unwrap();
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::write(&path, "2024-05-01T10:00:00.0Z stdout F c\n").unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap(), "b\n");
        assert_eq!(reader.next().await.unwrap().unwrap(), "c\n");
        end.send(()).unwrap();
        assert!(reader.next().await.is_none());
    }

    #[test]
    fn parses() {
        let entry = parse(b"2024-05-01T10:00:00Z stdout P:x a b").unwrap();
        assert_eq!((entry.stream, entry.complete, entry.content), (LogStream::Stdout, false, &b"a b"[..]));
        for bad in ["", "x", "t stdin F x", "t stdout X y", "t stdout"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
