//! Certificates: who may approve and sign requests of a signer, attest its bundles, and
//! which subject nobody may ask for.

use std::sync::Arc;

use carrack_api::Value;
use carrack_api::status::Status;
use futures::future::BoxFuture;
use x509_parser::prelude::FromDer;

use super::refuse;
use crate::auth::node::references::text;
use crate::auth::rbac::only_for_collection;
use crate::auth::{Authorizers, MASTERS};
use crate::registry::certificates::request_der;
use crate::request::{Attributes, User};
use crate::seams::{Admission, AdmissionRequest, Decision, Operation};

/// CertificateSigningRequests.
pub const REQUESTS: &str = "certificatesigningrequests.certificates.k8s.io";
const BUNDLES: &str = "clustertrustbundles.certificates.k8s.io";
/// The signer of clients of the API.
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// CertificateApproval, CertificateSigning, ClusterTrustBundleAttest and
/// CertificateSubjectRestriction.
pub struct Certificates {
    authorizers: Arc<Authorizers>,
}

impl Certificates {
    /// Asks the authorizers for the verbs on `signers`.
    pub fn new(authorizers: Arc<Authorizers>) -> Self {
        Self { authorizers }
    }

    /// Whether a user may do `verb` for a signer, by its name or all of its domain.
    fn allowed(&self, user: &User, verb: &str, signer: &str) -> bool {
        let domain = signer.split('/').next().unwrap_or_default();
        let any = format!("{domain}/*");
        [signer, &*any].iter().any(|name| {
            let mut attributes = Attributes::resource(verb, "certificates.k8s.io", "signers", "", name);
            attributes.version = "*".into();
            matches!(self.authorizers.decide(user, &attributes), Decision::Allow(_))
        })
    }

    fn check(&self, request: &AdmissionRequest<'_>, new: &Value) -> Result<(), Status> {
        let call = request.call;
        let signer = |object: &Value| text(object, "/spec/signerName").unwrap_or_default().to_owned();
        let demand = |verb: &str, action: &str, signer: &str| {
            if self.allowed(&call.user, verb, signer) {
                return Ok(());
            }
            let detail = format!("user not permitted to {action} signerName {signer:?}");
            Err(refuse(request, Some(new), &detail))
        };
        match (request.operation, &*call.kind.resource, &*call.subresource, request.old) {
            (Operation::Update, REQUESTS, "approval", Some(old)) => {
                demand("approve", "approve requests with", &signer(old))
            }
            (Operation::Update, REQUESTS, "status", Some(old)) => {
                let same = |field: &str| old["status"].get(field) == new["status"].get(field);
                if same("certificate") && same("conditions") {
                    return Ok(());
                }
                demand("sign", "sign requests with", &signer(old))
            }
            (Operation::Create, REQUESTS, "", _) if signer(new) == API_CLIENT => {
                restrict_subject(new).map_err(|detail| refuse(request, Some(new), &detail))
            }
            (Operation::Create | Operation::Update, BUNDLES, _, old) => {
                let signer = signer(new);
                if signer.is_empty() || old.is_some_and(|old| only_for_collection(new, old)) {
                    return Ok(());
                }
                demand("attest", "attest for", &signer)
            }
            _ => Ok(()),
        }
    }
}

/// The group that may do anything is not to be had by asking.
fn restrict_subject(request: &Value) -> Result<(), String> {
    let encoded = text(request, "/spec/request").unwrap_or_default();
    let der = request_der(encoded).map_err(|error| format!("failed to parse CSR: {error}"))?;
    let (_, parsed) = x509_parser::certification_request::X509CertificationRequest::from_der(&der)
        .map_err(|error| format!("failed to parse CSR: {error}"))?;
    let subject = &parsed.certification_request_info.subject;
    if subject.iter_organization().any(|group| group.as_str() == Ok(MASTERS)) {
        return Err(format!("use of {API_CLIENT} signer with {MASTERS} group is not allowed"));
    }
    Ok(())
}

impl Admission for Certificates {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        matches!(&*request.call.kind.resource, REQUESTS | BUNDLES)
            && matches!(request.operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest<'a>,
        object: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(object.map_or(Ok(()), |object| self.check(request, object))))
    }
}
