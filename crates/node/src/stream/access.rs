//! Who may ask a node for what: the API server is asked (SubjectAccessReview), as the
//! kubelet asks it. Whatever acts in a container is a `create`, whatever its method; a
//! WebSocket that starts with GET reads nothing.
//!
//! Answers are remembered for a while, the good ones longer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use carrack_api::Value;
use carrack_client::{Client, Clock, Resource};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

const ALLOWED_FOR: SignedDuration = SignedDuration::from_mins(5);
const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(30);
/// Answers remembered at most; all are forgotten at once.
const REMEMBERED: usize = 1000;

/// Who asks, by its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

/// A verb on a subresource of the node, by someone.
type Question = (Caller, &'static str, &'static str);

/// Asks the API server, and remembers.
pub struct Access {
    client: Client,
    clock: Arc<dyn Clock>,
    node: String,
    answers: Mutex<HashMap<Question, (bool, Timestamp)>>,
}

impl Access {
    /// For the endpoint of `node`.
    pub fn new(client: Client, clock: Arc<dyn Clock>, node: &str) -> Self {
        Self { client, clock, node: node.to_owned(), answers: Mutex::default() }
    }

    /// Whether a caller may.
    ///
    /// # Errors
    /// The words of the refusal.
    pub(crate) async fn check(&self, caller: &Caller, method: &Method, path: &str) -> Result<(), String> {
        let (verb, subresources) = question(method, path);
        for subresource in subresources {
            if self.ask((caller.clone(), verb, subresource)).await? {
                return Ok(());
            }
        }
        let wanted: Vec<String> = subresources.iter().map(|sub| format!("nodes/{sub}")).collect();
        let user = &caller.name;
        Err(format!(
            "Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{}])",
            wanted.join(" ")
        ))
    }

    async fn ask(&self, question: Question) -> Result<bool, String> {
        let now = self.clock.now();
        let known = self.answers().get(&question).copied();
        if let Some((allowed, _)) = known.filter(|(_, until)| now < *until) {
            return Ok(allowed);
        }
        let (caller, verb, subresource) = &question;
        let mut groups = caller.groups.clone();
        groups.push("system:authenticated".to_owned());
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": caller.name, "groups": groups, "resourceAttributes": {
                "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource,
                "name": self.node,
            }},
        });
        let answer = self.client.create(&REVIEWS, "", &review).await;
        let answer = answer.and_then(|answer| answer.decode::<Value>());
        let answer = answer.map_err(|error| format!("authorization cannot be asked for: {error}"))?;
        let allowed = answer["status"]["allowed"] == true;
        let until = now + if allowed { ALLOWED_FOR } else { REFUSED_FOR };
        let mut answers = self.answers();
        if answers.len() >= REMEMBERED {
            answers.clear();
        }
        answers.insert(question, (allowed, until));
        Ok(allowed)
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, HashMap<Question, (bool, Timestamp)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request asks for: one of the subresources is enough.
fn question(method: &Method, path: &str) -> (&'static str, &'static [&'static str]) {
    let first = path.trim_matches('/').split('/').next().unwrap_or_default();
    let verb = match *method {
        _ if matches!(first, "exec" | "attach" | "portForward" | "run" | "cri" | "checkpoint") => "create",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let subresources: &[&str] = match first {
        "pods" | "runningpods" => &["pods", "proxy"],
        "configz" => &["configz", "proxy"],
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        _ => &["proxy"],
    };
    (verb, subresources)
}

static REVIEWS: Resource = Resource {
    group: std::borrow::Cow::Borrowed("authorization.k8s.io"),
    version: std::borrow::Cow::Borrowed("v1"),
    plural: std::borrow::Cow::Borrowed("subjectaccessreviews"),
    kind: std::borrow::Cow::Borrowed("SubjectAccessReview"),
    store: std::borrow::Cow::Borrowed("subjectaccessreviews.authorization.k8s.io"),
    namespaced: false,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acting_is_no_reading() {
        for (method, path, expect) in [
            (Method::GET, "/containerLogs/a/b/c", ("get", &["proxy"][..])),
            (Method::GET, "/exec/a/b/c", ("create", &["proxy"][..])),
            (Method::POST, "/exec/a/b/c", ("create", &["proxy"][..])),
            (Method::GET, "/portForward/a/b", ("create", &["proxy"][..])),
            (Method::GET, "/pods", ("get", &["pods", "proxy"][..])),
            (Method::GET, "/metrics/cadvisor", ("get", &["metrics"][..])),
        ] {
            assert_eq!(question(&method, path), expect, "{method} {path}");
        }
    }
}
