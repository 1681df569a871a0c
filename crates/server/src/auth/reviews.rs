//! The review kinds: questions about tokens, users and rights that are answered and
//! never stored.
//!
//! Follows upstream's `registry/authentication` and `registry/authorization`.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::Value;
use carrack_api::field::{Error, Errors, Path};
use carrack_api::selector::{Fields, Labels};
use carrack_api::status::Status;
use carrack_api::validation::names;
use futures::future::BoxFuture;
use serde_json::{Map, json};

use super::node::references::{items, text};
use super::token::{TokenRequest, Tokens};
use super::{Authorizers, node_identity};
use crate::registry::{Call, Registry};
use crate::request::{Attributes, User};
use crate::seams::{Action, Decision};

/// Every review kind's action by resource, and that of `serviceaccounts/token`.
pub fn actions(authorizers: &Arc<Authorizers>, tokens: &Arc<Tokens>) -> Vec<(&'static str, Arc<dyn Action>)> {
    let access =
        |who| -> Arc<dyn Action> { Arc::new(AccessReview { who, authorizers: authorizers.clone() }) };
    vec![
        ("serviceaccounts/token", Arc::new(TokenRequest::new(tokens.clone()))),
        ("tokenreviews.authentication.k8s.io", Arc::new(TokenReview(tokens.clone()))),
        ("selfsubjectreviews.authentication.k8s.io", Arc::new(SelfReview)),
        ("subjectaccessreviews.authorization.k8s.io", access(Who::Subject)),
        ("localsubjectaccessreviews.authorization.k8s.io", access(Who::Local)),
        ("selfsubjectaccessreviews.authorization.k8s.io", access(Who::Caller)),
        ("selfsubjectrulesreviews.authorization.k8s.io", Arc::new(RulesReview(authorizers.clone()))),
    ]
}

/// `TokenReview`.
struct TokenReview(Arc<Tokens>);

/// `SelfSubjectReview`.
struct SelfReview;

/// `SelfSubjectRulesReview`.
struct RulesReview(Arc<Authorizers>);

/// The three access reviews.
struct AccessReview {
    who: Who,
    authorizers: Arc<Authorizers>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Subject,
    Local,
    Caller,
}

impl Action for TokenReview {
    fn act<'a>(&'a self, _: &'a Call, _: &'a Registry, body: Value) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(std::future::ready(self.review(body)))
    }
}

impl TokenReview {
    fn review(&self, mut body: Value) -> Result<Value, Status> {
        let Some(token) = text(&body, "/spec/token").map(str::to_owned) else {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        };
        let audiences = items(&body, "/spec/audiences").filter_map(Value::as_str).map(str::to_owned);
        let audiences: Vec<String> = audiences.collect();
        if let Some(user) = self.0.bootstrap_tokens().verify(&token) {
            // Such tokens name no audience: they are for the API.
            let own = &self.0.config().audiences;
            let common: Vec<&String> = own.iter().filter(|a| audiences.contains(a)).collect();
            let meant = if audiences.is_empty() { own.iter().collect() } else { common };
            if !meant.is_empty() {
                body["status"] = json!({"authenticated": true, "user": info(&user), "audiences": meant});
                return Ok(body);
            }
        }
        // What the author wrote into the status stays where nothing is known.
        let status = &mut body["status"];
        if !status.is_object() {
            *status = json!({});
        }
        match self.0.verify(&token, &audiences) {
            Ok((user, audiences)) => {
                *status = json!({"authenticated": true, "user": info(&user), "audiences": audiences});
            }
            Err(reason) => {
                if let Some(status) = status.as_object_mut() {
                    status.remove("authenticated");
                    status.entry("user").or_insert_with(|| json!({}));
                    status.insert("error".into(), worded(&reason.to_string()).into());
                }
            }
        }
        Ok(body)
    }
}

/// A refusal as upstream's chain of authenticators words it: what is no token at all
/// is not a token of ours either.
fn worded(reason: &str) -> String {
    const NOT_OURS: &str = "invalid bearer token";
    if reason == "malformed token" { NOT_OURS.to_owned() } else { format!("[{NOT_OURS}, {reason}]") }
}

impl Action for SelfReview {
    fn act<'a>(
        &'a self,
        call: &'a Call,
        _: &'a Registry,
        mut body: Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        body["metadata"] = json!({"creationTimestamp": crate::clock::rfc3339(call.now)});
        body["status"] = json!({ "userInfo": info(&call.user) });
        Box::pin(std::future::ready(Ok(body)))
    }
}

