//! The key file: upstream's `EncryptionConfiguration`, so that it can be read by those who
//! know that, and edited by hand.
//!
//! Understood are the providers `aesgcm` (32-byte keys) and `identity`. As upstream, the
//! first entry that names a resource decides; its first provider and first key write, all
//! others are for reading.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrack_api::{Value, yaml};
use serde_json::json;

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes of a key's name at most: it is part of every stored value.
const NAME_BYTES: usize = 32;

const HEADER: &str = "\
# Keys with which records are encrypted before they reach the disk. Whoever has this file
# and the database can read them; without it they cannot be read by anyone.
# `carrack encryption rotate` makes a new first key and rewrites what is stored.
";

/// What encrypts what.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) rules: Vec<Rule>,
}

/// One entry of `resources`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group), `*.*`.
    pub(super) resources: Vec<String>,
    /// Whether the first provider encrypts.
    pub(super) encrypts: bool,
    /// Newest first.
    pub(super) keys: Vec<NamedKey>,
}

/// A key with its name.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct NamedKey {
    pub(super) name: String,
    pub(super) secret: [u8; KEY_BYTES],
}

impl Config {
    /// Secrets under one key.
    pub(super) fn first(secret: [u8; KEY_BYTES]) -> Self {
        let key = NamedKey { name: "key1".into(), secret };
        Self { rules: vec![Rule { resources: vec!["secrets".into()], encrypts: true, keys: vec![key] }] }
    }

    /// The rule for a resource as it is named in keys (`secrets`, `deployments.apps`).
    pub(super) fn rule(&self, resource: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.resources.iter().any(|pattern| covers(pattern, resource)))
    }

    /// Reads a file's text; an error says what is wrong and where.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let tree = yaml::read(text.as_bytes()).map_err(|error| error.to_string())?.value;
        if tree["kind"] != "EncryptionConfiguration" {
            return Err("kind: must be EncryptionConfiguration".into());
        }
        let rules = tree["resources"].as_array().ok_or("resources: must be a list")?;
        let rules = rules.iter().enumerate();
        let rules: Result<Vec<_>, String> = rules.map(|(at, rule)| parse_rule(at, rule)).collect();
        Ok(Self { rules: rules? })
    }

    /// The file's text.
    pub(super) fn render(&self) -> String {
        let rule = |rule: &Rule| {
            let keys: Vec<_> = rule
                .keys
                .iter()
                .map(|key| json!({"name": key.name, "secret": STANDARD.encode(key.secret)}))
                .collect();
            let aesgcm = (!keys.is_empty()).then(|| json!({"aesgcm": {"keys": keys}}));
            let identity = Some(json!({"identity": {}}));
            let providers = if rule.encrypts { [aesgcm, identity] } else { [identity, aesgcm] };
            let providers: Vec<_> = providers.into_iter().flatten().collect();
            json!({"resources": rule.resources, "providers": providers})
        };
        let tree = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": self.rules.iter().map(rule).collect::<Vec<_>>(),
        });
        // JSON is YAML.
        format!("{HEADER}{}\n", serde_json::to_string_pretty(&tree).expect("a tree always encodes"))
    }
}

fn covers(pattern: &str, resource: &str) -> bool {
    let (name, group) = resource.split_once('.').unwrap_or((resource, ""));
    match pattern.split_once('.') {
        Some(("*", "*")) => true,
        Some(("*", wanted)) => wanted == group,
        Some((wanted, rest)) => wanted == name && rest == group,
        None => pattern == name && group.is_empty(),
    }
}

