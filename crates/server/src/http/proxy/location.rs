//! What a request through `pods/proxy` or `services/proxy` means, and why there may be
//! nothing to pass it on to. Pure. (Passing it on is not supported yet.)

use std::net::IpAddr;

use carrack_api::Value;
use carrack_api::status::Status;

/// The parts of `name`, `name:port` and `scheme:name:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id<'a> {
    pub(super) name: &'a str,
    /// A number or a name; empty when none is given.
    pub(super) port: &'a str,
}

impl<'a> Id<'a> {
    /// # Errors
    /// 400 when it is none of the three; `what` is `pod` or `service`.
    pub(super) fn of(text: &'a str, what: &str) -> Result<Self, Status> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => ("", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return Err(Status::bad_request(format!("invalid {what} request {text:?}")));
        }
        Ok(Self { name, port })
    }
}

/// Whether a pod has an address that may be reached.
///
/// # Errors
/// 400 when it has none, or the node's own.
pub(super) fn of_pod(pod: &Value) -> Result<(), Status> {
    let address = pod["status"]["podIP"].as_str().and_then(|text| text.parse().ok());
    if address.is_some_and(is_global_unicast) {
        return Ok(());
    }
    Err(Status::bad_request("address not allowed"))
}

fn is_global_unicast(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local)
}

/// Whether a Service has the port that is asked for, and an endpoint there.
///
/// # Errors
/// 404 when it has no Endpoints at all, 503 when there is nothing behind the port.
pub(super) fn of_service(
    id: Id<'_>,
    asked: &str,
    service: &Value,
    endpoints: Option<&Value>,
) -> Result<(), Status> {
    let ports = || service["spec"]["ports"].as_array().into_iter().flatten();
    let port = match id.port.parse::<i64>() {
        Ok(number) => {
            let found = ports().find(|port| port["port"] == number).ok_or_else(|| {
                Status::unavailable(format!("no service port {number} found for service {:?}", id.name))
            })?;
            found["name"].as_str().unwrap_or_default()
        }
        Err(_) => id.port,
    };
    let endpoints = endpoints.ok_or_else(|| Status::not_found("", "services", id.name))?;
    let none = |name: &str| Err(Status::unavailable(format!("no endpoints available for service {name:?}")));
    let Some(subsets) = endpoints["subsets"].as_array().filter(|subsets| !subsets.is_empty()) else {
        return none(id.name);
    };
    let any = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    let named = |subset: &Value| {
        let mut ports = subset["ports"].as_array().into_iter().flatten();
        ports.any(|one| one["name"].as_str().unwrap_or_default() == port)
    };
    if subsets.iter().any(|subset| any(&subset["addresses"]) && named(subset)) {
        return Ok(());
    }
    none(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_is_asked_for() {
        let check = |text: &str, expect: Option<(&str, &str)>| {
            assert_eq!(Id::of(text, "pod").ok().map(|id| (id.name, id.port)), expect, "{text}");
        };
        check("web", Some(("web", "")));
        check("web:http", Some(("web", "http")));
        check("https:web:443", Some(("web", "443")));
        check("ftp:web:21", None);
        check(":80", None);
        check("a:b:c:d", None);
        let refused = Id::of("a:b:c", "service").unwrap_err();
        assert_eq!(refused.message, "invalid service request \"a:b:c\"");
    }

    #[test]
    fn only_addresses_of_pods_are_allowed() {
        for (address, allowed) in [
            ("", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("0.0.0.0", false),
            ("fe80::1", false),
            ("10.0.0.7", true),
            ("fd00::7", true),
        ] {
            let refused = of_pod(&json!({"status": {"podIP": address}})).err().map(|status| status.message);
            assert_eq!(refused.as_deref(), (!allowed).then_some("address not allowed"), "{address}");
        }
    }
}