impl Action for RulesReview {
    fn act<'a>(
        &'a self,
        call: &'a Call,
        _: &'a Registry,
        body: Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(std::future::ready(self.review(&call.user, body)))
    }
}

impl RulesReview {
    fn review(&self, user: &User, mut body: Value) -> Result<Value, Status> {
        let Some(namespace) = text(&body, "/spec/namespace") else {
            return Err(Status::bad_request("no namespace on request"));
        };
        let (rules, error) = self.0.rbac().rules_for(user, namespace);
        let is_node = node_identity(user).is_some();
        let mut errors = Vec::new();
        if is_node {
            errors.push("node authorizer does not support user rule resolution".to_owned());
        }
        errors.extend(error);
        let of = |urls: bool| -> Vec<Value> {
            let which =
                |rule: &&super::rbac::Rule| !(if urls { &rule.urls } else { &rule.resources }).is_empty();
            rules.iter().filter(which).map(|rule| rule.to_value()).collect()
        };
        (body["metadata"], body["spec"]) = (json!({}), json!({}));
        body["status"] =
            json!({ "resourceRules": of(false), "nonResourceRules": of(true), "incomplete": is_node });
        if !errors.is_empty() {
            body["status"]["evaluationError"] = errors.join(", ").into();
        }
        Ok(body)
    }
}

impl Action for AccessReview {
    fn act<'a>(
        &'a self,
        call: &'a Call,
        _: &'a Registry,
        body: Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(std::future::ready(self.review(call, body)))
    }
}

impl AccessReview {
    fn review(&self, call: &Call, mut body: Value) -> Result<Value, Status> {
        if self.who == Who::Local {
            body["metadata"]["namespace"] = (*call.namespace).into();
        }
        let errors = self.validate(call, &body);
        if !errors.is_empty() {
            // Upstream leaves the kind out here.
            return Err(Status::invalid(&call.kind.group, "", "", &errors));
        }
        let user = match self.who {
            Who::Caller => call.user.clone(),
            _ => named_user(&body),
        };
        let attributes = attributes(&body["spec"]);
        let ignored = ignored_selectors(&body["spec"]["resourceAttributes"]);
        body["status"] = match self.authorizers.decide(&user, &attributes) {
            Decision::Allow(reason) => verdict(true, &reason),
            Decision::NoOpinion(reason) => verdict(false, &reason),
            Decision::Deny(reason) => {
                let mut verdict = verdict(false, &reason);
                verdict["denied"] = true.into();
                verdict
            }
        };
        if !ignored.is_empty() {
            body["status"]["evaluationError"] = ignored.join("; ").into();
        }
        Ok(body)
    }

    fn validate(&self, call: &Call, body: &Value) -> Errors {
        let mut errors = Vec::new();
        let spec = Path::ROOT.child("spec");
        let go_form = |field: &str| {
            let part = |name: &str| text(&body["spec"][field], name).unwrap_or_default();
            json!({"Path": part("/path"), "Verb": part("/verb")})
        };
        let has = |field: &str| body["spec"].get(field).is_some_and(|value| !value.is_null());
        let (resource, other) = (has("resourceAttributes"), has("nonResourceAttributes"));
        if resource && other {
            let detail = "cannot be specified in combination with resourceAttributes";
            let value = go_form("nonResourceAttributes");
            errors.push(Error::invalid(&spec.child("nonResourceAttributes"), value, detail));
        }
        if !resource && !other {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(Error::invalid(&spec.child("resourceAttributes"), Value::Null, detail));
        }
        if self.who != Who::Caller
            && text(body, "/spec/user").is_none()
            && items(body, "/spec/groups").count() == 0
        {
            let detail = "at least one of user or group must be specified";
            errors.push(Error::invalid(&spec.child("user"), "", detail));
        }
        check_selectors(&body["spec"]["resourceAttributes"], &spec.child("resourceAttributes"), &mut errors);
        let local = self.who == Who::Local;
        let mut meta = body.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
        meta.retain(|field, value| field != "managedFields" && !value.is_null());
        if meta.keys().any(|field| !(local && field == "namespace")) {
            let detail = if local { "must be empty except for namespace" } else { "must be empty" };
            let mut error = Error::invalid(&Path::ROOT.child("metadata"), "", detail);
            error.message = format!("Invalid value: {}: {detail}", in_go_order(&body["metadata"], &META));
            errors.push(error);
        }
        if local {
            let asked = text(body, "/spec/resourceAttributes/namespace").unwrap_or_default();
            if resource && asked != &*call.namespace {
                let path = spec.child("resourceAttributes");
                errors.push(Error::invalid(&path.child("namespace"), asked, "must match metadata.namespace"));
            }
            if other {
                let value = go_form("nonResourceAttributes");
                let detail = "disallowed on this kind of request";
                errors.push(Error::invalid(&spec.child("nonResourceAttributes"), value, detail));
            }
        }
        errors
    }
}

