//! Deletes Jobs some time after they have ended, when they ask for it
//! (`spec.ttlSecondsAfterFinished`).

use std::sync::Arc;
use std::time::Duration;

use carrack_api::Key;
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::JOBS;
use carrack_client::{Cache, Client, Clock, DeleteOptions};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::common::meta::nullable;
use crate::common::{Condition, Meta};
use crate::shell::{self, Shared};

/// A Job, as far as its end matters.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Job {
    /// `metadata`.
    pub metadata: Meta,
    /// `spec`.
    pub spec: Spec,
    /// `status`.
    pub status: Status,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Seconds that an ended Job stays.
    pub ttl_seconds_after_finished: Option<i64>,
}

/// `status`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Conditions.
    #[serde(deserialize_with = "nullable")]
    pub conditions: Vec<Condition>,
}

/// How long a Job stays; nothing or less when it is to go, `None` when it stays.
pub fn left(job: &Job, now: Timestamp) -> Option<SignedDuration> {
    if job.metadata.deleting() {
        return None;
    }
    let ended = |condition: &&Condition| {
        matches!(&*condition.kind, "Complete" | "Failed") && condition.status == "True"
    };
    let at = job.status.conditions.iter().find(ended)?.last_transition_time?;
    let stays = SignedDuration::from_secs(job.spec.ttl_seconds_after_finished?);
    Some(at.checked_add(stays).ok()?.duration_since(now))
}

struct TtlAfterFinished {
    client: Client,
    clock: Arc<dyn Clock>,
    jobs: Arc<Cache>,
}

/// Starts it.
pub(crate) fn start(shared: &Shared) {
    let client = shared.client("ttl-after-finished-controller");
    let queue = shell::queue();
    let jobs = shared.informers.cache(&JOBS);
    shell::enqueue_changes(&jobs, &queue);
    let clock = shared.clock.clone();
    shared.run(TtlAfterFinished { client, clock, jobs }, queue, 1);
}

impl Controller for TtlAfterFinished {
    type Plan = SignedDuration;

    fn name(&self) -> &'static str {
        "ttl-after-finished"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.jobs.clone()]
    }

    fn decide(&self, key: &Key, now: Timestamp) -> Option<SignedDuration> {
        left(&shell::read(&*self.jobs.get(key)?)?, now)
    }

    async fn act(
        &self,
        key: &Key,
        remains: SignedDuration,
        writes: &Writes,
    ) -> Result<Option<Duration>, Error> {
        if remains.is_positive() {
            return Ok(remains.try_into().ok());
        }
        // Its life may just have been prolonged: look once more.
        let fresh = match self.client.get(&JOBS, key.namespace(), key.name()).await {
            Ok(fresh) => fresh.decode::<Job>()?,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match left(&fresh, self.clock.now()) {
            Some(remains) if remains.is_positive() => return Ok(remains.try_into().ok()),
            Some(_) => {}
            None => return Ok(None),
        }
        let uid = &fresh.metadata.uid;
        let options = DeleteOptions { propagation: Some("Foreground"), ..DeleteOptions::of_uid(uid) };
        match self.client.delete(&JOBS, (key.namespace(), key.name()), &options).await {
            Ok(_) => writes.deleted(key, uid),
            Err(error) if error.is_not_found() => {}
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
    fn jobs_stay_for_their_time() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let check = |ttl: Option<i64>, condition: &str, expect: Option<i64>| {
            let job: Job = serde_json::from_value(json!({
                "spec": {"ttlSecondsAfterFinished": ttl},
                "status": {"conditions": [
                    {"type": condition, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
            .unwrap();
            assert_eq!(left(&job, now).map(|left| left.as_secs()), expect);
        };
        check(Some(90), "Complete", Some(30));
        check(Some(60), "Failed", Some(0));
        check(Some(0), "Suspended", None);
        check(None, "Complete", None);
    }
}
