//! Classes and claims: the default classes of claims and ingresses, finalizers that keep
//! storage while it is used, and what may grow.

use std::sync::Arc;

use carrack_api::Value;
use carrack_api::quota::Amounts;
use carrack_api::status::Status;
use carrack_store::Store;
use futures::future::BoxFuture;
use serde_json::json;

use super::{list_mut, look_up, refuse};
use crate::auth::node::references::text;
use crate::registry::meta;
use crate::seams::{Admission, AdmissionRequest, Operation};

const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE_CLASSES: &str = "storageclasses.storage.k8s.io";
const INGRESSES: &str = "ingresses.networking.k8s.io";
const INGRESS_CLASSES: &str = "ingressclasses.networking.k8s.io";
const CLAIM_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Names the cluster's default class where an author names none.
pub struct DefaultClass {
    store: Arc<dyn Store>,
    /// The kind that names a class.
    resource: &'static str,
    classes: &'static str,
    /// Annotations that make a class the default.
    marks: &'static [&'static str],
    /// The annotation that named the class before there was a field.
    legacy: &'static str,
    field: &'static str,
}

/// Keeps storage objects, by a finalizer, while something uses them.
pub struct StorageObjectInUseProtection;

/// Lets only bound claims grow whose class allows it.
pub struct PersistentVolumeClaimResize {
    store: Arc<dyn Store>,
}

impl DefaultClass {
    /// DefaultStorageClass.
    pub fn of_claims(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            resource: CLAIMS,
            classes: STORAGE_CLASSES,
            marks: &[
                "storageclass.kubernetes.io/is-default-class",
                "storageclass.beta.kubernetes.io/is-default-class",
            ],
            legacy: CLAIM_CLASS,
            field: "storageClassName",
        }
    }

    /// DefaultIngressClass.
    pub fn of_ingresses(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            resource: INGRESSES,
            classes: INGRESS_CLASSES,
            marks: &["ingressclass.kubernetes.io/is-default-class"],
            legacy: "kubernetes.io/ingress.class",
            field: "ingressClassName",
        }
    }

    /// The newest class that is marked; of equally new ones the first by name.
    fn default(&self) -> Option<String> {
        let classes = self.store.snapshot(self.classes);
        let classes = classes.iter().map(|record| record.decode());
        let marked =
            |class: &Value| self.marks.iter().any(|mark| class["metadata"]["annotations"][*mark] == "true");
        let key = |class: &Value| {
            let created = meta::text(class, "creationTimestamp").to_owned();
            (std::cmp::Reverse(created), meta::text(class, "name").to_owned())
        };
        classes.filter(marked).map(|class| key(&class)).min().map(|(_, name)| name)
    }
}

impl Admission for DefaultClass {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation == Operation::Create && request.is(self.resource, "")
    }

    fn mutate<'a>(
        &'a self,
        _: &'a AdmissionRequest<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let named = object["spec"].get(self.field).is_some_and(|class| !class.is_null());
        let legacy = object["metadata"]["annotations"].get(self.legacy).is_some();
        if !named
            && !legacy
            && let Some(class) = self.default()
        {
            if !object["spec"].is_object() {
                object["spec"] = json!({});
            }
            object["spec"][self.field] = class.into();
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl StorageObjectInUseProtection {
    fn finalizer(request: &AdmissionRequest<'_>) -> Option<&'static str> {
        let call = request.call;
        match &*call.kind.resource {
            _ if !call.subresource.is_empty() || request.operation != Operation::Create => None,
            "persistentvolumes" => Some("kubernetes.io/pv-protection"),
            CLAIMS => Some("kubernetes.io/pvc-protection"),
            "volumeattributesclasses.storage.k8s.io" => Some("kubernetes.io/vac-protection"),
            _ => None,
        }
    }
}

impl Admission for StorageObjectInUseProtection {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        Self::finalizer(request).is_some()
    }

    fn mutate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        if let Some(finalizer) = Self::finalizer(request)
            && !meta::finalizers(object).any(|own| own == finalizer)
        {
            meta::of(object);
            if let Some(finalizers) = list_mut(&mut object["metadata"], "finalizers") {
                finalizers.push(finalizer.into());
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl PersistentVolumeClaimResize {
    /// Looks at the storage classes of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    fn check(&self, request: &AdmissionRequest<'_>, new: &Value, old: &Value) -> Result<(), Status> {
        let size = |claim: &Value| {
            let requests = Amounts::read(&claim["spec"]["resources"]["requests"]);
            requests.get("storage").unwrap_or_default()
        };
        if size(new) <= size(old) {
            return Ok(());
        }
        if text(old, "/status/phase") != Some("Bound") {
            let detail = "Only bound persistent volume claims can be expanded";
            return Err(refuse(request, Some(new), detail));
        }
        let class = |claim: &Value| {
            let annotated = claim["metadata"]["annotations"][CLAIM_CLASS].as_str();
            annotated.or(text(claim, "/spec/storageClassName")).unwrap_or_default().to_owned()
        };
        let (of_new, of_old) = (class(new), class(old));
        let grows = || {
            let class = look_up(&self.store, STORAGE_CLASSES, "", &of_new);
            class.is_some_and(|class| class.decode()["allowVolumeExpansion"] == true)
        };
        if of_new.is_empty() || of_new != of_old || !grows() {
            let detail = "only dynamically provisioned pvc can be resized and the storageclass that provisions \
                          the pvc must support resize";
            return Err(refuse(request, Some(new), detail));
        }
        Ok(())
    }
}

impl Admission for PersistentVolumeClaimResize {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation == Operation::Update && request.is(CLAIMS, "")
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let answer = match (object, request.old) {
            (Some(new), Some(old)) => self.check(request, new, old),
            _ => Ok(()),
        };
        Box::pin(std::future::ready(answer))
    }
}
