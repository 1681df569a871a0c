//! The JSON documents of an image: manifest, index, configuration (OCI image spec 1.1 and
//! docker's schema 2, which differ in media types only), and docker's archive index.
//!
//! Types and choices only; pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::traits::ImageConfig;

/// Media types that a registry may answer with.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, \
application/vnd.docker.distribution.manifest.v2+json";

/// Points at a blob.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What an image in an index runs on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// An image manifest or an index of them: whichever list is not empty tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Descriptor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Descriptor>,
}

impl Manifest {
    /// The entry of an index for this machine.
    pub fn for_this_machine(&self) -> Option<&Descriptor> {
        let wanted = architecture();
        let fits = |d: &&Descriptor| match &d.platform {
            Some(p) => p.os == "linux" && p.architecture == wanted,
            None => false,
        };
        self.manifests.iter().find(fits).or_else(|| {
            // An index of one image need not say a platform.
            self.manifests.first().filter(|d| self.manifests.len() == 1 && d.platform.is_none())
        })
    }
}

/// This machine's architecture in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageDocument {
    pub architecture: String,
    pub os: String,
    pub config: Option<RunConfig>,
    pub rootfs: RootFs,
}

/// Its `rootfs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    #[serde(rename = "type")]
    pub kind: String,
    pub diff_ids: Vec<String>,
}

/// Its `config`; a list may be null in images that docker made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}

impl From<RunConfig> for ImageConfig {
    fn from(c: RunConfig) -> Self {
        Self {
            entrypoint: c.entrypoint.unwrap_or_default(),
            cmd: c.cmd.unwrap_or_default(),
            env: c.env.unwrap_or_default(),
            user: c.user,
            working_dir: c.working_dir,
            exposed_ports: c.exposed_ports.unwrap_or_default().into_keys().collect(),
            stop_signal: c.stop_signal,
            labels: c.labels.unwrap_or_default(),
        }
    }
}

impl From<&ImageConfig> for RunConfig {
    fn from(c: &ImageConfig) -> Self {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let ports = c.exposed_ports.iter().map(|p| (p.clone(), serde_json::json!({})));
        Self {
            user: c.user.clone(),
            exposed_ports: (!c.exposed_ports.is_empty()).then(|| ports.collect()),
            env: some(&c.env),
            entrypoint: some(&c.entrypoint),
            cmd: some(&c.cmd),
            working_dir: c.working_dir.clone(),
            labels: (!c.labels.is_empty()).then(|| c.labels.clone()),
            stop_signal: c.stop_signal.clone(),
        }
    }
}

/// One entry of `manifest.json` in a docker archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DockerEntry {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_machine() {
        let text = format!(
            r#"{{"manifests":[
            {{"digest":"a","platform":{{"os":"linux","architecture":"s390x"}}}},
            {{"digest":"b","platform":{{"os":"linux","architecture":"{}"}}}},
            {{"digest":"c","platform":{{"os":"unknown","architecture":"unknown"}}}}]}}"#,
            architecture()
        );
        let index: Manifest = serde_json::from_str(&text).unwrap();
        assert_eq!(index.for_this_machine().unwrap().digest, "b");
        let single: Manifest = serde_json::from_str(r#"{"manifests":[{"digest":"x"}]}"#).unwrap();
        assert_eq!(single.for_this_machine().unwrap().digest, "x");
        assert!(Manifest::default().for_this_machine().is_none());
    }

    #[test]
    fn nulls_are_empty() {
        let text = r#"{"Cmd":null,"Env":null,"Entrypoint":["/x"],"ExposedPorts":{"80/tcp":{}}}"#;
        let config: ImageConfig = serde_json::from_str::<RunConfig>(text).unwrap().into();
        assert_eq!(config.entrypoint, ["/x"]);
        assert_eq!(config.exposed_ports, ["80/tcp"]);
        assert!(config.cmd.is_empty());
    }
}
