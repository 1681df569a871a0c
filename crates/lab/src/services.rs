//! A load of Services, for the addresses and node ports that they are given: what was
//! acknowledged is noted, to be compared with what is there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::writes::send;

/// Where they are.
pub const SERVICES: &str = "/api/v1/namespaces/default/services";

/// What the server has acknowledged.
#[derive(Default)]
pub struct Allocated {
    next: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Created and not touched since: their address and node port.
    kept: BTreeMap<String, (String, u64)>,
    /// Deleted.
    gone: BTreeSet<String>,
}

/// The cluster's address and the node port of a Service.
fn held(service: &Value) -> Option<(String, u64)> {
    let spec = &service["spec"];
    Some((spec["clusterIP"].as_str()?.to_owned(), spec["ports"][0]["nodePort"].as_u64()?))
}

impl Allocated {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates Services with node ports and deletes every other one, until told to stop.
    pub async fn allocate(self: Arc<Self>, client: kube::Client, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::SeqCst) {
            let n = self.next.fetch_add(1, Ordering::SeqCst);
            let name = format!("service-{n}");
            let body =
                json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
            match send(&client, "POST", SERVICES, &body).await {
                Some((201, made)) if n.is_multiple_of(2) => {
                    // One without an address is noticed when it is not found.
                    self.lock().kept.insert(name, held(&made).unwrap_or_default());
                }
                // It makes room, and races with whatever happens to the server.
                Some((201, _)) => {
                    let path = format!("{SERVICES}/{name}");
                    if let Some((200, _)) = send(&client, "DELETE", &path, &Value::Null).await {
                        self.lock().gone.insert(name);
                    }
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Nothing may be held twice, what was acknowledged is still held, what was deleted is
    /// gone. Returns what to tell.
    ///
    /// # Errors
    /// What is wrong.
    pub fn verify(&self, list: &Value) -> Result<String> {
        let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
        let mut found = BTreeMap::new();
        for item in list["items"].as_array().context("a list")? {
            let name = item["metadata"]["name"].as_str().context("a name")?;
            let address = item["spec"]["clusterIP"].as_str().context("an address")?;
            ensure!(addresses.insert(address.to_owned()), "{address} of {name} is held twice");
            if let Some((address, port)) = held(item) {
                ensure!(ports.insert(port), "port {port} of {name} is held twice");
                found.insert(name.to_owned(), (address, port));
            }
        }
        let known = self.lock();
        for (name, held) in &known.kept {
            ensure!(found.get(name) == Some(held), "{name}: {held:?}, but {:?}", found.get(name));
        }
        let back: Vec<_> = known.gone.iter().filter(|name| found.contains_key(*name)).collect();
        ensure!(back.is_empty(), "deleted, and there again: {back:?}");
        Ok(format!(
            "{} Services kept of {}, each with an address and a port of its own, {} gone",
            known.kept.len(),
            found.len(),
            known.gone.len()
        ))
    }
}
