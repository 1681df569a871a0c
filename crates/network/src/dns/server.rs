//! The server on UDP and TCP.
//!
//! Names of the cluster are answered at once, in the loop that received the question;
//! anything else becomes a task, of which there are at most [`MAX_FORWARDED`].

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::cache::Cache;
use super::upstream::{Transport, Upstream};
use super::zone::{Answer, Zone};

/// Questions that others are being asked; beyond it the answer is SERVFAIL.
const MAX_FORWARDED: usize = 256;
/// Clients on TCP; beyond it they wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// RFC 7766: how long a client on TCP may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Of a datagram, whatever the client offers (the DNS flag day's value: no fragments).
const MAX_DATAGRAM: u16 = 1232;
/// Without EDNS (RFC 1035).
const PLAIN_DATAGRAM: u16 = 512;
/// Aliases of aliases.
const MAX_ALIASES: usize = 8;
/// After the system ran out of something, so that loops do not spin.
const PAUSE: Duration = Duration::from_millis(100);
/// Forwarded questions between two clearings of the cache.
const CLEARING: usize = 256;

/// How the server runs.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// UDP and TCP on each. Port 0 is for tests.
    pub listen: Vec<SocketAddr>,
    /// Where other names are asked; see [`super::resolv_conf::upstreams`]. None: SERVFAIL.
    pub upstreams: Vec<SocketAddr>,
    /// `cluster.local`.
    pub domain: String,
}

/// The running server; dropping it stops it.
#[derive(Debug)]
pub struct DnsServer {
    zone: watch::Sender<Arc<Zone>>,
    addresses: Vec<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl DnsServer {
    /// Binds and serves on the current tokio runtime, with an empty zone.
    pub async fn start(config: DnsConfig) -> io::Result<Self> {
        let (zone, names) = watch::channel(Arc::new(Zone::build(&config.domain, [], [])));
        let upstreams = config.upstreams.iter().filter(|server| !config.listen.contains(server));
        let shared = Arc::new(Shared {
            zone: names,
            upstream: Upstream::new(upstreams.copied().collect()),
            cache: Mutex::default(),
            forwarded: Arc::new(Semaphore::new(MAX_FORWARDED)),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            turn: AtomicUsize::new(0),
        });
        let mut server = Self { zone, addresses: Vec::new(), tasks: Vec::new() };
        for address in config.listen {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            let socket = UdpSocket::bind(address).await?;
            server.addresses.push(address);
            server.tasks.push(tokio::spawn(serve_udp(Arc::new(socket), Arc::clone(&shared))));
            server.tasks.push(tokio::spawn(serve_tcp(listener, Arc::clone(&shared))));
        }
        Ok(server)
    }

    /// The names from now on.
    pub fn publish(&self, zone: Arc<Zone>) {
        self.zone.send_replace(zone);
    }

    /// The addresses bound.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(SocketAddr::ip).collect()
    }

    /// The addresses bound, with ports.
    pub fn sockets(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[derive(Debug)]
struct Shared {
    zone: watch::Receiver<Arc<Zone>>,
    upstream: Upstream,
    cache: Mutex<Cache>,
    forwarded: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    turn: AtomicUsize,
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; 65_535];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "cannot receive DNS questions");
                sleep(PAUSE).await;
                continue;
            }
        };
        let bytes = &buffer[..length];
        let Some(question) = Question::read(bytes) else { continue };
        match shared.local(&question) {
            Local::Answer(answer) => {
                // A datagram that does not go out is asked for again.
                let _ = socket.send_to(&question.datagram(answer), client).await;
            }
            Local::Ask(target) => {
                let Ok(permit) = Arc::clone(&shared.forwarded).try_acquire_owned() else {
                    let refusal = question.reply(ResponseCode::ServFail);
                    let _ = socket.send_to(&question.datagram(refusal), client).await;
                    continue;
                };
                let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
                tokio::spawn(async move {
                    let _permit = permit;
                    let answer = shared.elsewhere(&question, target, Transport::Udp).await;
                    let _ = socket.send_to(&answer, client).await;
                });
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let permit = Arc::clone(&shared.connections).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _permit = permit;
                    // Whatever went wrong, the client sees the connection end.
                    let _ = connection(stream, &shared).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept DNS clients");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Questions one after the other (RFC 7766 lets clients send several, we answer in order).
async fn connection(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            let mut bytes = vec![0; usize::from(length)];
            stream.read_exact(&mut bytes).await?;
            Ok::<_, io::Error>(bytes)
        };
        let bytes = timeout(IDLE, read).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let question = Question::read(&bytes).ok_or(io::ErrorKind::InvalidData)?;
        let answer = match shared.local(&question) {
            Local::Answer(answer) => encode(&answer),
            Local::Ask(target) => match shared.forwarded.try_acquire() {
                Ok(_permit) => shared.elsewhere(&question, target, Transport::Tcp).await,
                Err(_) => encode(&question.reply(ResponseCode::ServFail)),
            },
        };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(IDLE, stream.write_all(&framed)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
}

/// A question that can be answered.
struct Question {
    bytes: Vec<u8>,
    message: Message,
    asked: Result<Query, ResponseCode>,
}

/// What the zone says, or whom to ask: the question itself, or the target of aliases that
/// have been followed so far.
enum Local {
    Answer(Message),
    Ask(Option<(Message, Name)>),
}

impl Question {
    /// `None` for what deserves no answer: noise, and answers (which could go round in circles).
    fn read(bytes: &[u8]) -> Option<Self> {
        let message = match Message::from_vec(bytes) {
            Ok(message) => message,
            Err(_) => {
                // With a header of a question there is someone to tell.
                let header = bytes.get(..12).filter(|header| header[2] & 0x80 == 0)?;
                let id = u16::from_be_bytes([header[0], header[1]]);
                let message = Message::new(id, MessageType::Query, OpCode::Query);
                let asked = Err(ResponseCode::FormErr);
                return Some(Self { bytes: bytes.to_vec(), message, asked });
            }
        };
        if message.metadata.message_type != MessageType::Query {
            return None;
        }
        let asked = match (message.metadata.op_code, message.queries.as_slice()) {
            (OpCode::Query, _) if message.version() > 0 => Err(ResponseCode::BADVERS),
            (OpCode::Query, [query]) => match query.query_type {
                RecordType::AXFR | RecordType::IXFR => Err(ResponseCode::Refused),
                _ => Ok(query.clone()),
            },
            (OpCode::Query, _) => Err(ResponseCode::FormErr),
            _ => Err(ResponseCode::NotImp),
        };
        Some(Self { bytes: bytes.to_vec(), message, asked })
    }

    fn reply(&self, code: ResponseCode) -> Message {
        let id = self.message.metadata.id;
        let mut reply = Message::new(id, MessageType::Response, self.message.metadata.op_code);
        reply.metadata = Metadata::response_from_request(&self.message.metadata);
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = code;
        reply.add_queries(self.message.queries.iter().take(1).cloned());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_DATAGRAM).set_version(0);
            // The upper bits of an extended code travel here.
            edns.set_rcode_high((u16::from(code) >> 4) as u8);
            reply.set_edns(edns);
        }
        reply
    }

    /// As bytes that fit into a datagram: cut down to "ask by TCP" if they do not.
    fn datagram(&self, answer: Message) -> Vec<u8> {
        let offered = self.message.edns.as_ref().map_or(PLAIN_DATAGRAM, Edns::max_payload);
        let room = usize::from(offered.clamp(PLAIN_DATAGRAM, MAX_DATAGRAM));
        let bytes = encode(&answer);
        if bytes.len() <= room {
            return bytes;
        }
        let mut lean = answer;
        lean.additionals.clear();
        let bytes = encode(&lean);
        if bytes.len() <= room { bytes } else { encode(&lean.truncate()) }
    }
}

