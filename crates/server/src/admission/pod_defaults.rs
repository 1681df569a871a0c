//! Small plugins that fill something in: a pod's priority, its tolerations of a node
//! that fails, a new node's taint.

use std::sync::Arc;

use carrack_api::Value;
use carrack_api::status::Status;
use carrack_store::Store;
use futures::future::BoxFuture;
use serde_json::json;

use super::{list_mut, look_up, refuse};
use crate::auth::node::references::{items, text};
use crate::seams::{Admission, AdmissionRequest, Operation};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const CLASSES: &str = "priorityclasses.scheduling.k8s.io";
/// How long a pod stays on a node that fails, unless it says so itself.
const TOLERATION_SECONDS: i64 = 300;

/// Whether pods of equal or lower priority may be put aside, unless the class says.
const PREEMPTION_POLICY: &str = "PreemptLowerPriority";

/// Turns a pod's priority class into its priority.
pub struct Priority {
    store: Arc<dyn Store>,
}

/// Gives pods five minutes on a node that fails.
pub struct DefaultTolerationSeconds;

/// Keeps pods away from a new node until it is ready.
pub struct TaintNodesByCondition;

impl Priority {
    /// Looks at the priority classes of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    fn admit_pod(&self, request: &AdmissionRequest<'_>, pod: &mut Value) -> Result<(), Status> {
        if let Some(old) = request.old {
            for field in ["priority", "preemptionPolicy"] {
                let kept = old["spec"].get(field).filter(|value| !value.is_null());
                if let Some(kept) = kept.filter(|_| pod["spec"].get(field).is_none_or(Value::is_null)) {
                    pod["spec"][field] = kept.clone();
                }
            }
            return Ok(());
        }
        let (name, value, policy) = self.class_of(request, pod)?;
        if let Some(name) = name {
            pod["spec"]["priorityClassName"] = name.into();
        }
        if let Some(given) =
            pod["spec"].get("priority").and_then(Value::as_i64).filter(|given| *given != value)
        {
            let detail = format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                 controller computed {value} from the given PriorityClass name"
            );
            return Err(refuse(request, Some(pod), &detail));
        }
        pod["spec"]["priority"] = value.into();
        // (An empty one was given too.)
        let given = pod["spec"].get("preemptionPolicy").and_then(Value::as_str);
        if let Some(given) = given.filter(|given| *given != policy) {
            let detail = format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority \
                 admission controller computed {policy} from the given PriorityClass name"
            );
            return Err(refuse(request, Some(pod), &detail));
        }
        pod["spec"]["preemptionPolicy"] = policy.into();
        Ok(())
    }

    /// Name (when it is the cluster's default), value and policy of a pod's class.
    fn class_of(
        &self,
        request: &AdmissionRequest<'_>,
        pod: &Value,
    ) -> Result<(Option<String>, i64, String), Status> {
        let read = |class: &Value| {
            let policy = text(class, "/preemptionPolicy").unwrap_or(PREEMPTION_POLICY);
            (class["value"].as_i64().unwrap_or(0), policy.to_owned())
        };
        let Some(name) = text(pod, "/spec/priorityClassName") else {
            return Ok(match self.default_class() {
                Some((name, class)) => {
                    let (value, policy) = read(&class);
                    (Some(name), value, policy)
                }
                None => (None, 0, PREEMPTION_POLICY.to_owned()),
            });
        };
        let Some(class) = look_up(&self.store, CLASSES, "", name) else {
            let detail = format!("no PriorityClass with name {name} was found");
            return Err(refuse(request, Some(pod), &detail));
        };
        let (value, policy) = read(&class.decode());
        Ok((None, value, policy))
    }

    /// The class with `globalDefault`; of several, the one with the lowest value.
    fn default_class(&self) -> Option<(String, Value)> {
        let snapshot = self.store.snapshot(CLASSES);
        let marked = snapshot.iter().filter(|record| record.mentions("\"globalDefault\":true"));
        marked
            .map(|record| (record.key.name().to_owned(), record.decode()))
            .filter(|(_, class)| class["globalDefault"] == true)
            .min_by_key(|(_, class)| class["value"].as_i64())
    }

    fn admit_class(&self, request: &AdmissionRequest<'_>, class: &Value) -> Result<(), Status> {
        if class["globalDefault"] != true {
            return Ok(());
        }
        match self.default_class() {
            Some((name, _)) if Some(&*name) != text(class, "/metadata/name") => {
                let detail =
                    format!("PriorityClass {name} is already marked as default. Only one default can exist");
                Err(refuse(request, Some(class), &detail))
            }
            _ => Ok(()),
        }
    }
}

impl Admission for Priority {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && (request.is("pods", "") || request.is(CLASSES, ""))
    }

    fn mutate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let answer = if request.is("pods", "") { self.admit_pod(request, object) } else { Ok(()) };
        Box::pin(std::future::ready(answer))
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let answer = match object {
            Some(class) if request.is(CLASSES, "") => self.admit_class(request, class),
            _ => Ok(()),
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Admission for DefaultTolerationSeconds {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.is("pods", "")
    }

    fn mutate<'a>(
        &'a self,
        _: &'a AdmissionRequest<'a>,
        pod: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        for key in [NOT_READY, UNREACHABLE] {
            let tolerates = |toleration: &Value| {
                text(toleration, "/key").is_none_or(|own| own == key)
                    && text(toleration, "/effect").is_none_or(|effect| effect == "NoExecute")
            };
            if items(pod, "/spec/tolerations").any(tolerates) {
                continue;
            }
            if let Some(tolerations) = list_mut(&mut pod["spec"], "tolerations") {
                tolerations.push(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute",
                    "tolerationSeconds": TOLERATION_SECONDS,
                }));
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Admission for TaintNodesByCondition {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation == Operation::Create && request.is("nodes", "")
    }

    fn mutate<'a>(
        &'a self,
        _: &'a AdmissionRequest<'a>,
        node: &'a mut Value,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let is = |taint: &Value| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule";
        if !items(node, "/spec/taints").any(is) {
            if !node["spec"].is_object() {
                node["spec"] = json!({});
            }
            if let Some(taints) = list_mut(&mut node["spec"], "taints") {
                taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}
