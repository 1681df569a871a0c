//! Container logs in the CRI format: `<time> <stdout|stderr> <P|F> <text>`.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// The last `max` bytes of a file.
pub fn tail_bytes(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(max)))?;
    let mut text = Vec::new();
    file.take(max).read_to_end(&mut text)?;
    Ok(text)
}

/// The text of the last lines of a log, at most `max` bytes; empty when there is none.
pub fn tail_lines(path: &Path, lines: usize, max: usize) -> String {
    let raw = tail_bytes(path, 64 * 1024).unwrap_or_default();
    let filter = Filter::default();
    let mut texts: Vec<Vec<u8>> = raw
        .split_inclusive(|b| *b == b'\n')
        .filter_map(|line| {
            let mut out = Vec::new();
            filter.clone().write(line, &mut out).then_some(out)
        })
        .collect();
    texts.drain(..texts.len().saturating_sub(lines));
    let mut text = texts.concat();
    let excess = text.len().saturating_sub(max);
    text.drain(..excess);
    String::from_utf8_lossy(&text).into_owned()
}

/// Where the last `lines` lines of a file begin.
pub fn tail_offset(path: &Path, lines: u64) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    const CHUNK: u64 = 64 * 1024;
    let (mut end, mut seen) = (length, 0);
    let mut buffer = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        file.seek(SeekFrom::Start(start))?;
        buffer.clear();
        (&mut file).take(end - start).read_to_end(&mut buffer)?;
        for (at, byte) in buffer.iter().enumerate().rev() {
            let position = start + at as u64;
            // The newline at the very end closes the last line, it begins none.
            if *byte == b'\n' && position + 1 < length {
                seen += 1;
                if seen == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// What of each line is shown.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// With the time before each line.
    pub timestamps: bool,
    /// Only lines from then on.
    pub since: Option<Timestamp>,
    /// `stdout` or `stderr`; both when empty.
    pub stream: String,
    /// The line before was only begun.
    continues: bool,
}

impl Filter {
    /// A filter; `stream` is `stdout`, `stderr` or empty.
    pub fn new(timestamps: bool, since: Option<Timestamp>, stream: &str) -> Self {
        Self { timestamps, since, stream: stream.to_owned(), continues: false }
    }

    /// Appends what is shown of one raw line (with its newline); whether anything is.
    pub fn write(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.splitn(4, |b| *b == b' ');
        let (Some(time), Some(stream), Some(tag), text) =
            (parts.next(), parts.next(), parts.next(), parts.next().unwrap_or_default())
        else {
            return false;
        };
        if !self.stream.is_empty() && self.stream.as_bytes() != stream {
            return false;
        }
        if let Some(since) = self.since {
            let at = std::str::from_utf8(time).ok().and_then(|t| t.parse::<Timestamp>().ok());
            if at.is_some_and(|at| at < since) {
                return false;
            }
        }
        if self.timestamps && !self.continues {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        out.extend_from_slice(text);
        self.continues = tag.starts_with(b"P");
        if !self.continues {
            out.push(b'\n');
        }
        true
    }
}

/// The log file of the newest instance in a container's directory, or of the one before.
pub fn newest(dir: &Path, previous: bool) -> Option<(u32, PathBuf)> {
    let mut attempts: Vec<u32> = std::fs::read_dir(dir)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok())
        .collect();
    attempts.sort_unstable_by(|a, b| b.cmp(a));
    let attempt = *attempts.get(usize::from(previous))?;
    Some((attempt, dir.join(format!("{attempt}.log"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr F two\n\
        2026-01-01T00:00:03Z stdout P thr\n2026-01-01T00:00:03Z stdout F ee\n";

    fn shown(filter: &Filter) -> String {
        let (mut filter, mut out) = (filter.clone(), Vec::new());
        LOG.as_bytes().split_inclusive(|b| *b == b'\n').for_each(|line| {
            filter.write(line, &mut out);
        });
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_are_unwrapped() {
        assert_eq!(shown(&Filter::default()), "one\ntwo\nthree\n");
        let timed = Filter { timestamps: true, ..Filter::default() };
        assert_eq!(
            shown(&timed),
            "2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z three\n"
        );
        let since = Some("2026-01-01T00:00:02Z".parse().expect("a time"));
        assert_eq!(shown(&Filter { since, ..Filter::default() }), "two\nthree\n");
        assert_eq!(shown(&Filter { stream: "stderr".into(), ..Filter::default() }), "two\n");
    }

    #[test]
    fn tails() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        std::fs::write(&path, "a\nbb\nccc\n").expect("written");
        for (lines, offset) in [(0, 9), (1, 5), (2, 2), (3, 0), (9, 0)] {
            assert_eq!(tail_offset(&path, lines).expect("readable"), offset, "{lines}");
        }
        std::fs::write(dir.path().join("10.log"), "").expect("written");
        assert_eq!(newest(dir.path(), false).map(|(n, _)| n), Some(10));
        assert_eq!(newest(dir.path(), true).map(|(n, _)| n), Some(0));
        std::fs::write(&path, LOG).expect("written");
        assert_eq!(tail_lines(&path, 80, 6), "three\n");
    }
}
