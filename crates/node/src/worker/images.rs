//! Has a container's image here: pull policies, credentials, events.

use std::collections::BTreeSet;
use std::time::Instant;

use base64::Engine as _;
use carrack_runtime::{RegistryAuth, RuntimeError};
use k8s_openapi::api::core::v1::{Container, Secret};
use serde_json::Value;

use super::actions::Run;
use crate::decide::Outcome;
use crate::spec::refs::References;

fn failed(reason: &str, message: impl Into<String>) -> Outcome {
    Outcome::Failed(reason.to_owned(), message.into())
}

/// Looks the image up, and pulls it as the policy says.
pub(super) async fn ensure(run: &Run, container: &Container) -> Outcome {
    let name = Some(container.name.as_str());
    let image = container.image.as_deref().unwrap_or_default();
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    if policy != "Always" {
        match run.shared.runtime.image_status(image).await {
            Ok(Some(found)) => {
                run.normal(name, "Pulled", format!("Container image \"{image}\" already present on machine and can be accessed by the pod"));
                return Outcome::Image(found.id);
            }
            Ok(None) if policy == "Never" => {
                let message = format!("Container image \"{image}\" is not present with pull policy of Never");
                run.warning(name, "ErrImageNeverPull", message.clone());
                run.warning(name, "Failed", "Error: ErrImageNeverPull");
                return failed("ErrImageNeverPull", message);
            }
            Ok(None) => {}
            Err(error) => return refused(run, container, &error),
        }
    }
    pull(run, container, image).await
}

async fn pull(run: &Run, container: &Container, image: &str) -> Outcome {
    let name = Some(container.name.as_str());
    let waiting = Instant::now();
    let _permit = run.shared.pulls.acquire().await;
    run.normal(name, "Pulling", format!("Pulling image \"{image}\""));
    let started = Instant::now();
    let mut last = None;
    // Every credential that fits is tried, then none.
    for auth in credentials(run, image).await.into_iter().map(Some).chain([None]) {
        match run.shared.runtime.pull_image(image, auth).await {
            Ok(pulled) => {
                let message = format!(
                    "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {} bytes.",
                    seconds(started),
                    seconds(waiting),
                    pulled.size
                );
                run.normal(name, "Pulled", message);
                return Outcome::Image(pulled.id);
            }
            Err(error) => {
                let denied = matches!(error, RuntimeError::Registry { status: 401 | 403 | 404, .. });
                // The answer to a credential says more than the one to none.
                last = last.or(Some(error));
                if !denied {
                    break;
                }
            }
        }
    }
    match last {
        Some(error) => refused(run, container, &error),
        None => failed("ErrImagePull", "no attempt was made"),
    }
}

/// A failure, with the registry's own words.
fn refused(run: &Run, container: &Container, error: &RuntimeError) -> Outcome {
    let name = Some(container.name.as_str());
    let image = container.image.as_deref().unwrap_or_default();
    if matches!(error, RuntimeError::InvalidImageName { .. }) {
        let message = format!("Failed to apply default image tag \"{image}\": {error}");
        run.warning(name, "InspectFailed", message.clone());
        run.warning(name, "Failed", "Error: InvalidImageName");
        return failed("InvalidImageName", message);
    }
    run.warning(name, "Failed", format!("Failed to pull image \"{image}\": {error}"));
    run.warning(name, "Failed", "Error: ErrImagePull");
    failed("ErrImagePull", error.to_string())
}

fn seconds(since: Instant) -> String {
    format!("{:.3}s", since.elapsed().as_secs_f64())
}

