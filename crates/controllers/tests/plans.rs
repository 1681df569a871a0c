//! What the cores decide, in tables: rollouts step by step, whom a ReplicaSet deletes,
//! how slices are filled, what becomes of dependents.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic")]

use carrack_api::record::Owner;
use carrack_api::selector::Labels;
use carrack_controllers::common::{Pod, SharedPod};
use carrack_controllers::deployment::decide as deployment;
use carrack_controllers::endpoints::decide::{self as endpoints, slices};
use carrack_controllers::garbage::decide as garbage;
use carrack_controllers::namespace::decide as namespace;
use carrack_controllers::replicaset::decide as replicaset;
use jiff::Timestamp;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn web(spec: Value, status: Value) -> deployment::Deployment {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {"replicas": 10, "selector": {"matchLabels": {"app": "web"}}, "template": template("v2"),
            "progressDeadlineSeconds": 600, "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}},
        "status": status,
    });
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

/// A set of web: its image, age in seconds, size, available pods.
fn set(image: &str, age: i64, size: i32, available: i32, desired: i32) -> deployment::ReplicaSet {
    let created = now().checked_sub(jiff::SignedDuration::from_secs(age)).unwrap();
    serde_json::from_value(json!({
        "metadata": {"name": format!("web-{image}"), "namespace": "default", "uid": image,
            "creationTimestamp": created, "generation": 1, "labels": {"app": "web"},
            "annotations": {"deployment.kubernetes.io/revision": image.trim_start_matches('v'),
                "deployment.kubernetes.io/desired-replicas": desired.to_string(),
                "deployment.kubernetes.io/max-replicas": (desired + 3).to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d",
                "controller": true}]},
        "spec": {"replicas": size, "template": template(image)},
        "status": {"replicas": size, "availableReplicas": available, "readyReplicas": available,
            "observedGeneration": 1, "terminatingReplicas": 0},
    }))
    .unwrap()
}

fn plan(deployment: deployment::Deployment, sets: Vec<deployment::ReplicaSet>) -> deployment::Plan {
    let selector = Labels::from_value(&deployment.spec.selector).unwrap();
    deployment::decide(&deployment::View { deployment, selector, sets, pods: vec![] }, now())
}

/// Every resize that a plan contains, as its events say it.
fn scaled(plan: &deployment::Plan) -> Vec<String> {
    plan.update.iter().flat_map(|update| update.scaled.clone()).collect()
}

#[test]
fn a_rolling_update_goes_step_by_step() {
    let down = |from: i32, to: i32| format!("Scaled down replica set web-v1 from {from} to {to}");
    let up = |from: i32, to: i32| format!("Scaled up replica set web-v2 from {from} to {to}");
    // Size and available pods of the old and the new set → what is done.
    for (old, new, expect) in [
        ((10, 10), (3, 0), vec![down(10, 8)]),
        ((8, 8), (3, 0), vec![up(3, 5)]),
        ((8, 8), (5, 0), vec![]),
        ((8, 8), (5, 3), vec![down(8, 5)]),
        ((8, 6), (5, 2), vec![down(8, 6)]),
        // 13 pods are allowed and there: only old ones can go.
        ((5, 5), (8, 8), vec![down(5, 0)]),
        ((2, 2), (10, 10), vec![down(2, 0)]),
        ((0, 0), (10, 10), vec![]),
    ] {
        let sets = vec![set("v1", 100, old.0, old.1, 10), set("v2", 50, new.0, new.1, 10)];
        let got = scaled(&plan(web(json!({}), json!({})), sets));
        assert_eq!(got, expect, "{old:?} {new:?}");
    }
}

