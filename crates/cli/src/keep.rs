//! The store of a data directory as a whole, for commands: through the server that runs
//! on it, or, when none does, by opening it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrack_client::connect::{Credentials, Endpoint, connect};
use carrack_server::encryption::Encryption;
use carrack_server::maintenance::Keeper;
use carrack_store::{Limits, Local, OpenError};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use crate::dirs::{Dirs, Held};

/// The server that runs on a data directory, as its administrator reaches it.
pub struct Live(kube::Client);

impl Live {
    /// `None` when no server runs on the directory.
    ///
    /// # Errors
    /// One does, but the directory has no kubeconfig that leads to it.
    pub fn of(dirs: &Dirs) -> Result<Option<Self>> {
        if dirs.holder().is_none() {
            return Ok(None);
        }
        let path = dirs.kubeconfig();
        let client = client(&path).with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Some(Self(client)))
    }

    /// Sends a request below `/carrack/v1/` and returns the body of a good answer.
    ///
    /// # Errors
    /// The server does not answer, or refuses; the message is its own.
    pub async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Body> {
        let request = http::Request::builder().method(method).uri(format!("/carrack/v1/{path}"));
        let answer = self.0.send(request.body(Body::from(body))?).await;
        let answer = answer.context("a server runs on the data directory, but does not answer")?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        let code = answer.status();
        let body = answer.into_body().collect().await.context("the server's answer broke off")?.to_bytes();
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        match status["message"].as_str() {
            Some(message) => bail!("{message}"),
            None => bail!("the server answered {code}"),
        }
    }

    /// As [`send`](Self::send), for an answer in JSON.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn json(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Value> {
        let body = self.send(method, path, body).await?;
        let body = body.collect().await.context("the server's answer broke off")?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    }
}

/// A store that no server has open; nobody else can take it meanwhile.
pub struct Offline {
    /// The store with its keys.
    pub keeper: Keeper,
    _held: Held,
}

impl Offline {
    /// Opens the database as it is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(dirs: &Dirs) -> Result<Self> {
        let held = dirs.hold()?;
        let encryption = Arc::new(Encryption::open_or_create(&dirs.keys())?);
        let store = Local::sqlite_with(&dirs.database(), Limits::default(), encryption.clone())?;
        Ok(Self { keeper: Keeper::new(Arc::new(store), encryption, dirs.root()), _held: held })
    }

    /// Opens the database to have it replaced: one that cannot be read is moved aside.
    ///
    /// # Errors
    /// What else is wrong with it.
    pub fn open_to_replace(dirs: &Dirs, held: Held) -> Result<Self> {
        let encryption = Arc::new(Encryption::open_or_create(&dirs.keys())?);
        let path = dirs.database();
        let open = || Local::sqlite_with(&path, Limits::default(), encryption.clone());
        let store = match open() {
            Err(error @ (OpenError::Damaged { .. } | OpenError::Sealed { .. })) => {
                let aside = set_aside(&path)?;
                println!("{error}\nmoved it to {}", aside.display());
                open()?
            }
            other => other?,
        };
        Ok(Self { keeper: Keeper::new(Arc::new(store), encryption, dirs.root()), _held: held })
    }
}

/// Moves a database and its log to names that nobody uses.
fn set_aside(path: &Path) -> Result<std::path::PathBuf> {
    let free = |n: &u32| !path.with_extension(format!("db.unreadable-{n}")).exists();
    let number = (1..u32::MAX).find(free).context("every name is taken")?;
    let aside = path.with_extension(format!("db.unreadable-{number}"));
    for end in ["", "-wal"] {
        let with = |path: &Path| std::path::PathBuf::from(format!("{}{end}", path.display()));
        match std::fs::rename(with(path), with(&aside)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot move {} aside", path.display()));
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// The administrator's client, from the kubeconfig that the server wrote.
fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let text = std::fs::read_to_string(kubeconfig)?;
    let config: Value = serde_saphyr::from_str(&text)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a field is missing");
    let data = |value: &Value| -> Result<Vec<u8>> { Ok(STANDARD.decode(text(value)?)?) };
    let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    let url: http::Uri = text(&cluster["server"])?.parse()?;
    let address: std::net::SocketAddr =
        url.authority().context("the server has no address")?.as_str().parse()?;
    let endpoint = Endpoint {
        address,
        server_name: address.ip().to_string(),
        ca_pem: data(&cluster["certificate-authority-data"])?,
    };
    let chain_pem = data(&user["client-certificate-data"])?;
    let credentials = Credentials::Certificate { chain_pem, key_pem: data(&user["client-key-data"])? };
    Ok(connect(&endpoint, &credentials)?)
}
