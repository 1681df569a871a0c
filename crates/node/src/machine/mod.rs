//! The Node object of this machine: registration, status, heartbeat Lease.
//!
//! What always holds: the node registers before anything expensive is looked up; the
//! Lease is renewed every 10 s and the status written only when it changed, or every
//! 5 minutes. [`object`] (pure) says what the Node looks like; [`facts`] reads the
//! machine.

pub mod facts;
pub mod object;

use std::sync::Arc;
use std::time::Duration;

use carrack_client::clock::rfc3339_micro;
use carrack_client::{Client, Clock, Error, Patch, resource};
use carrack_runtime::Runtime;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use facts::Facts;
use object::NodeConfig;

const RENEW: Duration = Duration::from_secs(10);
const REPORT: Duration = Duration::from_secs(300);
const LEASE_SECONDS: i32 = 40;
const LEASES: &str = "kube-node-lease";

/// Keeps the Node object.
pub struct Machine {
    /// Writes as the node.
    pub client: Client,
    /// Images and version.
    pub runtime: Arc<dyn Runtime>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Name, addresses, labels.
    pub config: NodeConfig,
    /// Capacity and system.
    pub facts: Facts,
}

// === impl Machine ===

impl Machine {
    /// Registers, or brings an existing Node up to date; tries until it succeeds.
    /// Gives the Node's uid and the status that was written.
    pub async fn register(&self) -> (String, Value) {
        let mut delay = Duration::from_millis(50);
        loop {
            match self.try_register().await {
                Ok(registered) => return registered,
                Err(error) => tracing::warn!(%error, node = self.config.name, "node not registered yet"),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(10));
        }
    }

    async fn try_register(&self) -> Result<(String, Value), Error> {
        let name = self.config.name.as_str();
        let node = object::node(&self.config, &self.facts);
        let made = match self.client.create(&resource::NODES, "", &node).await {
            Ok(made) => made,
            Err(error) if error.is_already_exists() => {
                let labels = json!({"metadata": {"labels": node["metadata"]["labels"]}});
                let patch = Patch::Merge(labels);
                self.client.patch(&resource::NODES, ("", name), "", &patch).await?
            }
            Err(error) => return Err(error),
        };
        let known: Value = made.decode().unwrap_or_default();
        let status = self.report(&known["status"]).await?;
        Ok((made.uid, status))
    }

    /// Writes the status, unless it is as `before`; gives what was written.
    async fn report(&self, before: &Value) -> Result<Value, Error> {
        let images = self.runtime.list_images().await.unwrap_or_default();
        let pressure = facts::pressure(&self.config.data_dir);
        let now = carrack_client::clock::rfc3339(self.clock.now());
        let version = self.runtime.version();
        let mut status = object::status(&self.config, &self.facts, &version, &images, pressure);
        if status == *before {
            return Ok(status);
        }
        let bare = status.clone();
        object::stamp(&mut status, &bare, before, &now);
        let patch = Patch::Strategic(json!({"status": status}));
        self.client.patch(&resource::NODES, ("", &self.config.name), "status", &patch).await?;
        Ok(bare)
    }

    /// Heartbeats for as long as the agent runs.
    pub async fn run(self, mut uid: String, mut written: Value) {
        let mut renew = tokio::time::interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beat = self.clock.now();
        let mut reported = tokio::time::Instant::now();
        loop {
            renew.tick().await;
            let mut delay = Duration::from_millis(100);
            while let Err(error) = self.renew(&uid).await {
                // The namespace of leases may still be on its way.
                tracing::debug!(%error, "lease not renewed");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RENEW);
            }
            let silent = self.clock.now().duration_since(beat);
            beat = self.clock.now();
            // After a long silence (the machine slept) others may have written us off.
            if reported.elapsed() >= REPORT || silent.as_secs() >= i64::from(LEASE_SECONDS) {
                written = Value::Null;
            }
            match self.report(&written).await {
                Ok(status) if status != written => {
                    (written, reported) = (status, tokio::time::Instant::now())
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    // Someone deleted the Node while it runs: it registers again.
                    (uid, written) = self.register().await;
                }
                Err(error) => tracing::warn!(%error, "node status not written"),
            }
        }
    }

    async fn renew(&self, uid: &str) -> Result<(), Error> {
        let name = self.config.name.as_str();
        let now = rfc3339_micro(self.clock.now());
        let patch = Patch::Merge(json!({"spec": {"renewTime": now, "holderIdentity": name}}));
        match self.client.patch(&resource::LEASES, (LEASES, name), "", &patch).await {
            Err(error) if error.is_not_found() => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": name, "namespace": LEASES, "ownerReferences": [
                        {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]},
                    "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
                });
                self.client.create(&resource::LEASES, LEASES, &lease).await.map(drop)
            }
            answer => answer.map(drop),
        }
    }
}
