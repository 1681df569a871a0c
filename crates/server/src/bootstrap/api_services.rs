//! An APIService for every group and version that is served, built in or defined by a
//! CustomResourceDefinition, as upstream's aggregator registers its own
//! (`kube-aggregator/pkg/controllers/autoregister`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use carrack_api::kind::Kinds;
use carrack_api::status::Status;
use carrack_api::{Key, Value};
use serde_json::json;

use super::ensure_all;
use crate::http::groups;
use crate::registry::{DeleteOptions, Registry};
use crate::request::User;

pub(super) const RESOURCE: &str = "apiservices.apiregistration.k8s.io";
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Kept up at the start only: whoever changes it afterwards has their way.
const AT_START: &str = "onstart";
/// Kept up, and deleted when the group is no longer served.
const ALWAYS: &str = "true";
/// How long to wait after something failed.
const RETRY: Duration = Duration::from_secs(1);

/// `groupPriorityMinimum` of the built-in groups, as upstream's
/// `controlplane/apiserver/aggregator.go` has them.
const PRIORITIES: &[(&str, i64)] = &[
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 16_200),
];
/// Versions whose `versionPriority` is not 15.
const VERSIONS: &[(&str, &str, i64)] = &[
    ("", "v1", 1),
    ("autoscaling", "v2", 30),
    ("flowcontrol.apiserver.k8s.io", "v1", 21),
    ("resource.k8s.io", "v1", 21),
];

/// Those of the kinds that are built in.
pub(super) fn builtin(kinds: &Kinds) -> Vec<(&'static str, Value)> {
    groups(kinds)
        .iter()
        .flat_map(|(group, versions)| versions.iter().map(move |version| (&**group, &**version)))
        .filter_map(|(group, version)| {
            let (_, priority) = PRIORITIES.iter().find(|(known, _)| *known == group)?;
            let special = VERSIONS.iter().find(|(g, v, _)| (*g, *v) == (group, version));
            let version_priority = special.map_or(15, |(.., priority)| *priority);
            Some((RESOURCE, object(group, version, AT_START, *priority, version_priority)))
        })
        .collect()
}

/// Those of the kinds that are defined. (A built-in group is never one of theirs alone.)
fn defined(kinds: &Kinds) -> Vec<(&'static str, Value)> {
    let of_definition = |group: &str, version: &str| {
        let defines = |kind: &carrack_api::Kind| {
            let has =
                |(at, v): (usize, &carrack_api::kind::Version)| *v.name == *version && kind.is_served(at);
            kind.definition.is_some() && *kind.group == *group && kind.versions.iter().enumerate().any(has)
        };
        kinds.iter().any(|kind| defines(kind))
    };
    groups(kinds)
        .iter()
        .filter(|(group, _)| !PRIORITIES.iter().any(|(known, _)| **known == **group))
        .flat_map(|(group, versions)| versions.iter().map(move |version| (&**group, &**version)))
        .filter(|(group, version)| of_definition(group, version))
        .map(|(group, version)| (RESOURCE, object(group, version, ALWAYS, 1000, 100)))
        .collect()
}

fn object(group: &str, version: &str, managed: &str, group_priority: i64, version_priority: i64) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": group_priority,
            "versionPriority": version_priority},
    })
}

/// Keeps those of the defined kinds, for as long as the server runs.
pub async fn keep(registry: Arc<Registry>) {
    let mut changed = registry.kinds_changed();
    loop {
        changed.mark_unchanged();
        let revision = registry.store().revision();
        if let Err(error) = settle(&registry).await {
            tracing::warn!(%error, "cannot write the APIServices of custom resources");
            tokio::time::sleep(RETRY).await;
            continue;
        }
        let watch = registry.store().watch(RESOURCE, revision);
        let touched = async {
            match watch {
                Ok(mut watch) => _ = watch.next().await,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        tokio::select! {
            more = changed.changed() => if more.is_err() { return },
            () = touched => {}
        }
    }
}

async fn settle(registry: &Registry) -> Result<(), Status> {
    let wanted = defined(&registry.kinds());
    let names: BTreeSet<String> =
        wanted.iter().filter_map(|(_, o)| o["metadata"]["name"].as_str().map(str::to_owned)).collect();
    ensure_all(registry, wanted).await?;
    let snapshot = registry.store().snapshot(RESOURCE);
    let all = format!("{RESOURCE}/");
    let gone: Vec<Key> = snapshot
        .range(&all, None)
        .filter(|record| record.header().label(MANAGED) == Some(ALWAYS))
        .filter(|record| !names.contains(record.key.name()) && !record.header().deleting)
        .map(|record| record.key.clone())
        .collect();
    for key in gone {
        let call = registry.call(User::loopback(), RESOURCE, "", key.name())?;
        match registry.delete(&call, &DeleteOptions::default()).await {
            Err(status) if status.code != 404 => return Err(status),
            _ => {}
        }
    }
    Ok(())
}
