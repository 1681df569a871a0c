//! The server's own Lease in `kube-system`: which API servers a cluster has, for those who
//! ask (KEP-1965). It lasts an hour, and is renewed often enough for that and no oftener.
//! Leases of servers that did not renew theirs are deleted.

use std::sync::Arc;
use std::time::Duration;

use carrack_api::status::Status;
use carrack_api::{Key, Value, time};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::progress::{Progress, Stage};
use crate::registry::{DeleteOptions, Registry};
use crate::request::User;

const RESOURCE: &str = "leases.coordination.k8s.io";
const NAMESPACE: &str = "kube-system";
/// The label that says what a server is.
const IDENTITY: &str = "apiserver.kubernetes.io/identity";
const SERVER: &str = "kube-apiserver";
/// The label with the host's name.
const HOST: &str = "kubernetes.io/hostname";
/// The annotation with the server's address and port.
const ADDRESS: &str = "kubernetes.io/peer-advertise-address";
/// `leaseDurationSeconds`.
const LASTS: i64 = 3600;
/// Time between two renewals: several may fail before the lease runs out.
const RENEW: Duration = Duration::from_secs(600);
/// How long to wait after something failed.
const RETRY: Duration = Duration::from_secs(10);

/// Takes the lease of the server on a host, then renews it for as long as the server runs.
/// `address` is where other servers reach it.
pub async fn keep(registry: Arc<Registry>, host: String, address: String, progress: Progress) {
    let identity = Identity::new(host, address);
    loop {
        let outcome = match hold(&registry, &identity).await {
            Ok(()) => delete_expired(&registry, &identity.name).await,
            failed => failed,
        };
        let wait = match outcome {
            Ok(()) => {
                progress.done(&[Stage::Identity]);
                RENEW
            }
            Err(error) => {
                tracing::warn!(%error, "cannot renew the API server's lease");
                RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// What the lease says.
struct Identity {
    host: String,
    address: String,
    name: String,
    holder: String,
}

impl Identity {
    fn new(host: String, address: String) -> Self {
        let name = name(&host);
        let holder = format!("{name}_{}", uuid::Uuid::new_v4());
        Self { host, address, name, holder }
    }

    fn lease(&self, now: Timestamp) -> Value {
        let renewed = time::micro_from_unix(now.as_second(), now.subsec_nanosecond().unsigned_abs());
        json!({
            "metadata": {"name": self.name, "namespace": NAMESPACE,
                "labels": {IDENTITY: SERVER, HOST: self.host}, "annotations": {ADDRESS: self.address}},
            "spec": {"holderIdentity": self.holder, "leaseDurationSeconds": LASTS, "renewTime": renewed},
        })
    }
}

/// As upstream names the lease: by a hash of the host's name and of what the server is, each
/// with its length before it.
fn name(host: &str) -> String {
    let mut hash = Sha256::new();
    for part in [host, SERVER] {
        hash.update((part.len() as u16).to_be_bytes());
        hash.update(part);
    }
    format!("apiserver-{}", base32(&hash.finalize()[..16]))
}

/// RFC 4648 in small letters, unpadded.
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let (mut out, mut held, mut bits) = (String::new(), 0u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(LETTERS[(held >> bits & 31) as usize] as char);
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(LETTERS[(held << (5 - bits) & 31) as usize] as char);
    }
    out
}

async fn hold(registry: &Registry, identity: &Identity) -> Result<(), Status> {
    let call = registry.call(User::loopback(), RESOURCE, NAMESPACE, &identity.name)?;
    let lease = identity.lease(call.now);
    let renewed = registry.modify(&call, |held| {
        for (map, key) in [("labels", IDENTITY), ("labels", HOST), ("annotations", ADDRESS)] {
            held["metadata"][map][key] = lease["metadata"][map][key].clone();
        }
        held["spec"] = lease["spec"].clone();
        Ok(())
    });
    match renewed.await {
        Err(status) if status.code == 404 => registry.create(&call, lease).await.map(drop),
        renewed => renewed.map(drop),
    }
}

async fn delete_expired(registry: &Registry, own: &str) -> Result<(), Status> {
    let snapshot = registry.store().snapshot(RESOURCE);
    let now = registry.now();
    let expired: Vec<Key> = snapshot
        .range(&format!("{RESOURCE}/{NAMESPACE}/"), None)
        .filter(|record| record.header().label(IDENTITY) == Some(SERVER) && record.key.name() != own)
        .filter(|record| has_expired(&record.decode(), now))
        .map(|record| record.key.clone())
        .collect();
    for key in expired {
        let call = registry.call(User::loopback(), RESOURCE, key.namespace(), key.name())?;
        match registry.delete(&call, &DeleteOptions::default()).await {
            Err(status) if status.code != 404 => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

/// A lease that says neither when it was renewed nor for how long has run out.
fn has_expired(lease: &Value, now: Timestamp) -> bool {
    let until = || {
        let renewed: Timestamp = lease["spec"]["renewTime"].as_str()?.parse().ok()?;
        let lasts = lease["spec"]["leaseDurationSeconds"].as_i64()?;
        renewed.checked_add(SignedDuration::from_secs(lasts)).ok()
    };
    until().is_none_or(|until| until < now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;
    use crate::auth::testing::store;

    fn named(name: &str) -> Identity {
        Identity { name: name.into(), ..Identity::new("host".into(), "192.0.2.7:6443".into()) }
    }

    #[test]
    fn writes_base32() {
        for (bytes, expect) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foobar", "mzxw6ytboi")]
        {
            assert_eq!(base32(bytes.as_bytes()), expect, "{bytes}");
        }
        assert_eq!(name("host").len(), "apiserver-".len() + 26);
    }

    #[test]
    fn a_lease_runs_out_when_it_is_not_renewed() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let at = |time: &str| named("n").lease(time.parse().unwrap());
        assert!(!has_expired(&at("2026-01-01T11:30:00Z"), now));
        assert!(has_expired(&at("2026-01-01T10:30:00Z"), now));
        assert!(has_expired(&json!({"spec": {}}), now));
    }

    #[tokio::test]
    async fn holds_its_own_lease_and_deletes_those_of_the_gone() {
        let server = Server::builder(store(), carrack_api::kinds::builtin()).build();
        let registry = server.registry();
        let namespace = registry.call(User::loopback(), "namespaces", "", NAMESPACE).unwrap();
        registry.create(&namespace, json!({"metadata": {"name": NAMESPACE}})).await.unwrap();
        for (name, time) in [("old", "2020-01-01T00:00:00Z"), ("other", &*registry.now().to_string())] {
            let call = registry.call(User::loopback(), RESOURCE, NAMESPACE, name).unwrap();
            registry.create(&call, named(name).lease(time.parse().unwrap())).await.unwrap();
        }
        let get = |name: &str| registry.store().get(&Key::new(RESOURCE, NAMESPACE, name));
        for identity in [named("own"), named("own")] {
            hold(registry, &identity).await.unwrap();
            let held = get("own").unwrap().decode();
            assert_eq!(held["spec"]["holderIdentity"], identity.holder);
            assert_eq!(held["metadata"]["annotations"][ADDRESS], "192.0.2.7:6443");
            assert_eq!(held["metadata"]["labels"][IDENTITY], SERVER);
        }
        delete_expired(registry, "own").await.unwrap();
        assert!(get("old").is_none() && get("other").is_some() && get("own").is_some());
    }
}
