//! The cluster's certificates and keys: one CA, one service-account key, the API's
//! serving certificate, and identities for people and components.
//!
//! All keys are ECDSA P-256. What must never change once made (the keys of the CA and of
//! service-account tokens) is one file, so that no crash leaves half of it; all else is
//! derived, kept only so that it need not be made anew at every start, and made anew
//! whenever it does not fit: names changed, less than a third of its life left, not good
//! yet since the clock was set back, or damaged. The CA's certificate is made anew at a
//! start, for its key. Time is an argument. Keys are never logged.

mod files;
mod issue;
mod kubeconfig;
mod sign;
mod tls;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

pub use issue::{Purpose, Subject};
pub use sign::SignError;
pub use tls::{ClockTime, HotCertificate};

use crate::clock::Clock;
use issue::Authority;

/// The CA, its key, the key that signs service-account tokens.
const CLUSTER_FILE: &str = "cluster.pem";
/// The API's serving certificate and its key.
const SERVING_FILE: &str = "apiserver.pem";

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// Why keys or certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The cluster's keys are there but cannot be understood. They are never replaced:
    /// every certificate and token hangs on them.
    #[error("{}: {detail}; restore the file from a backup", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A certificate cannot be made.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// TLS does not accept a certificate or key.
    #[error("cannot configure TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Under which names and addresses the API is reached.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// URL for the kubeconfig, such as `https://127.0.0.1:6443`.
    pub url: String,
    /// Host names beyond the standard ones, such as the machine's.
    pub hosts: Vec<String>,
    /// Addresses beyond the loopback: the node's, the `kubernetes` Service's.
    pub addresses: Vec<IpAddr>,
    /// The cluster's DNS domain, such as `cluster.local`.
    pub domain: String,
}

/// A certificate with its key, both in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS #8). A secret.
    pub key: String,
}

/// The cluster's certificates and keys.
pub struct Pki {
    dir: PathBuf,
    authority: Authority,
    token_keys: Vec<Vec<u8>>,
    serving: Arc<HotCertificate>,
    names: Names,
}

// === impl Identity ===

impl Identity {
    /// The certificate in DER.
    ///
    /// # Errors
    /// The text is not a certificate.
    pub fn certificate_der(&self) -> Result<CertificateDer<'static>, PkiError> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(bad_pem)
    }

    /// When it has a third of its life left and is to be made anew; at once when it
    /// cannot be read.
    pub fn renew_at(&self) -> Timestamp {
        issue::renew_at(&self.certificate).unwrap_or(Timestamp::MIN)
    }

    /// The key in DER.
    ///
    /// # Errors
    /// The text is not a key.
    pub fn key_der(&self) -> Result<PrivateKeyDer<'static>, PkiError> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(bad_pem)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn bad_pem(error: rustls::pki_types::pem::Error) -> PkiError {
    PkiError::Tls(rustls::Error::General(error.to_string()))
}

// === impl Pki ===

impl Pki {
    /// Reads the keys of a data directory, or makes them on its first start; makes
    /// the serving certificate anew if it does not fit `names` and `now`, and
    /// likewise the administrator's kubeconfig in `dir/kubeconfig`.
    ///
    /// # Errors
    /// [`PkiError`]; damaged cluster keys are an error, never replaced.
    pub fn open_or_create(dir: &Path, names: Names, now: Timestamp) -> Result<Self, PkiError> {
        let keys = dir.join("pki");
        files::private_dir(dir)?;
        files::private_dir(&keys)?;
        let (authority, token_keys) = open_cluster(&keys.join(CLUSTER_FILE), now)?;
        let subject = serving_subject(&names);
        let serving = open_or_issue(&authority, &keys.join(SERVING_FILE), &subject, now)?;
        let pki = Self {
            dir: dir.to_owned(),
            authority,
            token_keys,
            serving: Arc::new(HotCertificate::new(&serving)?),
            names,
        };
        pki.write_kubeconfig(now)?;
        Ok(pki)
    }