#[test]
fn the_new_set_is_made_with_what_the_surge_allows() {
    let settled =
        json!({"replicas": 10, "updatedReplicas": 10, "readyReplicas": 10, "availableReplicas": 10});
    let plan = plan(web(json!({}), settled), vec![set("v1", 100, 10, 10, 10)]);
    let new = plan.create.unwrap();
    assert_eq!(new.replicas, 3);
    let annotations = &new.object["metadata"]["annotations"];
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "2");
    assert_eq!(annotations["deployment.kubernetes.io/max-replicas"], "13");
    let hash = new.object["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
    assert_eq!(new.name, format!("web-{hash}"));
    assert_eq!(new.object["spec"]["selector"]["matchLabels"]["pod-template-hash"], hash);
    let revision = plan.annotations.unwrap().remove("deployment.kubernetes.io/revision");
    assert_eq!(revision.as_deref(), Some("2"));
    let progressing = plan.status.unwrap().condition("Progressing").cloned().unwrap();
    assert_eq!(progressing.reason, "NewReplicaSetCreated");
    assert_eq!(progressing.message, format!("Created new replica set {:?}", new.name));
}

#[test]
fn scaling_is_proportional_during_a_rollout() {
    // 10 → 20 with 8 old and 5 new pods: 23 allowed, shared out by size.
    let sets = || vec![set("v1", 100, 8, 8, 10), set("v2", 50, 5, 5, 10)];
    let bigger = scaled(&plan(web(json!({"replicas": 20}), json!({})), sets()));
    assert_eq!(
        bigger,
        ["Scaled up replica set web-v1 from 8 to 14", "Scaled up replica set web-v2 from 5 to 9"]
    );
    let none = scaled(&plan(web(json!({"replicas": 0}), json!({})), sets()));
    assert_eq!(
        none,
        ["Scaled down replica set web-v1 from 8 to 0", "Scaled down replica set web-v2 from 5 to 0"]
    );
    let only = scaled(&plan(web(json!({"replicas": 6}), json!({})), vec![set("v2", 50, 10, 10, 10)]));
    assert_eq!(only, ["Scaled down replica set web-v2 from 10 to 6"]);
}

#[test]
fn progress_is_judged_by_the_deadline() {
    let status = |reason: &str, updated: &str| {
        json!({"observedGeneration": 1, "replicas": 13, "updatedReplicas": 5, "readyReplicas": 8,
            "availableReplicas": 8, "unavailableReplicas": 5, "terminatingReplicas": 0,
            "conditions": [
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
                {"type": "Progressing", "status": "True", "reason": reason, "lastUpdateTime": updated}]})
    };
    let sets = || vec![set("v1", 900, 8, 8, 10), set("v2", 800, 5, 0, 10)];
    let after = |status: Value, paused: bool| plan(web(json!({"paused": paused}), status), sets());
    let progressing = |plan: &deployment::Plan| {
        plan.status.as_ref().and_then(|status| status.condition("Progressing")).map(|c| c.reason.clone())
    };
    let waiting = after(status("ReplicaSetUpdated", "2026-01-01T00:05:00Z"), false);
    assert_eq!(progressing(&waiting), None);
    assert_eq!(waiting.requeue_after.unwrap().as_secs(), 301);
    let late = after(status("ReplicaSetUpdated", "2025-12-31T23:59:00Z"), false);
    assert_eq!(progressing(&late).as_deref(), Some("ProgressDeadlineExceeded"));
    let condition = late.status.unwrap().condition("Progressing").cloned().unwrap();
    assert_eq!(condition.message, "ReplicaSet \"web-v2\" has timed out progressing.");
    let paused = after(status("ReplicaSetUpdated", "2025-12-31T23:59:00Z"), true);
    assert_eq!(progressing(&paused).as_deref(), Some("DeploymentPaused"));
}

#[test]
fn undoing_takes_the_old_set_up_again_and_history_is_kept_short() {
    // Back to v1: it becomes revision 4 and remembers that it was 1.
    let sets = vec![set("v1", 300, 0, 0, 10), set("v2", 200, 0, 0, 10), set("v3", 100, 10, 10, 10)];
    let back = plan(web(json!({"template": template("v1")}), json!({})), sets);
    let update = back.update.iter().find(|update| update.name == "web-v1").unwrap();
    assert_eq!(update.annotations["deployment.kubernetes.io/revision"], "4");
    assert_eq!(update.annotations["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(update.replicas, 3);
    // Complete: of two old empty sets one is kept.
    let done = json!({"observedGeneration": 1, "replicas": 10, "updatedReplicas": 10, "readyReplicas": 10,
        "availableReplicas": 10});
    let sets = vec![set("v0", 300, 0, 0, 10), set("v1", 200, 0, 0, 10), set("v2", 100, 10, 10, 10)];
    let plan = plan(web(json!({}), done), sets);
    assert_eq!(plan.delete, [("web-v0".to_owned(), "v0".to_owned())]);
}

fn pod(name: &str, more: Value) -> Pod {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"kind": "ReplicaSet", "uid": "rs", "controller": true}]},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready",
            "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    merge(&mut object, &more);
    serde_json::from_value(object).unwrap()
}

