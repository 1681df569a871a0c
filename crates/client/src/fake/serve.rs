//! The verbs of the [`Fake`].

use std::sync::Arc;

use bytes::Bytes;
use carrack_api::status::Status;
use carrack_api::{Key, Value};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::json;

use super::{Fake, State};
use crate::Resource;

/// What a path names.
struct Target<'a> {
    resource: &'a Resource,
    namespace: String,
    name: String,
    subresource: String,
}

type Answer = Result<Response<Full<Bytes>>, tower::BoxError>;

impl Fake {
    pub(super) async fn serve(self: Arc<Self>, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        let Some(target) = self.target(parts.uri.path()) else {
            return answer(Err(Status::other(
                404,
                "NotFound",
                "the server could not find the requested resource",
            )));
        };
        let mut state = self.lock();
        if parts.method != Method::GET {
            state.writes += 1;
        }
        let content_type = parts.headers.get("content-type").and_then(|value| value.to_str().ok());
        let strategic = content_type.is_some_and(|text| text.contains("strategic"));
        let result = match (&parts.method, target.name.is_empty()) {
            (&Method::GET, true) => Ok(state.list(&target)),
            (&Method::GET, false) => state.read(&target),
            (&Method::POST, true) => state.create(&target, body),
            (&Method::POST, false) => state.bind(&target, &body),
            (&Method::PUT, _) => state.replace(&target, body),
            (&Method::PATCH, _) => state.patch(&target, &body, strategic),
            (&Method::DELETE, false) => state.delete(&target, &body),
            (&Method::DELETE, true) => state.delete_collection(&target),
            _ => Err(Status::method_not_supported("", "", parts.method.as_str())),
        };
        let broken = state.break_at.is_some_and(|at| state.writes >= at);
        if broken {
            state.break_at = None;
        }
        self.publish(state);
        if broken {
            return Err("the connection broke off".into());
        }
        answer(result)
    }

    fn target(&self, path: &str) -> Option<Target<'_>> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match parts.as_slice() {
            ["api", _, rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let known = |plural: &str| self.resources.iter().find(|r| r.group == group && r.plural == plural);
        let (namespace, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..] if known(plural).is_some() => {
                (*namespace, [&[*plural], rest].concat())
            }
            rest => ("", rest.to_vec()),
        };
        let at = |index: usize| rest.get(index).map(ToString::to_string).unwrap_or_default();
        let resource = known(rest.first()?)?;
        Some(Target { resource, namespace: namespace.into(), name: at(1), subresource: at(2) })
    }
}

fn answer(result: Result<Value, Status>) -> Answer {
    let (code, body) = match result {
        Ok(object) => (200, object),
        Err(status) => (status.code, status.to_value()),
    };
    Ok(Response::builder().status(code).body(Full::from(serde_json::to_vec(&body)?))?)
}

impl Target<'_> {
    fn key(&self) -> Key {
        self.resource.key(&self.namespace, &self.name)
    }

    fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, &self.name)
    }
}

impl State {
    fn list(&self, target: &Target) -> Value {
        let prefix = match target.namespace.as_str() {
            "" => format!("{}/", target.resource.store),
            namespace => format!("{}/{namespace}/", target.resource.store),
        };
        let items = self.objects.iter().filter(|(key, _)| key.as_str().starts_with(&prefix));
        let items: Vec<&Value> = items.map(|(_, object)| object).collect();
        json!({"metadata": {"resourceVersion": self.revision.to_string()}, "items": items})
    }

    fn read(&self, target: &Target) -> Result<Value, Status> {
        self.objects.get(&target.key()).cloned().ok_or_else(|| target.not_found())
    }

    fn create(&mut self, target: &Target, mut object: Value) -> Result<Value, Status> {
        let uid = self.next_uid();
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            let prefix = meta["generateName"].as_str().unwrap_or_default();
            meta["name"] = format!("{prefix}{}", &uid[..5]).into();
        }
        if target.resource.namespaced {
            meta["namespace"] = target.namespace.as_str().into();
        }
        meta["uid"] = uid.into();
        meta["generation"] = 1.into();
        meta["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let name = meta["name"].as_str().unwrap_or_default().to_owned();
        let key = target.resource.key(&target.namespace, &name);
        if self.objects.contains_key(&key) {
            return Err(Status::already_exists(&target.resource.group, &target.resource.plural, &name));
        }
        self.store(&key, object);
        Ok(self.objects[&key].clone())
    }