    /// The CA's certificate in PEM: `kube-root-ca.crt`, `certificate-authority`.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// The CA's certificate in DER.
    pub fn ca_der(&self) -> CertificateDer<'static> {
        self.authority.der().clone()
    }

    /// The keys of service-account tokens in PKCS #8: the first signs, all verify.
    pub fn token_keys(&self) -> &[Vec<u8>] {
        &self.token_keys
    }

    /// Issues a certificate that lives in memory, or wherever the caller puts it.
    ///
    /// # Errors
    /// A name is not allowed in a certificate.
    pub fn issue(&self, subject: &Subject, now: Timestamp) -> Result<Identity, PkiError> {
        self.authority.issue(subject, now)
    }

    /// Signs a certificate request (DER) for `usages`, for as many seconds as it asks,
    /// a year at most; answers the certificate in PEM. Whether it may be signed is the
    /// caller's to know.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        seconds: Option<i64>,
        now: Timestamp,
    ) -> Result<String, SignError> {
        self.authority.sign(request, usages, seconds, now)
    }

    /// A client identity: the user `name` in `group` (which may be empty), such as
    /// `system:kube-scheduler`, or `system:node:n1` in `system:nodes`.
    ///
    /// # Errors
    /// As for [`issue`](Self::issue).
    pub fn identity(&self, name: &str, group: &str, now: Timestamp) -> Result<Identity, PkiError> {
        self.issue(&Subject::client(name, group), now)
    }

    /// The client and serving identities of a node's agent.
    ///
    /// # Errors
    /// As for [`issue`](Self::issue).
    pub fn node(
        &self,
        name: &str,
        addresses: &[IpAddr],
        now: Timestamp,
    ) -> Result<(Identity, Identity), PkiError> {
        let user = format!("system:node:{name}");
        let client = self.issue(&Subject::client(&user, "system:nodes"), now)?;
        let mut serving = Subject::client(&user, "system:nodes");
        serving.purpose = Purpose::Server;
        serving.hosts = vec![name.to_owned()];
        serving.addresses = addresses.to_vec();
        Ok((client, self.issue(&serving, now)?))
    }

    /// A kubeconfig for an identity.
    pub fn kubeconfig(&self, user: &str, identity: &Identity) -> String {
        kubeconfig::render(&self.names.url, self.ca_pem(), user, identity)
    }

    /// TLS for the API's listener: our serving certificate (replaced while running),
    /// client certificates of our CA asked for but not demanded, HTTP/2 and 1.1.
    ///
    /// # Errors
    /// [`PkiError::Tls`].
    pub fn server_config(&self, clock: Arc<dyn Clock>) -> Result<rustls::ServerConfig, PkiError> {
        tls::server_config(self.ca_der(), self.serving.clone(), clock)
    }

    /// TLS for dialling nodes: presents `identity`, trusts our CA only.
    ///
    /// # Errors
    /// [`PkiError::Tls`].
    pub fn client_config(
        &self,
        identity: &Identity,
        clock: Arc<dyn Clock>,
    ) -> Result<rustls::ClientConfig, PkiError> {
        tls::client_config(self.ca_der(), identity, clock)
    }

    /// Makes anew what runs out soon, and serves it from the next connection on.
    /// Returns when to ask again. For a timer; [`open_or_create`](Self::open_or_create)
    /// has done it at start.
    ///
    /// # Errors
    /// [`PkiError`]; what is served stays as it was.
    pub fn renew(&self, now: Timestamp) -> Result<Timestamp, PkiError> {
        let path = self.dir.join("pki").join(SERVING_FILE);
        let subject = serving_subject(&self.names);
        let serving = open_or_issue(&self.authority, &path, &subject, now)?;
        self.serving.replace(&serving)?;
        self.write_kubeconfig(now)?;
        Ok(issue::renew_at(&serving.certificate)
            .unwrap_or(now)
            .max(now + jiff::SignedDuration::from_hours(1)))
    }

    /// Renews for as long as the server runs; tries again every hour while it cannot.
    pub async fn keep_fresh(&self, clock: Arc<dyn Clock>) {
        loop {
            let now = clock.now();
            let due = self.renew(now).unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot renew the API's certificate");
                now + jiff::SignedDuration::from_hours(1)
            });
            let wait = std::time::Duration::try_from(due.duration_since(now)).unwrap_or_default();
            // At most a day, for the wall clock may be set while this sleeps.
            tokio::time::sleep(wait.clamp(HOUR, 24 * HOUR)).await;
        }
    }

    /// Writes the administrator's kubeconfig unless the one that is there fits.
    fn write_kubeconfig(&self, now: Timestamp) -> Result<(), PkiError> {
        let path = self.dir.join("kubeconfig");
        let fits = files::read(&path)?.is_some_and(|text| {
            kubeconfig::fits(&text, &self.names.url, self.ca_pem())
                && kubeconfig::certificate(&text).is_some_and(|pem| issue::is_fresh(&pem, now))
        });
        if fits {
            return Ok(());
        }
        let admin = self.identity("kubernetes-admin", "system:masters", now)?;
        files::write(&path, &self.kubeconfig("kubernetes-admin", &admin))
    }
}

