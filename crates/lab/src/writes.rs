//! A load of writes whose acknowledgements are noted, to be compared with what is there
//! after whatever happened to the server meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use carrack_client::connect::{Credentials, Endpoint};
use serde_json::{Value, json};

/// Where the ConfigMaps are that are written.
pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What the server has acknowledged.
#[derive(Default)]
pub struct Acknowledged {
    /// Created ConfigMaps that nobody has touched since, with their revision.
    created: Mutex<BTreeMap<String, u64>>,
    /// A writer's own ConfigMap: the last number written and its revision.
    patched: Mutex<BTreeMap<String, (u64, u64)>>,
    /// The newest revision anybody has been told.
    newest: AtomicU64,
    /// Revisions that were not newer than what had been told before.
    back: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `metadata.resourceVersion`; 0 when there is none.
pub fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Acknowledged {
    /// The newest revision anybody has been told.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    /// Notes the revision of a write that began when `before` was the newest.
    pub fn told(&self, before: u64, object: &Value) -> u64 {
        let revision = revision(object);
        if revision <= before {
            lock(&self.back).push(format!("{revision} after {before}: {}", object["metadata"]));
        }
        self.newest.fetch_max(revision, Ordering::SeqCst);
        revision
    }

    /// Nothing may be missing from the list, and nothing may be other than it was
    /// acknowledged; at least so many ConfigMaps were created. Returns what to tell.
    ///
    /// # Errors
    /// What was lost.
    pub fn verify(&self, list: &Value, least: usize) -> Result<String> {
        let items = list["items"].as_array().context("a list")?;
        let named = |item| Some((Value::as_str(&Value::get(item, "metadata")?["name"])?, item));
        let found: BTreeMap<&str, &Value> = items.iter().filter_map(named).collect();
        let (created, patched) = (lock(&self.created), lock(&self.patched));
        let kept = |name: &str, at: u64| found.get(name).is_some_and(|object| revision(object) == at);
        let missing: Vec<_> = created.iter().filter(|(name, at)| !kept(name, **at)).collect();
        ensure!(
            missing.is_empty(),
            "{} of {} are missing or changed: {missing:?}",
            missing.len(),
            created.len()
        );
        for (name, (number, at)) in patched.iter() {
            let object = found.get(name.as_str()).with_context(|| format!("{name} is missing"))?;
            let stored: u64 = object["data"]["n"].as_str().context("a number")?.parse()?;
            // A later write may have been stored and its answer lost.
            ensure!(stored >= *number && revision(object) >= *at, "{name}: {number} at {at}, but {object}");
        }
        ensure!(revision(list) >= self.newest(), "the list is older than a write");
        let back = lock(&self.back);
        ensure!(back.is_empty(), "revisions that went back: {back:?}");
        ensure!(created.len() >= least, "a load worth the name: {}", created.len());
        Ok(format!(
            "{} objects created and {} patched, newest revision {}",
            created.len(),
            patched.len(),
            revision(list)
        ))
    }
}

/// The administrator's way in, from a kubeconfig.
///
/// # Errors
/// The text is not a kubeconfig of ours.
pub fn credentials(kubeconfig: &str) -> Result<(Endpoint, Credentials)> {
    let text = |field: &str| {
        let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(field));
        Ok::<_, anyhow::Error>(
            line.with_context(|| format!("no {field}"))?.trim().trim_matches('"').to_owned(),
        )
    };
    let take =
        |field: &str| Ok::<_, anyhow::Error>(base64::engine::general_purpose::STANDARD.decode(text(field)?)?);
    let address: std::net::SocketAddr = text("server: https://")?.parse()?;
    let endpoint = Endpoint {
        address,
        server_name: address.ip().to_string(),
        ca_pem: take("certificate-authority-data:")?,
    };
    let chain_pem = take("client-certificate-data:")?;
    Ok((endpoint, Credentials::Certificate { chain_pem, key_pem: take("client-key-data:")? }))
}

/// A request with a JSON body and its answer; `None` when nobody knows what became of it.
pub async fn send(client: &kube::Client, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = request.body(kube::client::Body::from(body)).ok()?;
    let exchange = async {
        let answer = client.send(request).await.ok()?;
        let status = answer.status().as_u16();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    };
    tokio::time::timeout(Duration::from_secs(5), exchange).await.ok()?
}

/// Makes the ConfigMap that a writer patches.
///
/// # Errors
/// It cannot be made.
pub async fn prepare(number: usize, client: &kube::Client) -> Result<()> {
    let body = json!({"metadata": {"name": format!("own-{number}")}, "data": {"n": "0"}});
    let made = send(client, "POST", MAPS, &body).await;
    ensure!(made.as_ref().is_some_and(|(code, _)| *code == 201), "own-{number}: {made:?}");
    Ok(())
}

/// Creates ConfigMaps and patches one of its own, until told to stop.
pub async fn writer(number: usize, client: kube::Client, noted: Arc<Acknowledged>, stop: Arc<AtomicBool>) {
    let own = format!("own-{number}");
    for n in 1u64.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let name = format!("load-{number}-{n}");
        let before = noted.newest();
        let body =
            json!({"metadata": {"name": name, "labels": {"load": "yes"}}, "data": {"n": n.to_string()}});
        match send(&client, "POST", MAPS, &body).await {
            Some((201, object)) => {
                let revision = noted.told(before, &object);
                lock(&noted.created).insert(name, revision);
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        let before = noted.newest();
        let patch = json!({"data": {"n": n.to_string()}});
        if let Some((200, object)) = send(&client, "PATCH", &format!("{MAPS}/{own}"), &patch).await {
            let revision = noted.told(before, &object);
            lock(&noted.patched).insert(own.clone(), (n, revision));
        }
    }
}

/// Renews a Lease, which may be acknowledged before it is on disk: what is told of it may
/// be lost, but its revisions are not given out again. Until told to stop.
pub async fn beat(client: kube::Client, noted: Arc<Acknowledged>, stop: Arc<AtomicBool>) {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let body = json!({"metadata": {"name": "load"}, "spec": {"holderIdentity": "load"}});
    for n in 1u64.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let before = noted.newest();
        let patch = json!({"spec": {"leaseTransitions": n % 1_000_000}});
        match send(&client, "PATCH", &format!("{LEASES}/load"), &patch).await {
            Some((200, object)) => drop(noted.told(before, &object)),
            Some((404, _)) => drop(send(&client, "POST", LEASES, &body).await),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Xorshift: enough for moments.
pub fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
