//! The service account controller and the root CA publisher: every namespace has a
//! `default` ServiceAccount and a ConfigMap `kube-root-ca.crt`.
//!
//! Both do the same: one object in each active namespace, made again when it goes or
//! changes.

use std::sync::Arc;
use std::time::Duration;

use carrack_api::{Key, Record, Value};
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS};
use carrack_client::{Cache, Client, Resource};
use jiff::Timestamp;
use serde_json::json;

use crate::shell::{self, Shared};

/// One object in every namespace.
struct EveryNamespace {
    name: &'static str,
    client: Client,
    resource: &'static Resource,
    /// The object, without a namespace.
    template: Value,
    namespaces: Arc<Cache>,
    objects: Arc<Cache>,
}

/// What to do about a namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Create the object.
    Create(Value),
    /// Write the object back with its data restored.
    Restore(Value),
}

/// Starts the service account controller.
pub(crate) fn start_service_accounts(shared: &Shared) {
    let template = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    start(shared, "serviceaccount", "service-account-controller", &SERVICE_ACCOUNTS, template);
}

/// Starts the root CA publisher.
pub(crate) fn start_root_ca(shared: &Shared, pem: &str) {
    let description = "Contains a CA bundle that can be used to verify the kube-apiserver when using \
         internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage \
         is guaranteed across distributions of Kubernetes clusters.";
    let template = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "kube-root-ca.crt",
            "annotations": {"kubernetes.io/description": description},
        },
        "data": {"ca.crt": pem},
    });
    start(shared, "root-ca", "root-ca-cert-publisher", &CONFIG_MAPS, template);
}

fn start(shared: &Shared, name: &'static str, identity: &str, resource: &'static Resource, template: Value) {
    let client = shared.client(identity);
    let queue = shell::queue();
    let namespaces = shared.informers.cache(&NAMESPACES);
    let objects = shared.informers.cache(resource);
    shell::enqueue_changes(&namespaces, &queue);
    let wanted = template["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let wake = queue.clone();
    objects.add_handler(Box::new(move |old, new| {
        if let Some(record) = new.or(old).filter(|record| record.key.name() == wanted) {
            wake.add(NAMESPACES.key("", record.key.namespace()));
        }
    }));
    shared.run(EveryNamespace { name, client, resource, template, namespaces, objects }, queue, 1);
}

/// Decides about one namespace: `there` is the object in it.
pub fn decide(namespace: &str, template: &Value, there: Option<&Value>) -> Option<Plan> {
    let Some(there) = there else {
        let mut object = template.clone();
        object["metadata"]["namespace"] = namespace.into();
        return Some(Plan::Create(object));
    };
    if template["data"].is_null() || there["data"] == template["data"] {
        return None;
    }
    let mut object = there.clone();
    object["data"] = template["data"].clone();
    let annotations = template["metadata"]["annotations"].as_object().into_iter().flatten();
    for (key, value) in annotations {
        object["metadata"]["annotations"][key] = value.clone();
    }
    Some(Plan::Restore(object))
}

impl Controller for EveryNamespace {
    type Plan = Plan;

    fn name(&self) -> &'static str {
        self.name
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.namespaces.clone(), self.objects.clone()]
    }

    fn decide(&self, key: &Key, _: Timestamp) -> Option<Plan> {
        let namespace = self.namespaces.get(key).filter(|namespace| !namespace.header().deleting)?;
        let name = self.template["metadata"]["name"].as_str()?;
        let there = self.objects.find(namespace.key.name(), name);
        decide(key.name(), &self.template, there.as_deref().map(Record::decode).as_ref())
    }

    async fn act(&self, key: &Key, plan: Plan, writes: &Writes) -> Result<Option<Duration>, Error> {
        let result = match &plan {
            Plan::Create(object) => self.client.create(self.resource, key.name(), object).await,
            Plan::Restore(object) => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                self.client.replace(self.resource, (key.name(), name), "", object).await
            }
        };
        match result {
            Ok(written) => writes.wrote(&written),
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => {}
            // The namespace has gone meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_and_restores() {
        let template = json!({"metadata": {"name": "ca", "annotations": {"a": "b"}}, "data": {"x": "1"}});
        let plan = decide("ns", &template, None);
        assert!(matches!(plan, Some(Plan::Create(object)) if object["metadata"]["namespace"] == "ns"));
        assert_eq!(decide("ns", &template, Some(&json!({"data": {"x": "1"}}))), None);
        let changed = json!({"metadata": {"name": "ca", "labels": {"l": "m"}}, "data": {"x": "2", "y": "3"}});
        let Some(Plan::Restore(object)) = decide("ns", &template, Some(&changed)) else { panic!("restores") };
        assert_eq!(object["data"], json!({"x": "1"}));
        assert_eq!(object["metadata"]["labels"]["l"], "m");
        let account = json!({"metadata": {"name": "default"}});
        assert_eq!(decide("ns", &account, Some(&json!({}))), None);
    }
}
