//! ResourceQuota: every write that uses more of a quota reserves it first, in the
//! quota's `status.used`, by compare-and-set, so that racing writes never exceed it.
//!
//! Reserving is the last thing before a write is committed. Each reservation is
//! remembered until its write has ended; [`keep`], which counts again what is stored,
//! adds what is remembered. So a count never forgets a write that is under way, and one
//! that failed is given back by the next count. What is reserved is not worth a sync of
//! its own: the write that it is for is synced after it, and a start counts anew.

mod recount;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use carrack_api::quota::{self, Amounts, Evaluator, Request, evaluator, terminating};
use carrack_api::status::Status;
use carrack_api::{Content, Key, Record, Value};
use carrack_store::{CommitError, Expect, Store, Write};
use futures::future::BoxFuture;
use tokio::sync::Notify;

pub use recount::keep;

use crate::admission::refuse;
use crate::seams::{Admission, AdmissionRequest, Finish, Operation};

/// Quotas.
pub(crate) const QUOTAS: &str = "resourcequotas";
/// Namespaces share this many locks.
const LOCKS: usize = 64;
/// Rounds of a reservation against others who write the quota's status.
const ATTEMPTS: usize = 10;

/// What is reserved and not yet written, by namespace.
pub struct Ledger {
    store: Arc<dyn Store>,
    /// Held while a namespace's quotas are read and written.
    locks: Vec<tokio::sync::Mutex<()>>,
    under_way: Mutex<BTreeMap<Box<str>, Charges>>,
    next: AtomicU64,
    /// Counts made so far: tells a reservation whether one has seen it.
    counts: AtomicU64,
    /// Namespaces to be counted again.
    dirty: Mutex<BTreeSet<Box<str>>>,
    wake: Notify,
}

/// What a write takes of one quota.
#[derive(Debug, Clone)]
struct Charge {
    quota: Box<str>,
    amounts: Amounts,
}

/// What writes under way take, by their numbers.
type Charges = BTreeMap<u64, Vec<Charge>>;

/// A write under way. Dropped when it has ended, or its request was given up.
struct UnderWay {
    ledger: Arc<Ledger>,
    namespace: Box<str>,
    id: u64,
    counts: u64,
    /// Whether the namespace is counted again in any case.
    recount: bool,
}

/// The plugin.
pub struct ResourceQuota {
    ledger: Arc<Ledger>,
}

// === impl Ledger ===

