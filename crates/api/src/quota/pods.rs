//! What a pod asks for: requests and limits over all its containers, its overhead, and
//! what is declared for the pod as a whole. (After `component-helpers/resource`.)

use serde_json::Value;

use super::Amounts;

/// What of a pod's resources is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Requests,
    Limits,
}

/// The pod's requests: while a resize is under way, the larger of what is wanted and
/// what it has.
pub fn requests(pod: &Value) -> Amounts {
    let mut sum = over_containers(pod, Which::Requests);
    for (name, amount) in pod_level(pod, "requests").iter() {
        sum.set(name, amount);
    }
    sum.add(&Amounts::read(&pod["spec"]["overhead"]));
    sum
}

/// The pod's limits. Overhead counts where there is a limit.
pub fn limits(pod: &Value) -> Amounts {
    let mut sum = over_containers(pod, Which::Limits);
    for (name, amount) in pod_level(pod, "limits").iter() {
        sum.set(name, amount);
    }
    let overhead = Amounts::read(&pod["spec"]["overhead"]);
    let limited: Vec<String> =
        sum.iter().filter(|(_, amount)| !amount.is_zero()).map(|(name, _)| name.to_owned()).collect();
    sum.add(&overhead.only(limited.iter().map(String::as_str)));
    sum
}

/// What the containers of a spec request together, and what they are limited to.
pub fn of_containers(spec: &Value) -> (Amounts, Amounts) {
    let pod = serde_json::json!({ "spec": spec });
    (over_containers(&pod, Which::Requests), over_containers(&pod, Which::Limits))
}

/// Whether resources are declared for the pod as a whole.
pub fn has_pod_level(pod: &Value) -> bool {
    !pod_level(pod, "requests").is_empty() || !pod_level(pod, "limits").is_empty()
}

fn pod_level(pod: &Value, list: &str) -> Amounts {
    let all = Amounts::read(&pod["spec"]["resources"][list]);
    let supported = |name: &&str| matches!(*name, "cpu" | "memory") || name.starts_with("hugepages-");
    all.only(all.names().filter(supported))
}

/// Containers run side by side; an init container runs beside the sidecars before it.
fn over_containers(pod: &Value, which: Which) -> Amounts {
    let list = |field: &str| pod["spec"][field].as_array().into_iter().flatten();
    let mut sum = Amounts::default();
    list("containers").for_each(|container| sum.add(&of_container(pod, container, which, true)));
    let (mut sidecars, mut most) = (Amounts::default(), Amounts::default());
    for container in list("initContainers") {
        let sidecar = container["restartPolicy"] == "Always";
        let own = of_container(pod, container, which, sidecar);
        if sidecar {
            sum.add(&own);
            sidecars.add(&own);
            most.raise(&sidecars);
        } else {
            let mut beside = own;
            beside.add(&sidecars);
            most.raise(&beside);
        }
    }
    sum.raise(&most);
    sum
}

fn of_container(pod: &Value, container: &Value, which: Which, resizable: bool) -> Amounts {
    let field = if which == Which::Requests { "requests" } else { "limits" };
    let wanted = Amounts::read(&container["resources"][field]);
    let status = if resizable { status_of(pod, &container["name"]) } else { None };
    let Some(status) = status.filter(|status| status["resources"].is_object()) else { return wanted };
    let mut amounts = Amounts::read(&status["resources"][field]);
    if which == Which::Requests {
        amounts.raise(&Amounts::read(&status["allocatedResources"]));
    }
    if !infeasible(pod) {
        amounts.raise(&wanted);
    }
    amounts
}

fn status_of<'a>(pod: &'a Value, name: &Value) -> Option<&'a Value> {
    let all = ["containerStatuses", "initContainerStatuses"];
    let mut all = all.iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    all.find(|status| status["name"] == *name)
}

fn infeasible(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let pending = conditions.into_iter().flatten().find(|condition| condition["type"] == "PodResizePending");
    pending.is_some_and(|condition| condition["reason"] == "Infeasible")
}