fn merge(target: &mut Value, patch: &Value) {
    match patch.as_object() {
        Some(fields) => fields.iter().for_each(|(field, value)| merge(&mut target[field], value)),
        None => *target = patch.clone(),
    }
}

#[test]
fn the_pods_that_are_missed_least_go_first() {
    let set = serde_json::from_value(json!({
        "metadata": {"name": "rs", "namespace": "default", "uid": "rs", "generation": 1},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template("v1")}}));
    let set: replicaset::ReplicaSet = set.unwrap();
    let pods = vec![
        pod("steady", json!({})),
        pod("doubled", json!({"spec": {"nodeName": "n2"}})),
        pod(
            "cheap",
            json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}}),
        ),
        pod("unready", json!({"status": {"conditions": []}})),
        pod("pending", json!({"status": {"phase": "Pending", "conditions": []}})),
        pod("unplaced", json!({"spec": {"nodeName": ""}, "status": {"phase": "Pending", "conditions": []}})),
        pod(
            "young",
            json!({"status": {"conditions": [{"type": "Ready", "status": "True",
            "lastTransitionTime": "2026-01-01T00:09:58Z"}]}}),
        ),
        pod("ended", json!({"status": {"phase": "Failed"}})),
        pod(
            "other",
            json!({"metadata": {"ownerReferences": [{"kind": "ReplicaSet", "uid": "x", "controller": true}]}}),
        ),
    ];
    let pods: Vec<SharedPod> = pods.into_iter().map(SharedPod::from).collect();
    let related = vec![pods[1].clone(), pod("sibling", json!({"spec": {"nodeName": "n2"}})).into()];
    let names = |wanted: i32| {
        let mut set = set.clone();
        set.spec.replicas = Some(wanted);
        let selector = Labels::from_value(&set.spec.selector).unwrap();
        let view = replicaset::View { set, selector, pods: pods.clone(), related: related.clone() };
        let plan = replicaset::decide(&view, now());
        plan.delete.into_iter().map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(1), ["unplaced", "pending", "unready", "cheap", "doubled", "young"]);
    assert_eq!(names(5).len(), 2);
    let view = |replicas| {
        let mut set = set.clone();
        set.spec.replicas = Some(replicas);
        let selector = Labels::from_value(&set.spec.selector).unwrap();
        replicaset::View { set, selector, pods: pods.clone(), related: vec![] }
    };
    let plan = replicaset::decide(&view(9), now());
    assert_eq!((plan.create, plan.status.replicas, plan.status.ready_replicas), (2, 7, 4));
    let failed = replicaset::status_after(&view(9).set, &plan, Some("quota"), now()).unwrap();
    assert_eq!(
        (failed.conditions[0].reason.as_str(), failed.conditions[0].message.as_str()),
        ("FailedCreate", "quota")
    );
}

