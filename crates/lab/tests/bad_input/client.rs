//! The smallest HTTPS client that can send what no other would: HTTP/1.1 over rustls, one
//! connection for each request, the server's certificate unchecked (it is on the loopback,
//! started by the test), and the answer read even when the server stops reading first.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_lab::bench::servers::Running;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// How long a server may stay silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// Values of the `Warning` headers.
    pub warnings: Vec<String>,
    /// The body, whole.
    pub body: Vec<u8>,
    /// From the first byte sent to the last received, without the TLS handshake.
    pub time: Duration,
}

/// Who talks to a server.
pub struct Client {
    address: String,
    tls: Arc<ClientConfig>,
    authorization: String,
}

impl Client {
    /// The administrator of a server of the bench.
    pub fn new(server: &Running) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unchecked(provider)));
        let mut authorization = String::new();
        let tls = match &server.credentials[..] {
            [_, token] => {
                authorization = format!("Authorization: Bearer {token}\r\n");
                builder.with_no_client_auth()
            }
            [_, cert, _, key] => {
                let chain = CertificateDer::pem_file_iter(Path::new(cert)).unwrap();
                let key = PrivateKeyDer::from_pem_file(Path::new(key)).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
            other => panic!("{other:?}"),
        };
        let address = server.url.trim_start_matches("https://").to_owned();
        Self { address, tls: Arc::new(tls), authorization }
    }

    /// Sends one request and reads all of the answer.
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let tcp = TcpStream::connect(&self.address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = ClientConnection::new(self.tls.clone(), name).unwrap();
        let mut stream = StreamOwned::new(connection, tcp);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bad-input\r\nAccept: application/json\r\n\
             {}Connection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            self.authorization,
            body.len()
        );
        let start = Instant::now();
        // A server that has answered already may not want the rest.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        let mut text = Vec::new();
        // Only reads from here on: to write what is left of the body would fail first.
        let StreamOwned { mut conn, mut sock } = stream;
        let end = loop {
            let _ = conn.reader().read_to_end(&mut text);
            match conn.read_tls(&mut sock) {
                Ok(0) => break None,
                Ok(_) => drop(conn.process_new_packets().unwrap()),
                Err(error) => break Some(error),
            }
        };
        let time = start.elapsed();
        assert!(!text.is_empty(), "{method} {path}: no answer: {end:?}");
        read(&text, time)
    }
}

fn read(text: &[u8], time: Duration) -> Answer {
    let end = text.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&text[..end]).into_owned();
    let header = |wanted: &str| -> Vec<String> {
        let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        pairs.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.to_owned()).collect()
    };
    let body = &text[end + 4..];
    let body = if header("transfer-encoding").is_empty() { body.to_owned() } else { unchunked(body) };
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    Answer { code, warnings: header("warning"), body, time }
}

fn unchunked(mut text: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = text.windows(2).position(|two| two == b"\r\n").expect("a chunk's size");
        let size = std::str::from_utf8(&text[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&text[line + 2..line + 2 + size]);
        text = &text[line + 4 + size..];
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