/// Fields of `ObjectMeta` in the order of its Go type, in which errors show them.
const META: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];
const OWNER: [&str; 6] = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
const MANAGED: [&str; 7] =
    ["manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1", "subresource"];

/// JSON with fields in a given order.
fn in_go_order(value: &Value, order: &[&str]) -> String {
    let field = |name: &&str| {
        let value = value.get(name).filter(|value| !value.is_null())?;
        let list = |order: &[&str]| {
            let each = value.as_array().into_iter().flatten().map(|one| in_go_order(one, order));
            format!("[{}]", each.collect::<Vec<_>>().join(","))
        };
        let json = match *name {
            "ownerReferences" => list(&OWNER),
            "managedFields" => list(&MANAGED),
            _ => value.to_string(),
        };
        Some(format!("{name:?}:{json}"))
    };
    format!("{{{}}}", order.iter().filter_map(field).collect::<Vec<_>>().join(","))
}

/// Selectors are given raw or as requirements.
fn check_selectors(attributes: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["fieldSelector", "labelSelector"] {
        let (selector, path) = (&attributes[field], path.child(field));
        if !selector.is_object() {
            continue;
        }
        let raw = text(selector, "/rawSelector").unwrap_or_default();
        let count = items(selector, "/requirements").count();
        if !raw.is_empty() && count > 0 {
            let detail = "may not specified at the same time as requirements";
            errors.push(Error::invalid(&path.child("rawSelector"), raw, detail));
        }
        if raw.is_empty() && count == 0 {
            let detail = format!("when {path} is specified, requirements or rawSelector is required");
            errors.push(Error::required(&path.child("requirements"), &detail));
        }
        let list = path.child("requirements");
        for (at, requirement) in items(selector, "/requirements").enumerate() {
            check_requirement(requirement, field == "labelSelector", &list.index(at), errors);
        }
    }
}

fn check_requirement(requirement: &Value, label: bool, path: &Path<'_>, errors: &mut Errors) {
    let key = text(requirement, "/key").unwrap_or_default();
    if !label && key.is_empty() {
        errors.push(Error::required(&path.child("key"), "must be specified"));
    }
    let values: Vec<&str> = items(requirement, "/values").filter_map(Value::as_str).collect();
    let at = path.child("values");
    match text(requirement, "/operator").unwrap_or_default() {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(Error::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&at, detail));
        }
        _ => {}
    }
    if label {
        let key_path = path.child("key");
        errors.extend(names::qualified_name(key).iter().map(|m| Error::invalid(&key_path, key, m)));
        for (i, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            errors.extend(messages.iter().map(|m| Error::invalid(&at.index(i), *value, m)));
        }
    }
}

fn verdict(allowed: bool, reason: &str) -> Value {
    let mut verdict = json!({ "allowed": allowed });
    if !reason.is_empty() {
        verdict["reason"] = reason.into();
    }
    verdict
}

/// The user that an access review asks about.
fn named_user(body: &Value) -> User {
    let groups = items(body, "/spec/groups").filter_map(Value::as_str);
    let mut user = User::new(text(body, "/spec/user").unwrap_or_default(), groups);
    user.uid = text(body, "/spec/uid").unwrap_or_default().into();
    let extra = body.pointer("/spec/extra").and_then(Value::as_object);
    let values = |value: &Value| -> Vec<Box<str>> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
    };
    let extra: BTreeMap<Box<str>, Vec<Box<str>>> =
        extra.into_iter().flatten().map(|(key, value)| (key.to_lowercase().into(), values(value))).collect();
    user.extra = Arc::new(extra);
    user
}