#[test]
fn slices_are_filled_with_few_writes() {
    let service: endpoints::Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "s"},
        "spec": {"clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]}}))
    .unwrap();
    let pods = |range: std::ops::Range<usize>| {
        let one = |i: usize| {
            pod(
                &format!("p{i:03}"),
                json!({"status": {"podIPs": [{"ip": format!("10.0.{}.{}", i / 250, i % 250 + 1)}]}}),
            )
        };
        range.map(one).collect::<Vec<_>>()
    };
    let backend = |pod: Pod| endpoints::Backend {
        zone: (pod.spec.node_name == "n1").then(|| "east".to_owned()),
        pod: pod.into(),
    };
    let view = |pods: Vec<Pod>| endpoints::View {
        service: service.clone(),
        pods: pods.into_iter().map(backend).collect(),
    };
    let stored = |plan: slices::Plan, before: Vec<slices::Slice>| {
        let mut all = before;
        all.retain(|slice| !plan.delete.iter().any(|(name, _)| *name == slice.metadata.name));
        for slice in plan.update {
            let at = all.iter().position(|old| old.metadata.name == slice.metadata.name);
            all[at.unwrap()] = slice;
        }
        for (i, mut slice) in plan.create.into_iter().enumerate() {
            slice.metadata.name = format!("web-{}-{i}", all.len());
            all.push(slice);
        }
        all
    };
    let writes = |plan: &slices::Plan| (plan.create.len(), plan.update.len(), plan.delete.len());
    // Nothing: one placeholder, once.
    let empty = slices::decide(&view(vec![]), &[]);
    assert_eq!(writes(&empty), (1, 0, 0));
    let all = stored(empty, vec![]);
    assert_eq!(writes(&slices::decide(&view(vec![]), &all)), (0, 0, 0));
    // 250 endpoints: the placeholder is used again, and two more.
    let plan = slices::decide(&view(pods(0..250)), &all);
    assert_eq!(writes(&plan), (2, 1, 0));
    let all = stored(plan, all);
    assert_eq!(all.iter().map(|slice| slice.endpoints.len()).sum::<usize>(), 250);
    assert_eq!(writes(&slices::decide(&view(pods(0..250)), &all)), (0, 0, 0));
    assert_eq!(all[0].endpoints[0].zone.as_deref(), Some("east"));
    // One more goes where there is room; one that goes touches one slice.
    assert_eq!(writes(&slices::decide(&view(pods(0..251)), &all)), (0, 1, 0));
    assert_eq!(writes(&slices::decide(&view(pods(1..250)), &all)), (0, 1, 0));
    // A pod that goes is neither ready nor gone.
    let leaving = pod("p000", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let plan = slices::decide(&view(vec![leaving]), &[]);
    let conditions = &plan.create[0].endpoints[0].conditions;
    assert_eq!(
        (conditions.ready, conditions.serving, conditions.terminating),
        (Some(false), Some(true), Some(true))
    );
    // A node that is not known: left out for now.
    let strange = pod("p000", json!({"spec": {"nodeName": "n9"}}));
    assert!(slices::decide(&view(vec![strange]), &[]).node_missing);
}

#[test]
fn only_what_endpoints_show_wakes_a_service() {
    let before = pod("p", json!({"status": {"podIPs": [{"ip": "10.0.0.1"}]}}));
    for (patch, alike) in [
        (json!({"status": {"podIPs": [{"ip": "10.0.0.1"}], "startTime": "2026-01-01T00:00:00Z"}}), true),
        (
            json!({"metadata": {"resourceVersion": "9", "annotations": {"a": "b"}}, "status": {"podIPs": [{"ip": "10.0.0.1"}]}}),
            true,
        ),
        (json!({"status": {"podIPs": [{"ip": "10.0.0.2"}]}}), false),
        (json!({"status": {"podIPs": [{"ip": "10.0.0.1"}], "conditions": []}}), false),
        (json!({"status": {"podIPs": [{"ip": "10.0.0.1"}], "phase": "Failed"}}), false),
        (json!({"spec": {"nodeName": "n2"}, "status": {"podIPs": [{"ip": "10.0.0.1"}]}}), false),
        (json!({"metadata": {"uid": "another"}, "status": {"podIPs": [{"ip": "10.0.0.1"}]}}), false),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"podIPs": [{"ip": "10.0.0.1"}]}}),
            false,
        ),
    ] {
        assert_eq!(endpoints::alike(&before, &pod("p", patch.clone())), alike, "{patch}");
    }
}

