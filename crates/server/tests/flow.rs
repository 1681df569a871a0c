//! `flood`: who floods the API is told to come back later; leases and others do not notice.

#![allow(clippy::unwrap_used)]

mod common;

use std::task::Poll;

use bytes::Bytes;
use carrack_server::seams::{Authorizer, Decision};
use carrack_server::{Attributes, Server, User};
use carrack_store::{Limits, Local};
use common::{Answer, Client};
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tower_service::Service;

const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Serves `slow` users one request a permit, everyone else at once.
struct Slow(Arc<Semaphore>);

impl Authorizer for Slow {
    fn authorize<'a>(&'a self, user: &'a User, _: &'a Attributes) -> BoxFuture<'a, Decision> {
        Box::pin(async move {
            if user.in_group("slow") {
                self.0.acquire().await.unwrap().forget();
            }
            Decision::Allow(String::new())
        })
    }
}

struct World {
    client: Client,
    permits: Arc<Semaphore>,
}

impl World {
    /// A server on which everyone in `slow` or `fast` shares one seat, with 8 queues of 3,
    /// of which a flow has 2.
    async fn new() -> Self {
        let permits = Arc::new(Semaphore::new(0));
        let store = Arc::new(Local::memory(Limits::default()));
        let server =
            Server::builder(store, carrack_api::kinds::builtin()).authorizer(Arc::new(Slow(permits.clone())));
        let world = Self { client: Client(server.build()), permits };
        let queue = json!({"type": "Queue", "queuing": {"queues": 8, "handSize": 2, "queueLengthLimit": 3}});
        for (name, shares) in [("crowded", 1), ("roomy", 594)] {
            let limited = json!({"nominalConcurrencyShares": shares, "borrowingLimitPercent": 0,
                "lendablePercent": 0, "limitResponse": queue});
            world
                .make(
                    LEVELS,
                    &json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited}}),
                )
                .await;
        }
        for (name, group, level) in
            [("crowd", "slow", "crowded"), ("others", "fast", "crowded"), ("nodes", "system:nodes", "roomy")]
        {
            let rule = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true});
            let subject = json!({"kind": "Group", "group": {"name": group}});
            let spec = json!({"matchingPrecedence": 500, "priorityLevelConfiguration": {"name": level},
                "distinguisherMethod": {"type": "ByUser"}, "rules": [{"subjects": [subject], "resourceRules": [rule]}]});
            world.make(SCHEMAS, &json!({"metadata": {"name": name}, "spec": spec})).await;
        }
        world
    }

    async fn make(&self, path: &str, object: &Value) -> Value {
        self.ask("admin", "system:masters", "POST", path, object).await.expect(201)
    }

    /// A request of a user in a group.
    fn ask(
        &self,
        user: &str,
        group: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> BoxFuture<'static, Answer> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let mut request = Client::request(method, path, &[("content-type", "application/json")], body);
        request.extensions_mut().insert(User::new(user, [group, "system:authenticated"]));
        let mut server = self.client.0.clone();
        Box::pin(async move {
            let (parts, body) = server.call(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer { code: parts.status.as_u16(), headers: parts.headers, body }
        })
    }

    fn flood(&self) -> BoxFuture<'static, Answer> {
        self.ask("flooder", "slow", "GET", MAPS, &Value::Null)
    }
}

/// Lets a request go as far as it gets; its answer if it has one. (Unconstrained: the
/// runtime lets a task that has done much wait, and this one does the work of many.)
async fn push(request: &mut BoxFuture<'static, Answer>) -> Option<Answer> {
    match futures::poll!(tokio::task::unconstrained(request)) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Requests that are under way or wait: one, and two queues of three.
async fn flooded(world: &World) -> Vec<BoxFuture<'static, Answer>> {
    let mut requests = Vec::new();
    for n in 0..7 {
        let mut request = world.flood();
        let answer = push(&mut request).await;
        assert!(answer.is_none(), "request {n}: {answer:?}");
        requests.push(request);
    }
    requests
}

