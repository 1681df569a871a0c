//! The condition `Available` of every APIService: one without a Service is served here;
//! one with a Service needs the port and endpoints of that, and still is not available,
//! because requests are not passed on to other servers yet.
//!
//! (`kube-aggregator/pkg/controllers/status` has the reasons and messages.)

use std::sync::Arc;
use std::time::Duration;

use carrack_api::crd::names::set_condition;
use carrack_api::status::Status;
use carrack_api::{Key, Record, Value};
use futures::future::{BoxFuture, join_all};
use serde_json::json;

use super::api_services::RESOURCE;
use super::progress::{Progress, Stage};
use crate::clock::rfc3339;
use crate::conditions::unless_held;
use crate::registry::Registry;
use crate::request::User;

const SLICES: &str = "endpointslices.discovery.k8s.io";
/// The label that says whose a slice is.
const SERVICE: &str = "kubernetes.io/service-name";
/// How long to wait after something failed.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the conditions in step, for as long as the server runs. As long as no APIService
/// has a Service, nothing but APIServices is looked at.
pub async fn keep(registry: Arc<Registry>, progress: Progress) {
    loop {
        let revision = registry.store().revision();
        let (settled, services) = settle(&registry).await;
        if settled {
            progress.done(&[Stage::Available]);
        }
        tokio::select! {
            () = changed(&registry, &services, revision) => {}
            () = tokio::time::sleep(RETRY), if !settled => {}
        }
    }
}

/// Writes the conditions that are not as they should be. Returns whether that is done, and
/// the Services that it depends on.
async fn settle(registry: &Registry) -> (bool, Vec<Key>) {
    let snapshot = registry.store().snapshot(RESOURCE);
    let records: Vec<Arc<Record>> = snapshot.range(&format!("{RESOURCE}/"), None).cloned().collect();
    let (mut writes, mut services) = (Vec::new(), Vec::new());
    for record in records.iter().filter(|record| !record.header().deleting) {
        let object = record.decode();
        let service = service_of(&object);
        if needed(registry, &object, service.as_ref()).is_some() {
            writes.push(written(registry, record.key.name()));
        }
        services.extend(service);
    }
    // All at once, so that they share a sync.
    let settled = join_all(writes).await.into_iter().all(|written| written);
    (settled, services)
}

/// Writes a condition; whether that is done.
async fn written(registry: &Registry, name: &str) -> bool {
    match write(registry, name).await {
        Err(status) if status.code != 404 => {
            tracing::warn!(%status, name, "cannot say whether an APIService is available");
            false
        }
        _ => true,
    }
}

/// The Service behind an APIService.
fn service_of(object: &Value) -> Option<Key> {
    let service = object["spec"].get("service").filter(|service| service.is_object())?;
    let text = |field: &str| service[field].as_str().unwrap_or_default();
    Some(Key::new("services", text("namespace"), text("name")))
}

/// The condition that an APIService should have, if it has another.
fn needed(registry: &Registry, object: &Value, service: Option<&Key>) -> Option<Value> {
    let wanted = match service {
        None => decide_local(),
        Some(key) => {
            let service = registry.store().get(key).map(|record| record.decode());
            let slices = registry.store().snapshot(SLICES);
            let slices: Vec<Value> = slices
                .range(&format!("{SLICES}/{}/", key.namespace()), None)
                .filter(|record| is_of(record, key))
                .map(|record| record.decode())
                .collect();
            decide(&object["spec"]["service"], service.as_ref(), &slices)
        }
    };
    unless_held(object, wanted)
}

/// Whether a slice is a Service's.
fn is_of(slice: &Record, service: &Key) -> bool {
    slice.key.namespace() == service.namespace() && slice.header().label(SERVICE) == Some(service.name())
}

fn condition(available: bool, reason: &str, message: impl Into<String>) -> Value {
    let status = if available { "True" } else { "False" };
    json!({"type": "Available", "status": status, "reason": reason, "message": message.into()})
}

fn decide_local() -> Value {
    condition(true, "Local", "Local APIServices are always available")
}

/// The condition of an APIService with a Service behind it.
fn decide(reference: &Value, service: Option<&Value>, slices: &[Value]) -> Value {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let what = format!("service/{} in {:?}", text("name"), text("namespace"));
    let Some(service) = service else {
        return condition(false, "ServiceNotFound", format!("{what} is not present"));
    };
    if service["spec"]["type"] == "ClusterIP" {
        let number = &reference["port"];
        let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let Some(port) = ports.find(|port| port["port"] == *number) else {
            return condition(false, "ServicePortError", format!("{what} is not listening on port {number}"));
        };
        if slices.is_empty() {
            let message = format!("cannot find endpointslices for {what}");
            return condition(false, "EndpointsNotFound", message);
        }
        let name = port["name"].as_str().unwrap_or_default();
        if !slices.iter().any(|slice| has_endpoint(slice, name)) {
            let message = format!("endpointslices for {what} have no addresses with port name {name:?}");
            return condition(false, "MissingEndpoints", message);
        }
    }
    condition(false, "FailedDiscoveryCheck", "requests are not passed on to other API servers yet")
}