impl Shared {
    fn local(&self, question: &Question) -> Local {
        let query = match &question.asked {
            Ok(query) => query,
            Err(code) => return Local::Answer(question.reply(*code)),
        };
        let zone = Arc::clone(&self.zone.borrow());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut reply = question.reply(ResponseCode::NoError);
        reply.metadata.authoritative = true;
        let mut name = query.name.clone();
        for _ in 0..MAX_ALIASES {
            match zone.lookup(&name, query.query_type, turn) {
                Answer::NotOurs if reply.answers.is_empty() => return Local::Ask(None),
                Answer::NotOurs => return Local::Ask(Some((reply, name))),
                Answer::Records(records, additional) => {
                    reply.add_answers(records);
                    reply.add_additionals(additional);
                }
                Answer::NoData(soa) => {
                    reply.add_authority(soa);
                }
                Answer::NoSuchName(soa) => {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                    reply.add_authority(soa);
                }
                Answer::Alias(record, target) => {
                    reply.add_answer(record);
                    if query.query_type != RecordType::CNAME {
                        name = target;
                        continue;
                    }
                }
            }
            return Local::Answer(reply);
        }
        Local::Answer(question.reply(ResponseCode::ServFail))
    }

    /// The bytes of an answer, from the cache or from a resolver.
    async fn elsewhere(
        &self,
        question: &Question,
        alias: Option<(Message, Name)>,
        transport: Transport,
    ) -> Vec<u8> {
        let Some((mut reply, target)) = alias else {
            return match self.ask(&question.bytes, transport).await {
                Some(answer) => answer,
                None => encode(&question.reply(ResponseCode::ServFail)),
            };
        };
        // The alias is ours, what it stands for is not: both make the answer.
        let mut request = question.message.clone();
        for query in &mut request.queries {
            query.name = target.clone();
        }
        reply.metadata.authoritative = false;
        let answer = self.ask(&encode(&request), transport).await;
        match answer.and_then(|bytes| Message::from_vec(&bytes).ok()) {
            Some(answer) => {
                reply.metadata.response_code = answer.metadata.response_code;
                reply.metadata.truncation = answer.metadata.truncation;
                reply.add_answers(answer.answers);
                reply.add_authorities(answer.authorities);
            }
            None => reply.metadata.response_code = ResponseCode::ServFail,
        }
        match transport {
            Transport::Udp => question.datagram(reply),
            Transport::Tcp => encode(&reply),
        }
    }

    async fn ask(&self, request: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let cached = self.cache().get(transport, request, Instant::now());
        if let Some(answer) = cached {
            return Some(encode(&answer));
        }
        let answer = self.upstream.ask(request, transport).await?;
        let mut cache = self.cache();
        if self.turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(CLEARING) {
            cache.expire(Instant::now());
        }
        cache.put(transport, request, &answer, Instant::now());
        Some(answer)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // It holds nothing that a panic could leave half done.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing that we make is beyond what can be encoded; if it is, the client asks again.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}