#[tokio::test]
async fn flood_is_refused_and_others_do_not_notice() {
    let world = World::new().await;
    let mut waiting = flooded(&world).await;
    let refused = push(&mut world.flood()).await.expect("no place to wait");
    assert_eq!(refused.code, 429);
    assert_eq!(refused.headers["retry-after"], "1");
    let crowded =
        world.ask("admin", "system:masters", "GET", &format!("{LEVELS}/crowded"), &Value::Null).await;
    let crowd = world.ask("admin", "system:masters", "GET", &format!("{SCHEMAS}/crowd"), &Value::Null).await;
    let uid = |object: Answer| object.expect(200)["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(refused.headers["x-kubernetes-pf-prioritylevel-uid"], uid(crowded));
    assert_eq!(refused.headers["x-kubernetes-pf-flowschema-uid"], uid(crowd));

    // A node renews its lease, as often as it likes.
    let lease =
        json!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40}});
    let node = |method: &str, path: &str, body: &Value| {
        world.ask("system:node:n1", "system:nodes", method, path, body)
    };
    let mut lease = node("POST", LEASES, &lease).await.expect(201);
    for second in 0..60 {
        lease["spec"]["renewTime"] = format!("2026-01-01T00:00:{second:02}.000000Z").into();
        lease = node("PUT", &format!("{LEASES}/n1"), &lease).await.expect(200);
    }
    // So do those under no schema of their own.
    let mut anyone = world.ask("anyone", "some", "GET", MAPS, &Value::Null);
    assert_eq!(push(&mut anyone).await.expect("at once").code, 200);

    // Another user of the crowded level waits its turn, and not for the backlog: at most one
    // request of each of the flooder's queues comes before.
    let mut other = world.ask("other", "fast", "GET", MAPS, &Value::Null);
    assert!(push(&mut other).await.is_none());
    let mut answered = None;
    for _ in 0..4 {
        world.permits.add_permits(1);
        for request in &mut waiting {
            if push(request).await.is_some() {
                *request = Box::pin(std::future::pending());
            }
        }
        if answered.is_none() {
            answered = push(&mut other).await;
        }
    }
    assert_eq!(answered.expect("its turn").code, 200);
}

#[tokio::test]
async fn flood_that_gives_up_makes_room() {
    let world = World::new().await;
    let mut waiting = flooded(&world).await;
    // Clients that go away leave their queues, and one that is being served its seat.
    waiting.truncate(4);
    for _ in 0..3 {
        let mut request = world.flood();
        assert!(push(&mut request).await.is_none());
        waiting.push(request);
    }
    assert_eq!(push(&mut world.flood()).await.expect("full again").code, 429);
    drop(waiting);
    let mut other = world.ask("other", "fast", "GET", MAPS, &Value::Null);
    assert_eq!(push(&mut other).await.expect("a free seat").code, 200);
}

#[tokio::test]
async fn flood_does_not_wait_for_ever() {
    let world = World::new().await;
    let _held = flooded(&world).await;
    // Writes are done; what is left to wait for is time alone.
    tokio::time::pause();
    let late = world.ask("other", "fast", "GET", MAPS, &Value::Null).await;
    assert_eq!(late.code, 429);
}

#[tokio::test]
async fn watches_hold_no_seat_once_they_have_begun() {
    let world = World::new().await;
    let watch = |path: &str| {
        let mut request = Client::request("GET", path, &[], Bytes::new());
        request.extensions_mut().insert(User::new("watcher", ["fast", "system:authenticated"]));
        let mut server = world.client.0.clone();
        async move { server.call(request).await.unwrap() }
    };
    let open = [watch(&format!("{MAPS}?watch=1")).await, watch(&format!("{MAPS}?watch=1")).await];
    assert!(open.iter().all(|answer| answer.status() == 200));
    let mut get = world.ask("other", "fast", "GET", MAPS, &Value::Null);
    assert_eq!(push(&mut get).await.expect("a free seat").code, 200);
}

#[tokio::test]
async fn changes_of_the_objects_hold_at_once() {
    let world = World::new().await;
    let waiting = flooded(&world).await;
    assert_eq!(push(&mut world.flood()).await.expect("full").code, 429);
    // A schema that goes before sends the flooder where there is room.
    let rule = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true});
    let subject = json!({"kind": "User", "user": {"name": "flooder"}});
    let spec = json!({"matchingPrecedence": 2, "priorityLevelConfiguration": {"name": "roomy"},
        "rules": [{"subjects": [subject], "resourceRules": [rule]}]});
    world.make(SCHEMAS, &json!({"metadata": {"name": "before"}, "spec": spec})).await;
    let mut request = world.flood();
    assert!(push(&mut request).await.is_none(), "being served, slowly");
    world
        .ask("admin", "system:masters", "DELETE", &format!("{SCHEMAS}/before"), &Value::Null)
        .await
        .expect(200);
    assert_eq!(push(&mut world.flood()).await.expect("full as before").code, 429);
    // Who waits keeps its place when the level changes.
    drop(request);
    let path = format!("{LEVELS}/crowded");
    let mut level = world.ask("admin", "system:masters", "GET", &path, &Value::Null).await.expect(200);
    level["spec"]["limited"]["limitResponse"]["queuing"]["queueLengthLimit"] = 10.into();
    world.ask("admin", "system:masters", "PUT", &path, &level).await.expect(200);
    let mut more = world.flood();
    assert!(push(&mut more).await.is_none(), "longer queues");
    drop(waiting);
    world.permits.add_permits(1);
    assert_eq!(push(&mut more).await.expect("the first in line").code, 200);
}
