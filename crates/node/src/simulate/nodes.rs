//! Registers the simulated nodes and keeps their heartbeats.
//!
//! What always holds: a node whose object is missing is registered (again); Leases are
//! renewed evenly spread over their period, each node's status every five minutes; a
//! node with the annotation `simulate.carrack.io/silent: "true"` says nothing at all.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_api::{Record, Value};
use carrack_client::clock::{rfc3339, rfc3339_micro};
use carrack_client::{Client, Clock, Error, Patch, Scope, Source, Update, resource};
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use super::Fleet;
use super::plan::{LABEL, due};
use super::scenario::PREFIX;

/// Requests about nodes under way at once.
const AT_ONCE: usize = 32;
/// Heartbeats are sent in batches this far apart.
const TICK: Duration = Duration::from_millis(100);
/// How often a status is written that has not changed.
const REPORT: Duration = Duration::from_secs(300);
/// A Lease is valid for so many periods, as kubelet's 40 s are of 10 s.
const LEASE_PERIODS: u32 = 4;
const LEASES: &str = "kube-node-lease";

/// The Node objects and Leases of a fleet.
pub struct Nodes {
    client: Client,
    clock: Arc<dyn Clock>,
    fleet: Arc<Fleet>,
    known: Mutex<Vec<Node>>,
    missing: Notify,
}

/// What is kept of a node.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Of its object; none while that is missing.
    uid: Option<Box<str>>,
    silent: bool,
    /// When its status was written last.
    reported: Option<Instant>,
    /// Whether its Lease exists.
    leased: bool,
}

// === impl Nodes ===

impl Nodes {
    /// Knows of no objects yet.
    pub fn new(client: Client, clock: Arc<dyn Clock>, fleet: Arc<Fleet>) -> Self {
        let known = Mutex::new(vec![Node::default(); fleet.count as usize]);
        Self { client, clock, fleet, known, missing: Notify::new() }
    }

    /// Keeps the nodes until the task is aborted.
    pub async fn run(self, source: Arc<dyn Source>, heartbeat: Duration) {
        let scope = Scope { labels: Some(format!("{LABEL}={}", self.fleet.name)), ..Scope::default() };
        let mut updates = source.subscribe(&resource::NODES, scope);
        let follow = async {
            while let Some(update) = updates.next().await {
                self.update(update);
            }
        };
        tokio::join!(follow, self.register(), self.beat(heartbeat));
    }

    fn update(&self, update: Update) {
        let mut known = self.lock();
        match update {
            Update::Reset { records, .. } => {
                known.iter_mut().for_each(|node| node.uid = None);
                records.iter().for_each(|record| self.see(&mut known, record));
            }
            // Which makes none go missing, and is not worth looking at all of them.
            Update::Changed { record, .. } => return self.see(&mut known, &record),
            Update::Deleted { record, .. } => {
                if let Some(place) = self.fleet.place(record.key.name()) {
                    known[place as usize] = Node::default();
                }
            }
            Update::Progress(_) => return,
        }
        if known.iter().any(|node| node.uid.is_none()) {
            self.missing.notify_one();
        }
    }

    fn see(&self, known: &mut [Node], record: &Record) {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Meta {
            annotations: std::collections::HashMap<String, String>,
        }
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Brief {
            metadata: Meta,
        }
        let Some(place) = self.fleet.place(record.key.name()) else { return };
        let brief: Brief = record.decode_as().unwrap_or_default();
        let node = &mut known[place as usize];
        node.uid = Some(record.header().uid.clone());
        node.silent = brief.metadata.annotations.get(&format!("{PREFIX}silent")).is_some_and(|v| v == "true");
    }

    /// Registers what is missing, whenever something is.
    async fn register(&self) {
        loop {
            self.missing.notified().await;
            let missing: Vec<u32> = {
                let known = self.lock();
                (0..self.fleet.count).filter(|place| known[*place as usize].uid.is_none()).collect()
            };
            let mut answers = futures::stream::iter(missing)
                .map(|place| self.register_one(place))
                .buffer_unordered(AT_ONCE);
            let mut failed = None;
            while let Some(answer) = answers.next().await {
                failed = answer.err().or(failed);
            }
            if let Some(error) = failed {
                tracing::warn!(%error, "some simulated nodes are not registered yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.missing.notify_one();
            }
        }
    }

    async fn register_one(&self, place: u32) -> Result<(), Error> {
        let made = match self.client.create(&resource::NODES, "", &self.fleet.node(place)).await {
            Err(error) if error.is_already_exists() => {
                let labels = json!({"metadata": {"labels": self.fleet.node(place)["metadata"]["labels"]}});
                let name = self.fleet.node_name(place);
                self.client.patch(&resource::NODES, ("", &name), "", &Patch::Merge(labels)).await?
            }
            answer => answer?,
        };
        {
            let mut known = self.lock();
            known[place as usize] = Node { uid: Some(made.uid.into()), ..Node::default() };
        }
        self.beat_one(place, REPORT).await
    }

    /// Heartbeats in small batches, spread over the period.
    async fn beat(&self, period: Duration) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        let mut done = Duration::ZERO;
        loop {
            tick.tick().await;
            let until = begun.elapsed();
            let turn = due(self.fleet.count, period, done, until);
            done = until;
            futures::stream::iter(turn)
                .for_each_concurrent(AT_ONCE, |place| async move {
                    if let Err(error) = self.beat_one(place, period).await {
                        tracing::debug!(%error, place, "no heartbeat of a simulated node");
                    }
                })
                .await;
        }
    }

    async fn beat_one(&self, place: u32, period: Duration) -> Result<(), Error> {
        let node = self.lock()[place as usize].clone();
        let Some(uid) = node.uid.filter(|_| !node.silent) else { return Ok(()) };
        if node.reported.is_none_or(|reported| reported.elapsed() >= REPORT) {
            self.report(place).await?;
        }
        self.renew(place, &uid, node.leased, period).await
    }

    async fn report(&self, place: u32) -> Result<(), Error> {
        let now = rfc3339(self.clock.now());
        let name = self.fleet.node_name(place);
        // A first report says since when; the later ones only that it still holds.
        let first = self.lock()[place as usize].reported.is_none();
        let before = if first { Value::Null } else { self.fleet.status(place, &Value::Null, &now) };
        let status = self.fleet.status(place, &before, &now);
        let patch = Patch::Strategic(json!({ "status": status }));
        self.client.patch(&resource::NODES, ("", &name), "status", &patch).await?;
        self.lock()[place as usize].reported = Some(Instant::now());
        Ok(())
    }

    async fn renew(&self, place: u32, uid: &str, leased: bool, period: Duration) -> Result<(), Error> {
        let now = rfc3339_micro(self.clock.now());
        let name = self.fleet.node_name(place);
        if leased {
            let patch = Patch::Merge(json!({"spec": {"renewTime": now, "holderIdentity": name}}));
            match self.client.patch(&resource::LEASES, (LEASES, &name), "", &patch).await {
                Err(error) if error.is_not_found() => {}
                answer => return answer.map(drop),
            }
        }
        let seconds = (period * LEASE_PERIODS).as_secs().max(1);
        let lease = self.fleet.lease(place, uid, seconds, &now);
        match self.client.create(&resource::LEASES, LEASES, &lease).await {
            Err(error) if !error.is_already_exists() => return Err(error),
            _ => self.lock()[place as usize].leased = true,
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Node>> {
        self.known.lock().expect("nobody panics with the simulated nodes locked")
    }
}
