//! `componentstatuses`: how the parts of the control plane are, found out when somebody asks
//! and stored nowhere.

use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Content, Key, Record, Value};
use futures::future::{BoxFuture, join_all};
use serde_json::json;

use super::Registry;
use super::call::Call;
use super::read::{Items, ListOptions, Listed, Scope};

const RESOURCE: &str = "componentstatuses";
/// What the store is called, which upstream has outside of the server.
const STORE: &str = "etcd-0";

/// A part of the control plane.
pub struct Component {
    /// As upstream calls it: `scheduler`, `controller-manager`.
    pub name: &'static str,
    /// `Ok` when it is well; else what is wrong.
    pub probe: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

impl Registry {
    /// Whether a call is about the state of components.
    pub(super) fn is_of_components(call: &Call) -> bool {
        &*call.kind.resource == RESOURCE
    }

    pub(super) async fn component(&self, call: &Call) -> Result<Arc<Record>, Status> {
        if *call.name == *STORE {
            return Ok(self.store_state(call).await);
        }
        let component = self.components.iter().find(|component| *component.name == *call.name);
        let component = component.ok_or_else(|| call.not_found())?;
        Ok(record(call, component.name, (component.probe)().await))
    }

    pub(super) async fn component_list(&self, call: &Call, options: &ListOptions) -> Listed {
        let probes = self.components.iter().map(|component| (component.probe)());
        let found = self.components.iter().zip(join_all(probes).await);
        let mut records: Vec<_> = found.map(|(one, state)| record(call, one.name, state)).collect();
        records.push(self.store_state(call).await);
        let scope = Scope {
            kind: None,
            namespace: "".into(),
            labels: options.labels.clone(),
            fields: options.fields.clone(),
        };
        records.retain(|record| scope.matches(record));
        Listed { revision: 0, continue_token: String::new(), remaining: None, items: Items::Page(records) }
    }

    async fn store_state(&self, call: &Call) -> Arc<Record> {
        let answered = self.store.read_barrier().await;
        record(call, STORE, answered.map(drop).map_err(|error| error.to_string()))
    }
}

fn record(call: &Call, name: &str, state: Result<(), String>) -> Arc<Record> {
    let content = Content::encode(&object(name, state), &call.kind.field_paths);
    let content = content.expect("it has a name");
    Arc::new(Record { key: Key::new(RESOURCE, "", name), revision: 0, content })
}

fn object(name: &str, state: Result<(), String>) -> Value {
    let (status, message) = match state {
        Ok(()) => ("True", "ok".to_owned()),
        Err(why) => ("False", why),
    };
    json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [{"type": "Healthy", "status": status, "message": message}]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::store;
    use crate::{Server, User};

    #[tokio::test]
    async fn tells_how_each_component_is() {
        let component = |name, state: Result<(), String>| Component {
            name,
            probe: Arc::new(move || Box::pin(std::future::ready(state.clone()))),
        };
        let server = Server::builder(store(), carrack_api::kinds::builtin())
            .component(component("scheduler", Ok(())))
            .component(component("controller-manager", Err("it is off".into())))
            .build();
        let registry = server.registry();
        let call = registry.call(User::loopback(), RESOURCE, "", "controller-manager").unwrap();
        let found = registry.get(&call, None).await.unwrap().decode();
        assert_eq!(found["conditions"][0]["message"], "it is off");
        assert_eq!(found["kind"], "ComponentStatus");
        let listed = registry.list(&call, &ListOptions::default()).await.unwrap();
        let names: Vec<String> = listed.all().iter().map(|record| record.key.name().to_owned()).collect();
        assert_eq!(names, ["scheduler", "controller-manager", STORE]);
        let fields = carrack_api::selector::Fields::parse("metadata.name=scheduler").unwrap();
        let options = ListOptions { fields: Some(fields), ..Default::default() };
        assert_eq!(registry.list(&call, &options).await.unwrap().all().len(), 1);
        let absent = registry.call(User::loopback(), RESOURCE, "", "absent").unwrap();
        assert_eq!(registry.get(&absent, None).await.unwrap_err().code, 404);
    }
}
