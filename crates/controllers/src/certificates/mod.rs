//! The controllers of certificate requests: nodes' own are approved when whoever asks
//! may have them, approved ones are signed by the cluster's CA, old ones are deleted.

pub mod decide;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrack_api::{Key, Record};
use carrack_client::clock::rfc3339;
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::CERTIFICATE_REQUESTS;
use carrack_client::{Cache, Client, Clock, DeleteOptions, Resource};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::shell::{self, Shared};
use decide::{Request, Step};

/// Signs certificate requests with the cluster's CA.
pub trait CertificateSigner: Send + Sync + 'static {
    /// Signs a request (DER) for usages, for as many seconds as it asks; answers the
    /// certificate in PEM.
    ///
    /// # Errors
    /// Why it cannot be signed.
    fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        seconds: Option<i64>,
        now: Timestamp,
    ) -> Result<String, String>;
}

struct Certificates {
    client: Client,
    clock: Arc<dyn Clock>,
    signer: Option<Arc<dyn CertificateSigner>>,
    requests: Arc<Cache>,
}

/// A step about a request.
struct Work {
    record: Arc<Record>,
    request: Request,
    step: Step,
}

/// Starts them. Without a signer, what is approved waits for one from outside.
pub(crate) fn start(shared: &Shared, signer: Option<Arc<dyn CertificateSigner>>) {
    let client = shared.client("certificate-controller");
    let queue = shell::queue();
    let requests = shared.informers.cache(&CERTIFICATE_REQUESTS);
    shell::enqueue_changes(&requests, &queue);
    let clock = shared.clock.clone();
    shared.run(Certificates { client, clock, signer, requests }, queue, 1);
}

impl Controller for Certificates {
    type Plan = Work;

    fn name(&self) -> &'static str {
        "certificates"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.requests.clone()]
    }

    fn decide(&self, key: &Key, now: Timestamp) -> Option<Work> {
        let record = self.requests.get(key)?;
        let request: Request = shell::read(&record)?;
        let step = decide::decide(&request, now)?;
        Some(Work { record, request, step })
    }

    async fn act(&self, key: &Key, work: Work, writes: &Writes) -> Result<Option<Duration>, Error> {
        let Work { record, request, step } = work;
        match step {
            Step::Wait(left) => return Ok(left.try_into().ok()),
            Step::Delete => {
                let options = DeleteOptions::of_uid(&request.metadata.uid);
                match self.client.delete(&CERTIFICATE_REQUESTS, ("", key.name()), &options).await {
                    Ok(_) => writes.deleted(key, &request.metadata.uid),
                    Err(error) if error.is_not_found() || error.is_conflict() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Step::Approve(ways) => {
                for (subresource, message) in ways {
                    if self.may(&record, subresource).await? {
                        return self
                            .write(&record, "approval", writes, |status, _| {
                                add_condition(status, "Approved", "AutoApproved", message, None);
                            })
                            .await;
                    }
                }
            }
            Step::Fail(detail) => {
                return self
                    .write(&record, "status", writes, |status, now| {
                        add_condition(status, "Failed", "SignerValidationFailure", &detail, Some(now));
                    })
                    .await;
            }
            Step::Sign(der) => {
                let Some(signer) = &self.signer else { return Ok(None) };
                let spec = &request.spec;
                let pem = signer
                    .sign(&der, &spec.usages, spec.expiration_seconds, self.clock.now())
                    .map_err(|error| Error::Other(format!("error auto signing csr: {error}")))?;
                let encoded = STANDARD.encode(pem);
                return self
                    .write(&record, "status", writes, |status, _| {
                        status["certificate"] = encoded.clone().into();
                    })
                    .await;
            }
        }
        Ok(None)
    }
}

impl Certificates {
    /// Whether whoever asked may create a subresource of certificate requests.
    async fn may(&self, record: &Record, subresource: &str) -> Result<bool, Error> {
        let object = record.decode();
        let spec = &object["spec"];
        let mut asked = json!({"resourceAttributes": {
            "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create",
            "subresource": subresource, "version": "*",
        }});
        for (field, from) in [("user", "username"), ("uid", "uid"), ("groups", "groups"), ("extra", "extra")]
        {
            if !spec[from].is_null() {
                asked[field] = spec[from].clone();
            }
        }
        let review =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked});
        let answer = self.client.create(&REVIEWS, "", &review).await?;
        Ok(answer.decode::<Value>()?["status"]["allowed"] == true)
    }

    async fn write(
        &self,
        record: &Record,
        subresource: &str,
        writes: &Writes,
        change: impl Fn(&mut Value, Timestamp),
    ) -> Result<Option<Duration>, Error> {
        let mut object = record.decode();
        if !object["status"].is_object() {
            object["status"] = json!({});
        }
        change(&mut object["status"], self.clock.now());
        let at = ("", record.key.name());
        writes.wrote(&self.client.replace(&CERTIFICATE_REQUESTS, at, subresource, &object).await?);
        Ok(None)
    }
}

static REVIEWS: Resource = Resource {
    group: std::borrow::Cow::Borrowed("authorization.k8s.io"),
    version: std::borrow::Cow::Borrowed("v1"),
    plural: std::borrow::Cow::Borrowed("subjectaccessreviews"),
    kind: std::borrow::Cow::Borrowed("SubjectAccessReview"),
    store: std::borrow::Cow::Borrowed("subjectaccessreviews.authorization.k8s.io"),
    namespaced: false,
};

fn add_condition(status: &mut Value, kind: &str, reason: &str, message: &str, at: Option<Timestamp>) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let mut condition = json!({"type": kind, "status": "True", "reason": reason, "message": message});
    if let Some(at) = at {
        condition["lastUpdateTime"] = rfc3339(at).into();
    }
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.push(condition);
    }
}
