//! The kubeconfig file, as kubectl and client libraries read it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Identity;

/// A kubeconfig with one cluster, one user, one context.
pub(super) fn render(url: &str, ca: &str, user: &str, identity: &Identity) -> String {
    let (ca, certificate, key) =
        (STANDARD.encode(ca), STANDARD.encode(&identity.certificate), STANDARD.encode(&identity.key));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: carrack
  cluster:
    server: {url}
    certificate-authority-data: {ca}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: carrack
  context:
    cluster: carrack
    user: {user}
current-context: carrack
"
    )
}

/// Whether a kubeconfig of ours leads to this URL and trusts this CA.
pub(super) fn fits(text: &str, url: &str, ca: &str) -> bool {
    value(text, "server") == Some(url)
        && value(text, "certificate-authority-data") == Some(&STANDARD.encode(ca))
        && value(text, "client-key-data").is_some()
}

/// The client certificate in a kubeconfig of ours, in PEM.
pub(super) fn certificate(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(value(text, "client-certificate-data")?).ok()?).ok()
}

/// The value of a key in the lines that [`render`] writes.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix(": "))
}
