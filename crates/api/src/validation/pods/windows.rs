//! Rules of what only Windows knows: credentials, user names, containers that are
//! processes of the host.

use serde_json::Value;

use crate::field::{Error, Errors, Path};
use crate::tree::{flag, get, items};
use crate::validation::names;
use crate::validation::rules::invalid_each;

const MAX_CREDENTIALS_BYTES: usize = 64 << 10;
const MAX_DOMAIN_BYTES: usize = 256;
const MAX_USER_BYTES: usize = 104;

/// `windowsOptions` of a pod's or a container's security context.
pub fn options(context: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(options) = get(context, "windowsOptions") else { return };
    let given = |field: &str| get(options, field).and_then(Value::as_str);
    if let Some(name) = given("gmsaCredentialSpecName") {
        invalid_each(errors, &path.child("gmsaCredentialSpecName"), name, names::dns_subdomain(name));
    }
    if let Some(credentials) = given("gmsaCredentialSpec") {
        let path = path.child("gmsaCredentialSpec");
        if credentials.is_empty() {
            errors.push(Error::invalid(&path, "", "gmsaCredentialSpec cannot be an empty string"));
        } else if credentials.len() > MAX_CREDENTIALS_BYTES {
            let detail = "gmsaCredentialSpec size must be under 64 KiB";
            invalid_each(errors, &path, credentials, vec![detail.into()]);
        }
    }
    if let Some(name) = given("runAsUserName") {
        user_name(name, &path.child("runAsUserName"), errors);
    }
}

/// `user` or `domain\\user`.
fn user_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let mut refuse = |what: &str| errors.push(Error::invalid(path, name, &format!("runAsUserName{what}")));
    if name.is_empty() {
        return refuse(" cannot be an empty string");
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return refuse(" cannot contain control characters");
    }
    if name.matches('\\').count() > 1 {
        return refuse(" cannot contain more than one backslash");
    }
    let (domain, user) = match name.split_once('\\') {
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    if let Some(domain) = domain {
        if domain.len() >= MAX_DOMAIN_BYTES {
            refuse("'s Domain length must be under 256 characters");
        }
        if !net_bios(domain) && !dns(domain) {
            refuse("'s Domain doesn't match the NetBios nor the DNS format");
        }
    }
    if user.is_empty() {
        refuse("'s User cannot be empty");
    } else if user.len() > MAX_USER_BYTES {
        refuse("'s User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| ". ".contains(c)) {
        refuse("'s User cannot contain only periods or spaces");
    }
    if user.contains(|c| r#""/\:;|=,+*?<>@[]"#.contains(c)) {
        refuse(r#"'s User cannot contain the following characters: "/\:;|=,+*?<>@[]"#);
    }
}

fn net_bios(domain: &str) -> bool {
    let barred = |c: char| r#"\/:*?"<>|"#.contains(c);
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(barred)
}

fn dns(domain: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    domain.split('.').all(label)
}

/// Either all containers are processes of the host, or none.
pub fn host_processes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let chosen =
        |of: &Value| get(&of["securityContext"]["windowsOptions"], "hostProcess").and_then(Value::as_bool);
    let of_pod = chosen(spec);
    let (mut all, mut of_host) = (0, 0);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let list_path = path.child(list);
        for (at, container) in items(spec, list).iter().enumerate() {
            all += 1;
            let own = chosen(container);
            if let (Some(pod), Some(own)) = (of_pod, own)
                && pod != own
            {
                let detail =
                    format!("pod hostProcess value must be identical if both are specified, was {pod}");
                let path = list_path.index(at);
                let path = path.child("securityContext");
                let path = path.child("windowsOptions");
                errors.push(Error::invalid(&path.child("hostProcess"), own, &detail));
            }
            of_host += usize::from(own.or(of_pod) == Some(true));
        }
    }
    if of_host == 0 {
        return;
    }
    if of_host != all {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(Error::invalid(path, "", detail));
    }
    if !flag(spec, "hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Error::invalid(&path.child("hostNetwork"), false, detail));
    }
}
