//! `metav1.Status` for failures: the one shape in which errors leave the house.
//! Constructors word them as apimachinery's `errors` package does; only the edge
//! of `server/http` turns one into a response.

use serde_json::{Value, json};

use crate::field;
use crate::go::{echoed, quoted};

/// A failure with its HTTP code.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, such as `NotFound`; may be empty.
    pub reason: &'static str,
    /// The sentence for a person.
    pub message: String,
    /// `details`, or null.
    pub details: Value,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl Status {
    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }

    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    fn about(mut self, group: &str, resource: &str, name: &str) -> Self {
        let mut details = serde_json::Map::new();
        for (field, text) in [("name", name), ("group", group), ("kind", resource)] {
            if !text.is_empty() {
                details.insert(field.into(), echoed(text).into());
            }
        }
        self.details = Value::Object(details);
        self
    }

    /// 404: `pods "web" not found`; `resource` is the plural.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualified(resource, group), quoted(name));
        Self::new(404, "NotFound", message).about(group, resource, name)
    }

    /// 409: `pods "web" already exists`.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} already exists", qualified(resource, group), quoted(name));
        Self::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    /// 409: `Operation cannot be fulfilled on pods "web": detail`.
    pub fn conflict(group: &str, resource: &str, name: &str, detail: &str) -> Self {
        let on = qualified(resource, group);
        let message = format!("Operation cannot be fulfilled on {on} {}: {detail}", quoted(name));
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    /// 409 with the sentence that optimistic locking gives.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let detail =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, detail)
    }

    /// 403: `pods "web" is forbidden: detail`.
    pub fn forbidden(group: &str, resource: &str, name: &str, detail: &str) -> Self {
        let on = qualified(resource, group);
        let message = match (resource, name) {
            ("", _) => format!("forbidden: {detail}"),
            (_, "") => format!("{on} is forbidden: {detail}"),
            _ => format!("{on} {} is forbidden: {detail}", quoted(name)),
        };
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 422 with one cause a field; `kind` is the kind, such as `Deployment`.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[field::Error]) -> Self {
        let on = qualified(kind, group);
        // What is said twice is two causes, but one sentence.
        let mut texts: Vec<String> = Vec::new();
        for text in errors.iter().map(ToString::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let quoted = quoted(name);
        let message = match &texts[..] {
            [] => format!("{on} {quoted} is invalid"),
            [one] => format!("{on} {quoted} is invalid: {one}"),
            many => format!("{on} {quoted} is invalid: [{}]", many.join(", ")),
        };
        let mut status = Self::new(422, "Invalid", message).about(group, kind, name);
        let cause =
            |e: &field::Error| json!({"reason": e.kind.reason(), "message": e.message, "field": e.path});
        status.details["causes"] = errors.iter().map(cause).collect();
        status
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405.
    pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> Self {
        let message =
            format!("{verb} is not supported on resources of kind {:?}", qualified(resource, group));
        Self::new(405, "MethodNotAllowed", message).about(group, resource, "")
    }

    /// 406.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 410 for a watch or page whose history is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413 naming the limit.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.details = json!({ "retryAfterSeconds": retry_after_seconds });
        status
    }

    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    /// What the router says before any handler: its details are there and empty, which
    /// clients can tell from none.
    pub fn of_route(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { details: json!({}), ..Self::new(code, reason, message) }
    }

    /// Any other code and reason, for what has no constructor of its own.
    pub fn other(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, reason, message)
    }
}

/// `deployments.apps`, or `pods` for the core group.
fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_failures_as_kubernetes_does() {
        let status = Status::not_found("apps", "deployments", "web");
        assert_eq!(
            status.to_value(),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404,
                "reason": "NotFound", "message": "deployments.apps \"web\" not found",
                "details": {"name": "web", "group": "apps", "kind": "deployments"}})
        );
        let path = field::Path::ROOT.child("spec");
        let errors =
            [field::Error::required(&path.child("a"), ""), field::Error::forbidden(&path.child("b"), "no")];
        let status = Status::invalid("", "Pod", "web", &errors);
        assert_eq!(
            status.message,
            r#"Pod "web" is invalid: [spec.a: Required value, spec.b: Forbidden: no]"#
        );
        assert_eq!(status.details["causes"][1]["reason"], "FieldValueForbidden");
    }
}
