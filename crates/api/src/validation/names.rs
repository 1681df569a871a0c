//! What names, keys and values may look like (RFC 1123, RFC 1035, label syntax).
//! Each check returns the sentences upstream says; none means valid. Hand-written
//! matchers stand for the regular expressions that the sentences quote.

use crate::field::{Error, Errors, Path};

/// Sentences about what is wrong with a value.
pub type Messages = Vec<String>;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// How apimachinery words a mismatch, examples and all (two spaces before "or").
pub fn regex_error(message: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{regex}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

/// `must be between low and high, inclusive`.
pub fn range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn characters(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// Whether the ends are of `ends` and everything between of `ends` or `inner`.
fn shaped(value: &str, ends: impl Fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = value.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    ends(*first) && ends(*last) && bytes.iter().all(|byte| ends(*byte) || inner.contains(byte))
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn label_shaped(value: &str) -> bool {
    shaped(value, lower, b"-")
}

fn subdomain_shaped(value: &str) -> bool {
    value.split('.').all(label_shaped)
}

/// RFC 1123 label.
pub fn dns_label(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > 63 {
        messages.push(characters(63));
    }
    if !label_shaped(value) {
        messages.push(if subdomain_shaped(value) {
            "must not contain dots".to_owned()
        } else {
            let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            regex_error(rule, LABEL, &["my-name", "123-abc"])
        });
    }
    messages
}

/// RFC 1123 subdomain.
pub fn dns_subdomain(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > 253 {
        messages.push(characters(253));
    }
    if !subdomain_shaped(value) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        messages.push(regex_error(rule, SUBDOMAIN, &["example.com"]));
    }
    messages
}

/// The same, of which bytes are counted.
pub fn long_name(value: &str) -> Messages {
    bytes(dns_subdomain(value))
}

/// RFC 1123 subdomain whose labels may hold underscores (DNS search paths).
pub fn dns_subdomain_with_underscore(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > 253 {
        messages.push(characters(253));
    }
    let label = |label: &str| shaped(label.strip_prefix('_').unwrap_or(label), lower, b"-_");
    if !value.split('.').all(label) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
        let regex = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        messages.push(regex_error(rule, regex, &["example.com"]));
    }
    messages
}

/// `*.` before a subdomain.
pub fn wildcard_subdomain(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > 253 {
        messages.push(characters(253));
    }
    if !value.strip_prefix("*.").is_some_and(subdomain_shaped) {
        let rule = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        messages.push(regex_error(rule, &format!(r"\*\.{SUBDOMAIN}"), &["*.example.com"]));
    }
    messages
}

/// RFC 1035 label: a letter first.
pub fn dns1035_label(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > 63 {
        messages.push(characters(63));
    }
    if !label_shaped(value) || !value.as_bytes()[0].is_ascii_lowercase() {
        let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        messages.push(regex_error(rule, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    messages
}

fn key_shaped(value: &str) -> bool {
    shaped(value, |byte| byte.is_ascii_alphanumeric(), b"-_.")
}

/// A label key: an optional subdomain and `/`, then a name.
pub fn qualified_name(value: &str) -> Messages {
    let mut messages = Messages::new();
    let examples = ["MyName", "my.name", "123-abc"];
    let name = match value.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            }
            let wrong = if prefix.is_empty() { Messages::new() } else { long_name(prefix) };
            messages.extend(wrong.into_iter().map(|message| format!("prefix part {message}")));
            name
        }
        _ => {
            let rule = regex_error(KEY_RULE, KEY, &examples);
            let tail = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {rule} {tail}")];
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        messages.push("name part must be no more than 63 bytes".to_owned());
    }
    if !key_shaped(name) {
        messages.push(format!("name part {}", regex_error(KEY_RULE, KEY, &examples)));
    }
    messages
}

/// Newer rules count bytes where names count characters.
fn bytes(messages: Messages) -> Messages {
    let reword = |message: String| match message.strip_suffix(" characters") {
        Some(head) if message.starts_with("must be no more") => format!("{head} bytes"),
        _ => message,
    };
    messages.into_iter().map(reword).collect()
}

/// A label's value.
pub fn label_value(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > 63 {
        messages.push("must be no more than 63 bytes".to_owned());
    }
    if !value.is_empty() && !key_shaped(value) {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        messages.push(regex_error(rule, &format!("({KEY})?"), &["MyValue", "my_value", "12345"]));
    }
    messages
}

/// A segment of a URL path (names of roles and custom objects).
pub fn path_segment(value: &str) -> Messages {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    path_segment_prefix(value)
}

/// A generateName of the same.
pub fn path_segment_prefix(value: &str) -> Messages {
    let held = ["/", "%"].into_iter().filter(|held| value.contains(held));
    held.map(|held| format!("may not contain '{held}'")).collect()
}

/// A C identifier.
pub fn c_identifier(value: &str) -> Messages {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid = value.bytes().all(word) && value.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if valid {
        return Messages::new();
    }
    let rule = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    vec![regex_error(rule, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn env_var_name(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.is_empty() {
        messages.push("environment variable name must be non-empty".to_owned());
    }
    if !value.bytes().all(|byte| (byte.is_ascii_graphic() || byte == b' ') && byte != b'=') {
        messages.push("a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned());
    }
    messages
}

/// A key of a ConfigMap or Secret: also a file name.
pub fn config_map_key(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > 253 {
        messages.push(characters(253));
    }
    let character = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if value.is_empty() || !value.bytes().all(character) {
        let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        messages.push(regex_error(rule, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." | ".." => messages.push(format!("must not be '{value}'")),
        _ if value.starts_with("..") => messages.push("must not start with '..'".to_owned()),
        _ => {}
    }
    messages
}

/// A port number.
pub fn port_number(value: i64) -> Messages {
    if (1..=65535).contains(&value) { Messages::new() } else { vec![range_error(1, 65535)] }
}

/// The name of a port (RFC 6335, lower case).
pub fn port_name(value: &str) -> Messages {
    let mut messages = Messages::new();
    if value.len() > 15 {
        messages.push(characters(15));
    }
    if value.is_empty() || !value.bytes().all(|byte| lower(byte) || byte == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        messages.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        messages.push("must not begin or end with a hyphen".to_owned());
    }
    messages
}

/// `25%`.
pub fn percent(value: &str) -> Messages {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Messages::new();
    }
    let rule = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![regex_error(rule, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Messages {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Messages::new();
    }
    let rule = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![regex_error(rule, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// What a prefix becomes before it is checked as a name: a trailing dash is fine,
/// because more follows. (Upstream cuts two bytes; so the result is one shorter.)
pub fn mask_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(head) if !head.is_empty() => {
            let cut = head.char_indices().next_back().map_or(0, |(at, _)| at);
            format!("{}a", &head[..cut])
        }
        _ => prefix.to_owned(),
    }
}

/// A domain, `/`, and a path (`managedBy`, an IngressClass's controller).
pub fn domain_prefixed_path(value: &str, path: &Path<'_>, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let Some((host, rest)) =
        value.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(Error::invalid(path, value, detail));
        return;
    };
    errors.extend(dns_subdomain(host).iter().map(|message| Error::invalid(path, host, message)));
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(inner) {
        let detail = regex_error("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]);
        errors.push(Error::invalid(path, rest, &detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: impl Fn(&str) -> Messages, valid: &[&str], invalid: &[&str]) {
        for value in valid {
            assert_eq!(rule(value), Messages::new(), "{value:?}");
        }
        for value in invalid {
            assert_ne!(rule(value), Messages::new(), "{value:?}");
        }
    }

    #[test]
    fn shapes() {
        let long = "a".repeat(64);
        check(dns_label, &["a", "a-b", "1"], &["", "A", "-a", "a-", "a.b", "a_b", &long]);
        check(dns_subdomain, &["a", "a.b-c.1", &long], &["", ".", "a..b", "a.-b", "A.b"]);
        check(dns_subdomain_with_underscore, &["_a.b", "a_b.c"], &["a_", "__", ""]);
        check(dns1035_label, &["a", "a1"], &["1a", "", "a."]);
        check(wildcard_subdomain, &["*.a.b"], &["*", "*.*.b", "a.b"]);
        check(qualified_name, &["a", "A_b.c", "x.y/z"], &["", "/a", "a/", "a/b/c", "-a", "X/y", &long]);
        check(label_value, &["", "a", "A.b_c"], &["-", "a/b", &long]);
        check(path_segment, &["a:b", "...", "A"], &[".", "..", "a/b", "a%"]);
        check(c_identifier, &["_a1"], &["", "1a", "a-b"]);
        check(env_var_name, &["a", "1", "a b"], &["", "a=b", "é"]);
        check(config_map_key, &["a.b", ".a"], &["", ".", "..", "..a", "a/b"]);
        check(port_name, &["http", "p-1"], &["", "1", "-a", "a--b", "Http", "abcdefghijklmnop"]);
        check(percent, &["0%", "100%"], &["%", "1", "-1%", "1.5%"]);
    }

    #[test]
    fn sentences() {
        assert_eq!(
            dns_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(mask_trailing_dash("web-"), "wea");
    }
}
