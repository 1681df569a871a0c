//! What a cluster has from its first moment: namespaces, priority classes, its range
//! of cluster IPs, the `kubernetes` Service that leads to its API, default roles.
//!
//! Everything is made through the registry like anybody's object, compared before it
//! is written, and may be made by several servers at once. On a data directory that
//! has it all, nothing is written.

pub mod api_services;
pub mod availability;
pub mod identity;
mod objects;
mod progress;
mod reconcile;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Key, Value};
use futures::future::join_all;

pub use objects::KUBELET_CLIENT;
pub use progress::{Progress, Stage};

use crate::allocate::Ranges;
use crate::auth::rbac::{Rbac, Rule, policy};
use crate::registry::{Call, Registry};
use crate::request::User;
use reconcile::Step;

const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
/// Whom managedFields name for the rules that a role gathers.
const GATHERER: &str = "clusterrole-aggregation-controller";
/// Writes of one object tried against others who write it.
const ATTEMPTS: usize = 5;

/// What the objects are made of.
#[derive(Debug, Clone)]
pub struct BootstrapConfig {
    /// Where cluster IPs come from.
    pub ranges: Ranges,
    /// Addresses at which pods reach this API server; never the loopback. None leaves
    /// the `kubernetes` Service without endpoints.
    pub advertise: Vec<IpAddr>,
    /// The port there.
    pub port: u16,
    /// The CA of client certificates in PEM, for servers behind this one.
    pub client_ca: String,
}

/// Makes what everything else needs: done before the server is ready.
///
/// # Errors
/// The first object that could not be made.
pub async fn bootstrap(
    registry: &Registry,
    config: &BootstrapConfig,
    progress: &Progress,
) -> Result<(), Status> {
    ensure_all(registry, objects::cluster(config, registry.now())).await?;
    progress.done(&[Stage::Namespaces, Stage::PriorityClasses, Stage::Addresses]);
    ensure_all(registry, objects::in_namespaces(config, registry.now())).await?;
    progress.done(&[Stage::Service, Stage::Authentication, Stage::TokenTracking]);
    Ok(())
}

/// Makes the default roles and bindings, or adds to them what they lack, what flow control
/// goes by, and the APIServices of what is built in.
///
/// # Errors
/// The first object that could not be made.
pub async fn bootstrap_roles(registry: &Registry, progress: &Progress) -> Result<(), Status> {
    let mut objects = policy::objects();
    objects.push(objects::kubelet_client());
    objects.extend(crate::flow::builtin::objects());
    objects.extend(api_services::builtin(&registry.kinds()));
    ensure_all(registry, objects).await?;
    progress.done(&[Stage::Roles, Stage::FlowControl, Stage::ApiServices]);
    Ok(())
}

/// Puts back what leads to the API whenever someone deletes or changes it, for as long
/// as the server runs.
pub async fn keep(registry: Arc<Registry>, config: BootstrapConfig, progress: Progress) {
    let kept = objects::in_namespaces(&config, registry.now());
    let keys: Vec<Key> = kept.iter().map(|(r, o)| key_of(r, o)).collect();
    loop {
        let revision = registry.store().revision();
        if let Err(error) = bootstrap(&registry, &config, &progress).await {
            tracing::warn!(%error, "cannot put back the cluster's own objects");
        }
        changed(&registry, &keys, revision).await;
    }
}

