//! The agent's side of a connection to a shim: requests with their replies, events.
//!
//! What always holds: when the connection breaks, every waiting request fails and the
//! event stream ends; dropping the client closes the connection, which for an `exec` kills
//! the command.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::shim::protocol::{self, Answer, Event, Message, Op, Request, SOCKET, VERSIONS};
use crate::sys;

/// Events that may wait for their reader; then the shim waits, and drops us in the end.
const EVENTS: usize = 256;

type Reply = (Answer, Vec<OwnedFd>);
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Reply>>>>;

/// A connection to one shim.
pub struct ShimClient {
    socket: Arc<UnixStream>,
    next: AtomicU64,
    waiting: Waiting,
    sending: tokio::sync::Mutex<()>,
    reader: tokio::task::AbortHandle,
    /// Process id of the shim.
    pub pid: i32,
}

impl Drop for ShimClient {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl ShimClient {
    /// Connects to the shim of a sandbox's directory.
    pub async fn connect(dir: &Path) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        // Through a descriptor, because paths may be longer than a socket address.
        let dir = std::fs::File::open(dir)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
        Self::greet(UnixStream::connect(path).await?).await
    }

    /// Takes over a socket that the shim was started with.
    pub async fn greet(socket: UnixStream) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let socket = Arc::new(socket);
        let waiting = Waiting::default();
        let (events, receiver) = mpsc::channel(EVENTS);
        let reader = tokio::spawn(read(socket.clone(), waiting.clone(), events)).abort_handle();
        let (next, sending) = (AtomicU64::new(1), tokio::sync::Mutex::new(()));
        let mut client = Self { socket, next, waiting, sending, reader, pid: 0 };
        match client.request(Op::Hello { versions: VERSIONS.to_vec() }).await? {
            Answer::Hello { pid, .. } => client.pid = pid,
            other => {
                return Err(io::Error::other(format!("the shim answers {other:?} to hello")));
            }
        }
        Ok((client, receiver))
    }

    /// Asks and waits for the answer.
    pub async fn request(&self, op: Op) -> io::Result<Answer> {
        Ok(self.request_with(op, &[]).await?.0)
    }

    /// The same, with descriptors both ways.
    pub async fn request_with(&self, op: Op, descriptors: &[OwnedFd]) -> io::Result<Reply> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let sent = self.send(&protocol::encode(&Request { id, op }), descriptors).await;
        if let Err(e) = sent {
            lock(&self.waiting).remove(&id);
            return Err(e);
        }
        receiver.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))
    }

    async fn send(&self, mut bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
        let _turn = self.sending.lock().await;
        let mut fds: Vec<BorrowedFd<'_>> = descriptors.iter().map(|fd| fd.as_fd()).collect();
        while !bytes.is_empty() {
            let send = || Ok(sys::send(self.socket.as_fd(), bytes, &fds)?);
            let sent = self.socket.async_io(Interest::WRITABLE, send).await?;
            fds.clear();
            bytes = &bytes[sent..];
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(socket: Arc<UnixStream>, waiting: Waiting, events: mpsc::Sender<Event>) {
    let _ = read_until_closed(&socket, &waiting, &events).await;
    // Dropping the senders fails everyone who waits.
    lock(&waiting).clear();
}

async fn read_until_closed(
    socket: &UnixStream,
    waiting: &Waiting,
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    let (mut input, mut descriptors) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 4096];
    loop {
        let receive = || Ok(sys::receive(socket.as_fd(), &mut buffer)?);
        let (n, came) = socket.async_io(Interest::READABLE, receive).await?;
        if n == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..n]);
        descriptors.extend(came);
        while let Some(message) = protocol::decode(&mut input).map_err(io::Error::other)? {
            match message {
                Message::Reply { id, answer } => {
                    let sender = lock(waiting).remove(&id);
                    if let Some(sender) = sender {
                        let _ = sender.send((answer, std::mem::take(&mut descriptors)));
                    }
                }
                Message::Event(event) => {
                    if events.send(event).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
