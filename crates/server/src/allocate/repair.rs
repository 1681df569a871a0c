//! Brings what is held and what Services say back together after a crash: gives back
//! what nobody holds any more, takes again what is held in name only.
//!
//! Runs at start, and a minute after services or addresses have changed (no sooner: a
//! Service being created holds its address before it is stored). Idle, it waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use carrack_api::{Key, Record};
use carrack_store::Store;
use jiff::{SignedDuration, Timestamp};

use super::held::{self, ADDRESSES, Holder, PORTS};
use super::strategy::held_by;
use crate::auth::node::references::text;
use crate::registry::Registry;

/// How long something may be held by a Service that is not stored yet.
const GRACE: SignedDuration = SignedDuration::from_mins(1);

/// What a repair did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Addresses and ports given back.
    pub released: usize,
    /// Addresses and ports taken again for the Services that name them.
    pub reclaimed: usize,
}

/// One pass over everything. `young` says how long something may be held by a Service
/// that is not stored; zero at start, when no write can be under way.
pub async fn repair(registry: &Registry, young: SignedDuration) -> Repaired {
    let (store, now) = (registry.store(), registry.now());
    let services = store.snapshot("services");
    let mut wanted: BTreeMap<Key, Holder> = BTreeMap::new();
    for service in services.iter() {
        let holder = Holder { namespace: service.key.namespace().into(), name: service.key.name().into() };
        wanted.extend(held_by(&service.decode()).into_iter().map(|key| (key, holder.clone())));
    }
    let mut repaired = Repaired::default();
    let mut found = BTreeSet::new();
    for resource in [ADDRESSES, PORTS] {
        for record in store.snapshot(resource).iter().filter(|record| held::is_ours(record)) {
            let object = record.decode();
            if wanted.get(&record.key) == Some(&held::holder_of(&object)) {
                found.insert(record.key.clone());
                continue;
            }
            let since =
                text(&object, "/metadata/creationTimestamp").and_then(|t| t.parse::<Timestamp>().ok());
            if since.is_some_and(|since| now.duration_since(since) < young) {
                continue;
            }
            repaired.released += usize::from(release_orphan(store, record).await);
        }
    }
    for (key, holder) in wanted.iter().filter(|(key, _)| !found.contains(*key)) {
        repaired.reclaimed += usize::from(reclaim(registry, key, holder, now).await);
    }
    if repaired != Repaired::default() {
        tracing::info!(?repaired, "cluster IPs and node ports repaired");
    }
    repaired
}

/// Looks once more: the Service may have been stored since the snapshot.
async fn release_orphan(store: &Arc<dyn Store>, record: &Record) -> bool {
    let holder = held::holder_of(&record.decode());
    let service = store.get(&Key::new("services", &holder.namespace, &holder.name));
    let held = service.is_some_and(|service| held_by(&service.decode()).contains(&record.key));
    !held && held::forget(store, record).await.is_ok()
}

async fn reclaim(registry: &Registry, key: &Key, holder: &Holder, now: Timestamp) -> bool {
    let claim = match key.resource() {
        PORTS => match key.name().parse() {
            Ok(port) => held::claim_port(registry.store(), port, holder, now).await,
            Err(_) => return false,
        },
        _ => match key.name().parse() {
            Ok(address) => held::claim_address(registry, address, holder).await,
            Err(_) => return false,
        },
    };
    match claim {
        Ok(held::Claim::Taken) => true,
        Ok(held::Claim::Held) => {
            let Holder { namespace, name } = holder;
            tracing::warn!(%key, %namespace, %name, "held by another Service too; make one of them anew");
            false
        }
        Err(error) => {
            tracing::warn!(%key, %error, "not taken again");
            false
        }
    }
}

/// Repairs for as long as the server runs.
pub async fn run(registry: Arc<Registry>) {
    repair(&registry, SignedDuration::ZERO).await;
    loop {
        changed(registry.store()).await;
        tokio::time::sleep(Duration::from_secs(GRACE.as_secs().unsigned_abs() + 1)).await;
        repair(&registry, GRACE).await;
    }
}

/// Resolves when a Service, an address or a port changes after the call.
async fn changed(store: &Arc<dyn Store>) {
    let revision = store.revision();
    let one = |resource: &'static str| {
        let watch = store.watch(resource, revision);
        Box::pin(async move {
            if let Ok(mut watch) = watch {
                _ = watch.next().await;
            }
        })
    };
    let (services, addresses, ports) = (one("services"), one(ADDRESSES), one(PORTS));
    tokio::select! {
        () = services => {}
        () = addresses => {}
        () = ports => {}
    }
}
