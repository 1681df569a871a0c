//! Deletes bootstrap tokens whose time is over.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use carrack_api::{Key, Value};
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::SECRETS;
use carrack_client::{Cache, Client, DeleteOptions};
use jiff::{SignedDuration, Timestamp};

use crate::shell::{self, Shared};

const TYPE: &str = "bootstrap.kubernetes.io/token";

struct BootstrapTokens {
    client: Client,
    secrets: Arc<Cache>,
}

/// How long a Secret stays; nothing or less when it is to go, `None` when it stays.
pub fn left(secret: &Value, now: Timestamp) -> Option<SignedDuration> {
    let encoded = secret["data"]["expiration"].as_str().filter(|_| secret["type"] == TYPE)?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    match text.parse::<Timestamp>() {
        Ok(at) => Some(at.duration_since(now)),
        // What cannot be read counts as over.
        Err(_) if !text.is_empty() => Some(SignedDuration::ZERO),
        Err(_) => None,
    }
}

/// Starts it.
pub(crate) fn start(shared: &Shared) {
    let client = shared.client("token-cleaner");
    let queue = shell::queue();
    let secrets = shared.informers.cache(&SECRETS);
    let wake = queue.clone();
    secrets.add_handler(Box::new(move |_, new| {
        if let Some(secret) = new.filter(|s| s.key.namespace() == "kube-system") {
            wake.add(secret.key.clone());
        }
    }));
    shared.run(BootstrapTokens { client, secrets }, queue, 1);
}

impl Controller for BootstrapTokens {
    type Plan = (String, SignedDuration);

    fn name(&self) -> &'static str {
        "tokencleaner"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.secrets.clone()]
    }

    fn decide(&self, key: &Key, now: Timestamp) -> Option<Self::Plan> {
        let secret = self.secrets.get(key).filter(|secret| !secret.header().deleting)?;
        Some((secret.header().uid.to_string(), left(&secret.decode(), now)?))
    }

    async fn act(
        &self,
        key: &Key,
        (uid, remains): Self::Plan,
        writes: &Writes,
    ) -> Result<Option<Duration>, Error> {
        if remains.is_positive() {
            return Ok(remains.try_into().ok());
        }
        let options = DeleteOptions::of_uid(&uid);
        match self.client.delete(&SECRETS, (key.namespace(), key.name()), &options).await {
            Ok(_) => writes.deleted(key, &uid),
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tokens_stay_for_their_time() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let check = |kind: &str, expiration: &str, expect: Option<i64>| {
            let secret = json!({"type": kind, "data": {"expiration": STANDARD.encode(expiration)}});
            assert_eq!(left(&secret, now).map(|left| left.as_secs()), expect, "{kind} {expiration}");
        };
        check(TYPE, "2026-01-01T00:00:30Z", Some(30));
        check(TYPE, "soon", Some(0));
        check(TYPE, "", None);
        check("Opaque", "2026-01-01T00:00:30Z", None);
    }
}