    fn bind(&mut self, target: &Target, binding: &Value) -> Result<Value, Status> {
        let mut pod = self.read(target)?;
        if !pod["spec"]["nodeName"].is_null() {
            return Err(Status::modified("", "pods/binding", &target.name));
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.store(&target.key(), pod);
        Ok(json!({"kind": "Status", "status": "Success"}))
    }

    fn replace(&mut self, target: &Target, new: Value) -> Result<Value, Status> {
        let old = self.read(target)?;
        let wanted = &new["metadata"]["resourceVersion"];
        if !wanted.is_null() && *wanted != old["metadata"]["resourceVersion"] {
            return Err(Status::modified(&target.resource.group, &target.resource.plural, &target.name));
        }
        self.write(target, &old, new)
    }

    fn patch(&mut self, target: &Target, patch: &Value, strategic: bool) -> Result<Value, Status> {
        let old = self.read(target)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != old["metadata"][field] {
                return Err(Status::modified(&target.resource.group, &target.resource.plural, &target.name));
            }
        }
        let mut new = old.clone();
        merge(&mut new, patch, strategic);
        self.write(target, &old, new)
    }

    /// Stores a changed object: only its part, and nothing if nothing changes.
    fn write(&mut self, target: &Target, old: &Value, new: Value) -> Result<Value, Status> {
        let mut next = old.clone();
        if target.subresource == "status" {
            next["status"] = new["status"].clone();
            next["metadata"]["annotations"] = new["metadata"]["annotations"].clone();
            if next["metadata"]["annotations"].is_null() {
                next["metadata"].as_object_mut().map(|meta| meta.remove("annotations"));
            }
        } else {
            let (uid, status) = (old["metadata"]["uid"].clone(), old["status"].clone());
            next = new;
            (next["metadata"]["uid"], next["status"]) = (uid, status);
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(1);
            let changed = i64::from(next["spec"] != old["spec"]);
            next["metadata"]["generation"] = (generation + changed).into();
        }
        next["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        // As the server, which knows no null in an object's parts.
        if let Some(fields) = next.as_object_mut() {
            fields.retain(|_, part| !part.is_null());
        }
        if next == *old {
            return Ok(next);
        }
        let key = target.key();
        let meta = &next["metadata"];
        let held = meta["finalizers"].as_array().is_some_and(|list| !list.is_empty())
            || next["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
        let released =
            old["metadata"]["finalizers"] != meta["finalizers"] || target.subresource == "finalize";
        if !meta["deletionTimestamp"].is_null() && !held && released {
            self.drop_object(&key);
            return Ok(next);
        }
        self.store(&key, next);
        Ok(self.objects[&key].clone())
    }

    fn delete(&mut self, target: &Target, options: &Value) -> Result<Value, Status> {
        let mut object = self.read(target)?;
        for (field, wanted) in options["preconditions"].as_object().into_iter().flatten() {
            if object["metadata"][field] != *wanted {
                return Err(Status::modified(&target.resource.group, &target.resource.plural, &target.name));
            }
        }
        let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        match options["propagationPolicy"].as_str() {
            Some("Foreground") => finalizers.push("foregroundDeletion".into()),
            Some("Orphan") => finalizers.push("orphan".into()),
            _ => {}
        }
        // A bound pod waits for its node, unless nobody is to wait.
        let bound = target.resource.plural == "pods" && !object["spec"]["nodeName"].is_null();
        let graceful = bound && options["gracePeriodSeconds"] != 0;
        let held = object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
        let key = target.key();
        if !finalizers.is_empty() || graceful || held {
            object["metadata"]["finalizers"] = finalizers.into();
            if object["metadata"]["deletionTimestamp"].is_null() {
                object["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z".into();
                self.store(&key, object);
            }
            return self.read(target);
        }
        self.drop_object(&key);
        Ok(json!({"kind": "Status", "status": "Success"}))
    }

    fn delete_collection(&mut self, target: &Target) -> Result<Value, Status> {
        let prefix = format!("{}/{}/", target.resource.store, target.namespace);
        let keys: Vec<Key> =
            self.objects.keys().filter(|key| key.as_str().starts_with(&prefix)).cloned().collect();
        for key in keys {
            let one = Target {
                resource: target.resource,
                namespace: key.namespace().into(),
                name: key.name().into(),
                subresource: String::new(),
            };
            self.delete(&one, &Value::Null)?;
        }
        Ok(json!({"kind": "Status", "status": "Success"}))
    }
}

/// Merge patch; a strategic one also merges conditions by their type.
fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|map| map.remove(field));
        } else if strategic && field == "conditions" {
            let mut list = target[field].as_array().cloned().unwrap_or_default();
            for one in value.as_array().into_iter().flatten() {
                match list.iter_mut().find(|old| old["type"] == one["type"]) {
                    Some(old) => merge(old, one, strategic),
                    None => list.push(one.clone()),
                }
            }
            target[field] = list.into();
        } else {
            merge(&mut target[field], value, strategic);
        }
    }
}
