//! Serves a [`Disk`] over a Unix socket by the NBD protocol
//! (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>), as qemu speaks
//! it: fixed newstyle handshake, simple replies; read, write, flush.
//!
//! One request after the other, so that a flush comes after every write that was answered
//! before it. When the power is gone nothing is answered any more.

use std::io::{ErrorKind, Read, Result, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, SECTOR};

const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
/// The longest request that is taken.
const LONGEST: u32 = 32 << 20;

/// Serves the disk to whoever connects, one after the other, from a thread of its own that
/// lives as long as the process.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(disk: Arc<Disk>, socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    std::thread::Builder::new().name("nbd".into()).spawn(move || {
        for stream in listener.incoming() {
            match stream.and_then(|stream| session(&disk, stream)) {
                // A machine that was killed breaks its connection off.
                Err(error)
                    if !matches!(
                        error.kind(),
                        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                    ) =>
                {
                    eprintln!("the disk's connection: {error}");
                }
                _ => {}
            }
        }
    })?;
    Ok(())
}

fn session(disk: &Disk, mut stream: UnixStream) -> Result<()> {
    // Fixed newstyle, no zeroes after the export.
    stream.write_all(&[&b"NBDMAGIC"[..], &OPTION_MAGIC.to_be_bytes(), &3u16.to_be_bytes()].concat())?;
    let _flags: [u8; 4] = take(&mut stream)?;
    if haggle(disk, &mut stream)? {
        while transmit(disk, &mut stream)? {}
    }
    Ok(())
}

fn take<const N: usize>(stream: &mut UnixStream) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map(|()| bytes)
}

fn u32_of(stream: &mut UnixStream) -> Result<u32> {
    take(stream).map(u32::from_be_bytes)
}

fn u64_of(stream: &mut UnixStream) -> Result<u64> {
    take(stream).map(u64::from_be_bytes)
}

fn read(stream: &mut UnixStream, length: u32) -> Result<Vec<u8>> {
    if length > LONGEST {
        return Err(std::io::Error::new(ErrorKind::InvalidData, format!("{length} bytes are too many")));
    }
    let mut data = vec![0; length as usize];
    stream.read_exact(&mut data).map(|()| data)
}

fn wrong(what: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, what)
}

/// Options, until the client wants to go (true) or to leave.
fn haggle(disk: &Disk, stream: &mut UnixStream) -> Result<bool> {
    const ABORT: u32 = 2;
    const GO: u32 = 7;
    const ACK: u32 = 1;
    const INFO: u32 = 3;
    const UNSUPPORTED: u32 = (1 << 31) + 1;
    loop {
        if u64_of(stream)? != OPTION_MAGIC {
            return Err(wrong("no option"));
        }
        let (option, length) = (u32_of(stream)?, u32_of(stream)?);
        read(stream, length)?;
        let mut answer = |kind: u32, data: &[u8]| {
            let head = [option, kind, data.len() as u32].map(u32::to_be_bytes).concat();
            stream.write_all(&[&OPTION_REPLY.to_be_bytes(), &head[..], data].concat())
        };
        match option {
            GO => {
                // Has flags, takes flushes.
                let export =
                    [&0u16.to_be_bytes()[..], &(disk.size() as u64).to_be_bytes(), &5u16.to_be_bytes()];
                answer(INFO, &export.concat())?;
                let sizes = [SECTOR as u32, SECTOR as u32, LONGEST].map(u32::to_be_bytes).concat();
                answer(INFO, &[&3u16.to_be_bytes()[..], &sizes].concat())?;
                answer(ACK, &[])?;
                return Ok(true);
            }
            ABORT => return answer(ACK, &[]).map(|()| false),
            _ => answer(UNSUPPORTED, &[])?,
        }
    }
}

/// One request; false at the end.
fn transmit(disk: &Disk, stream: &mut UnixStream) -> Result<bool> {
    if u32_of(stream)? != REQUEST {
        return Err(wrong("no request"));
    }
    let [_, _, _, kind] = take::<4>(stream)?;
    let (handle, offset, length) = (u64_of(stream)?, u64_of(stream)? as usize, u32_of(stream)?);
    let data = match kind {
        0 => disk.read(offset, length as usize),
        1 => {
            let data = read(stream, length)?;
            disk.write(offset, data).then(Vec::new)
        }
        3 => disk.flush().then(Vec::new),
        2 => return Ok(false),
        _ => return Err(wrong("a request of a kind that was not offered")),
    };
    // Without power the request stays unanswered; the connection ends with the machine.
    let Some(data) = data else { return Ok(true) };
    let head = [&REPLY.to_be_bytes()[..], &0u32.to_be_bytes(), &handle.to_be_bytes()].concat();
    stream.write_all(&[head, data].concat())?;
    Ok(true)
}
