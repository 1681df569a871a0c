//! Counting again: brings each quota's `status` to what is stored, whenever something
//! that it counts has gone, ended or shrunk, and whenever the quota itself changes.
//!
//! A namespace is counted at most once a moment, and the longer a count takes the longer
//! the next one waits, so that counting stays a small part of the work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use carrack_api::quota::{Amounts, evaluator, overdue_at, resources, scopes, total};
use carrack_api::status::Status;
use carrack_api::{Record, Value};
use carrack_store::{Change, Event, Watch};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;

use super::{Ledger, QUOTAS, held};
use crate::registry::Registry;
use crate::request::User;

/// Least time between two counts of a namespace.
const PAUSE: Duration = Duration::from_millis(50);
/// A count's share of the time is one in so many.
const SHARE: u32 = 20;
/// Rounds of one count against users who write the quota.
const ATTEMPTS: usize = 5;

/// Counts for as long as the server runs.
pub async fn keep(registry: Arc<Registry>, ledger: Arc<Ledger>) {
    // Pods that stop counting by time alone.
    let mut due: BTreeMap<Box<str>, Timestamp> = BTreeMap::new();
    loop {
        let (counted, revision) = (counted(&ledger), ledger.store.revision());
        all_namespaces(&ledger).iter().for_each(|namespace| ledger.mark(namespace));
        let watches = counted.iter().map(|resource| ledger.store.watch(resource, revision));
        let Ok(mut watches) = watches.collect::<Result<Vec<_>, _>>() else { continue };
        let mut events: FuturesUnordered<_> = watches.drain(..).map(next).collect();
        loop {
            let timer = due.values().min().map(|at| until(&registry, *at));
            tokio::select! {
                Some((watch, batch)) = events.next() => {
                    let Ok(batch) = batch else { break };
                    batch.iter().filter(|event| matters(event)).for_each(|event| {
                        ledger.mark(event.record.key.namespace());
                    });
                    events.push(next(watch));
                    if batch.iter().any(|event| event.record.key.resource() == QUOTAS)
                        && self::counted(&ledger) != counted
                    {
                        break;
                    }
                }
                () = ledger.wake.notified() => {
                    tokio::time::sleep(PAUSE).await;
                    let started = Instant::now();
                    count_dirty(&registry, &ledger, &mut due).await;
                    tokio::time::sleep(started.elapsed() * SHARE).await;
                }
                () = tokio::time::sleep(timer.unwrap_or(Duration::MAX)), if timer.is_some() => {
                    let now = registry.now();
                    due.iter().filter(|(_, at)| **at < now).for_each(|(namespace, _)| ledger.mark(namespace));
                    due.retain(|_, at| *at >= now);
                }
            }
        }
    }
}

async fn next(mut watch: Watch) -> (Watch, Result<Vec<Arc<Event>>, carrack_store::Expired>) {
    let batch = watch.next().await;
    (watch, batch)
}

fn until(registry: &Registry, at: Timestamp) -> Duration {
    let left = at.duration_since(registry.now());
    Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1)
}

/// The resources that quotas count, and quotas.
fn counted(ledger: &Ledger) -> BTreeSet<Box<str>> {
    let mut all = BTreeSet::from([QUOTAS.into()]);
    for quota in ledger.store.snapshot(QUOTAS).iter() {
        all.extend(resources(Amounts::read(&quota.decode()["spec"]["hard"]).names()));
    }
    all
}

fn all_namespaces(ledger: &Ledger) -> BTreeSet<Box<str>> {
    ledger.store.snapshot(QUOTAS).iter().map(|quota| quota.key.namespace().into()).collect()
}

/// Whether there may be less in use than is written, or the quota is another.
fn matters(event: &Event) -> bool {
    let record = &event.record;
    match record.key.resource() {
        QUOTAS if event.change == Change::Deleted => false,
        QUOTAS => !settled(&record.decode()),
        _ if event.change == Change::Deleted => true,
        "pods" => record.header().deleting || ended(record),
        _ => false,
    }
}

