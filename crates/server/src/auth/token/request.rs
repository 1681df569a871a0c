//! `serviceaccounts/token`: issues a token for a service account (KEP-1205).
//!
//! Follows upstream's `registry/core/serviceaccount/storage/token.go`. A token lives at
//! least ten minutes. One bound to a pod and asked for 3607 seconds, which is what
//! every pod's volume asks for, lives a year, since some programs never read it again;
//! after the 3607 seconds it counts as stale.

use std::sync::Arc;

use carrack_api::field::{Error, Path};
use carrack_api::status::Status;
use carrack_api::{Key, Record, Value};
use futures::future::BoxFuture;
use jiff::SignedDuration;
use serde_json::json;

use super::claims::Ref;
use super::{Claims, Tokens};
use crate::auth::node::references::text;
use crate::clock::rfc3339;
use crate::registry::{Call, Registry};
use crate::seams::{Action, Operation};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;
/// What pods' volumes ask for.
const PROJECTED_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// The subresource's action.
pub struct TokenRequest {
    tokens: Arc<Tokens>,
}

/// What a token is to be bound to, as it is stored.
#[derive(Default)]
struct Bound {
    pod: Option<Ref>,
    secret: Option<Ref>,
    node: Option<Ref>,
}

impl TokenRequest {
    /// Issues with `tokens`.
    pub fn new(tokens: Arc<Tokens>) -> Self {
        Self { tokens }
    }

    pub(super) fn issue(&self, call: &Call, mut body: Value) -> Result<Value, Status> {
        let (namespace, name) = (&*call.namespace, &*call.name);
        check_name(&body, name)?;
        if text(&body, "/metadata/namespace").is_some_and(|given| given != namespace) {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let account = self.get("serviceaccounts", namespace, name)?;
        let uid = account.header().uid.clone();
        if let Some(given) = text(&body, "/metadata/uid").filter(|given| *given != &*uid) {
            let detail = format!(
                "the UID in the token request ({given}) does not match the UID of the service account ({uid})"
            );
            return Err(Status::conflict(GROUP, KIND, name, &detail));
        }
        let spec = body.get("spec").cloned().unwrap_or_else(|| json!({}));
        let seconds = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_SECONDS);
        check_seconds(seconds)?;
        let own = &self.tokens.config().audiences;
        let asked: Vec<String> = spec["audiences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|audience| audience.as_str().map(str::to_owned))
            .collect();
        let audiences = if asked.is_empty() { own.clone() } else { asked };
        let bound = match spec.get("boundObjectRef").filter(|reference| !reference.is_null()) {
            Some(reference) => self.bind(namespace, name, reference)?,
            None => Bound::default(),
        };
        let extend = bound.pod.is_some()
            && seconds == PROJECTED_SECONDS
            && audiences.iter().all(|audience| own.contains(audience));
        let lives = if extend { EXTENDED_SECONDS } else { seconds };
        let claims = Claims {
            issuer: self.tokens.config().issuer.clone(),
            audiences: audiences.clone(),
            issued: call.now,
            not_before: call.now,
            expires: call.now + SignedDuration::from_secs(lives),
            id: uuid::Uuid::new_v4().to_string().into(),
            namespace: namespace.into(),
            account: Ref { name: name.into(), uid: uid.clone() },
            pod: bound.pod,
            secret: bound.secret,
            node: bound.node,
            warn_after: extend.then(|| call.now + SignedDuration::from_secs(seconds)),
        };
        body["metadata"]["name"] = name.into();
        body["metadata"]["namespace"] = namespace.into();
        body["metadata"]["uid"] = (*uid).into();
        body["metadata"]["creationTimestamp"] = rfc3339(call.now).into();
        body["spec"] = spec;
        body["spec"]["audiences"] = json!(audiences);
        body["spec"]["expirationSeconds"] = seconds.into();
        body["status"] = json!({
            "token": self.tokens.sign(&claims)?,
            "expirationTimestamp": rfc3339(call.now + SignedDuration::from_secs(seconds)),
        });
        Ok(body)
    }

    fn get(&self, resource: &str, namespace: &str, name: &str) -> Result<Arc<Record>, Status> {
        let record = self.tokens.store.get(&Key::new(resource, namespace, name));
        record.ok_or_else(|| Status::not_found("", resource, name))
    }

    fn bind(&self, namespace: &str, account: &str, reference: &Value) -> Result<Bound, Status> {
        let part = |field: &str| text(reference, field).unwrap_or_default();
        let (version, kind, name, uid) = (part("/apiVersion"), part("/kind"), part("/name"), part("/uid"));
        let mut bound = Bound::default();
        // A version without a group is of the core group, whatever it is.
        let core = !version.contains('/');
        let target = match kind {
            "Pod" if core => {
                let pod = self.get("pods", namespace, name)?;
                let object = pod.decode();
                if text(&object, "/spec/serviceAccountName") != Some(account) {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different \
                         serviceaccount name."
                    )));
                }
                bound.node = text(&object, "/spec/nodeName").map(|node| {
                    let record = self.tokens.store.get(&Key::new("nodes", "", node));
                    let uid = record.map(|record| record.header().uid.clone());
                    Ref { name: node.into(), uid: uid.unwrap_or_default() }
                });
                bound.pod = Some(Ref { name: name.into(), uid: pod.header().uid.clone() });
                &bound.pod
            }
            "Node" if core => {
                let uid = self.get("nodes", "", name)?.header().uid.clone();
                bound.node = Some(Ref { name: name.into(), uid });
                &bound.node
            }
            "Secret" if core => {
                let uid = self.get("secrets", namespace, name)?.header().uid.clone();
                bound.secret = Some(Ref { name: name.into(), uid });
                &bound.secret
            }
            _ => {
                let (group, version) = carrack_api::kind::group_version(version);
                let detail = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
                return Err(Status::bad_request(detail));
            }
        };
        let stored = target.as_ref().map(|target| &*target.uid).unwrap_or_default();
        if !uid.is_empty() && uid != stored {
            let detail = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object \
                 might have been deleted and then recreated"
            );
            return Err(Status::conflict("", kind, name, &detail));
        }
        Ok(bound)
    }
}

impl Action for TokenRequest {
    fn act<'a>(
        &'a self,
        call: &'a Call,
        registry: &'a Registry,
        body: Value,
    ) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(async move {
            // Admission sees what was asked for, before defaults: a node may ask only
            // for tokens that its pods ask for.
            registry.admit(call, Operation::Create, None, Some(&body)).await?;
            self.issue(call, body)
        })
    }
}

fn check_name(body: &Value, name: &str) -> Result<(), Status> {
    match text(body, "/metadata/name") {
        Some(given) if given != name => {
            let meta = Path::ROOT.child("metadata");
            let detail = "must match the service account name if specified";
            Err(Status::invalid(GROUP, KIND, name, &[Error::invalid(&meta.child("name"), given, detail)]))
        }
        _ => Ok(()),
    }
}

fn check_seconds(seconds: i64) -> Result<(), Status> {
    let detail = match seconds {
        ..LEAST_SECONDS => "may not specify a duration less than 10 minutes",
        LEAST_SECONDS..=MOST_SECONDS => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let spec = Path::ROOT.child("spec");
    let error = Error::invalid(&spec.child("expirationSeconds"), seconds, detail);
    Err(Status::invalid(GROUP, KIND, "", &[error]))
}
