//! The condition `Dangling` of every FlowSchema: whether the priority level that it names
//! is there. Upstream's servers apply it, so that only it is theirs.
//!
//! (`flowcontrol/apf_controller.go` has the reasons and messages.)

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_api::Value;
use carrack_api::status::Status;
use futures::TryFutureExt;
use futures::future::join_all;
use serde_json::json;

use super::{LEVELS, SCHEMAS};
use crate::bootstrap::{Progress, Stage};
use crate::clock::rfc3339;
use crate::conditions::unless_held;
use crate::registry::{Item, Registry, Seen, Start, Watcher};
use crate::request::User;

/// Whom managedFields name.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
/// How long to wait after something failed.
const RETRY: Duration = Duration::from_secs(1);
/// Times that one schema's condition may be written within [`WHILE`]: whoever takes it away
/// again and again, such as a server of another mind, is not fought.
const MOST: usize = 6;
const WHILE: Duration = Duration::from_secs(60);
/// How long to leave a schema alone that was written too often.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps the conditions in step, for as long as the server runs.
pub async fn run(registry: Arc<Registry>, progress: Progress) {
    loop {
        let schemas = registry.subscribe(SCHEMAS, "", Start::Initial { fresh: false }).await;
        let levels = registry.subscribe(LEVELS, "", Start::Initial { fresh: false }).await;
        match (schemas, levels) {
            (Ok(schemas), Ok(levels)) => {
                Keeper::default().follow(&registry, schemas, levels, &progress).await;
            }
            (Err(status), _) | (_, Err(status)) => tracing::warn!(%status, "cannot follow FlowSchemas"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[derive(Default)]
struct Keeper {
    schemas: BTreeMap<Box<str>, Value>,
    levels: BTreeSet<Box<str>>,
    written: Recent,
}

/// Which schemas were written of late, the oldest first.
#[derive(Default)]
struct Recent(VecDeque<(Instant, Box<str>)>);

impl Recent {
    /// Notes a write of a schema, unless it was written too often.
    fn may_write(&mut self, name: &str, now: Instant) -> bool {
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > WHILE) {
            self.0.pop_front();
        }
        if self.0.iter().filter(|(_, written)| **written == *name).count() >= MOST {
            return false;
        }
        self.0.push_back((now, name.into()));
        true
    }
}

impl Keeper {
    /// Until a watch falls out of the history.
    async fn follow(
        &mut self,
        registry: &Registry,
        mut schemas: Watcher,
        mut levels: Watcher,
        progress: &Progress,
    ) {
        // Ends of the two initial lists that are still to come.
        let mut to_come = 2;
        let mut again: Option<Duration> = None;
        loop {
            let items = tokio::select! {
                items = schemas.next() => items,
                items = levels.next() => items,
                () = tokio::time::sleep(again.unwrap_or(RETRY)), if again.is_some() => Ok(Default::default()),
            };
            let Ok(items) = items else { return };
            for item in items {
                let (record, gone) = match item {
                    Item::InitialEnd(_) => {
                        to_come -= 1;
                        continue;
                    }
                    Item::Initial(record) => (record, false),
                    Item::Event(seen, event) => (event.record.clone(), matches!(seen, Seen::Deleted)),
                };
                let name = record.key.name();
                match (record.key.resource() == SCHEMAS, gone) {
                    (true, false) => drop(self.schemas.insert(name.into(), record.decode())),
                    (true, true) => drop(self.schemas.remove(name)),
                    (false, false) => drop(self.levels.insert(name.into())),
                    (false, true) => drop(self.levels.remove(name)),
                }
            }
            if to_come == 0 {
                again = self.settle(registry).await;
                if again.is_none() {
                    progress.done(&[Stage::FlowConditions]);
                }
            }
        }
    }

    /// Writes the conditions that are not as they should be; says when something has to be
    /// tried again.
    async fn settle(&mut self, registry: &Registry) -> Option<Duration> {
        let (mut again, mut writes) = (None, Vec::new());
        for (name, schema) in &self.schemas {
            let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
            let Some(condition) = decide(schema, level, self.levels.contains(level)) else { continue };
            if !self.written.may_write(name, Instant::now()) {
                again = again.or(Some(PATIENCE));
                continue;
            }
            writes.push(write(registry, name, condition).map_err(move |status| (name, status)));
        }
        // All at once, so that they share a sync.
        for (name, status) in join_all(writes).await.into_iter().filter_map(Result::err) {
            if status.code != 404 {
                tracing::warn!(%status, %name, "cannot write the condition of a FlowSchema");
                again = Some(RETRY);
            }
        }
        again
    }
}

/// The condition that a schema should have, without its time, if it has another.
fn decide(schema: &Value, level: &str, is_there: bool) -> Option<Value> {
    let (status, reason, what) = match is_there {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {what}");
    let wanted = json!({"type": "Dangling", "status": status, "reason": reason, "message": message});
    unless_held(schema, wanted)
}

async fn write(registry: &Registry, name: &str, mut condition: Value) -> Result<(), Status> {
    let user = User::new("system:apiserver", ["system:masters", "system:authenticated"]);
    let mut call = registry.call(user, SCHEMAS, "", name)?.on("status");
    call.options.field_manager = MANAGER.into();
    call.options.force = true;
    condition["lastTransitionTime"] = rfc3339(call.now).into();
    let config = json!({"apiVersion": call.api_version(), "kind": "FlowSchema", "metadata": {"name": name},
        "status": {"conditions": [condition]}});
    registry.apply(&call, config.to_string().as_bytes()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_not_fought_over() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        for _ in 0..MOST {
            assert!(recent.may_write("a", start));
        }
        assert!(!recent.may_write("a", start + WHILE / 2));
        assert!(recent.may_write("b", start + WHILE / 2));
        assert!(recent.may_write("a", start + WHILE * 2));
        assert_eq!(recent.0.len(), 1, "nothing is kept that no longer counts");
    }

    #[test]
    fn a_schema_dangles_without_its_level() {
        let mut schema = json!({"spec": {"priorityLevelConfiguration": {"name": "low"}}});
        let condition = decide(&schema, "low", false).unwrap();
        assert_eq!(condition["status"], "True");
        assert_eq!(
            condition["message"],
            "This FlowSchema references the PriorityLevelConfiguration object named \"low\" but there is no such object"
        );
        schema["status"]["conditions"] = json!([condition]);
        assert_eq!(decide(&schema, "low", false), None);
        assert_eq!(decide(&schema, "low", true).unwrap()["reason"], "Found");
    }
}
