//! NamespaceLifecycle: nothing is made where there is no namespace, nor in one that is
//! going; the namespaces that the cluster itself lives in do not go.

use std::sync::Arc;

use carrack_api::Value;
use carrack_api::status::Status;
use carrack_store::Store;
use futures::future::BoxFuture;
use serde_json::json;

use super::{look_up, refuse};
use crate::seams::{Admission, AdmissionRequest, Operation};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle {
    store: Arc<dyn Store>,
}

impl NamespaceLifecycle {
    /// Looks at the namespaces of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    fn check(&self, request: &AdmissionRequest<'_>, object: &Value) -> Result<(), Status> {
        let namespace = &*request.call.namespace;
        let Some(record) = look_up(&self.store, "namespaces", "", namespace) else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        if request.operation != Operation::Create || !record.header().deleting {
            return Ok(());
        }
        let detail =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = refuse(request, Some(object), &detail);
        status.details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        Err(status)
    }
}

impl Admission for NamespaceLifecycle {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let call = request.call;
        let is_namespace = &*call.kind.resource == "namespaces";
        match request.operation {
            Operation::Delete => is_namespace && IMMORTAL.contains(&&*call.name),
            Operation::Create | Operation::Update => !is_namespace && !call.namespace.is_empty(),
            Operation::Connect => false,
        }
    }

    fn mutate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(self.check(request, object)))
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        _: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let answer = match request.operation {
            Operation::Delete => Err(refuse(request, None, "this namespace may not be deleted")),
            _ => Ok(()),
        };
        Box::pin(std::future::ready(answer))
    }
}