impl Ledger {
    /// An empty ledger over a store.
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            locks: (0..LOCKS).map(|_| tokio::sync::Mutex::default()).collect(),
            under_way: Mutex::default(),
            next: AtomicU64::new(0),
            counts: AtomicU64::new(0),
            dirty: Mutex::default(),
            wake: Notify::new(),
        })
    }

    fn quotas(&self, namespace: &str) -> Vec<Arc<Record>> {
        let snapshot = self.store.snapshot(QUOTAS);
        snapshot.range(&format!("{QUOTAS}/{namespace}/"), None).cloned().collect()
    }

    async fn lock(&self, namespace: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        self.locks[hasher.finish() as usize % LOCKS].lock().await
    }

    /// Has a namespace counted again.
    fn mark(&self, namespace: &str) {
        held(&self.dirty).insert(namespace.into());
        self.wake.notify_one();
    }

    /// Remembers a write. Until it says that it has ended well, its end means to count.
    fn begin(self: &Arc<Self>, namespace: &str, charges: Vec<Charge>) -> UnderWay {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        held(&self.under_way).entry(namespace.into()).or_default().insert(id, charges);
        let counts = self.counts.load(Ordering::Acquire);
        UnderWay { ledger: self.clone(), namespace: namespace.into(), id, counts, recount: true }
    }

    /// What writes under way take of a quota.
    fn reserved(&self, namespace: &str, quota: &str) -> Amounts {
        let mut sum = Amounts::default();
        let under_way = held(&self.under_way);
        let charges = under_way.get(namespace).into_iter().flat_map(BTreeMap::values).flatten();
        charges.filter(|charge| &*charge.quota == quota).for_each(|charge| sum.add(&charge.amounts));
        sum
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = held(&self.ledger.under_way);
        if let Some(writes) = under_way.get_mut(&self.namespace) {
            writes.remove(&self.id);
            if writes.is_empty() {
                under_way.remove(&self.namespace);
            }
        }
        drop(under_way);
        // A count in between may have counted the object and the reservation.
        if self.recount || self.ledger.counts.load(Ordering::Acquire) != self.counts {
            self.ledger.mark(&self.namespace);
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl ResourceQuota ===

impl ResourceQuota {
    /// Reserves in a ledger.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }

    async fn take(
        &self,
        request: &AdmissionRequest<'_>,
        object: &Value,
        evaluator: &Evaluator,
    ) -> Result<Finish, Status> {
        let call = request.call;
        let namespace = &*call.namespace;
        if self.ledger.quotas(namespace).is_empty() {
            return Ok(Finish::NOTHING);
        }
        let _lock = self.ledger.lock(namespace).await;
        let wanted = Request { evaluator, new: object, old: request.old, now: call.now };
        let update = request.old.is_some();
        let mut guard: Option<UnderWay> = None;
        let mut taken: BTreeSet<Box<str>> = BTreeSet::new();
        for _ in 0..ATTEMPTS {
            let charges = self.charges(request, object, &wanted, &taken)?;
            if call.options.dry_run {
                return Ok(Finish::NOTHING);
            }
            if guard.is_none() && (update || !charges.is_empty()) {
                let all = charges.iter().map(|(record, _, amounts)| Charge {
                    quota: record.key.name().into(),
                    amounts: amounts.clone(),
                });
                guard = Some(self.ledger.begin(namespace, all.collect()));
            }
            let mut moved = false;
            for (record, quota, amounts) in charges {
                match self.charge(request, &record, quota, &amounts).await? {
                    true => _ = taken.insert(record.key.name().into()),
                    false => moved = true,
                }
            }
            if !moved {
                return Ok(guard.map_or(Finish::NOTHING, |mut guard| {
                    Finish::with(move |committed| {
                        // What an update uses less of, a count finds.
                        guard.recount = update || !committed;
                        drop(guard);
                        Box::pin(std::future::ready(()))
                    })
                }));
            }
        }
        Err(Status::internal("the quotas of the namespace are written too often to reserve in them"))
    }

    /// What the write takes of each quota that has not been charged yet.
    fn charges(
        &self,
        request: &AdmissionRequest<'_>,
        object: &Value,
        wanted: &Request<'_>,
        taken: &BTreeSet<Box<str>>,
    ) -> Result<Vec<(Arc<Record>, Value, Amounts)>, Status> {
        let mut charges = Vec::new();
        for record in self.ledger.quotas(&request.call.namespace) {
            if taken.contains(record.key.name()) {
                continue;
            }
            let quota = record.decode();
            let amounts =
                quota::charge(&quota, wanted).map_err(|detail| refuse(request, Some(object), &detail))?;
            if !amounts.is_empty() {
                charges.push((record, quota, amounts));
            }
        }
        Ok(charges)
    }

    /// Adds to what is used of one quota; false when someone else has written it.
    async fn charge(
        &self,
        request: &AdmissionRequest<'_>,
        record: &Record,
        mut quota: Value,
        amounts: &Amounts,
    ) -> Result<bool, Status> {
        let mut used = Amounts::read(&quota["status"]["used"]);
        used.add(amounts);
        quota["status"]["used"] = used.to_value();
        let kinds = request.registry.kinds();
        let paths = kinds.stored(QUOTAS).map(|kind| kind.field_paths.clone()).unwrap_or_default();
        let content = Content::encode(&quota, &paths);
        let key: Key = record.key.clone();
        let write = Write { key, expect: Expect::At(record.revision), content, unsynced: true };
        match self.ledger.store.commit(write).await {
            Ok(_) => Ok(true),
            Err(CommitError::Conflict(_)) => Ok(false),
            Err(error) => Err(Status::internal(error)),
        }
    }
}

/// Whether a write may use more than the object did before.
fn counts(evaluator: &Evaluator, request: &AdmissionRequest<'_>, object: &Value) -> bool {
    let update = request.operation == Operation::Update;
    match (evaluator, &*request.call.subresource) {
        (_, "") if request.operation == Operation::Create => true,
        (Evaluator::Pods, "") => {
            update && request.old.is_some_and(|old| terminating(old) != terminating(object))
        }
        (Evaluator::Pods, "resize") => update,
        (Evaluator::Services | Evaluator::Claims | Evaluator::Devices, "") => update,
        _ => false,
    }
}

impl Admission for ResourceQuota {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && request.call.kind.namespaced
            && matches!(&*request.call.subresource, "" | "resize")
            && !self.ledger.store.snapshot(QUOTAS).is_empty()
    }

    fn reserve<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: &'a Value,
    ) -> BoxFuture<'a, Result<Finish, Status>> {
        Box::pin(async move {
            match evaluator(&request.call.kind.resource) {
                Some(evaluator) if counts(&evaluator, request, object) => {
                    self.take(request, object, &evaluator).await
                }
                _ => Ok(Finish::NOTHING),
            }
        })
    }
}
