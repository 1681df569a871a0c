//! Asks other resolvers, as a relay: the request goes on as it came, under a number and a
//! port of its own, and the answer comes back as it is.
//!
//! Invariants: an answer counts only if it comes from whom we asked, with our number and our
//! question; a request is given up after [`PATIENCE`]; requests in flight are bounded by
//! the caller.

use core::net::SocketAddr;
use core::time::Duration;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// For one server.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer by UDP; what announces itself as larger comes cut off.
const DATAGRAM: usize = 4096;

/// How the client asked, which is how we ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
}

/// The resolvers.
#[derive(Debug)]
pub struct Upstream {
    servers: Vec<SocketAddr>,
    /// The one that answered last is asked first.
    preferred: AtomicUsize,
}

impl Upstream {
    /// None is fine: then nothing is ever answered.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, preferred: AtomicUsize::new(0) }
    }

    /// The answer's bytes, under the request's number. `None`: nobody answered.
    pub async fn ask(&self, request: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let question = Message::from_vec(request).ok()?.queries;
        let first = self.preferred.load(Ordering::Relaxed);
        for turn in 0..self.servers.len() {
            let index = (first + turn) % self.servers.len();
            let server = self.servers[index];
            let asked = async {
                match transport {
                    Transport::Udp => by_udp(server, request, &question).await,
                    Transport::Tcp => by_tcp(server, request, &question).await,
                }
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%server, %error, "a resolver does not answer"),
                Err(_) => tracing::debug!(%server, "a resolver does not answer in time"),
            }
        }
        None
    }
}

type Question = Vec<hickory_proto::op::Query>;

async fn by_udp(server: SocketAddr, request: &[u8], question: &Question) -> io::Result<Vec<u8>> {
    // A new socket each time: an unpredictable port, and only this server is heard.
    let any: SocketAddr = if server.is_ipv4() { ([0u8; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let (number, renumbered) = renumber(request);
    socket.send(&renumbered).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = accept(&buffer[..length], number, request, question) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, request: &[u8], question: &Question) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let (number, renumbered) = renumber(request);
    let length = u16::try_from(renumbered.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes()[..], &renumbered].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    accept(&buffer, number, request, question).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn renumber(request: &[u8]) -> (u16, Vec<u8>) {
    // Keyed with random bits of the process, and different each time.
    let number = RandomState::new().hash_one(0) as u16;
    let mut renumbered = request.to_vec();
    renumbered[..2].copy_from_slice(&number.to_be_bytes());
    (number, renumbered)
}

fn accept(answer: &[u8], number: u16, request: &[u8], question: &Question) -> Option<Vec<u8>> {
    let message = Message::from_vec(answer).ok()?;
    let is_answer = message.metadata.message_type == hickory_proto::op::MessageType::Response;
    if !is_answer || message.metadata.id != number || message.queries != *question {
        return None;
    }
    let mut answer = answer.to_vec();
    answer[..2].copy_from_slice(&request[..2]);
    Some(answer)
}
