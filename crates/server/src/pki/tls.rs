//! TLS: rustls with ring, our CA only, client certificates asked for but not
//! demanded, and a serving certificate that can be replaced while serving.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};

use super::{Identity, PkiError};
use crate::clock::Clock;

/// The certificate that new connections are served with.
#[derive(Debug)]
pub struct HotCertificate(ArcSwap<CertifiedKey>);

/// The injected clock, as rustls wants it.
pub struct ClockTime(pub Arc<dyn Clock>);

impl HotCertificate {
    /// Serves an identity.
    ///
    /// # Errors
    /// Certificate and key do not belong together.
    pub fn new(identity: &Identity) -> Result<Self, PkiError> {
        Ok(Self(ArcSwap::from_pointee(certified(identity)?)))
    }

    /// Serves another identity from the next connection on.
    ///
    /// # Errors
    /// Certificate and key do not belong together; the old one stays.
    pub fn replace(&self, identity: &Identity) -> Result<(), PkiError> {
        self.0.store(Arc::new(certified(identity)?));
        Ok(())
    }
}

impl ResolvesServerCert for HotCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl std::fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// The API's listener.
pub(super) fn server_config(
    ca: CertificateDer<'static>,
    certificate: Arc<HotCertificate>,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, PkiError> {
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(ClockTime(clock)))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Dialling a node.
pub(super) fn client_config(
    ca: CertificateDer<'static>,
    identity: &Identity,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, PkiError> {
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(ClockTime(clock)))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(vec![identity.certificate_der()?], identity.key_der()?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certified(identity: &Identity) -> Result<CertifiedKey, PkiError> {
    let key = crypto::ring::sign::any_ecdsa_type(&identity.key_der()?)?;
    let certified = CertifiedKey::new(vec![identity.certificate_der()?], key);
    certified.keys_match()?;
    Ok(certified)
}

fn roots(ca: CertificateDer<'static>) -> Result<Arc<RootCertStore>, PkiError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    Ok(Arc::new(roots))
}
