//! Signing what others ask for: a certificate with the subject, key and names of a
//! request, written byte for byte as they came, so that nothing is lost in between.
//! (rcgen keeps only one of several organizations.)
//!
//! What a signer may sign is decided before; here only a request that proves to own its
//! key is signed, and never as a CA.

use jiff::{SignedDuration, Timestamp};
use rcgen::SigningKey;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::issue::Authority;

const YEAR: SignedDuration = SignedDuration::from_hours(24 * 365);
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
const LEAST: SignedDuration = SignedDuration::from_mins(10);
/// Certificates that live shorter are not dated back at their end.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It cannot be read.
    #[error("unable to parse certificate request: {0}")]
    Malformed(String),
    /// It does not own the key that it names.
    #[error("unable to verify certificate request signature")]
    Signature,
    /// It asks for a use that there is none of.
    #[error("unrecognized usage values: [{0:?}]")]
    Usage(String),
    /// The CA has run out.
    #[error("the signer has expired")]
    Expired,
    /// The CA's key does not sign.
    #[error("failed to sign certificate: {0}")]
    Key(#[from] rcgen::Error),
}

/// The bit of a key usage, counted from the first.
fn key_usage(name: &str) -> Option<u16> {
    Some(match name {
        "signing" | "digital signature" => 0,
        "content commitment" => 1,
        "key encipherment" => 2,
        "data encipherment" => 3,
        "key agreement" => 4,
        "cert sign" => 5,
        "crl sign" => 6,
        "encipher only" => 7,
        "decipher only" => 8,
        _ => return None,
    })
}

/// The object identifier of an extended key usage, in DER.
fn extended_usage(name: &str) -> Option<&'static [u8]> {
    Some(match name {
        "any" => &[0x55, 0x1d, 0x25, 0x00],
        "server auth" => &[0x2b, 6, 1, 5, 5, 7, 3, 1],
        "client auth" => &[0x2b, 6, 1, 5, 5, 7, 3, 2],
        "code signing" => &[0x2b, 6, 1, 5, 5, 7, 3, 3],
        "email protection" | "s/mime" => &[0x2b, 6, 1, 5, 5, 7, 3, 4],
        "ipsec end system" => &[0x2b, 6, 1, 5, 5, 7, 3, 5],
        "ipsec tunnel" => &[0x2b, 6, 1, 5, 5, 7, 3, 6],
        "ipsec user" => &[0x2b, 6, 1, 5, 5, 7, 3, 7],
        "timestamping" => &[0x2b, 6, 1, 5, 5, 7, 3, 8],
        "ocsp signing" => &[0x2b, 6, 1, 5, 5, 7, 3, 9],
        "microsoft sgc" => &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3],
        "netscape sgc" => &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1],
        _ => return None,
    })
}

impl Authority {
    /// Signs a request (DER) for `usages`, for as long as it asks, a year at most.
    /// Answers the certificate in PEM.
    pub(super) fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        seconds: Option<i64>,
        now: Timestamp,
    ) -> Result<String, SignError> {
        let malformed = |error: &dyn std::fmt::Display| SignError::Malformed(error.to_string());
        let (_, request) = X509CertificationRequest::from_der(request).map_err(|e| malformed(&e))?;
        request.verify_signature().map_err(|_| SignError::Signature)?;
        let (_, ca) = X509Certificate::from_der(self.der()).map_err(|e| malformed(&e))?;
        let ca_ends = Timestamp::from_second(ca.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
        let life = seconds.map_or(YEAR, |s| SignedDuration::from_secs(s).clamp(LEAST, YEAR));
        let ends = if life < SHORT { now + life } else { now + (life - BACKDATE) };
        if now >= ca_ends {
            return Err(SignError::Expired);
        }
        let info = &request.certification_request_info;
        let identifier = ca.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0),
            _ => None,
        });
        let mut extensions = usage_extensions(usages)?;
        extensions.push(extension(&[0x55, 0x1d, 0x13], true, &tlv(0x30, &[])));
        if let Some(identifier) = identifier {
            extensions.push(extension(&[0x55, 0x1d, 0x23], false, &tlv(0x30, &tlv(0x80, identifier))));
        }
        let names = names(&request);
        if !names.is_empty() {
            let critical = info.subject.iter().next().is_none();
            extensions.push(extension(&[0x55, 0x1d, 0x11], critical, &tlv(0x30, &names)));
        }
        let algorithm = ecdsa_with_sha256();
        let body = tlv(
            0x30,
            &[
                tlv(0xa0, &tlv(0x02, &[2])),
                serial(),
                algorithm.clone(),
                ca.subject().as_raw().to_vec(),
                tlv(0x30, &[time(now - BACKDATE), time(ends.min(ca_ends))].concat()),
                info.subject.as_raw().to_vec(),
                info.subject_pki.raw.to_vec(),
                tlv(0xa3, &tlv(0x30, &extensions.concat())),
            ]
            .concat(),
        );
        let signature = self.key().sign(&body)?;
        let signed = tlv(0x30, &[body, algorithm, tlv(0x03, &[&[0], &*signature].concat())].concat());
        Ok(pem(&signed))
    }
}

