//! One client connection of the shim: frames in, frames out, descriptors with them.
//!
//! What always holds: nothing here waits; a client that does not read is dropped when
//! [`MAX_QUEUE`] frames wait for it, and one that sends nonsense at once.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use crate::shim::protocol::{self, Message, Request};
use crate::sys;

/// Frames that may wait for one client.
const MAX_QUEUE: usize = 1024;

/// A client.
pub struct Connection {
    /// The socket, not blocking.
    pub socket: OwnedFd,
    /// It wants events.
    pub watching: bool,
    /// A version has been agreed on.
    pub greeted: bool,
    input: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    output: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

/// The client is gone, or has to go.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

impl Connection {
    /// Takes over a socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            watching: false,
            greeted: false,
            input: Vec::new(),
            descriptors: VecDeque::new(),
            output: VecDeque::new(),
        }
    }

    /// Reads what there is.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<(), Closed> {
        match sys::receive(self.socket.as_fd(), buffer) {
            Ok((0, _)) => Err(Closed),
            Ok((n, descriptors)) => {
                self.input.extend_from_slice(&buffer[..n]);
                self.descriptors.extend(descriptors);
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(_) => Err(Closed),
        }
    }

    /// The next whole request.
    pub fn next(&mut self) -> Result<Option<Request>, Closed> {
        let request = protocol::decode(&mut self.input).map_err(|_| Closed)?;
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(request)
    }

    /// Descriptors that came with the request just taken.
    pub fn take_descriptors<const N: usize>(&mut self) -> Option<[OwnedFd; N]> {
        if self.descriptors.len() < N {
            return None;
        }
        let taken: Vec<OwnedFd> = self.descriptors.drain(..N).collect();
        taken.try_into().ok()
    }

    /// Queues a message and sends what goes.
    pub fn send(&mut self, message: &Message, descriptors: Vec<OwnedFd>) -> Result<(), Closed> {
        if self.output.len() >= MAX_QUEUE {
            return Err(Closed);
        }
        self.output.push_back((protocol::encode(message), descriptors));
        self.flush()
    }

    /// Frames wait for the client to read.
    pub fn is_waiting(&self) -> bool {
        !self.output.is_empty()
    }

    /// Sends what goes without waiting.
    pub fn flush(&mut self) -> Result<(), Closed> {
        while let Some((bytes, descriptors)) = self.output.front_mut() {
            let borrowed: Vec<_> = descriptors.iter().map(|d| d.as_fd()).collect();
            match sys::send(self.socket.as_fd(), bytes, &borrowed) {
                Ok(n) => {
                    descriptors.clear();
                    bytes.drain(..n);
                    if bytes.is_empty() {
                        self.output.pop_front();
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(_) => return Err(Closed),
            }
        }
        Ok(())
    }
}
