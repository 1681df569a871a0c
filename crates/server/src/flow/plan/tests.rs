//! The decisions, as tables.

use std::collections::{BTreeMap, BTreeSet};

use carrack_api::Value;
use serde_json::json;

use super::queues::{Queues, deal};
use super::shares::{self, Bounds, Demand};
use super::spec::{Mode, Spec};
use crate::flow::{LEVELS, builtin};
use crate::request::{Attributes, User};

fn named(objects: impl IntoIterator<Item = Value>) -> BTreeMap<Box<str>, Value> {
    objects.into_iter().map(|object| (object["metadata"]["name"].as_str().unwrap().into(), object)).collect()
}

fn suggested() -> Spec {
    let (levels, schemas): (Vec<_>, Vec<_>) =
        builtin::objects().into_iter().partition(|(resource, _)| *resource == LEVELS);
    let objects = |of: Vec<(&str, Value)>| named(of.into_iter().map(|(_, object)| object));
    Spec::of(&objects(schemas), &objects(levels))
}

#[test]
fn requests_are_sorted_as_upstream_sorts_them() {
    let spec = suggested();
    let check = |user: &str, groups: &[&str], at: Attributes, expect: &str, level: &str| {
        let user = User::new(user, groups.iter().chain(&["system:authenticated"]));
        let schema = &spec.schemas[spec.classify(&user, &at).unwrap()];
        assert_eq!((&*schema.name, &*spec.levels[schema.level].name), (expect, level), "{user:?} {at:?}");
    };
    let lease = |verb| Attributes::resource(verb, "coordination.k8s.io", "leases", "kube-node-lease", "n1");
    let pods = || Attributes::resource("list", "", "pods", "", "");
    check("admin", &["system:masters"], pods(), "exempt", "exempt");
    check("any", &[], Attributes::path("get", "/readyz"), "probes", "exempt");
    check("any", &[], Attributes::path("get", "/readyz/ping"), "probes", "exempt");
    check("any", &[], Attributes::path("get", "/readyz-not"), "global-default", "global-default");
    check("system:node:n1", &["system:nodes"], lease("update"), "system-node-high", "node-high");
    let status = Attributes::resource("patch", "", "nodes/status", "", "n1");
    check("system:node:n1", &["system:nodes"], status, "system-node-high", "node-high");
    let proxy = Attributes::resource("get", "", "nodes/proxy", "", "n1");
    check("system:node:n1", &["system:nodes"], proxy, "system-nodes", "system");
    check("system:node:n1", &["system:nodes"], pods(), "system-nodes", "system");
    let (manager, scheduler) = ("system:kube-controller-manager", "system:kube-scheduler");
    check(manager, &[], lease("update"), "system-leader-election", "leader-election");
    check(manager, &[], lease("delete"), "kube-controller-manager", "workload-high");
    check(scheduler, &[], pods(), "kube-scheduler", "workload-high");
    let account = "system:serviceaccount:kube-system:x";
    check(account, &["system:serviceaccounts"], lease("get"), "system-leader-election", "leader-election");
    check(account, &["system:serviceaccounts"], pods(), "kube-system-service-accounts", "workload-high");
    let other = "system:serviceaccount:kube-systems:x";
    check(other, &["system:serviceaccounts"], pods(), "service-accounts", "workload-low");
    check("any", &[], pods(), "global-default", "global-default");
}