/// The CA and the token keys: read, or made and written in one piece. A certificate of the
/// CA that runs out is replaced in the same way; the keys stay.
fn open_cluster(path: &Path, now: Timestamp) -> Result<(Authority, Vec<Vec<u8>>), PkiError> {
    if let Some(text) = files::read(path)? {
        let malformed =
            |detail: &str| PkiError::Malformed { path: path.to_owned(), detail: detail.to_owned() };
        let blocks = files::blocks(&text);
        let [certificate, key, tokens @ ..] = &blocks[..] else {
            return Err(malformed("the CA's certificate or key is missing"));
        };
        let authority = Authority::read(certificate, key).map_err(|error| malformed(&error.to_string()))?;
        let tokens: Result<Vec<_>, _> = tokens.iter().map(|pem| issue::key_der(pem)).collect();
        let tokens = tokens.map_err(|error| malformed(&error.to_string()))?;
        if tokens.is_empty() {
            return Err(malformed("the key for service-account tokens is missing"));
        }
        let Some(renewed) = authority.renewed(now)? else { return Ok((authority, tokens)) };
        tracing::warn!("the CA's certificate is made anew, for the same key; old copies of it run out");
        let kept = blocks[1..].iter().map(String::as_str);
        files::write(path, &std::iter::once(renewed.pem()).chain(kept).collect::<String>())?;
        return Ok((renewed, tokens));
    }
    let (authority, key) = Authority::create(now)?;
    let token = rcgen::KeyPair::generate()?;
    files::write(path, &[authority.pem(), &key, &token.serialize_pem()].concat())?;
    Ok((authority, vec![token.serialize_der()]))
}

/// The identity in a file if it fits; a new one, written there, if not.
fn open_or_issue(
    authority: &Authority,
    path: &Path,
    subject: &Subject,
    now: Timestamp,
) -> Result<Identity, PkiError> {
    if let Some(text) = files::read(path)?
        && let [certificate, key] = &files::blocks(&text)[..]
    {
        let identity = Identity { certificate: certificate.clone(), key: key.clone() };
        if authority.fits(&identity, subject, now) {
            return Ok(identity);
        }
    }
    let identity = authority.issue(subject, now)?;
    files::write(path, &[identity.certificate.as_str(), &identity.key].concat())?;
    Ok(identity)
}

/// Every name under which pods and people reach the API.
fn serving_subject(names: &Names) -> Subject {
    let mut subject = Subject::client("kube-apiserver", "");
    subject.purpose = Purpose::Server;
    let domain = if names.domain.is_empty() { "cluster.local" } else { &names.domain };
    subject.hosts = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("kubernetes.default.svc.{domain}")])
        .chain(names.hosts.iter().cloned())
        .collect();
    subject.addresses = vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
    subject.addresses.extend(&names.addresses);
    subject
}

#[cfg(test)]
mod tests;
