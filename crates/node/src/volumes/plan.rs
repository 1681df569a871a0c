//! What each volume of a pod shall hold. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Volume, VolumeProjection,
};

use crate::spec::resources::units;
use crate::spec::{ConfigError, Objects, PodFacts, fields};

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its contents.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Its owner, when it is not root.
    pub uid: Option<u32>,
}

/// Files by relative path.
pub type Payload = BTreeMap<String, File>;

/// What a volume shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// An empty directory to write to.
    EmptyDir {
        /// On a tmpfs of its own.
        memory: bool,
        /// Bytes of that tmpfs.
        size: Option<u64>,
    },
    /// A path of the node.
    HostPath {
        /// Absolute.
        path: String,
        /// `type` of the source; empty checks nothing.
        kind: String,
    },
    /// Files that the agent writes.
    Files {
        /// Directory name of the kind, such as `kubernetes.io~configmap`.
        plugin: &'static str,
        /// Never on disk.
        memory: bool,
        /// The files.
        payload: Payload,
    },
}

/// A service account token that a volume needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRequest {
    /// Audience; empty is the API server's.
    pub audience: String,
    /// Seconds of validity.
    pub expiration: i64,
}

/// Tokens that a pod's volumes need.
pub fn token_requests(pod: &Pod) -> Vec<TokenRequest> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let sources = volumes.filter_map(|v| v.projected.as_ref()).flat_map(|p| p.sources.iter().flatten());
    let mut all: Vec<_> = sources.filter_map(token_request).collect();
    all.sort();
    all.dedup();
    all
}

fn token_request(source: &VolumeProjection) -> Option<TokenRequest> {
    let token = source.service_account_token.as_ref()?;
    Some(TokenRequest {
        audience: token.audience.clone().unwrap_or_default(),
        expiration: token.expiration_seconds.unwrap_or(3600),
    })
}

/// What a payload is made from.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Objects by name.
    pub objects: &'a Objects,
    /// Addresses and capacity.
    pub facts: &'a PodFacts,
    /// Tokens by request.
    pub tokens: &'a BTreeMap<TokenRequest, String>,
}

/// What one volume shall be; the error says what is missing.
pub fn plan(inputs: &Inputs<'_>, volume: &Volume) -> Result<Wanted, ConfigError> {
    if let Some(source) = &volume.empty_dir {
        let memory = match source.medium.as_deref() {
            None | Some("") => false,
            Some("Memory") => true,
            Some(other) => return Err(ConfigError::config(format!("unknown storage medium \"{other}\""))),
        };
        return Ok(Wanted::EmptyDir { memory, size: source.size_limit.as_ref().and_then(units) });
    }
    if let Some(source) = &volume.host_path {
        let kind = source.type_.clone().unwrap_or_default();
        return Ok(Wanted::HostPath { path: source.path.clone(), kind });
    }
    let mut payload = Payload::new();
    if let Some(source) = &volume.config_map {
        let optional = source.optional.unwrap_or(false);
        let mode = mode(source.default_mode, 0o644);
        config_map(inputs, &mut payload, &source.name, source.items.as_deref(), optional, mode)?;
        return Ok(Wanted::Files { plugin: "kubernetes.io~configmap", memory: false, payload });
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let optional = source.optional.unwrap_or(false);
        secret(
            inputs,
            &mut payload,
            name,
            source.items.as_deref(),
            optional,
            mode(source.default_mode, 0o644),
        )?;
        return Ok(Wanted::Files { plugin: "kubernetes.io~secret", memory: true, payload });
    }
    if let Some(source) = &volume.downward_api {
        downward(inputs, &mut payload, source.items.as_deref(), mode(source.default_mode, 0o644))?;
        return Ok(Wanted::Files { plugin: "kubernetes.io~downward-api", memory: false, payload });
    }
    if let Some(source) = &volume.projected {
        projected(inputs, &mut payload, source)?;
        return Ok(Wanted::Files { plugin: "kubernetes.io~projected", memory: true, payload });
    }
    if volume.git_repo.is_some() {
        return Err(ConfigError::config(
            "gitRepo volumes are not supported: they run hooks as root (CVE-2024-10220)",
        ));
    }
    Err(ConfigError::config("no volume plugin matched"))
}

fn mode(mode: Option<i32>, default: u32) -> u32 {
    mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default) & 0o777
}

fn projected(
    inputs: &Inputs<'_>,
    payload: &mut Payload,
    source: &ProjectedVolumeSource,
) -> Result<(), ConfigError> {
    let default = mode(source.default_mode, 0o644);
    for source in source.sources.iter().flatten() {
        if let Some(s) = &source.config_map {
            config_map(inputs, payload, &s.name, s.items.as_deref(), s.optional.unwrap_or(false), default)?;
        } else if let Some(s) = &source.secret {
            secret(inputs, payload, &s.name, s.items.as_deref(), s.optional.unwrap_or(false), default)?;
        } else if let Some(s) = &source.downward_api {
            downward(inputs, payload, s.items.as_deref(), default)?;
        } else if let (Some(s), Some(request)) = (&source.service_account_token, token_request(source)) {
            let token = inputs.tokens.get(&request).ok_or_else(|| {
                ConfigError::config("failed to fetch token: no answer from the API server yet")
            })?;
            let (mode, uid) = token_owner(inputs.pod, default);
            put(payload, &s.path, File { data: token.clone().into_bytes(), mode, uid })?;
        } else {
            return Err(ConfigError::config("this projected source is not supported yet"));
        }
    }
    Ok(())
}