fn parse_rule(at: usize, rule: &Value) -> Result<Rule, String> {
    let path = format!("resources[{at}]");
    let texts = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let resources = texts(&rule["resources"]).filter(|list| !list.is_empty());
    let resources = resources.ok_or_else(|| format!("{path}.resources: must be a list of names"))?;
    let providers = rule["providers"].as_array().filter(|list| !list.is_empty());
    let providers = providers.ok_or_else(|| format!("{path}.providers: must be a list"))?;
    let (mut keys, mut first) = (Vec::new(), None);
    for (at, provider) in providers.iter().enumerate() {
        let path = format!("{path}.providers[{at}]");
        let map = provider.as_object().filter(|map| map.len() == 1);
        let (name, provider) =
            map.and_then(|map| map.iter().next()).ok_or_else(|| format!("{path}: must have one field"))?;
        first.get_or_insert(name == "aesgcm");
        match name.as_str() {
            "identity" => {}
            "aesgcm" => parse_keys(&format!("{path}.aesgcm.keys"), &provider["keys"], &mut keys)?,
            other => {
                return Err(format!("{path}: the provider {other:?} is not known; use aesgcm or identity"));
            }
        }
    }
    Ok(Rule { resources, encrypts: first == Some(true), keys })
}

fn parse_keys(path: &str, list: &Value, keys: &mut Vec<NamedKey>) -> Result<(), String> {
    let list = list.as_array().filter(|list| !list.is_empty());
    for (at, key) in list.ok_or_else(|| format!("{path}: must be a list"))?.iter().enumerate() {
        let name = key["name"].as_str().unwrap_or_default();
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if name.is_empty() || name.len() > NAME_BYTES || !plain {
            return Err(format!(
                "{path}[{at}].name: must be 1 to {NAME_BYTES} letters, digits, '-', '_' or '.'"
            ));
        }
        if keys.iter().any(|key| key.name == name) {
            return Err(format!("{path}[{at}].name: {name:?} is there twice"));
        }
        let secret = STANDARD.decode(key["secret"].as_str().unwrap_or_default()).unwrap_or_default();
        let secret: [u8; KEY_BYTES] =
            secret.try_into().map_err(|_| format!("{path}[{at}].secret: must be 32 bytes in base64"))?;
        keys.push(NamedKey { name: name.to_owned(), secret });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_what_people_write() {
        let config = Config::first([7; KEY_BYTES]);
        assert!(Config::parse(&config.render()).is_ok_and(|read| read == config));
        let text = "
kind: EncryptionConfiguration
resources:
- resources: [secrets, 'configmaps.', '*.example.com']
  providers:
  - identity: {}
  - aesgcm: {keys: [{name: a, secret: BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=}]}
";
        let config = Config::parse(text).unwrap();
        assert!(!config.rules[0].encrypts && config.rules[0].keys.len() == 1);
        assert!(Config::parse(&config.render()).is_ok_and(|read| read == config));
        for (resource, covered) in
            [("secrets", true), ("configmaps", true), ("things.example.com", true), ("pods", false)]
        {
            assert_eq!(config.rule(resource).is_some(), covered, "{resource}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |rules: &str, expect: &str| {
            let text = format!("kind: EncryptionConfiguration\nresources: {rules}\n");
            let error = Config::parse(&text).err().expect("is refused");
            assert_eq!(error, expect, "{rules}");
        };
        check("1", "resources: must be a list");
        check("[{}]", "resources[0].resources: must be a list of names");
        check("[{resources: [a]}]", "resources[0].providers: must be a list");
        check(
            "[{resources: [a], providers: [{kms: {}}]}]",
            "resources[0].providers[0]: the provider \"kms\" is not known; use aesgcm or identity",
        );
        let keys = |keys: &str| format!("[{{resources: [a], providers: [{{aesgcm: {{keys: {keys}}}}}]}}]");
        let path = "resources[0].providers[0].aesgcm.keys";
        check(&keys("[]"), &format!("{path}: must be a list"));
        check(&keys("[{name: a, secret: eA==}]"), &format!("{path}[0].secret: must be 32 bytes in base64"));
        let name = format!("{path}[0].name: must be 1 to 32 letters, digits, '-', '_' or '.'");
        check(&keys("[{name: 'a:b'}]"), &name);
    }
}
