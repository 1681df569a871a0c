//! Which node a streaming request goes to, and under which path there.
//! (The kubelet's paths, as in `registry/core/pod/strategy.go`.)

use std::fmt::Write;

use carrack_api::Value;
use carrack_api::status::Status;

use crate::registry::{Call, no_such_resource};
use crate::request::{Query, RequestInfo};

/// A node and a path with query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) node: String,
    pub(super) path: String,
}

/// Where the request about `object` goes; nowhere for the log of a pod that has no node, and
/// so no log, yet.
///
/// # Errors
/// 400 when the pod has no node, or no such container.
pub(super) fn of(call: &Call, object: &Value, info: &RequestInfo) -> Result<Option<Target>, Status> {
    let query = &info.query;
    match (&*call.kind.resource, &*call.subresource) {
        ("nodes", "proxy") => {
            let mut path = format!("/{}", info.tail);
            let pairs: Vec<(&str, &str)> = query.iter().collect();
            write_query(&mut path, &pairs);
            Ok(Some(Target { node: call.name.to_string(), path }))
        }
        ("pods", "log") => {
            let container = container(object, query.text("container"))?;
            if node(object).is_empty() {
                return Ok(None);
            }
            let names = [
                "follow",
                "previous",
                "timestamps",
                "sinceSeconds",
                "sinceTime",
                "tailLines",
                "limitBytes",
                "stream",
            ];
            let pairs: Vec<(&str, &str)> =
                names.into_iter().filter_map(|name| Some((name, query.get(name)?))).collect();
            pod_target(call, object, "containerLogs", Some(&container), &pairs).map(Some)
        }
        ("pods", "exec" | "attach") => {
            let container = container(object, query.text("container"))?;
            let mut pairs = streams(query);
            pairs.extend(query.all("command").map(|word| ("command", word)));
            pod_target(call, object, &call.subresource, Some(&container), &pairs).map(Some)
        }
        ("pods", "portforward") => {
            let ports: Vec<(&str, &str)> = query.all("ports").map(|port| ("port", port)).collect();
            pod_target(call, object, "portForward", None, &ports).map(Some)
        }
        _ => Err(no_such_resource()),
    }
}

fn streams(query: &Query) -> Vec<(&'static str, &'static str)> {
    let flags = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    flags.into_iter().filter(|(asked, _)| query.flag(asked)).map(|(_, told)| (told, "1")).collect()
}

fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

fn pod_target(
    call: &Call,
    pod: &Value,
    what: &str,
    container: Option<&str>,
    pairs: &[(&str, &str)],
) -> Result<Target, Status> {
    let node = node(pod);
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", call.name)));
    }
    let mut path = format!("/{what}/{}/{}", call.namespace, call.name);
    if let Some(container) = container {
        path.push('/');
        path.push_str(container);
    }
    write_query(&mut path, pairs);
    Ok(Target { node: node.to_owned(), path })
}

/// The container that is meant: the one named, or the only one.
fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let names = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
    };
    let plain = names("containers");
    let mut all = names("initContainers");
    all.extend(plain.iter().cloned());
    all.extend(names("ephemeralContainers"));
    if !asked.is_empty() {
        let known = all.iter().any(|container| container == asked);
        let unknown = || Status::bad_request(format!("container {asked} is not valid for pod {name}"));
        return known.then(|| asked.to_owned()).ok_or_else(unknown);
    }
    match &plain[..] {
        [only] => Ok(only.clone()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

fn write_query(path: &mut String, pairs: &[(&str, &str)]) {
    for (at, (name, value)) in pairs.iter().enumerate() {
        path.push(if at == 0 { '?' } else { '&' });
        escape(path, name);
        path.push('=');
        escape(path, value);
    }
}

fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte as char);
        } else {
            write!(out, "%{byte:02X}").expect("writing to memory cannot fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn picks_the_container() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        let two = json!({"metadata": {"name": "p"}, "spec": {"initContainers": [{"name": "i"}],
            "containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(container(&one, "").unwrap(), "a");
        assert_eq!(container(&two, "i").unwrap(), "i");
        let refused = container(&two, "").unwrap_err().message;
        assert_eq!(refused, "a container name must be specified for pod p, choose one of: [i a b]");
        let refused = container(&one, "x").unwrap_err().message;
        assert_eq!(refused, "container x is not valid for pod p");
    }

    #[test]
    fn escapes_queries() {
        let mut path = "/exec/a/b/c".to_owned();
        write_query(&mut path, &[("command", "sh -c"), ("command", "a&b=c")]);
        assert_eq!(path, "/exec/a/b/c?command=sh%20-c&command=a%26b%3Dc");
    }
}