/// A token is only for the user it runs as, when there is one.
fn token_owner(pod: &Pod, default: u32) -> (u32, Option<u32>) {
    let Some(spec) = &pod.spec else { return (default, None) };
    let security = spec.security_context.as_ref();
    let of_pod = security.and_then(|s| s.run_as_user);
    let users: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod))
        .collect();
    let same = users.first().copied().flatten().filter(|first| users.iter().all(|u| *u == Some(*first)));
    match same.and_then(|uid| u32::try_from(uid).ok()) {
        Some(uid) => (0o600, Some(uid)),
        None if security.is_some_and(|s| s.fs_group.is_some()) => (0o600, None),
        None => (default, None),
    }
}

fn config_map(
    inputs: &Inputs<'_>,
    payload: &mut Payload,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    default: u32,
) -> Result<(), ConfigError> {
    let Some(map) = inputs.objects.config_map(name, optional)? else { return Ok(()) };
    let mut data: BTreeMap<&str, &[u8]> = BTreeMap::new();
    data.extend(map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes())));
    data.extend(map.binary_data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice())));
    keys(payload, &data, items, optional, default)
}

fn secret(
    inputs: &Inputs<'_>,
    payload: &mut Payload,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    default: u32,
) -> Result<(), ConfigError> {
    let Some(secret) = inputs.objects.secret(name, optional)? else { return Ok(()) };
    let data = secret.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice())).collect();
    keys(payload, &data, items, optional, default)
}

fn keys(
    payload: &mut Payload,
    data: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    default: u32,
) -> Result<(), ConfigError> {
    let file = |data: &[u8], mode| File { data: data.to_vec(), mode, uid: None };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, value) in data {
            put(payload, key, file(value, default))?;
        }
        return Ok(());
    };
    for item in items {
        match data.get(item.key.as_str()) {
            Some(value) => put(payload, &item.path, file(value, mode(item.mode, default)))?,
            None if optional => {}
            None => {
                return Err(ConfigError::config(format!("references non-existent config key: {}", item.key)));
            }
        }
    }
    Ok(())
}

fn downward(
    inputs: &Inputs<'_>,
    payload: &mut Payload,
    items: Option<&[DownwardAPIVolumeFile]>,
    default: u32,
) -> Result<(), ConfigError> {
    for item in items.unwrap_or_default() {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => fields::field(inputs.pod, inputs.facts, &reference.field_path)?,
            (_, Some(selector)) => fields::resource(inputs.pod, inputs.facts, None, selector)?,
            _ => continue,
        };
        put(
            payload,
            &item.path,
            File { data: value.into_bytes(), mode: mode(item.mode, default), uid: None },
        )?;
    }
    Ok(())
}

/// Adds a file; its path must stay below the volume and out of the writer's way.
fn put(payload: &mut Payload, path: &str, file: File) -> Result<(), ConfigError> {
    let bad = path.is_empty()
        || path.starts_with('/')
        || path.starts_with("..")
        || path.len() > 4096
        || path.split('/').any(|part| part.is_empty() || part == ".." || part == "." || part.len() > 255);
    if bad || path.contains('\0') {
        return Err(ConfigError::config(format!("invalid path: {path:?}")));
    }
    payload.insert(path.to_owned(), file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(volume: serde_json::Value) -> Result<Wanted, String> {
        let map = serde_json::from_value(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}}));
        let objects = Objects {
            config_maps: [("m".to_owned(), Some(map.expect("a map")))].into(),
            ..Objects::default()
        };
        let pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"x": "y"}}})).expect("one");
        let tokens = [(TokenRequest { audience: String::new(), expiration: 3607 }, "tok".to_owned())].into();
        let inputs = Inputs { pod: &pod, objects: &objects, facts: &PodFacts::default(), tokens: &tokens };
        let volume: Volume = serde_json::from_value(volume).expect("a volume");
        plan(&inputs, &volume).map_err(|error| error.message)
    }

    #[test]
    fn payloads() {
        let files = |wanted: Result<Wanted, String>| match wanted.expect("planned") {
            Wanted::Files { payload, .. } => payload
                .into_iter()
                .map(|(path, f)| (path, String::from_utf8_lossy(&f.data).into_owned(), f.mode))
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let all = files(check(json!({"name": "v", "configMap": {"name": "m", "defaultMode": 0o400}})));
        assert_eq!(all[0], ("a".into(), "1".into(), 0o400));
        assert_eq!(all.len(), 3);
        let some = files(check(json!({"name": "v", "configMap": {"name": "m",
            "items": [{"key": "b", "path": "x/y", "mode": 0o600}]}})));
        assert_eq!(some, [("x/y".into(), "2".into(), 0o600)]);
        let projected = files(check(json!({"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "m", "items": [{"key": "a", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}})));
        assert_eq!(projected[0], ("ca.crt".into(), "1".into(), 0o644));
        assert_eq!(projected[1], ("labels".into(), "x=\"y\"\n".into(), 0o644));
        assert_eq!(projected[2], ("token".into(), "tok".into(), 0o644));
    }

    #[test]
    fn refusals() {
        let cases = [
            (json!({"name": "v", "configMap": {"name": "none"}}), "configmap \"none\" not found"),
            (
                json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}}),
                "references non-existent config key: z",
            ),
            (
                json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "../a"}]}}),
                "invalid path: \"../a\"",
            ),
            (json!({"name": "v", "nfs": {"server": "x", "path": "/"}}), "no volume plugin matched"),
        ];
        for (volume, expect) in cases {
            assert_eq!(check(volume.clone()), Err(expect.to_owned()), "{volume}");
        }
        assert!(check(json!({"name": "v", "configMap": {"name": "none", "optional": true}})).is_ok());
    }
}
