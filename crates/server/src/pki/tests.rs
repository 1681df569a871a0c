//! What the first start makes, what later starts keep, what is made anew.

use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::clock::SystemClock;

fn names() -> Names {
    Names {
        url: "https://127.0.0.1:6443".into(),
        hosts: vec!["laptop".into()],
        addresses: vec![[10, 96, 0, 1].into(), [192, 0, 2, 7].into()],
        domain: "cluster.local".into(),
    }
}

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().unwrap()
}

fn years(n: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_hours(24 * 365 * n)
}

fn file(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn keeps_what_fits_and_renews_what_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = &dir.path().join("data");
    let first = Pki::open_or_create(dir, names(), now()).unwrap();
    let read = || (file(dir, "pki/cluster.pem"), file(dir, "pki/apiserver.pem"), file(dir, "kubeconfig"));
    let made = read();
    // A day later nothing changes, and the keys are the same.
    let day = now() + jiff::SignedDuration::from_hours(24);
    let second = Pki::open_or_create(dir, names(), day).unwrap();
    assert_eq!(read(), made);
    assert_eq!(first.token_keys(), second.token_keys());
    // Another address: only the serving certificate.
    let mut moved = names();
    moved.addresses.push([192, 0, 2, 8].into());
    Pki::open_or_create(dir, moved.clone(), day).unwrap();
    let after = read();
    assert_ne!(after.1, made.1);
    assert_eq!((&after.0, &after.2), (&made.0, &made.2));
    // Nine months later: serving certificate and kubeconfig.
    let pki = Pki::open_or_create(dir, moved, now() + jiff::SignedDuration::from_hours(24 * 274)).unwrap();
    let renewed = read();
    assert!(renewed.1 != after.1 && renewed.2 != after.2 && renewed.0 == after.0);
    // A damaged serving certificate is made anew; damaged cluster keys are an error.
    std::fs::write(dir.join("pki/apiserver.pem"), "x").unwrap();
    pki.renew(now()).unwrap();
    assert!(file(dir, "pki/apiserver.pem").starts_with("-----BEGIN CERTIFICATE"));
    std::fs::write(dir.join("pki/cluster.pem"), &made.0[..made.0.len() / 2]).unwrap();
    let error = Pki::open_or_create(dir, names(), now()).err().unwrap();
    assert!(matches!(error, PkiError::Malformed { .. }), "{error}");
}

#[test]
fn a_clock_that_was_wrong_leaves_nothing_that_is_not_good() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let first = Pki::open_or_create(dir, names(), now()).unwrap();
    let keys = file(dir, "pki/cluster.pem").split_off(first.ca_pem().len());
    let mut last = first.ca_pem().to_owned();
    // Years ahead, rightly again, past the end of the CA, rightly, and years behind.
    for (years_ahead, renews_ca) in [(5, false), (0, false), (12, true), (0, true), (-20, true), (0, true)] {
        let at = now() + years(years_ahead);
        let pki = Pki::open_or_create(dir, names(), at).unwrap();
        assert_eq!(last != pki.ca_pem(), renews_ca, "{years_ahead}");
        last = pki.ca_pem().to_owned();
        let admin = kubeconfig::certificate(&file(dir, "kubeconfig")).unwrap();
        for pem in [&last, &file(dir, "pki/apiserver.pem"), &admin] {
            assert!(issue::is_fresh(pem, at), "{years_ahead}: {pem}");
        }
        assert!(file(dir, "kubeconfig").contains(&STANDARD.encode(&last)), "{years_ahead}");
        // The same key under the same name: what it signed before is still its own.
        assert_eq!(file(dir, "pki/cluster.pem").strip_prefix(&last), Some(&*keys), "{years_ahead}");
        let (der, old) = (pki.ca_der(), first.ca_der());
        let [(_, ca), (_, old)] = [&der, &old].map(|der| X509Certificate::from_der(der).unwrap());
        assert_eq!((ca.subject(), ca.public_key()), (old.subject(), old.public_key()), "{years_ahead}");
    }
}

#[test]
fn files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let dir = &dir.path().join("data");
    Pki::open_or_create(dir, names(), now()).unwrap();
    for (name, mode) in [
        ("", 0o700),
        ("pki", 0o700),
        ("pki/cluster.pem", 0o600),
        ("pki/apiserver.pem", 0o600),
        ("kubeconfig", 0o600),
    ] {
        let found = std::fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}: {found:o}");
    }
}

#[test]
fn subjects_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(dir.path(), names(), now()).unwrap();
    let (client, serving) = pki.node("n1", &[[192, 0, 2, 7].into()], now()).unwrap();
    for identity in [&client, &serving] {
        let der = identity.certificate_der().unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(parsed.subject().to_string(), "O=system:nodes, CN=system:node:n1");
    }
    assert!(!format!("{client:?}").contains("PRIVATE"));
    assert!(issue::renew_at(&client.certificate).unwrap() > now());
}

/// A handshake in memory: who is let in, with which name.
fn handshake(
    server: rustls::ServerConfig,
    client: rustls::ClientConfig,
    name: &str,
) -> Result<bool, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut &bytes[..]).unwrap();
        client.process_new_packets()?;
    }
    Ok(server.peer_certificates().is_some())
}

#[test]
fn verifies_both_ends() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clock = || Arc::new(SystemClock);
    let today = Timestamp::now();
    let ours = Pki::open_or_create(ours.path(), names(), today).unwrap();
    let theirs = Pki::open_or_create(theirs.path(), names(), today).unwrap();
    let admin = ours.identity("kubernetes-admin", "system:masters", today).unwrap();
    let client = |pki: &Pki| pki.client_config(&admin, clock()).unwrap();
    for name in
        ["kubernetes", "kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", "::1", "10.96.0.1"]
    {
        assert_eq!(handshake(ours.server_config(clock()).unwrap(), client(&ours), name), Ok(true), "{name}");
    }
    for name in ["example.com", "192.0.2.99"] {
        assert!(handshake(ours.server_config(clock()).unwrap(), client(&ours), name).is_err(), "{name}");
    }
    // Neither side takes another CA's word.
    assert!(handshake(theirs.server_config(clock()).unwrap(), client(&ours), "localhost").is_err());
    assert!(handshake(theirs.server_config(clock()).unwrap(), client(&theirs), "localhost").is_err());
    // A certificate for clients does not serve, one that has run out does not count.
    let old = ours.identity("old", "system:masters", today - years(2)).unwrap();
    let old = ours.client_config(&old, clock()).unwrap();
    assert!(handshake(ours.server_config(clock()).unwrap(), old, "localhost").is_err());
}
