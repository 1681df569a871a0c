//! What Services hold: IPAddress objects and node-port keys, taken and given back by
//! compare-and-set. What a Service of the same name holds already (left by a crash, or
//! taken by another who is making it this moment) counts as taken; in return nothing is
//! given back that the stored Service lists.

use std::net::IpAddr;
use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Content, Key, Record, Value};
use carrack_store::{CommitError, Expect, Store, Write};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;

use super::strategy::held_by;
use crate::auth::node::references::text;
use crate::clock::rfc3339;
use crate::registry::{Registry, not_stored};
use crate::request::User;

pub(super) const ADDRESSES: &str = "ipaddresses.networking.k8s.io";
/// Not the resource of any kind, so never seen through the API.
pub(super) const PORTS: &str = "_nodeports";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGER: &str = "ipallocator.k8s.io";

/// The Service that holds something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
}

/// How an attempt to take something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Taken,
    /// Someone holds it.
    Held,
}

pub(super) fn address_key(address: IpAddr) -> Key {
    Key::new(ADDRESSES, "", &address.to_string())
}

pub(super) fn port_key(port: u16) -> Key {
    Key::new(PORTS, "", &port.to_string())
}

/// Takes an address by creating its object, through the registry like anybody's.
pub(super) async fn claim_address(
    registry: &Registry,
    address: IpAddr,
    holder: &Holder,
) -> Result<Claim, Status> {
    let name = address.to_string();
    let object = json!({
        "metadata": {
            "name": name,
            "labels": {MANAGED_BY: MANAGER, FAMILY: if address.is_ipv4() { "IPv4" } else { "IPv6" }},
        },
        "spec": {"parentRef": {"resource": "services", "namespace": holder.namespace, "name": holder.name}},
    });
    let call = registry.call(User::loopback(), ADDRESSES, "", "")?;
    match registry.create(&call, object).await {
        Ok(_) => Ok(Claim::Taken),
        Err(status) if status.reason == "AlreadyExists" => {
            Ok(claim_on(registry.store().get(&address_key(address)), holder))
        }
        Err(status) => Err(status),
    }
}

/// What it means that something is there already.
fn claim_on(record: Option<Arc<Record>>, holder: &Holder) -> Claim {
    let own = record.is_some_and(|record| holder_of(&record.decode()) == *holder);
    if own { Claim::Taken } else { Claim::Held }
}

/// Takes a node port.
pub(super) async fn claim_port(
    store: &Arc<dyn Store>,
    port: u16,
    holder: &Holder,
    now: Timestamp,
) -> Result<Claim, Status> {
    let object = json!({
        "metadata": {"name": port.to_string(), "creationTimestamp": rfc3339(now)},
        "spec": {"parentRef": {"namespace": holder.namespace, "name": holder.name}},
    });
    let content = Content::encode(&object, &[""; 0]);
    let write = Write { key: port_key(port), expect: Expect::Absent, content, unsynced: false };
    match store.commit(write).await {
        Ok(_) => Ok(Claim::Taken),
        Err(CommitError::Conflict(record)) => Ok(claim_on(record, holder)),
        Err(error) => Err(not_stored(&error)),
    }
}

/// Gives back what `holder` holds of `keys`, but for what its Service, if it is stored,
/// lists. What cannot be given back now is left to the repair.
pub(super) async fn release(store: &Arc<dyn Store>, keys: &[Key], holder: &Holder) {
    if keys.is_empty() {
        return;
    }
    let service = store.get(&Key::new("services", &holder.namespace, &holder.name));
    let listed = service.map(|service| held_by(&service.decode())).unwrap_or_default();
    let one = |key: &Key| {
        let key = key.clone();
        async move {
            let Some(record) = store.get(&key) else { return };
            if holder_of(&record.decode()) != *holder {
                return;
            }
            if let Err(error) = forget(store, &record).await {
                tracing::warn!(%key, %error, "not given back; the repair will");
            }
        }
    };
    join_all(keys.iter().filter(|key| !listed.contains(*key)).map(one)).await;
}

/// Deletes a record as it stands.
pub(super) async fn forget(store: &Arc<dyn Store>, record: &Record) -> Result<(), CommitError> {
    let expect = Expect::At(record.revision);
    store.commit(Write { key: record.key.clone(), expect, content: None, unsynced: false }).await.map(drop)
}

/// Who holds an address or a port.
pub(super) fn holder_of(object: &Value) -> Holder {
    let part = |field: &str| text(object, &format!("/spec/parentRef/{field}")).unwrap_or_default().into();
    Holder { namespace: part("namespace"), name: part("name") }
}

/// Whether an address was allocated here, and not made by a user.
pub(super) fn is_ours(record: &Record) -> bool {
    record.key.resource() == PORTS || record.header().label(MANAGED_BY) == Some(MANAGER)
}
