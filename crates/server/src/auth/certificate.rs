//! Identity from a client certificate, and the identity of those without one.
//!
//! TLS has verified the chain against our CA before anything here runs; the subject's
//! common name is the user, its organizations are the groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::status::Status;
use futures::future::BoxFuture;
use http::request::Parts;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::AUTHENTICATED;
use crate::request::{PeerCertificates, User};
use crate::seams::Authenticator;

/// Authenticates by the certificate of the connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct CertificateAuthenticator;

/// Lets anyone ask for the server's health, and for nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl Authenticator for CertificateAuthenticator {
    fn authenticate<'a>(
        &'a self,
        _: &'a Parts,
        peer: Option<&'a PeerCertificates>,
    ) -> BoxFuture<'a, Result<Option<User>, Status>> {
        let known = || -> Result<Option<User>, Status> {
            let Some(peer) = peer else { return Ok(None) };
            if let Some(user) = peer.user.get() {
                return Ok(Some(user.clone()));
            }
            let Some(leaf) = peer.chain.first() else { return Ok(None) };
            let user = user_of(leaf).ok_or_else(Status::unauthorized)?;
            Ok(Some(peer.user.get_or_init(|| user).clone()))
        };
        Box::pin(std::future::ready(known()))
    }
}

impl Authenticator for Anonymous {
    fn authenticate<'a>(
        &'a self,
        parts: &'a Parts,
        _: Option<&'a PeerCertificates>,
    ) -> BoxFuture<'a, Result<Option<User>, Status>> {
        let health = matches!(parts.uri.path(), "/healthz" | "/livez" | "/readyz");
        // Wrong credentials are refused, never taken for none.
        let bare = !parts.headers.contains_key(http::header::AUTHORIZATION);
        Box::pin(std::future::ready(Ok((health && bare).then(User::anonymous))))
    }
}

/// The user that a certificate names; `None` when it names none.
fn user_of(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok().filter(|name| !name.is_empty())?;
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    let mut user = User::new(name, groups.chain([AUTHENTICATED]));
    let digest = Sha256::digest(der);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("X509SHA256={hex}").into();
    user.extra = Arc::new(BTreeMap::from([("authentication.kubernetes.io/credential-id".into(), vec![id])]));
    Some(user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Names, Pki};

    #[tokio::test]
    async fn names_and_groups_come_from_the_subject() {
        let dir = tempfile::tempdir().unwrap();
        let now = jiff::Timestamp::now();
        let pki = Pki::open_or_create(dir.path(), Names::default(), now).unwrap();
        let (client, _) = pki.node("n1", &[], now).unwrap();
        let peer = PeerCertificates::new(vec![client.certificate_der().unwrap()]);
        let (parts, ()) = http::Request::new(()).into_parts();
        let user = CertificateAuthenticator.authenticate(&parts, Some(&peer)).await.unwrap().unwrap();
        assert_eq!((&*user.name, super::super::node_identity(&user)), ("system:node:n1", Some("n1")));
        assert!(user.in_group("system:nodes") && user.in_group(AUTHENTICATED));
        assert!(CertificateAuthenticator.authenticate(&parts, None).await.unwrap().is_none());
        let nonsense = PeerCertificates::new(vec![vec![1, 2, 3].into()]);
        assert_eq!(
            CertificateAuthenticator.authenticate(&parts, Some(&nonsense)).await.unwrap_err().code,
            401
        );
    }

    #[tokio::test]
    async fn anonymous_sees_health_only() {
        for (path, credentials, expect) in [
            ("/healthz", false, true),
            ("/livez", false, true),
            ("/readyz", false, true),
            ("/readyz", true, false),
            ("/readyz/etcd", false, false),
            ("/version", false, false),
            ("/api", false, false),
        ] {
            let mut request = http::Request::builder().uri(path);
            if credentials {
                request = request.header("authorization", "Bearer x");
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let user = Anonymous.authenticate(&parts, None).await.unwrap();
            assert_eq!(user.is_some(), expect, "{path} {credentials}");
        }
    }
}