fn ended(pod: &Record) -> bool {
    pod.header().fields.iter().any(|field| matches!(&**field, "Succeeded" | "Failed"))
}

/// Whether a quota's status speaks of its spec.
fn settled(quota: &Value) -> bool {
    let list = |part: &str, field: &str| Amounts::read(&quota[part][field]);
    let hard = list("spec", "hard");
    let known = |name: &&str| !resources(std::iter::once(*name)).is_empty();
    let used = list("status", "used");
    hard == list("status", "hard") && hard.names().filter(known).all(|name| used.get(name).is_some())
}

async fn count_dirty(registry: &Registry, ledger: &Arc<Ledger>, due: &mut BTreeMap<Box<str>, Timestamp>) {
    let dirty = std::mem::take(&mut *held(&ledger.dirty));
    for namespace in dirty {
        match count(registry, ledger, &namespace).await {
            Ok(Some(at)) => _ = due.insert(namespace, at),
            Ok(None) => _ = due.remove(&namespace),
            Err(error) => {
                tracing::warn!(%namespace, %error, "quotas not counted; again in a while");
                let later = registry.now().checked_add(jiff::SignedDuration::from_secs(5));
                due.insert(namespace, later.unwrap_or(Timestamp::MAX));
            }
        }
    }
}

/// Counts one namespace. Answers when it is to be counted again without a change.
pub(super) async fn count(
    registry: &Registry,
    ledger: &Arc<Ledger>,
    namespace: &str,
) -> Result<Option<Timestamp>, Status> {
    let _lock = ledger.lock(namespace).await;
    ledger.counts.fetch_add(1, Ordering::AcqRel);
    let mut again: Option<Timestamp> = None;
    for record in ledger.quotas(namespace) {
        if record.header().deleting {
            continue;
        }
        let mut current = Some(record);
        for _ in 0..ATTEMPTS {
            let Some(record) = current.take() else { break };
            let (quota, due) = counted_anew(registry, ledger, &record);
            again = [again, due].into_iter().flatten().min();
            if quota["status"] == record.decode()["status"] {
                break;
            }
            let call = registry.call(User::loopback(), QUOTAS, namespace, record.key.name())?.on("status");
            match registry.update(&call, quota).await {
                Ok(_) => break,
                Err(status) if status.reason == "Conflict" => current = ledger.store.get(&record.key),
                Err(status) if status.reason == "NotFound" => break,
                Err(status) => return Err(status),
            }
        }
    }
    Ok(again)
}

/// The quota with the status that it should have.
fn counted_anew(registry: &Registry, ledger: &Ledger, record: &Record) -> (Value, Option<Timestamp>) {
    let (mut quota, now, namespace) = (record.decode(), registry.now(), record.key.namespace());
    let hard = Amounts::read(&quota["spec"]["hard"]);
    let scopes = scopes(&quota);
    // Before the objects: a write that ends meanwhile is counted, not forgotten.
    let reserved = ledger.reserved(namespace, record.key.name());
    let (mut used, mut again) = (Amounts::default(), None);
    for resource in resources(hard.names()) {
        let Some(evaluator) = evaluator(&resource) else { continue };
        let snapshot = ledger.store.snapshot(&resource);
        let prefix = format!("{resource}/{namespace}/");
        let objects = snapshot.range(&prefix, None).map(|record| {
            let object = record.decode();
            if &*resource == "pods" && record.header().deleting && !ended(record) {
                again = [again, overdue_at(&object).filter(|at| *at >= now)].into_iter().flatten().min();
            }
            object
        });
        used.add(&total(&evaluator, hard.names(), &scopes, objects, now));
    }
    used.add(&reserved.only(hard.names()));
    let mut same = quota["status"].clone();
    let unchanged = Amounts::read(&same["hard"]) == hard && Amounts::read(&same["used"]) == used;
    if !unchanged {
        same["hard"] = quota["spec"]["hard"].clone();
        same["used"] = used.to_value();
        if same["hard"].is_null() {
            same["hard"] = serde_json::json!({});
        }
        quota["status"] = same;
    }
    (quota, again)
}
