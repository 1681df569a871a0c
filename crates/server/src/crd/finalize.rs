//! Deleting a definition: its objects first, through the pipeline that every deletion
//! takes, then its finalizer.

use std::time::Duration;

use carrack_api::Value;
use carrack_api::crd::{CLEANUP, condition, names};
use carrack_api::status::Status;
use serde_json::json;

use super::{RETRY, call, server};
use crate::clock::rfc3339;
use crate::registry::{DeleteOptions, ListOptions, Registry};

/// How long objects' own finalizers may take before the condition says so.
const PATIENCE: Duration = Duration::from_secs(60);

/// Until the definition is let go, or is no longer this one.
pub(super) async fn run(registry: &Registry, name: &str, uid: &str) {
    loop {
        match step(registry, name, uid).await {
            Ok(()) => return,
            Err(status) if status.code == 404 => return,
            Err(status) => {
                tracing::warn!(%status, name, "cannot remove the objects of a CustomResourceDefinition")
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn step(registry: &Registry, name: &str, uid: &str) -> Result<(), Status> {
    let progress = ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress");
    let definition = say(registry, name, uid, progress).await?;
    let established = condition(&definition, "Established").is_some_and(|found| found["status"] == "True");
    let outcome = if established {
        if let Err(status) = delete_all(registry, name).await {
            let message = format!("could not issue all deletes: {status}");
            say(registry, name, uid, ("True", "InstanceDeletionFailed", &message)).await?;
            return Err(status);
        }
        if tokio::time::timeout(PATIENCE, gone(registry, name)).await.is_err() {
            let message = "could not confirm zero CustomResources remaining: context deadline exceeded";
            say(registry, name, uid, ("True", "InstanceDeletionCheck", message)).await?;
            return Err(Status::timeout(message));
        }
        ("False", "InstanceDeletionCompleted", "removed all instances")
    } else {
        ("False", "NeverEstablished", "resource was never established")
    };
    release(registry, name, uid, outcome).await
}

/// Sets the Terminating condition; returns the definition.
async fn say(
    registry: &Registry,
    name: &str,
    uid: &str,
    (status, reason, message): (&str, &str, &str),
) -> Result<Value, Status> {
    let call = call(registry, name)?.on("status");
    let now = rfc3339(call.now);
    let written = registry.modify(&call, |definition| {
        same(definition, uid, &call)?;
        let terminating = names::terminating(status, reason, message);
        names::set_condition(&mut definition["status"], terminating, &now);
        Ok(())
    });
    Ok(written.await?.record.decode())
}

async fn release(
    registry: &Registry,
    name: &str,
    uid: &str,
    (status, reason, message): (&str, &str, &str),
) -> Result<(), Status> {
    let call = call(registry, name)?.on("status");
    let now = rfc3339(call.now);
    let written = registry.modify(&call, |definition| {
        same(definition, uid, &call)?;
        let terminating = names::terminating(status, reason, message);
        names::set_condition(&mut definition["status"], terminating, &now);
        let finalizers = definition["metadata"]["finalizers"].as_array().into_iter().flatten();
        let rest: Vec<Value> = finalizers.filter(|finalizer| *finalizer != CLEANUP).cloned().collect();
        match definition["metadata"].as_object_mut() {
            Some(meta) if rest.is_empty() => drop(meta.remove("finalizers")),
            Some(meta) => drop(meta.insert("finalizers".into(), json!(rest))),
            None => {}
        }
        Ok(())
    });
    written.await.map(drop)
}

/// A definition of the same name that came later is not this one.
fn same(definition: &Value, uid: &str, call: &crate::Call) -> Result<(), Status> {
    if definition["metadata"]["uid"] == uid { Ok(()) } else { Err(call.not_found()) }
}

async fn delete_all(registry: &Registry, resource: &str) -> Result<(), Status> {
    let call = match registry.call(server(), resource, "", "") {
        Ok(call) => call,
        // Nothing serves it, so nothing of it was ever stored.
        Err(status) if status.code == 404 => return Ok(()),
        Err(status) => return Err(status),
    };
    registry.delete_collection(&call, &ListOptions::default(), &DeleteOptions::default()).await.map(drop)
}

/// Resolves when no object of a resource is left.
async fn gone(registry: &Registry, resource: &str) {
    let prefix = format!("{resource}/");
    loop {
        let snapshot = registry.store().snapshot(resource);
        if snapshot.range(&prefix, None).next().is_none() {
            return;
        }
        let Ok(mut watch) = registry.store().watch(resource, snapshot.revision) else { continue };
        // Falling behind only means to look again.
        let _ = watch.next().await;
    }
}
