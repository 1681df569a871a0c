//! Which ConfigMaps and Secrets a pod refers to. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

/// Names in the pod's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Secrets, those for pulling images included.
    pub secrets: BTreeSet<String>,
}

/// Everything that a pod's spec names.
pub fn references(pod: &Pod) -> References {
    let mut refs = References::default();
    let Some(spec) = &pod.spec else { return refs };
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        for source in container.env_from.iter().flatten() {
            refs.config_maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
            refs.secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            refs.config_maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
            refs.secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        refs.config_maps.extend(volume.config_map.iter().map(|v| v.name.clone()));
        refs.secrets.extend(volume.secret.iter().filter_map(|v| v.secret_name.clone()));
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        for source in sources {
            refs.config_maps.extend(source.config_map.iter().map(|v| v.name.clone()));
            refs.secrets.extend(source.secret.iter().map(|v| v.name.clone()));
        }
    }
    refs.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|s| s.name.clone()));
    refs.config_maps.remove("");
    refs.secrets.remove("");
    refs
}
