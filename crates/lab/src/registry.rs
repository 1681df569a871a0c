//! A registry in a machine, on its loopback, where plain HTTP is allowed.
//!
//! `private` is the one repository it has: an image for who knows the password, 401 for
//! everybody else. Anything else is unknown: 404. It ends with the test's process.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::machine::Machine;

/// Who may pull from `private`, and their password.
pub const LOGIN: (&str, &str) = ("lab", "secret");

/// A running registry.
pub struct Registry {
    /// Where it listens, in the machine.
    pub address: SocketAddr,
}

impl Registry {
    /// Serves the image of an OCI archive as `private:1`.
    ///
    /// # Errors
    /// The archive cannot be read, or the machine's loopback not be listened on.
    pub fn start(machine: &Machine, archive: &Path) -> Result<Self> {
        let blobs = Arc::new(blobs(archive)?);
        let bind = || TcpListener::bind("127.0.0.1:0");
        let listener = machine.inside(bind).join().ok().context("the thread that binds")??;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let blobs = blobs.clone();
                std::thread::spawn(move || serve(stream, &blobs));
            }
        });
        Ok(Self { address })
    }

    /// What a `docker-registry` Secret holds for it under `.dockerconfigjson`.
    pub fn docker_config(&self) -> String {
        let auth = STANDARD.encode(format!("{}:{}", LOGIN.0, LOGIN.1));
        serde_json::json!({"auths": {self.address.to_string(): {"auth": auth}}}).to_string()
    }
}

/// Blobs and manifests by digest; the manifest that the index names also as `1`.
fn blobs(archive: &Path) -> Result<HashMap<String, Vec<u8>>> {
    let mut blobs = HashMap::new();
    let mut top = String::new();
    for entry in tar::Archive::new(std::fs::File::open(archive)?).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if path == Path::new("index.json") {
            let index: serde_json::Value = serde_json::from_slice(&bytes)?;
            top = index["manifests"][0]["digest"].as_str().context("an index without manifest")?.to_owned();
        }
        let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        blobs.insert(format!("sha256:{hex}"), bytes);
    }
    let manifest = blobs.get(&top).context("the archive lacks its manifest")?.clone();
    blobs.insert("1".to_owned(), manifest);
    Ok(blobs)
}

/// Answers one request and closes; a client that speaks TLS gets no answer.
fn serve(stream: TcpStream, blobs: &HashMap<String, Vec<u8>>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    if reader.fill_buf()?.first() == Some(&0x16) {
        return Ok(());
    }
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default();
    let login = format!("basic {}", STANDARD.encode(format!("{}:{}", LOGIN.0, LOGIN.1)));
    let known = head.lines().filter_map(|line| line.split_once(": ")).any(|(name, value)| {
        name.eq_ignore_ascii_case("authorization")
            && value
                .split_once(' ')
                .is_some_and(|(scheme, secret)| format!("{} {secret}", scheme.to_ascii_lowercase()) == login)
    });
    let refuse = |code: &str, message: &str| {
        serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string().into_bytes()
    };
    let content = path.rsplit('/').next().and_then(|name| blobs.get(name));
    let (status, body) = match content {
        _ if !path.starts_with("/v2/private/") => {
            ("404 Not Found", refuse("NAME_UNKNOWN", "repository name not known to registry"))
        }
        _ if !known => ("401 Unauthorized", refuse("UNAUTHORIZED", "authentication required")),
        Some(bytes) => ("200 OK", bytes.clone()),
        None => ("404 Not Found", refuse("MANIFEST_UNKNOWN", "manifest unknown")),
    };
    let challenge = if status.starts_with("401") { "WWW-Authenticate: Basic realm=\"lab\"\r\n" } else { "" };
    let mut stream = reader.into_inner();
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{challenge}Connection: close\r\n\r\n")?;
    stream.write_all(&body)?;
    Ok(())
}
