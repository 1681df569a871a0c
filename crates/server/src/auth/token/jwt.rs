//! Compact JSON Web Signatures with ES256 (RFC 7515, RFC 7518), and nothing else: no
//! other algorithm, no `none`, no keys named by the token itself.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use carrack_api::Value;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::json;
use sha2::{Digest, Sha256};

/// `SubjectPublicKeyInfo` of an uncompressed P-256 point, up to the point (RFC 5480).
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A token longer than this is not looked at.
const LONGEST: usize = 16 << 10;

/// The first key signs, all verify.
pub(super) struct Keys {
    signing: EcdsaKeyPair,
    verifying: Vec<PublicKey>,
    random: SystemRandom,
}

struct PublicKey {
    id: String,
    point: Vec<u8>,
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key was given.
    #[error("there is no key for service-account tokens")]
    None,
    /// Not an ECDSA P-256 key in PKCS #8.
    #[error("a key for service-account tokens is not an ECDSA P-256 key: {0}")]
    Rejected(ring::error::KeyRejected),
}

/// Why a token is not taken. Never says what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    #[error("malformed token")]
    Malformed,
    #[error("invalid signature, no keys found")]
    UnknownKey,
    #[error("invalid signature")]
    Signature,
}

impl Keys {
    /// Reads keys in PKCS #8.
    pub(super) fn new(pkcs8: &[Vec<u8>]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = |der: &Vec<u8>| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
        let pairs: Result<Vec<_>, _> = pkcs8.iter().map(pair).collect();
        let pairs = pairs.map_err(KeyError::Rejected)?;
        let verifying = pairs.iter().map(|pair| PublicKey::new(pair.public_key().as_ref())).collect();
        let signing = pairs.into_iter().next().ok_or(KeyError::None)?;
        Ok(Self { signing, verifying, random })
    }

    /// Signs a set of claims; `None` when the machine has no randomness to give.
    pub(super) fn sign(&self, claims: &Value) -> Option<String> {
        let header = json!({"alg": "ES256", "kid": self.verifying[0].id});
        let mut token = BASE64.encode(header.to_string());
        token.push('.');
        BASE64.encode_string(claims.to_string(), &mut token);
        let signature = self.signing.sign(&self.random, token.as_bytes()).ok()?;
        token.push('.');
        BASE64.encode_string(signature.as_ref(), &mut token);
        Some(token)
    }

    /// The claims of a token that one of our keys has signed.
    pub(super) fn verify(&self, token: &str) -> Result<Value, Invalid> {
        if token.len() > LONGEST {
            return Err(Invalid::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Invalid::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Invalid::Malformed)?;
        let header = parse(header)?;
        if header["alg"] != "ES256" || header.get("crit").is_some() {
            return Err(Invalid::Malformed);
        }
        let key = self.verifying.iter().find(|key| header["kid"] == *key.id).ok_or(Invalid::UnknownKey)?;
        let signature = BASE64.decode(signature).map_err(|_| Invalid::Malformed)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point)
            .verify(message.as_bytes(), &signature)
            .map_err(|_| Invalid::Signature)?;
        parse(claims)
    }

    /// The public keys as a JSON Web Key Set (RFC 7517), for `/openid/v1/jwks`.
    pub(super) fn jwks(&self) -> Value {
        let jwk = |key: &PublicKey| {
            let (x, y) = key.point[1..].split_at(32);
            json!({
                "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
                "x": BASE64.encode(x), "y": BASE64.encode(y),
            })
        };
        json!({ "keys": self.verifying.iter().map(jwk).collect::<Vec<_>>() })
    }
}

impl PublicKey {
    fn new(point: &[u8]) -> Self {
        let spki = [&SPKI_PREFIX[..], point].concat();
        Self { id: BASE64.encode(Sha256::digest(spki)), point: point.to_owned() }
    }
}

/// One base64url part that holds a JSON object.
fn parse(part: &str) -> Result<Value, Invalid> {
    let bytes = BASE64.decode(part).map_err(|_| Invalid::Malformed)?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object).ok_or(Invalid::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let key = || rcgen::KeyPair::generate().unwrap().serialize_der();
        Keys::new(&[key(), key()]).unwrap()
    }

    #[test]
    fn takes_only_what_it_signed() {
        let (keys, others) = (keys(), keys());
        let claims = json!({"sub": "system:serviceaccount:a:b"});
        let token = keys.sign(&claims).unwrap();
        assert_eq!(keys.verify(&token), Ok(claims.clone()));
        assert_eq!(others.verify(&token), Err(Invalid::UnknownKey));
        let parts: Vec<&str> = token.split('.').collect();
        let other_claims = BASE64.encode(r#"{"sub":"system:serviceaccount:a:c"}"#);
        let none = BASE64.encode(r#"{"alg":"none"}"#);
        let hmac = BASE64.encode(json!({"alg": "HS256", "kid": keys.verifying[0].id}).to_string());
        let second = BASE64.encode(json!({"alg": "ES256", "kid": keys.verifying[1].id}).to_string());
        for (forged, expect) in [
            (format!("{}.{other_claims}.{}", parts[0], parts[2]), Invalid::Signature),
            (format!("{second}.{}.{}", parts[1], parts[2]), Invalid::Signature),
            (format!("{none}.{}.", parts[1]), Invalid::Malformed),
            (format!("{hmac}.{}.{}", parts[1], parts[2]), Invalid::Malformed),
            (format!("{}.{}.", parts[0], parts[1]), Invalid::Signature),
            (format!("{}.{}", parts[0], parts[1]), Invalid::Malformed),
            (String::new(), Invalid::Malformed),
            ("..".into(), Invalid::Malformed),
            ("x".repeat(LONGEST + 1), Invalid::Malformed),
        ] {
            assert_eq!(keys.verify(&forged), Err(expect), "{forged}");
        }
        assert_eq!(keys.jwks()["keys"].as_array().map(Vec::len), Some(2));
    }
}
