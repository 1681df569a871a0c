//! Pods come and go at a steady rate, and meanwhile an administrator asks: each request is
//! a task of its own, so that a slow answer delays no later one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use carrack_client::resource::{CONFIG_MAPS, NAMESPACES, PODS};
use carrack_client::{Client, DeleteOptions, Error, HttpSource, Patch, Scope, Source, Update};
use futures::StreamExt;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Size, workload};

/// Where this program's own objects are.
const NAMESPACE: &str = "scale-probes";
/// Single-object requests of each kind a second.
const PROBES: u32 = 10;
/// Of several ticks, one also asks for lists and starts a pod.
const SELDOM: u64 = 10;
/// Neighbours in the order of deletions come from everywhere.
const STRIDE: usize = 7919;
/// How long a pod may take to be Running.
const START: Duration = Duration::from_secs(60);

/// Times by kind of request, in milliseconds, and failures.
#[derive(Debug, Clone, Default)]
pub struct Latencies(pub BTreeMap<&'static str, (Vec<f64>, Vec<String>)>);

type Shared = Arc<Mutex<Latencies>>;

impl Latencies {
    fn note(&mut self, what: &'static str, took: Duration, result: Result<(), String>) {
        let (times, failures) = self.0.entry(what).or_default();
        times.push(took.as_secs_f64() * 1000.0);
        failures.extend(result.err());
    }
}

fn take(shared: &Shared) -> Latencies {
    std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Notes how long a request takes and what becomes of it.
async fn timed<T>(notes: Shared, what: &'static str, request: impl Future<Output = Result<T, Error>>) {
    let begun = Instant::now();
    let result = request.await.map(drop).map_err(|error| error.to_string());
    notes.lock().unwrap_or_else(PoisonError::into_inner).note(what, begun.elapsed(), result);
}

/// Runs the load; `pods` are there before it. Answers with the requests' times and those
/// of pods' starts.
pub async fn run(client: &Client, pods: &[(String, String)], size: &Size) -> Result<(Latencies, Latencies)> {
    client.create(&NAMESPACES, "", &json!({"metadata": {"name": NAMESPACE}})).await?;
    let (notes, starts) = (Shared::default(), Shared::default());
    let end = Instant::now() + size.churn;
    // Half of the pods may go; the others are asked for.
    let (gone, kept): (Vec<_>, Vec<_>) = (0..pods.len())
        .map(|at| &pods[at * STRIDE % pods.len()])
        .enumerate()
        .partition(|(at, _)| at % 2 == 0);
    let gone = gone.into_iter().map(|(_, pod)| pod.clone());
    let kept: Vec<_> = kept.into_iter().map(|(_, pod)| pod).collect();
    let (churned, probed) = tokio::join!(
        deletions(client, gone, size.rate, end, &notes),
        probes(client, &kept, end, &notes, &starts),
    );
    churned?;
    probed?;
    Ok((take(&notes), take(&starts)))
}

async fn deletions(
    client: &Client,
    pods: impl Iterator<Item = (String, String)>,
    rate: u32,
    end: Instant,
    notes: &Shared,
) -> Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut under_way = JoinSet::new();
    for (namespace, name) in pods {
        tick.tick().await;
        if Instant::now() >= end {
            break;
        }
        let client = client.clone();
        under_way.spawn(timed(notes.clone(), "delete pod", async move {
            client.delete(&PODS, (&namespace, &name), &DeleteOptions::default()).await
        }));
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
    Ok(())
}

async fn probes(
    client: &Client,
    pods: &[&(String, String)],
    end: Instant,
    notes: &Shared,
    starts: &Shared,
) -> Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PROBES);
    let mut under_way = JoinSet::new();
    for number in 0u64.. {
        tick.tick().await;
        if Instant::now() >= end {
            break;
        }
        let (namespace, name) = pods[number as usize % pods.len()].clone();
        let (asked, to) = (notes.clone(), client.clone());
        under_way.spawn(async move {
            timed(asked, "get pod", to.get(&PODS, &namespace, &name)).await;
        });
        under_way.spawn(config_map(client.clone(), notes.clone(), number));
        if number % SELDOM == 0 {
            let (asked, to, (namespace, name)) = (notes.clone(), client.clone(), pods[0].clone());
            under_way.spawn(async move {
                timed(asked.clone(), "page of 500 pods", to.get_path("/api/v1/pods?limit=500")).await;
                // All pods of one Deployment, by the name that their own begin with.
                let app = name.rsplitn(3, '-').last().unwrap_or_default().to_owned();
                let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}");
                timed(asked, "pods of a label", to.get_path(&path)).await;
            });
            under_way.spawn(start(client.clone(), starts.clone(), number));
        }
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
    Ok(())
}

/// A ConfigMap's whole life.
async fn config_map(client: Client, notes: Shared, number: u64) {
    let name = format!("map-{number}");
    let object = json!({"metadata": {"name": name}, "data": {"a": "1"}});
    timed(notes.clone(), "create", client.create(&CONFIG_MAPS, NAMESPACE, &object)).await;
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    timed(notes.clone(), "patch", client.patch(&CONFIG_MAPS, (NAMESPACE, &name), "", &patch)).await;
    let options = DeleteOptions::default();
    timed(notes, "delete", client.delete(&CONFIG_MAPS, (NAMESPACE, &name), &options)).await;
}

/// A pod's start, from its creation to Running as a watch shows it; then it goes.
async fn start(client: Client, starts: Shared, number: u64) {
    let name = format!("start-{number}");
    let source = HttpSource::new(client.clone());
    let fields = Some(format!("metadata.name={name}"));
    let scope = Scope { namespace: Some(NAMESPACE.into()), labels: None, fields };
    let mut updates = source.subscribe(&PODS, scope);
    updates.next().await;
    let begun = Instant::now();
    let running = async {
        client.create(&PODS, NAMESPACE, &workload::pod(&name)).await?;
        loop {
            let update = updates.next().await.context("the watch ended")?;
            let records = match update {
                Update::Changed { record, .. } => vec![record],
                Update::Reset { records, .. } => records,
                Update::Deleted { .. } | Update::Progress(_) => continue,
            };
            if records.iter().any(|record| record.field("status.phase") == Some("Running")) {
                return anyhow::Ok(());
            }
        }
    };
    let result = match tokio::time::timeout(START, running).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("not Running in time".into()),
    };
    starts.lock().unwrap_or_else(PoisonError::into_inner).note("pod start", begun.elapsed(), result);
    // It may be gone with the namespace; nothing depends on it.
    let _ = client.delete(&PODS, (NAMESPACE, &name), &DeleteOptions::default()).await;
}
