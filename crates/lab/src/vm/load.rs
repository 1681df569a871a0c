//! What runs against a machine between two cuts, and what must hold after each: writes,
//! Services with addresses and ports, heartbeats, a watch.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::follow::Followed;
use crate::services::{Allocated, SERVICES};
use crate::writes::{self, Acknowledged, MAPS, send};

const WRITERS: usize = 4;
/// How long an emulated machine may take to answer, or a watch to come up.
const PATIENCE: Duration = Duration::from_secs(180);

/// What all loads of a machine were told.
#[derive(Default)]
pub struct Load {
    noted: Arc<Acknowledged>,
    allocated: Arc<Allocated>,
    followed: Arc<Followed>,
}

/// A load that runs; dropped, it is broken off.
pub struct Running(#[expect(dead_code, reason = "its tasks end with it")] JoinSet<()>);

/// Reads what must be there by now.
async fn list(client: &kube::Client, path: &str) -> Result<Value> {
    let asking = async {
        loop {
            if let Some((200, list)) = send(client, "GET", path, &Value::Null).await {
                return list;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.with_context(|| format!("{path} is not answered"))
}

impl Load {
    /// Starts a load; `round` counts those of this machine.
    ///
    /// # Errors
    /// The server takes nothing.
    pub async fn start(&self, client: &kube::Client, round: usize) -> Result<Running> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.followed.clone().follow(client.clone()));
        // It ends by being broken off, as everything does.
        let stop = Arc::new(AtomicBool::new(false));
        for number in round * WRITERS..(round + 1) * WRITERS {
            writes::prepare(number, client).await?;
            tasks.spawn(writes::writer(number, client.clone(), self.noted.clone(), stop.clone()));
        }
        tasks.spawn(self.allocated.clone().allocate(client.clone(), stop.clone()));
        tasks.spawn(writes::beat(client.clone(), self.noted.clone(), stop));
        Ok(Running(tasks))
    }

    /// Nothing is lost, nothing is held twice, and the watch goes on where it broke off, or
    /// is told that it cannot. Returns what to tell.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn verify(&self, client: &kube::Client) -> Result<String> {
        let maps = list(client, MAPS).await?;
        let written = self.noted.verify(&maps, 0)?;
        let services = self.allocated.verify(&list(client, SERVICES).await?)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(self.followed.clone().follow(client.clone()));
        let (events, lists) = self.followed.verify(&maps, PATIENCE).await?;
        Ok(format!("{written}; {services}; {events} events over {lists} lists"))
    }
}
