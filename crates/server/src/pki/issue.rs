//! Making certificates: the CA, and leaves under it.
//!
//! Leaves live a year, the CA's certificate ten; both are renewed when a third of that is
//! left, the CA's at a start and with the same key and name, so that what it has signed
//! stays good. What a clock that was ahead has dated into the future is renewed too.
//! `NotBefore` lies five minutes back, for peers whose clock is behind.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Identity, PkiError};

const SLACK: SignedDuration = SignedDuration::from_mins(5);
const CA_LIFE: SignedDuration = SignedDuration::from_hours(24 * 3653);
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);
/// What the names of our CAs begin with.
const CA_NAME: &str = "carrack-ca@";

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Proving to servers who one is.
    Client,
    /// Serving.
    Server,
}

/// Whom a certificate is about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Common name: the user.
    pub name: String,
    /// Organization: the user's group, beside those that everyone is in; may be empty.
    pub group: String,
    /// What it may be used for.
    pub purpose: Purpose,
    /// DNS names.
    pub hosts: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// The CA with its key.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

// === impl Subject ===

impl Subject {
    /// A client: a user in a group.
    pub fn client(name: &str, group: &str) -> Self {
        Self {
            name: name.to_owned(),
            group: group.to_owned(),
            purpose: Purpose::Client,
            hosts: Vec::new(),
            addresses: Vec::new(),
        }
    }

    fn params(&self, now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::default();
        live(&mut params, now, LEAF_LIFE);
        params.distinguished_name = DistinguishedName::new();
        if !self.group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, self.group.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, self.name.as_str());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match self.purpose {
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        for host in &self.hosts {
            params.subject_alt_names.push(SanType::DnsName(host.as_str().try_into()?));
        }
        params.subject_alt_names.extend(self.addresses.iter().copied().map(SanType::IpAddress));
        Ok(params)
    }
}

// === impl Authority ===

impl Authority {
    /// A new CA; returns its key in PEM too, for the file.
    pub(super) fn create(now: Timestamp) -> Result<(Self, String), PkiError> {
        let key = KeyPair::generate()?;
        let pem_key = key.serialize_pem();
        // Unlike any other cluster's, so that a stale kubeconfig fails clearly.
        Ok((Self::certify(&format!("{CA_NAME}{}", now.as_second()), key, now)?, pem_key))
    }

    /// The CA with a certificate of its own that begins now.
    fn certify(name: &str, key: KeyPair, now: Timestamp) -> Result<Self, PkiError> {
        let mut params = CertificateParams::default();
        live(&mut params, now, CA_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key)?;
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Ok(Self { issuer: Issuer::new(params, key), pem, der })
    }

    /// The same CA, key and name, with a certificate that begins now; `None` while the one
    /// that it has is good, and always for a CA that was not made here.
    pub(super) fn renewed(&self, now: Timestamp) -> Result<Option<Self>, PkiError> {
        if is_fresh(&self.pem, now) {
            return Ok(None);
        }
        let name = X509Certificate::from_der(&self.der).ok().and_then(|(_, ca)| {
            let mut parts = ca.subject().iter_attributes();
            let name = parts.next()?.as_str().ok()?.to_owned();
            (name.starts_with(CA_NAME) && parts.next().is_none()).then_some(name)
        });
        let Some(name) = name else { return Ok(None) };
        let key = KeyPair::from_pem(&self.key().serialize_pem())?;
        Self::certify(&name, key, now).map(Some)
    }

    /// A CA from its file.
    pub(super) fn read(certificate: &str, key: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::from_pem(key)?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        if parsed.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(rcgen::Error::CouldNotParseKeyPair);
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { issuer, pem: certificate.to_owned(), der })
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub(super) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// A new key with a certificate.
    pub(super) fn issue(&self, subject: &Subject, now: Timestamp) -> Result<Identity, PkiError> {
        let key = KeyPair::generate()?;
        let certificate = subject.params(now)?.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Whether an identity is ours, says what `subject` says, and lasts a while.
    pub(super) fn fits(&self, identity: &Identity, subject: &Subject, now: Timestamp) -> bool {
        let check = || -> Option<bool> {
            let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).ok()?;
            let (_, leaf) = X509Certificate::from_der(&der).ok()?;
            let (_, ca) = X509Certificate::from_der(&self.der).ok()?;
            let key = KeyPair::from_pem(&identity.key).ok()?;
            let ours = leaf.issuer() == ca.subject()
                && leaf.verify_signature(Some(ca.public_key())).is_ok()
                && leaf.public_key().subject_public_key.data == key.public_key_raw();
            Some(ours && names_of(&leaf)? == names_wanted(subject) && is_fresh(&identity.certificate, now))
        };
        check().unwrap_or(false)
    }
}

/// From when on a certificate is good, and when it has a third of its life left.
fn term(certificate: &str) -> Option<(Timestamp, Timestamp)> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let (_, leaf) = X509Certificate::from_der(&der).ok()?;
    let (from, to) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    Some((Timestamp::from_second(from).ok()?, Timestamp::from_second(to - (to - from) / 3).ok()?))
}

/// When a certificate has a third of its life left.
pub(super) fn renew_at(certificate: &str) -> Option<Timestamp> {
    term(certificate).map(|(_, due)| due)
}

/// Whether a certificate is good and lasts a while; not one from a time when the clock was
/// ahead of `now`.
pub(super) fn is_fresh(certificate: &str, now: Timestamp) -> bool {
    term(certificate).is_some_and(|(from, due)| (from..due).contains(&now))
}

/// A private key's PKCS #8 bytes.
pub(super) fn key_der(pem: &str) -> Result<Vec<u8>, rcgen::Error> {
    Ok(KeyPair::from_pem(pem)?.serialize_der())
}

fn names_of(leaf: &X509Certificate<'_>) -> Option<BTreeSet<String>> {
    let names = leaf.subject_alternative_name().ok()??;
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    };
    names.value.general_names.iter().map(text).collect()
}

fn names_wanted(subject: &Subject) -> BTreeSet<String> {
    subject.hosts.iter().cloned().chain(subject.addresses.iter().map(ToString::to_string)).collect()
}

/// Sets the validity, in the instants that rcgen counts in.
fn live(params: &mut CertificateParams, now: Timestamp, life: SignedDuration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |at: Timestamp| Duration::from_secs(at.as_second().max(0).unsigned_abs());
    params.not_before = epoch + seconds(now - SLACK);
    params.not_after = epoch + seconds(now + life);
}
