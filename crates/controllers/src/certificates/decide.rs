//! What to do about a certificate request: approve a node's, sign what is approved,
//! delete what is old. Pure.
//!
//! Follows upstream's `pkg/controller/certificates` and `apis/certificates/helpers.go`.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::common::Meta;
use crate::common::meta::{nullable, seconds};

/// Clients of the API.
pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Nodes as clients of the API.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Nodes' own endpoints.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Anything, for old clients.
pub const LEGACY: &str = "kubernetes.io/legacy-unknown";

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);
const NODES: &str = "system:nodes";

/// A CertificateSigningRequest.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Request {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: Spec,
    /// `status`.
    pub status: Status,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The request: base64 of PEM.
    pub request: String,
    /// Who is to sign.
    pub signer_name: String,
    /// What it is to be used for.
    #[serde(deserialize_with = "nullable")]
    pub usages: Vec<String>,
    /// How long it shall live.
    pub expiration_seconds: Option<i64>,
    /// Who asked.
    pub username: String,
}

/// `status`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What has been decided.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
    /// The certificate: base64 of PEM.
    pub certificate: String,
}

/// A condition.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `Approved`, `Denied` or `Failed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`.
    pub status: String,
    /// When.
    #[serde(with = "seconds")]
    pub last_update_time: Option<Timestamp>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Approve if whoever asked may do one of these: a subresource of
    /// certificatesigningrequests to create, and the words of the approval.
    Approve(Vec<(&'static str, &'static str)>),
    /// Sign this (DER).
    Sign(Vec<u8>),
    /// It asks for what its signer does not sign.
    Fail(String),
    /// Nobody needs it any more.
    Delete,
    /// Look again then.
    Wait(SignedDuration),
}

/// What a request's names are.
struct Names {
    common: String,
    organizations: Vec<String>,
    dns: bool,
    ip: bool,
    email: bool,
    uri: bool,
}

/// Decides.
pub fn decide(request: &Request, now: Timestamp) -> Option<Step> {
    if request.metadata.deleting() {
        return None;
    }
    let due = due(request)?;
    if now > due {
        return Some(Step::Delete);
    }
    let open = request.status.certificate.is_empty() && !has(request, "Denied") && !has(request, "Failed");
    let step = match (open, has(request, "Approved")) {
        (true, false) => approval(request),
        (true, true) => signature(request),
        _ => None,
    };
    let left = due.duration_since(now) + SignedDuration::from_secs(1);
    Some(step.unwrap_or(Step::Wait(left)))
}

fn has(request: &Request, kind: &str) -> bool {
    request.status.conditions.iter().any(|condition| condition.kind == kind && condition.status == "True")
}

/// When the request is deleted.
fn due(request: &Request) -> Option<Timestamp> {
    let issued = !request.status.certificate.is_empty();
    let after = |from: Option<Timestamp>, life| from.and_then(|at| at.checked_add(life).ok());
    if request.status.conditions.is_empty() && !issued {
        return after(request.metadata.creation_timestamp, DAY);
    }
    let by_condition = request.status.conditions.iter().filter_map(|condition| {
        let life = match &*condition.kind {
            "Approved" if !issued => DAY,
            "Approved" | "Denied" | "Failed" => HOUR,
            _ => return None,
        };
        after(condition.last_update_time, life)
    });
    let expires = issued.then(|| expiry(&request.status.certificate)).flatten();
    by_condition.chain(expires).min().or(Some(Timestamp::MAX))
}