#[test]
fn dependents_go_when_no_owner_is_left() {
    use garbage::{Dependent, Judgement, Plan, Seen, Verdict};
    let owner = |uid: &str| Owner {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: uid.into(),
        uid: uid.into(),
        controller: false,
        block_owner_deletion: true,
    };
    let dependent = |name: &str, blocks: bool, foreground: bool| Dependent {
        key: carrack_api::Key::new("pods", "default", name),
        blocks,
        foreground,
    };
    let delete = |policy, unblock| Judgement::Delete { policy, unblock };
    let none: &[Dependent] = &[];
    for (verdicts, finalizers, dependents, expect) in [
        (vec![], vec![], none, Judgement::Keep),
        (vec![Verdict::Solid], vec![], none, Judgement::Keep),
        (vec![Verdict::Solid, Verdict::Dangling], vec![], none, Judgement::Unlink(vec!["1".into()])),
        (vec![Verdict::Dangling], vec![], none, delete("Background", false)),
        (vec![Verdict::Dangling], vec!["orphan"], none, delete("Orphan", false)),
        (vec![Verdict::Dangling], vec!["foregroundDeletion"], none, delete("Foreground", false)),
        (vec![Verdict::Waiting], vec![], none, delete("Background", false)),
        (vec![Verdict::Waiting], vec![], &[dependent("a", true, false)], delete("Foreground", false)),
        (vec![Verdict::Waiting], vec![], &[dependent("a", true, true)], delete("Foreground", true)),
    ] {
        let owners: Vec<_> = verdicts.iter().enumerate().map(|(i, v)| (owner(&i.to_string()), *v)).collect();
        let finalizers: Vec<String> = finalizers.into_iter().map(String::from).collect();
        assert_eq!(garbage::judge(&owners, &finalizers, dependents), expect, "{verdicts:?}");
    }
    let view =
        |deleting: bool, finalizers: &[&str], seen: &[Seen], dependents: Vec<Dependent>| garbage::View {
            deleting,
            finalizers: finalizers.iter().map(ToString::to_string).collect(),
            owners: seen.iter().map(|seen| (owner("o"), *seen)).collect(),
            dependents,
        };
    let key = |name: &str| carrack_api::Key::new("pods", "default", name);
    for (view, expect) in [
        (view(false, &[], &[Seen::Solid], vec![]), Plan::Rest),
        (view(false, &[], &[Seen::Solid, Seen::Unsure], vec![]), Plan::LookUp),
        (view(true, &[], &[Seen::Unsure], vec![]), Plan::Rest),
        (view(true, &["orphan"], &[], vec![dependent("a", false, false)]), Plan::Orphan(vec![key("a")])),
        (view(true, &["foregroundDeletion"], &[], vec![dependent("a", false, false)]), Plan::Release),
        (
            view(
                true,
                &["foregroundDeletion"],
                &[],
                vec![dependent("a", true, false), dependent("b", true, true)],
            ),
            Plan::Wake(vec![key("a")]),
        ),
    ] {
        assert_eq!(garbage::decide(&view), expect);
    }
}

#[test]
fn a_namespace_says_what_it_waits_for() {
    let mut remaining = namespace::Remaining::default();
    let done = namespace::decide(&[], &remaining, now());
    assert!(done.finalize && done.look_again.is_none());
    assert_eq!(done.conditions.as_ref().unwrap().len(), 5);
    let before = done.conditions.unwrap();
    assert_eq!(namespace::decide(&before, &remaining, now()).conditions, None);
    remaining.objects.insert("widgets.example.com".into(), 2);
    remaining.finalizers.insert("example.com/hold".into(), 2);
    remaining.estimate = 15;
    let waits = namespace::decide(&before, &remaining, now());
    assert!(!waits.finalize && waits.look_again == Some(8));
    let message = |kind: &str| {
        let conditions = waits.conditions.as_ref().unwrap();
        conditions.iter().find(|c| c.kind == kind && c.status == "True").unwrap().message.clone()
    };
    assert_eq!(
        message("NamespaceContentRemaining"),
        "Some resources are remaining: widgets.example.com has 2 resource instances"
    );
    assert_eq!(
        message("NamespaceFinalizersRemaining"),
        "Some content in the namespace has finalizers remaining: example.com/hold in 2 resource instances"
    );
}