#[test]
fn what_is_mandatory_is_there_and_what_dangles_is_not() {
    let dangling = json!({"metadata": {"name": "a"}, "spec": {"matchingPrecedence": 1,
        "priorityLevelConfiguration": {"name": "nowhere"},
        "rules": [{"subjects": [{"kind": "Group", "group": {"name": "*"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]}]}});
    let spec = Spec::of(&named([dangling]), &BTreeMap::new());
    let names: Vec<&str> = spec.schemas.iter().map(|schema| &*schema.name).collect();
    assert_eq!(names, ["exempt", "catch-all"]);
    let at = Attributes::resource("get", "", "pods", "a", "b");
    assert_eq!(spec.classify(&User::new("a", ["system:authenticated"]), &at), Some(1));
}

#[test]
fn flows_are_told_apart_by_what_the_schema_says() {
    let spec = suggested();
    let schema = |name: &str| spec.schemas.iter().find(|schema| &*schema.name == name).unwrap();
    let (a, b) = (User::new("a", ["g"]), User::new("b", ["g"]));
    let at = |namespace: &str| Attributes::resource("get", "", "pods", namespace, "p");
    let check = |name: &str, by_user: bool, by_namespace: bool| {
        let schema = schema(name);
        assert_eq!(schema.flow(&a, &at("x")) != schema.flow(&b, &at("x")), by_user, "{name}");
        assert_eq!(schema.flow(&a, &at("x")) != schema.flow(&a, &at("y")), by_namespace, "{name}");
    };
    check("exempt", false, false);
    check("global-default", true, false);
    check("kube-scheduler", false, true);
}

#[test]
fn seats_are_shared_as_upstream_shares_them() {
    let spec = suggested();
    let bounds = shares::bounds(&spec.levels, 600);
    let of = |name: &str| bounds[spec.levels.iter().position(|level| &*level.name == name).unwrap()];
    let expect = |nominal, least| Bounds { nominal, least, most: nominal + 600 };
    // The sum of all shares is 245.
    assert_eq!(of("workload-low"), expect(245, 24));
    assert_eq!(of("node-high"), expect(98, 73));
    assert_eq!(of("leader-election"), expect(25, 25));
    assert_eq!(of("catch-all"), expect(13, 13));
    assert_eq!(of("exempt"), expect(0, 0));
    let queue = Mode::Queue { queues: 64, hand: 6, length: 50 };
    assert_eq!(shares::widest(queue, of("workload-low")), 37);
    assert_eq!(shares::widest(queue, of("leader-election")), 4);
}

#[test]
fn what_is_not_needed_is_lent() {
    let level = |nominal, least, high: usize| Demand {
        exempt: false,
        bounds: Bounds { nominal, least, most: nominal + 600 },
        high,
        smoothed: high as f64,
    };
    let check = |demands: &[Demand], expect: &[usize]| assert_eq!(shares::limits(demands), expect);
    // Nobody wants anything: all in proportion to what they always keep.
    check(&[level(100, 50, 0), level(100, 50, 0)], &[100, 100]);
    // One wants everything: it gets what the other may lend.
    check(&[level(100, 50, 400), level(100, 50, 0)], &[150, 50]);
    // Both want everything: each has its own.
    check(&[level(100, 50, 400), level(100, 50, 400)], &[100, 100]);
    // What is not lendable stays.
    check(&[level(100, 50, 400), level(100, 100, 0)], &[100, 100]);
    // No more than may be borrowed, and what is over goes to the others.
    let mut stingy = level(100, 50, 400);
    stingy.bounds.most = 110;
    check(&[stingy, level(100, 50, 0)], &[110, 90]);
    // What the exempt have comes off first.
    let exempt = Demand { exempt: true, ..level(0, 0, 60) };
    check(&[level(100, 50, 400), level(100, 50, 400), exempt], &[70, 70, 60]);
    check(&[level(100, 50, 400), Demand { exempt: true, ..level(0, 0, 600) }], &[50, 600]);
}

#[test]
fn demand_rises_at_once_and_falls_slowly() {
    assert_eq!(shares::smooth(0.0, 10), 10.0);
    assert!((shares::smooth(10.0, 0) - 9.77).abs() < 1e-9);
}

#[test]
fn hands_are_dealt_as_upstream_deals_them() {
    // Remainders count among what is left: 1,000,003 is 67 + 128 × (65 + 127 × 61).
    let check = |flow: u64, deck: usize, expect: &[usize]| {
        let mut hand = [0; 16];
        assert_eq!(deal(flow, deck, &mut hand[..expect.len()]), expect);
    };
    check(0, 8, &[0, 1, 2]);
    check(7, 8, &[7, 0, 1]);
    // 3 of 8, then 3 of the 7 that are left, which is the 4.
    check(3 + 8 * 3, 8, &[3, 4]);
    check(1_000_003, 128, &[67, 65]);
    for flow in (0..2000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let mut hand = [0; 16];
        let hand = deal(flow, 128, &mut hand[..6]);
        assert!(hand.iter().all(|card| *card < 128));
        assert_eq!(hand.iter().collect::<BTreeSet<_>>().len(), 6, "{flow}");
    }
}

#[test]
fn queues_are_filled_evenly_and_have_an_end() {
    let mut queues = Queues::new(8, 2, 3);
    let mut places = Vec::new();
    for n in 0..6 {
        places.push(queues.enqueue(7, 1, n).unwrap());
    }
    assert_eq!(queues.enqueue(7, 1, 6), Err(6), "both queues of the hand are full");
    let used: BTreeSet<usize> = places.iter().map(|place| place.queue).collect();
    assert_eq!(used.len(), 2);
    assert_eq!(queues.seats_waiting(), 6);
    assert!(queues.cancel(places[0]));
    assert!(!queues.cancel(places[0]), "gone");
    queues.enqueue(7, 1, 6).unwrap();
}

/// Who is served, in order, when `a` has many requests and `b` few.
fn order(widths: (usize, usize), seconds: f64, seats: usize) -> Vec<&'static str> {
    let (a, b) = (0, 7);
    let mut queues = Queues::new(8, 1, 50);
    for _ in 0..12 {
        queues.enqueue(a, widths.0, "a").unwrap();
    }
    let (mut served, mut busy) = (Vec::new(), Vec::new());
    for round in 0..12 {
        if round == 4 {
            for _ in 0..3 {
                queues.enqueue(b, widths.1, "b").unwrap();
            }
        }
        if let Some((queue, next)) = queues.next(|_| true) {
            served.push(next.payload);
            busy.push((queue, next.width));
        }
        if busy.len() == seats {
            let (queue, width) = busy.remove(0);
            queues.finish(queue, width, seconds);
        }
    }
    served
}

#[test]
fn who_has_been_served_least_goes_next() {
    // A flow that comes later neither waits for the backlog of the other nor gets ahead of
    // it for the time that it was not there.
    let served = order((1, 1), 1.0, 1);
    assert_eq!(served[..4], ["a"; 4]);
    let after: Vec<usize> =
        served.iter().enumerate().filter(|(_, who)| **who == "b").map(|(at, _)| at).collect();
    assert_eq!(after.len(), 3);
    assert!(after[2] <= 9, "they take turns: {served:?}");
    // Three times as wide is served a third as often.
    let served = order((3, 1), 1.0, 1);
    assert_eq!(served[4..].iter().take(4).filter(|who| **who == "b").count(), 3, "{served:?}");
    // What is in progress counts: the newcomer catches up first.
    let served = order((1, 1), 1.0, 4);
    assert_eq!(served[4..7], ["b", "b", "a"], "{served:?}");
}

#[test]
fn the_next_waits_for_its_seats() {
    let mut queues = Queues::new(1, 1, 5);
    queues.enqueue(0, 5, "wide").unwrap();
    queues.enqueue(0, 1, "narrow").unwrap();
    assert!(queues.next(|width| width <= 4).is_none(), "nobody overtakes");
    assert_eq!(queues.next(|width| width <= 5).unwrap().1.payload, "wide");
    assert_eq!(queues.next(|_| true).unwrap().1.payload, "narrow");
    assert!(queues.next(|_| true).is_none());
}
