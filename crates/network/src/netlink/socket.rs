//! A netlink socket, used in turns: send, then read every answer.
//!
//! The kernel handles a request within `sendmsg`, so all answers are waiting when it
//! returns; nothing here waits for anything else, and nothing is async. A socket
//! belongs for ever to the network namespace of the thread that opened it.
//!
//! Answers that are lost (ENOBUFS) and dumps that are torn (EINTR) are errors: the
//! caller no longer knows the state and starts over.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};

use super::message::{self, Attributes, Messages, Received};
use crate::sys;

/// Whom to speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// nf_tables, conntrack.
    Netfilter,
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Number of the request.
    pub sequence: u32,
    /// `None`: it succeeded.
    pub error: Option<Errno>,
    /// What the kernel adds in words, if it does.
    pub words: Option<String>,
}

impl Answer {
    /// As an error for people.
    pub fn to_error(&self) -> Option<io::Error> {
        let errno = self.error?;
        Some(match &self.words {
            Some(words) if !words.is_empty() => {
                io::Error::new(io::Error::from(errno).kind(), format!("{errno} ({words})"))
            }
            _ => errno.into(),
        })
    }
}

/// A netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// More than any dump's datagram (32 KiB).
const RECEIVE: usize = 1 << 16;
/// For answers: a batch that fails has many.
const RECEIVE_QUEUE: usize = 4 << 20;
/// `NLMSGERR_ATTR_MSG`.
const ERROR_WORDS: u16 = 1;

impl Socket {
    /// Opens one in the network namespace of the calling thread.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let protocol = match protocol {
            Protocol::Route => SockProtocol::NetlinkRoute,
            Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        sys::brief_answers(&fd)?;
        // Without the capability the default has to do.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_QUEUE);
        Ok(Self { fd, buffer: vec![0; RECEIVE] })
    }

    /// Sends the messages in one system call and returns every answer: errors, and successes
    /// of those that asked for one.
    pub fn exchange(&mut self, messages: &Messages) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        if messages.count() == 0 {
            return Ok(answers); // The kernel takes an empty datagram for an error.
        }
        self.send(messages)?;
        while let Some(length) = self.receive(MsgFlags::MSG_DONTWAIT)? {
            let all = message::received(&self.buffer[..length]);
            answers.extend(all.filter(|m| m.kind == message::ERROR).filter_map(answer));
        }
        Ok(answers)
    }

    /// Sends messages that each ask for an answer; the first refusal is returned, with its
    /// number, unless `ignore` says that it does not matter.
    pub fn request(
        &mut self,
        messages: &Messages,
        ignore: impl Fn(u32, Errno) -> bool,
    ) -> Result<(), (u32, io::Error)> {
        let answers = self.exchange(messages).map_err(|error| (0, error))?;
        for answer in &answers {
            if answer.error.is_some_and(|errno| !ignore(answer.sequence, errno)) {
                let error = answer.to_error().expect("it has an errno");
                return Err((answer.sequence, error));
            }
        }
        Ok(())
    }

    /// Sends one dump request and hands each message of the answer to `each`. A dump torn by
    /// a concurrent change is asked for again, a few times; `each` then sees repetitions.
    pub fn dump(&mut self, request: &Messages, mut each: impl FnMut(Received<'_>)) -> io::Result<()> {
        const ATTEMPTS: usize = 5;
        for _ in 0..ATTEMPTS {
            self.send(request)?;
            if !self.dump_once(&mut each)? {
                return Ok(());
            }
        }
        Err(Errno::EINTR.into())
    }

    /// Whether the dump was torn.
    fn dump_once(&mut self, each: &mut impl FnMut(Received<'_>)) -> io::Result<bool> {
        let mut torn = false;
        while let Some(length) = self.receive(MsgFlags::empty())? {
            for message in message::received(&self.buffer[..length]) {
                torn |= message.flags & message::DUMP_INTERRUPTED != 0;
                match message.kind {
                    message::DONE => return Ok(torn),
                    message::ERROR => match answer(message).and_then(|answer| answer.to_error()) {
                        Some(error) => return Err(error),
                        None => return Ok(torn),
                    },
                    _ => each(message),
                }
            }
        }
        Ok(torn)
    }

    fn send(&mut self, messages: &Messages) -> io::Result<()> {
        // The kernel takes a request of at most the size of the send buffer.
        let size = messages.bytes().len().saturating_mul(2).max(1 << 17);
        if setsockopt(&self.fd, sockopt::SndBufForce, &size).is_err() {
            setsockopt(&self.fd, sockopt::SndBuf, &size)?;
        }
        loop {
            match send(self.fd.as_raw_fd(), messages.bytes(), MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn receive(&mut self, flags: MsgFlags) -> io::Result<Option<usize>> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn answer(message: Received<'_>) -> Option<Answer> {
    let code = i32::from_ne_bytes(message.payload.get(..4)?.try_into().ok()?);
    // The number asked is in the echoed header: a batch may be answered under another.
    let echoed = message.payload.get(4..4 + message::HEADER)?;
    let sequence = u32::from_ne_bytes(echoed[8..12].try_into().ok()?);
    let error = (code != 0).then(|| Errno::from_raw(code.saturating_neg()));
    let words = Attributes(message.payload.get(4 + message::HEADER..)?).string(ERROR_WORDS);
    Some(Answer { sequence, error, words: words.map(str::to_owned) })
}
