//! Service-account tokens: issued bound and expiring, verified on every use.
//!
//! A token counts while its signature is ours, its time has not run out, its audience
//! is asked for, and what it is bound to still exists: the service account, and the
//! pod, secret or node, each with the same uid. Only the signature's check is
//! remembered; everything else is looked up each time, so that a deleted pod's token is
//! dead at once. (Upstream: `pkg/serviceaccount`; KEP-1205, KEP-4193.)

mod claims;
mod jwt;
mod request;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use carrack_api::status::Status;
use carrack_api::{Key, Record, Value};
use carrack_store::Store;
use futures::future::BoxFuture;
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

pub use claims::Claims;
pub use jwt::KeyError;
pub use request::TokenRequest;

use super::BootstrapTokens;
use crate::clock::Clock;
use crate::request::{PeerCertificates, User};
use crate::seams::Authenticator;
use jwt::Keys;

/// Signatures remembered in each of two generations.
const REMEMBERED: usize = 1024;

/// How far two clocks may be apart.
const LEEWAY: SignedDuration = SignedDuration::from_mins(1);

/// Whose tokens, and for whom.
#[derive(Debug, Clone)]
pub struct TokenConfig {
    /// `iss` of tokens: a URL.
    pub issuer: String,
    /// Audiences that the API itself answers to; the default of requests that name none.
    pub audiences: Vec<String>,
}

impl Default for TokenConfig {
    fn default() -> Self {
        let issuer = "https://kubernetes.default.svc.cluster.local".to_owned();
        Self { audiences: vec![issuer.clone()], issuer }
    }
}

/// Issues and verifies tokens. Share it by `Arc`.
pub struct Tokens {
    config: TokenConfig,
    keys: Keys,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

/// Claims of tokens whose signature has been checked, by the token's digest.
#[derive(Default)]
struct Seen {
    young: HashMap<[u8; 32], Arc<Claims>>,
    old: HashMap<[u8; 32], Arc<Claims>>,
}

/// Why a token is refused. For logs and TokenReviews; never holds any of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

// === impl Tokens ===

impl Tokens {
    /// Tokens signed with keys in PKCS #8, of which the first signs and all verify.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(
        config: TokenConfig,
        pkcs8: &[Vec<u8>],
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyError> {
        Ok(Self { config, keys: Keys::new(pkcs8)?, store, clock, seen: Mutex::default() })
    }

    /// Whose tokens, and for whom.
    pub fn config(&self) -> &TokenConfig {
        &self.config
    }

    /// Bootstrap tokens, by the same store and clock.
    pub fn bootstrap_tokens(&self) -> BootstrapTokens {
        BootstrapTokens::new(self.store.clone(), self.clock.clone())
    }

    /// The public keys, for `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        self.keys.jwks()
    }

    /// The discovery document, for `/.well-known/openid-configuration`.
    pub fn discovery(&self) -> Value {
        serde_json::json!({
            "issuer": self.config.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.config.issuer),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// Signs claims.
    ///
    /// # Errors
    /// 500 when the machine has no randomness.
    fn sign(&self, claims: &Claims) -> Result<String, Status> {
        let token = self.keys.sign(&claims.to_value());
        token.ok_or_else(|| Status::internal("failed to generate token: no randomness"))
    }

    /// Whose token it is and which of `audiences` (empty: the API's own) it is for.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify(&self, token: &str, audiences: &[String]) -> Result<(User, Vec<String>), Refused> {
        let claims = self.claims(token)?;
        let asked = if audiences.is_empty() { &self.config.audiences } else { audiences };
        let common: Vec<String> = claims.audiences.iter().filter(|a| asked.contains(a)).cloned().collect();
        if common.is_empty() {
            return Err(refused(format!(
                "token audiences {:?} is invalid for the target audiences {asked:?}",
                claims.audiences
            )));
        }
        self.check(&claims, self.clock.now())?;
        Ok((claims.user(), common))
    }

    /// The claims of a token with a good signature.
    fn claims(&self, token: &str) -> Result<Arc<Claims>, Refused> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(claims) = self.seen().get(&digest) {
            return Ok(claims);
        }
        let claims = self.keys.verify(token).map_err(refused)?;
        if claims["iss"] != self.config.issuer {
            return Err(refused("token issuer is invalid"));
        }
        let claims = Claims::read(&claims).ok_or_else(|| refused("malformed claims"))?;
        let claims = Arc::new(claims);
        self.seen().insert(digest, claims.clone());
        Ok(claims)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the times, and that all that the token is bound to exists.
    fn check(&self, claims: &Claims, now: Timestamp) -> Result<(), Refused> {
        if now - LEEWAY > claims.expires {
            return Err(refused("service account token has expired"));
        }
        if now + LEEWAY < claims.not_before {
            return Err(refused("service account token is not valid yet"));
        }
        if now + LEEWAY < claims.issued {
            return Err(refused("service account token is issued in the future"));
        }
        let namespace = &*claims.namespace;
        self.bound("serviceaccounts", namespace, &claims.account, now)?;
        if let Some(secret) = &claims.secret {
            self.bound("secrets", namespace, secret, now)?;
        }
        match (&claims.pod, &claims.node) {
            (Some(pod), _) => self.bound("pods", namespace, pod, now),
            // The node of a pod's token only says where the pod runs.
            (None, Some(node)) => self.bound("nodes", "", node, now),
            (None, None) => Ok(()),
        }
    }

    fn bound(
        &self,
        resource: &str,
        namespace: &str,
        to: &claims::Ref,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let record = self.store.get(&Key::new(resource, namespace, &to.name));
        let gone = || refused("service account token has been invalidated");
        let record = record.ok_or_else(gone)?;
        if record.header().uid != to.uid {
            return Err(refused(format!("{resource} uid does not match the token's claim")));
        }
        if deleted_before(&record, now - LEEWAY) { Err(gone()) } else { Ok(()) }
    }
}

impl Authenticator for Tokens {
    fn authenticate<'a>(
        &'a self,
        parts: &'a Parts,
        _: Option<&'a PeerCertificates>,
    ) -> BoxFuture<'a, Result<Option<User>, Status>> {
        let answer = match bearer(parts) {
            None => Ok(None),
            Some(token) => match self.verify(token, &[]) {
                Ok((user, _)) => Ok(Some(user)),
                Err(reason) => {
                    tracing::debug!(%reason, "bearer token refused");
                    Err(Status::unauthorized())
                }
            },
        };
        Box::pin(std::future::ready(answer))
    }
}

// === impl Seen ===

impl Seen {
    fn get(&self, digest: &[u8; 32]) -> Option<Arc<Claims>> {
        self.young.get(digest).or_else(|| self.old.get(digest)).cloned()
    }

    /// Full generations age; what is in the older one then goes.
    fn insert(&mut self, digest: [u8; 32], claims: Arc<Claims>) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, claims);
    }
}

/// The token of an `Authorization: Bearer` header, if there is one.
pub(crate) fn bearer(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn deleted_before(record: &Record, time: Timestamp) -> bool {
    let deleted = || -> Option<Timestamp> {
        record.decode().pointer("/metadata/deletionTimestamp")?.as_str()?.parse().ok()
    };
    record.header().deleting && deleted().is_none_or(|deleted| deleted < time)
}

fn refused(reason: impl ToString) -> Refused {
    Refused(reason.to_string())
}

#[cfg(test)]
mod tests;