fn usage_extensions(usages: &[String]) -> Result<Vec<Vec<u8>>, SignError> {
    let (mut bits, mut extended) = (0u16, Vec::new());
    for usage in usages {
        match (key_usage(usage), extended_usage(usage)) {
            (Some(bit), _) => bits |= 0x8000 >> bit,
            (_, Some(oid)) => {
                let oid = tlv(0x06, oid);
                if !extended.contains(&oid) {
                    extended.push(oid);
                }
            }
            _ => return Err(SignError::Usage(usage.clone())),
        }
    }
    let mut all = Vec::new();
    if bits != 0 {
        let bytes = bits.to_be_bytes();
        let used = if bytes[1] == 0 { &bytes[..1] } else { &bytes[..] };
        let unused = used[used.len() - 1].trailing_zeros() as u8;
        all.push(extension(&[0x55, 0x1d, 0x0f], true, &tlv(0x03, &[&[unused], used].concat())));
    }
    if !extended.is_empty() {
        all.push(extension(&[0x55, 0x1d, 0x25], false, &tlv(0x30, &extended.concat())));
    }
    Ok(all)
}

/// The alternative names that the request asks for, of the kinds that are signed.
fn names(request: &X509CertificationRequest<'_>) -> Vec<u8> {
    let asked = request.requested_extensions().into_iter().flatten();
    let names = asked.filter_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let encode = |name: &GeneralName<'_>| match name {
        GeneralName::RFC822Name(text) => tlv(0x81, text.as_bytes()),
        GeneralName::DNSName(text) => tlv(0x82, text.as_bytes()),
        GeneralName::URI(text) => tlv(0x86, text.as_bytes()),
        GeneralName::IPAddress(bytes) => tlv(0x87, bytes),
        _ => Vec::new(),
    };
    names.flatten().flat_map(encode).collect()
}

// === DER ===

/// One value with its tag and length.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match value.len() {
        len @ 0..0x80 => out.push(len as u8),
        len => {
            let bytes = len.to_be_bytes();
            let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
            out.push(0x80 | (bytes.len() - from) as u8);
            out.extend_from_slice(&bytes[from..]);
        }
    }
    out.extend_from_slice(value);
    out
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(0x01, &[0xff]) } else { Vec::new() };
    tlv(0x30, &[tlv(0x06, oid), critical, tlv(0x04, value)].concat())
}

fn ecdsa_with_sha256() -> Vec<u8> {
    tlv(0x30, &tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]))
}

/// A random positive number.
fn serial() -> Vec<u8> {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    tlv(0x02, &bytes)
}

/// UTCTime until 2049, GeneralizedTime after it.
fn time(at: Timestamp) -> Vec<u8> {
    let text = at.to_string();
    let digits: String = text.chars().take(19).filter(char::is_ascii_digit).collect();
    match digits.get(..4) {
        Some(year) if ("1950".."2050").contains(&year) => tlv(0x17, format!("{}Z", &digits[2..]).as_bytes()),
        _ => tlv(0x18, format!("{digits}Z").as_bytes()),
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn request(names: &[&str]) -> (Vec<u8>, KeyPair) {
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).expect("names");
        params.distinguished_name.push(DnType::CommonName, "ann");
        params.distinguished_name.push(DnType::OrganizationName, "devs");
        let key = KeyPair::generate().expect("a key");
        let der = params.serialize_request(&key).expect("a request").der().to_vec();
        (der, key)
    }

    #[test]
    fn signs_what_is_asked() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (ca, _) = Authority::create(now).unwrap();
        let (der, key) = request(&["a.example", "10.0.0.1"]);
        let usages = ["digital signature", "key encipherment", "client auth"].map(str::to_owned);
        let pem = ca.sign(&der, &usages, Some(3600), now).unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (rest, leaf) = X509Certificate::from_der(&block.contents).unwrap();
        assert!(rest.is_empty());
        let (_, issuer) = X509Certificate::from_der(ca.der()).unwrap();
        leaf.verify_signature(Some(issuer.public_key())).unwrap();
        assert_eq!(leaf.public_key().subject_public_key.data, key.public_key_raw());
        assert_eq!(leaf.subject().to_string(), "CN=ann, O=devs");
        assert_eq!(leaf.issuer(), issuer.subject());
        let times = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        assert_eq!(times, (now.as_second() - 300, now.as_second() + 3600));
        let usage = leaf.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        assert!(leaf.extended_key_usage().unwrap().unwrap().value.client_auth);
        assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        let wanted = [GeneralName::DNSName("a.example"), GeneralName::IPAddress(&[10, 0, 0, 1])];
        assert_eq!(names.value.general_names, wanted);
    }

    #[test]
    fn refuses_what_is_not_owned() {
        let now = Timestamp::UNIX_EPOCH;
        let (ca, _) = Authority::create(now).unwrap();
        let (mut der, _) = request(&[]);
        *der.last_mut().unwrap() ^= 1;
        assert!(matches!(ca.sign(&der, &[], None, now), Err(SignError::Signature | SignError::Malformed(_))));
        assert!(matches!(ca.sign(b"x", &[], None, now), Err(SignError::Malformed(_))));
        let (der, _) = request(&[]);
        assert!(matches!(ca.sign(&der, &["x".to_owned()], None, now), Err(SignError::Usage(_))));
        let late: Timestamp = "2040-01-01T00:00:00Z".parse().unwrap();
        assert!(matches!(ca.sign(&der, &[], None, late), Err(SignError::Expired)));
    }
}