/// Writes into aggregated roles what they gather, for as long as the server runs. (A
/// controller upstream; it stands here because it shares the rights' index.)
pub async fn keep_gathered(registry: Arc<Registry>) {
    let rbac = Rbac::new(registry.store().clone());
    loop {
        let revision = registry.store().revision();
        if let Err(error) = write_gathered(&registry, &rbac).await {
            tracing::warn!(%error, "cannot write what an aggregated role gathers");
        }
        match registry.store().watch(CLUSTER_ROLES, revision) {
            Ok(mut watch) => _ = watch.next().await,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Rights go by what an aggregated role gathers at the moment of asking; what is
/// written here is for people to read.
async fn write_gathered(registry: &Registry, rbac: &Rbac) -> Result<(), Status> {
    for (name, rules) in rbac.gathered() {
        let Some(record) = registry.store().get(&Key::new(CLUSTER_ROLES, "", &name)) else { continue };
        let rules: Value = rules.iter().map(Rule::to_value).collect();
        let (current, deleting) = (record.decode(), record.header().deleting);
        let same =
            current["rules"] == rules || (current["rules"].is_null() && rules == serde_json::json!([]));
        if same || deleting {
            continue;
        }
        let mut call = registry.call(User::loopback(), CLUSTER_ROLES, "", &name)?;
        call.options.field_manager = GATHERER.into();
        call.options.force = true;
        let config = serde_json::json!({"apiVersion": call.api_version(), "kind": &*call.kind.kind,
            "metadata": {"name": &*name}, "rules": rules});
        match registry.apply(&call, config.to_string().as_bytes()).await {
            Err(status) if !matches!(status.reason, "NotFound" | "Conflict") => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

/// Resolves when one of the keys changes after a revision. Our own writes count, and
/// are found to be as they should.
async fn changed(registry: &Registry, keys: &[Key], revision: u64) {
    let mut resources: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
    for key in keys {
        resources.entry(key.resource()).or_default().push(key);
    }
    let watches = resources.into_iter().map(|(resource, keys)| {
        let watch = registry.store().watch(resource, revision);
        Box::pin(async move {
            let Ok(mut watch) = watch else { return };
            while let Ok(events) = watch.next().await {
                if events.iter().any(|event| keys.contains(&&event.record.key)) {
                    return;
                }
            }
        })
    });
    futures::future::select_all(watches).await;
}

/// Makes all objects at once, so that their writes share a sync.
async fn ensure_all(registry: &Registry, objects: Vec<(&'static str, Value)>) -> Result<(), Status> {
    let each = objects.into_iter().map(|(resource, object)| ensure(registry, resource, object));
    join_all(each).await.into_iter().collect()
}

fn key_of(resource: &str, object: &Value) -> Key {
    let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    Key::new(resource, part("namespace"), part("name"))
}

/// Brings one object to what it should be, again if someone else writes it.
async fn ensure(registry: &Registry, resource: &'static str, wanted: Value) -> Result<(), Status> {
    let key = key_of(resource, &wanted);
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match try_ensure(registry, &key, &wanted).await {
            Ok(()) => return Ok(()),
            Err(status) if matches!(status.reason, "AlreadyExists" | "Conflict" | "NotFound") => {
                last = Some(status);
            }
            Err(status) => return Err(status),
        }
    }
    Err(last.unwrap_or_else(|| Status::internal(format!("{key} cannot be made"))))
}

async fn try_ensure(registry: &Registry, key: &Key, wanted: &Value) -> Result<(), Status> {
    let current = registry.store().get(key).map(|record| record.decode());
    let mut call = registry.call(User::loopback(), key.resource(), key.namespace(), key.name())?;
    if key.resource().ends_with(".flowcontrol.apiserver.k8s.io") {
        call.options.field_manager = crate::flow::builtin::MANAGER.into();
    }
    match reconcile::step(current.as_ref(), wanted) {
        Step::Nothing => {}
        Step::Create => {
            registry.create(&call, wanted.clone()).await?;
            if let Some(status) = wanted.get("status") {
                apply_status(registry, &call, status).await?;
            }
        }
        Step::Update(object) => _ = registry.update(&call, object).await?,
        Step::Status(status) => apply_status(registry, &call, &status).await?,
        Step::Replace => {
            registry.delete(&call, &Default::default()).await?;
            registry.create(&call, wanted.clone()).await?;
        }
    }
    Ok(())
}

/// Says of a range of addresses what its controller says upstream, under the same name.
async fn apply_status(registry: &Registry, call: &Call, status: &Value) -> Result<(), Status> {
    let mut call = call.clone().on("status");
    call.options.field_manager = "kubernetes-service-cidr-controller".into();
    call.options.force = true;
    let config = serde_json::json!({"apiVersion": call.api_version(), "kind": &*call.kind.kind,
        "metadata": {"name": &*call.name}, "status": status});
    registry.apply(&call, config.to_string().as_bytes()).await.map(drop)
}

#[cfg(test)]
mod tests;
