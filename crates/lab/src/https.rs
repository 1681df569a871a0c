//! The smallest HTTPS client that can send what no other would: HTTP/1.1 over rustls, the
//! server's certificate unchecked (it is on the loopback, started by the lab), headers and
//! bodies as given, and the answer read even when the server stops reading first.
//!
//! Every read is bounded in time. It follows no redirect and retries only where a kept
//! connection was closed before a request reached the server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::bench::servers::Running;

/// How long a server may stay silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is sent.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `POST`, ….
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers beyond those that the connection itself needs.
    pub headers: Vec<(String, String)>,
    /// The body; none is sent without a content length.
    pub body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// Headers as they came.
    pub headers: Vec<(String, String)>,
    /// The body, whole and unchunked.
    pub body: Vec<u8>,
    /// From the first byte sent to the last received, without the TLS handshake.
    pub time: Duration,
}

/// Who talks to a server.
#[derive(Clone)]
pub struct Client {
    address: String,
    tls: Arc<ClientConfig>,
}

/// A connection that is kept between requests.
pub struct Connection {
    client: Client,
    stream: Option<Stream>,
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

// === impl Answer ===

impl Answer {
    /// The values of a header.
    pub fn header(&self, wanted: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// Values of the `Warning` headers.
    pub fn warnings(&self) -> Vec<&str> {
        self.header("warning")
    }
}

// === impl Client ===

impl Client {
    /// The administrator of a server of the bench.
    ///
    /// # Errors
    /// Its credentials cannot be read.
    pub fn new(server: &Running) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unchecked(provider)));
        let (cert, key) = server.certificate.as_ref().context("a client certificate")?;
        let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<_, _>>()?;
        let tls = builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
        let address = server.url.trim_start_matches("https://").to_owned();
        Ok(Self { address, tls: Arc::new(tls) })
    }

    /// A connection that is opened with its first request.
    pub fn connection(&self) -> Connection {
        Connection { client: self.clone(), stream: None }
    }

    /// Sends one request over a connection of its own and reads all of the answer.
    ///
    /// # Errors
    /// No answer came.
    pub fn send(&self, request: &Request) -> Result<Answer> {
        let mut stream = self.open()?;
        let start = Instant::now();
        // A server that has answered already may not want the rest.
        let _ = stream
            .write_all(self.head(request, "close").as_bytes())
            .and_then(|()| stream.write_all(&request.body));
        let mut text = Vec::new();
        // Only reads from here on: to write what is left of the body would fail first.
        let StreamOwned { mut conn, mut sock } = stream;
        let end = loop {
            let _ = conn.reader().read_to_end(&mut text);
            match conn.read_tls(&mut sock) {
                Ok(0) => break None,
                Ok(_) => {
                    conn.process_new_packets()?;
                }
                Err(error) => break Some(error),
            }
        };
        let time = start.elapsed();
        if text.is_empty() {
            bail!("{} {}: no answer: {end:?}", request.method, request.path);
        }
        let mut incoming = Incoming { buffer: text, read: |_: &mut Vec<u8>| Ok(false) };
        Ok(Answer { time, ..incoming.answer(request)? })
    }

    fn open(&self) -> Result<Stream> {
        let tcp = TcpStream::connect(&self.address)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        let connection = ClientConnection::new(self.tls.clone(), ServerName::try_from("127.0.0.1")?)?;
        let mut stream = StreamOwned::new(connection, tcp);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(stream)
    }

    fn head(&self, request: &Request, connection: &str) -> String {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: lab\r\nConnection: {connection}\r\n",
            request.method, request.path, self.address,
        );
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !request.body.is_empty() || matches!(&*request.method, "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("Content-Length: {}\r\n", request.body.len()));
        }
        head.push_str("\r\n");
        head
    }
}

// === impl Connection ===

impl Connection {
    /// Whether the server still accepts connections.
    pub fn is_served(&self) -> bool {
        TcpStream::connect(&self.client.address).is_ok()
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// No whole answer came.
    pub fn send(&mut self, request: &Request) -> Result<Answer> {
        let kept = self.stream.is_some();
        match self.attempt(request) {
            // The server may have closed a kept connection meanwhile.
            Err(_) if kept => self.attempt(request),
            outcome => outcome,
        }
        .with_context(|| format!("{} {}", request.method, request.path))
    }

    fn attempt(&mut self, request: &Request) -> Result<Answer> {
        // Taken, so that it is dropped unless all went well.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.client.open()?,
        };
        let mut bytes = self.client.head(request, "keep-alive").into_bytes();
        bytes.extend_from_slice(&request.body);
        let start = Instant::now();
        stream.write_all(&bytes)?;
        stream.flush()?;
        let read = |buffer: &mut Vec<u8>| {
            let mut chunk = [0; 16 * 1024];
            let count = stream.read(&mut chunk)?;
            buffer.extend_from_slice(&chunk[..count]);
            Ok(count > 0)
        };
        let mut incoming = Incoming { buffer: Vec::new(), read };
        let answer = Answer { time: start.elapsed(), ..incoming.answer(request)? };
        if !answer.header("connection").iter().any(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

/// Bytes of an answer, and where more come from.
struct Incoming<R> {
    buffer: Vec<u8>,
    read: R,
}

impl<R: FnMut(&mut Vec<u8>) -> Result<bool>> Incoming<R> {
    fn more(&mut self) -> Result<()> {
        if (self.read)(&mut self.buffer)? { Ok(()) } else { bail!("the answer ends too early") }
    }

    /// Takes all up to a mark, without it.
    fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                let taken = self.buffer[..at].to_vec();
                self.buffer.drain(..at + mark.len());
                return Ok(taken);
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.more()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn answer(&mut self, request: &Request) -> Result<Answer> {
        let head = String::from_utf8_lossy(&self.until(b"\r\n\r\n")?).into_owned();
        let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status line")?;
        let mut answer = Answer { code, headers, ..Answer::default() };
        let length = answer.header("content-length").first().and_then(|value| value.parse().ok());
        answer.body = if request.method == "HEAD" || matches!(code, 101 | 204 | 304) {
            Vec::new()
        } else if !answer.header("transfer-encoding").is_empty() {
            self.chunks()?
        } else if let Some(length) = length {
            self.exactly(length)?
        } else {
            while (self.read)(&mut self.buffer)? {}
            std::mem::take(&mut self.buffer)
        };
        Ok(answer)
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(&line)?.trim(), 16)?;
            if size == 0 {
                self.until(b"\r\n")?;
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            self.exactly(2)?;
        }
    }
}

#[derive(Debug)]
struct Unchecked(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