/// What an access review asks for.
fn attributes(spec: &Value) -> Attributes {
    let at = |pointer: &str| -> Box<str> { text(spec, pointer).unwrap_or_default().into() };
    if spec.get("resourceAttributes").is_none_or(Value::is_null) {
        return Attributes::path(&at("/nonResourceAttributes/verb"), &at("/nonResourceAttributes/path"));
    }
    let in_resource = |field: &str| at(&format!("/resourceAttributes/{field}"));
    Attributes {
        verb: in_resource("verb"),
        is_resource: true,
        group: in_resource("group"),
        version: in_resource("version"),
        resource: in_resource("resource"),
        subresource: in_resource("subresource"),
        namespace: in_resource("namespace"),
        name: in_resource("name"),
        field_selector: field_selector(spec),
        path: "".into(),
    }
}

/// What is said of selectors of which some requirement, or all, cannot be made sense of.
fn ignored_selectors(attributes: &Value) -> Vec<String> {
    let mut said = Vec::new();
    for field in ["fieldSelector", "labelSelector"] {
        let label = field == "labelSelector";
        let selector = &attributes[field];
        let all: Vec<&Value> = items(selector, "/requirements").collect();
        let raw = text(selector, "/rawSelector").filter(|_| all.is_empty());
        let wrong_raw = raw.is_some_and(|raw| match label {
            true => Labels::parse(raw).is_err(),
            false => Fields::parse(raw).is_err(),
        });
        let known = all.iter().filter(|requirement| is_known(requirement, label)).count();
        let how = match known {
            0 if wrong_raw || !all.is_empty() => "ignored",
            known if known < all.len() => "partially ignored",
            _ => continue,
        };
        said.push(format!("spec.resourceAttributes.{field} {how} due to parse error"));
    }
    said
}

/// Whether the authorizers can tell what a requirement means.
fn is_known(requirement: &Value, label: bool) -> bool {
    let values = items(requirement, "/values").count();
    match text(requirement, "/operator").unwrap_or_default() {
        "In" | "NotIn" => {
            if label {
                values > 0
            } else {
                values == 1
            }
        }
        "Exists" | "DoesNotExist" => label && values == 0,
        _ => false,
    }
}

/// The field selector of an access review, raw or as requirements of one value.
fn field_selector(spec: &Value) -> Box<str> {
    if let Some(raw) = text(spec, "/resourceAttributes/fieldSelector/rawSelector") {
        return raw.into();
    }
    let term = |requirement: &Value| {
        let key = text(requirement, "/key")?;
        let mut values = items(requirement, "/values").filter_map(Value::as_str);
        match (text(requirement, "/operator")?, values.next(), values.next()) {
            ("In", Some(value), None) => Some(format!("{key}={value}")),
            ("NotIn", Some(value), None) => Some(format!("{key}!={value}")),
            _ => None,
        }
    };
    let terms: Vec<String> =
        items(spec, "/resourceAttributes/fieldSelector/requirements").filter_map(term).collect();
    terms.join(",").into()
}

/// `UserInfo`.
fn info(user: &User) -> Value {
    let mut info = Map::new();
    let mut add = |field: &str, value: Value| _ = info.insert(field.into(), value);
    if !user.name.is_empty() {
        add("username", (*user.name).into());
    }
    if !user.uid.is_empty() {
        add("uid", (*user.uid).into());
    }
    if !user.groups.is_empty() {
        add("groups", json!(&*user.groups));
    }
    if !user.extra.is_empty() {
        add("extra", json!(&*user.extra));
    }
    info.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_that_make_no_sense_are_said_to_be_ignored() {
        let known = json!({"key": "a", "operator": "In", "values": ["b"]});
        let unknown = json!({"key": "a", "operator": "Near", "values": ["b"]});
        let twice = json!({"key": "a", "operator": "In", "values": ["b", "c"]});
        let field = "spec.resourceAttributes.fieldSelector";
        let label = "spec.resourceAttributes.labelSelector";
        for (selectors, expect) in [
            (json!({"fieldSelector": {"requirements": [known]}}), vec![]),
            (
                json!({"fieldSelector": {"requirements": [known, unknown]}}),
                vec![format!("{field} partially ignored due to parse error")],
            ),
            (
                json!({"fieldSelector": {"requirements": [twice]}}),
                vec![format!("{field} ignored due to parse error")],
            ),
            (json!({"labelSelector": {"requirements": [twice]}}), vec![]),
            (
                json!({"labelSelector": {"rawSelector": "a in"}}),
                vec![format!("{label} ignored due to parse error")],
            ),
        ] {
            assert_eq!(ignored_selectors(&selectors), expect, "{selectors}");
        }
    }
}