/// Whether a slice has an endpoint that is ready, and the port.
fn has_endpoint(slice: &Value, port: &str) -> bool {
    let list = |field: &str| slice[field].as_array().map(Vec::as_slice).unwrap_or_default();
    list("endpoints").iter().any(|one| one["conditions"]["ready"] != false)
        && list("ports").iter().any(|one| one["name"] == port && one["port"].is_number())
}

async fn write(registry: &Registry, name: &str) -> Result<(), Status> {
    let call = registry.call(User::loopback(), RESOURCE, "", name)?.on("status");
    let now = rfc3339(call.now);
    let written = registry.modify(&call, |object| {
        if let Some(wanted) = needed(registry, object, service_of(object).as_ref()) {
            if !object["status"].is_object() {
                object["status"] = json!({});
            }
            set_condition(&mut object["status"], wanted, &now);
        }
        Ok(())
    });
    written.await.map(drop)
}

/// Resolves when an APIService changes after a revision, or one of the Services, or a slice
/// of theirs. A watch that has fallen out of the history means to look again, too.
async fn changed(registry: &Registry, services: &[Key], revision: u64) {
    let mut watches: Vec<BoxFuture<'_, ()>> = vec![Box::pin(next(registry, RESOURCE, revision, |_| true))];
    if !services.is_empty() {
        let named = |record: &Record| services.contains(&record.key);
        watches.push(Box::pin(next(registry, "services", revision, named)));
        let theirs = |record: &Record| services.iter().any(|service| is_of(record, service));
        watches.push(Box::pin(next(registry, SLICES, revision, theirs)));
    }
    futures::future::select_all(watches).await;
}

async fn next(registry: &Registry, resource: &str, revision: u64, counts: impl Fn(&Record) -> bool) {
    let Ok(mut watch) = registry.store().watch(resource, revision) else {
        return tokio::task::yield_now().await;
    };
    while let Ok(events) = watch.next().await {
        if events.iter().any(|event| counts(&event.record)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;
    use crate::auth::testing::store;

    #[tokio::test]
    async fn writes_what_an_api_service_lacks_once() {
        let server = Server::builder(store(), carrack_api::kinds::builtin()).build();
        let registry = server.registry();
        let call = registry.call(User::loopback(), RESOURCE, "", "v1.example.com").unwrap();
        let object = json!({"metadata": {"name": "v1.example.com"}, "spec": {"group": "example.com",
            "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1, "insecureSkipTLSVerify": true,
            "service": {"name": "s", "namespace": "default", "port": 443}}});
        registry.create(&call, object).await.unwrap();
        let (settled, services) = settle(registry).await;
        assert_eq!((settled, services), (true, vec![Key::new("services", "default", "s")]));
        let record = || registry.store().get(&Key::new(RESOURCE, "", "v1.example.com")).unwrap();
        assert_eq!(record().decode()["status"]["conditions"][0]["reason"], "ServiceNotFound");
        let revision = record().revision;
        settle(registry).await;
        assert_eq!(record().revision, revision);
    }

    #[test]
    fn says_what_an_api_service_lacks() {
        let reference = json!({"name": "s", "namespace": "default", "port": 443});
        let service = |ports: Value| json!({"spec": {"type": "ClusterIP", "ports": ports}});
        let slice = |ready: bool| {
            json!({"endpoints": [{"addresses": ["10.0.0.7"], "conditions": {"ready": ready}}],
                "ports": [{"name": "https", "port": 8443}]})
        };
        let named = service(json!([{"name": "https", "port": 443}]));
        let check = |service: Option<&Value>, slices: &[Value], reason: &str, message: &str| {
            let decided = decide(&reference, service, slices);
            assert_eq!((&decided["status"], &decided["reason"]), (&json!("False"), &json!(reason)));
            assert_eq!(decided["message"], message);
        };
        check(None, &[], "ServiceNotFound", "service/s in \"default\" is not present");
        let other = service(json!([{"port": 80}]));
        let message = "service/s in \"default\" is not listening on port 443";
        check(Some(&other), &[], "ServicePortError", message);
        let message = "cannot find endpointslices for service/s in \"default\"";
        check(Some(&named), &[], "EndpointsNotFound", message);
        let message =
            "endpointslices for service/s in \"default\" have no addresses with port name \"https\"";
        check(Some(&named), &[slice(false)], "MissingEndpoints", message);
        let message = "requests are not passed on to other API servers yet";
        check(Some(&named), &[slice(true)], "FailedDiscoveryCheck", message);
    }
}