fn expiry(encoded: &str) -> Option<Timestamp> {
    let block = pem(encoded)?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

fn pem(encoded: &str) -> Option<Pem> {
    let text = STANDARD.decode(encoded).ok()?;
    Pem::iter_from_buffer(&text).next()?.ok()
}

/// Only nodes' own client certificates are approved without a person.
fn approval(request: &Request) -> Option<Step> {
    let names = Names::read(&pem(&request.spec.request)?.contents)?;
    if request.spec.signer_name != KUBELET_CLIENT || kubelet_client(&names, &request.spec.usages).is_err() {
        return None;
    }
    let mut ways = Vec::new();
    if request.spec.username == names.common {
        ways.push((
            "selfnodeclient",
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
        ));
    }
    ways.push(("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."));
    Some(Step::Approve(ways))
}

fn signature(request: &Request) -> Option<Step> {
    let der = pem(&request.spec.request)?.contents;
    let names = Names::read(&der)?;
    let usages = &request.spec.usages;
    let checked = match &*request.spec.signer_name {
        API_CLIENT => client_usages(usages),
        KUBELET_CLIENT => kubelet_client(&names, usages),
        KUBELET_SERVING => kubelet_serving(&names, usages),
        LEGACY => Ok(()),
        _ => return None,
    };
    Some(match checked {
        Ok(()) => Step::Sign(der),
        Err(detail) => Step::Fail(detail),
    })
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    for usage in usages {
        if !matches!(&**usage, "digital signature" | "key encipherment" | "client auth") {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    if usages.iter().any(|usage| usage == "client auth") {
        return Ok(());
    }
    Err("missing required usage for client certificate: client auth".to_owned())
}

fn node_names(names: &Names) -> Result<(), String> {
    let own = names.organizations == [NODES];
    if own { Ok(()) } else { Err("subject organization is not system:nodes".to_owned()) }
}

fn node_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let asked: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let mut wanted = BTreeSet::from([purpose, "digital signature"]);
    let lean = asked == wanted;
    wanted.insert("key encipherment");
    if lean || asked == wanted {
        return Ok(());
    }
    let all: Vec<&str> = wanted.into_iter().collect();
    Err(format!("usages did not match [{}]", all.join(" ")))
}

fn node_name(names: &Names) -> Result<(), String> {
    let own = names.common.starts_with("system:node:");
    if own { Ok(()) } else { Err("subject common name does not begin with system:node:".to_owned()) }
}

fn none(there: bool, what: &str) -> Result<(), String> {
    if there { Err(format!("{what} subjectAltNames are not allowed")) } else { Ok(()) }
}

fn kubelet_client(names: &Names, usages: &[String]) -> Result<(), String> {
    node_names(names)?;
    none(names.dns, "DNS")?;
    none(names.email, "Email")?;
    none(names.ip, "IP")?;
    none(names.uri, "URI")?;
    node_name(names)?;
    node_usages(usages, "client auth")
}

fn kubelet_serving(names: &Names, usages: &[String]) -> Result<(), String> {
    node_names(names)?;
    if !names.dns && !names.ip {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    none(names.email, "Email")?;
    none(names.uri, "URI")?;
    node_usages(usages, "server auth")?;
    node_name(names)
}

impl Names {
    fn read(der: &[u8]) -> Option<Self> {
        let (_, request) = X509CertificationRequest::from_der(der).ok()?;
        let subject = &request.certification_request_info.subject;
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().unwrap_or_default().to_owned()
        };
        let mut names = Self {
            common: subject.iter_common_name().last().map(text).unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            dns: false,
            ip: false,
            email: false,
            uri: false,
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(alternatives) = extension else { continue };
            for name in &alternatives.general_names {
                match name {
                    GeneralName::DNSName(_) => names.dns = true,
                    GeneralName::IPAddress(_) => names.ip = true,
                    GeneralName::RFC822Name(_) => names.email = true,
                    GeneralName::URI(_) => names.uri = true,
                    _ => {}
                }
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(common: &str, organization: &str) -> Names {
        Names {
            common: common.into(),
            organizations: vec![organization.into()],
            dns: false,
            ip: false,
            email: false,
            uri: false,
        }
    }

    fn usages(all: &[&str]) -> Vec<String> {
        all.iter().map(|usage| (*usage).to_owned()).collect()
    }

    #[test]
    fn signers_sign_what_is_theirs() {
        let node = names("system:node:n1", NODES);
        let client = usages(&["digital signature", "client auth"]);
        assert_eq!(kubelet_client(&node, &client), Ok(()));
        assert_eq!(
            kubelet_client(&node, &usages(&["client auth"])).unwrap_err(),
            "usages did not match [client auth digital signature key encipherment]"
        );
        assert_eq!(
            kubelet_client(&names("system:node:n1", "system:masters"), &client).unwrap_err(),
            "subject organization is not system:nodes"
        );
        assert_eq!(
            kubelet_client(&names("ann", NODES), &client).unwrap_err(),
            "subject common name does not begin with system:node:"
        );
        let named = Names { dns: true, ..names("system:node:n1", NODES) };
        assert_eq!(kubelet_client(&named, &client).unwrap_err(), "DNS subjectAltNames are not allowed");
        let serving = usages(&["digital signature", "key encipherment", "server auth"]);
        assert_eq!(kubelet_serving(&named, &serving), Ok(()));
        assert_eq!(kubelet_serving(&node, &serving).unwrap_err(), "DNS or IP subjectAltName is required");
        assert_eq!(client_usages(&client), Ok(()));
        assert_eq!(
            client_usages(&usages(&["server auth"])).unwrap_err(),
            "invalid usage for client certificate: server auth"
        );
        assert_eq!(
            client_usages(&usages(&["digital signature"])).unwrap_err(),
            "missing required usage for client certificate: client auth"
        );
    }

    #[test]
    fn requests_go_when_they_are_old() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let condition = |kind: &str| Condition {
            kind: kind.into(),
            status: "True".into(),
            last_update_time: Some(start),
        };
        let check = |conditions: &[&str], hours: i64, expect: bool| {
            let mut request = Request::default();
            request.metadata.creation_timestamp = Some(start);
            request.status.conditions = conditions.iter().map(|kind| condition(kind)).collect();
            let step = decide(&request, start + SignedDuration::from_mins(hours * 60 + 1));
            assert_eq!(step == Some(Step::Delete), expect, "{conditions:?} after {hours} h: {step:?}");
        };
        check(&[], 23, false);
        check(&[], 24, true);
        check(&["Denied"], 1, true);
        check(&["Failed"], 0, false);
        check(&["Approved"], 23, false);
        check(&["Approved"], 24, true);
    }
}