/// Credentials of the pod's imagePullSecrets that fit the image, best first.
async fn credentials(run: &Run, image: &str) -> Vec<RegistryAuth> {
    let names: BTreeSet<String> = run
        .pod
        .spec
        .iter()
        .flat_map(|s| s.image_pull_secrets.iter().flatten())
        .map(|secret| secret.name.clone())
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let refs = References { secrets: names.clone(), ..References::default() };
    let objects = run.shared.watched.load(run.namespace(), &refs).await.unwrap_or_default();
    let missing: Vec<&str> = names
        .iter()
        .filter(|n| !matches!(objects.secrets.get(*n), Some(Some(_))))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        run.warning(None, "FailedToRetrieveImagePullSecret", message);
    }
    let secrets: Vec<&Secret> = objects.secrets.values().flatten().collect();
    matching(&secrets, image)
}

/// Entries whose registry (and path prefix) the image is below, longest first.
fn matching(secrets: &[&Secret], image: &str) -> Vec<RegistryAuth> {
    let target = normalised(image);
    let mut found: Vec<(usize, RegistryAuth)> = Vec::new();
    for secret in secrets {
        let data = secret.data.as_ref();
        let json = |key: &str| -> Option<Value> { serde_json::from_slice(&data?.get(key)?.0).ok() };
        let auths = json(".dockerconfigjson").map(|v| v["auths"].clone()).or_else(|| json(".dockercfg"));
        for (registry, entry) in auths.as_ref().and_then(Value::as_object).into_iter().flatten() {
            let place = place(registry);
            let fits = target == place || target.starts_with(&format!("{place}/"));
            if let Some(auth) = fits.then(|| auth(entry)).flatten() {
                found.push((place.len(), auth));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// `https://index.docker.io/v1/` → `docker.io`; `ghcr.io/team` stays.
fn place(registry: &str) -> String {
    let rest = registry.trim_start_matches("https://").trim_start_matches("http://");
    let rest = rest.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    match rest {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// Registry and repository: `nginx` → `docker.io/library/nginx`.
fn normalised(image: &str) -> String {
    let image = image.split('@').next().unwrap_or_default();
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    let named = first.contains(['.', ':']) || first == "localhost";
    let repository = |path: &str| match path.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => path.to_owned(),
        _ => path.to_owned(),
    };
    match (named, first) {
        (true, registry) => place(registry) + "/" + &repository(rest),
        (false, "") => format!("docker.io/library/{}", repository(rest)),
        (false, _) => format!("docker.io/{}", repository(image)),
    }
}

fn auth(entry: &Value) -> Option<RegistryAuth> {
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let mut auth = RegistryAuth {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
    };
    if let Some(encoded) = entry["auth"].as_str().filter(|encoded| !encoded.is_empty()) {
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        (auth.username, auth.password) = (user.to_owned(), password.trim_end_matches('\0').to_owned());
    }
    (auth != RegistryAuth::default()).then_some(auth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_normalised() {
        let cases = [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.25", "docker.io/library/nginx"),
            ("team/app:v1", "docker.io/team/app"),
            ("ghcr.io/team/app@sha256:00", "ghcr.io/team/app"),
            ("localhost:5000/app:v1", "localhost:5000/app"),
        ];
        for (image, expect) in cases {
            assert_eq!(normalised(image), expect, "{image}");
        }
    }

    #[test]
    fn the_most_special_entry_comes_first() {
        let config = json!({"auths": {
            "ghcr.io": {"auth": "YTpi"},
            "ghcr.io/team": {"username": "c", "password": "d"},
            "https://index.docker.io/v1/": {"username": "hub", "password": "x"}}});
        let bytes = k8s_openapi::ByteString(serde_json::to_vec(&config).expect("encodes"));
        let secret =
            Secret { data: Some([(".dockerconfigjson".to_owned(), bytes)].into()), ..Secret::default() };
        let users = |image: &str| -> Vec<String> {
            matching(&[&secret], image).into_iter().map(|auth| auth.username).collect()
        };
        assert_eq!(users("ghcr.io/team/app"), ["c", "a"]);
        assert_eq!(users("ghcr.io/teammate/app"), ["a"]);
        assert_eq!(users("nginx"), ["hub"]);
        assert!(users("quay.io/x").is_empty());
    }
}
