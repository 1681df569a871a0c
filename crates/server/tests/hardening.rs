//! The faults that the API and the store have to stand, case by case; docs/hardening.md
//! lists them all with their tests.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use carrack_server::{Config, Server};
use carrack_store::{Limits, Local};
use common::{AlwaysAllow, Client, Events};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server that remembers so many changes and pages of one list.
fn forgetful(history_events: usize) -> Client {
    let store = Arc::new(Local::memory(Limits { history_events, ..Limits::default() }));
    let config =
        Config { page_snapshots: 1, bookmark_interval: Duration::from_millis(5), ..Config::default() };
    let server = Server::builder(store, carrack_api::kinds::builtin());
    Client(server.authorizer(Arc::new(AlwaysAllow)).config(config).build())
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": "0"}})
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|m| m["metadata"]["name"].as_str().unwrap()).collect()
}

async fn change(client: &Client, name: &str, n: usize) -> u64 {
    let patch = json!({"data": {"n": n.to_string()}});
    revision(&client.patch(&format!("{MAPS}/{name}"), "merge-patch", &patch).await.expect(200))
}

#[tokio::test(flavor = "multi_thread")]
async fn cas_race_has_one_winner() {
    let client = Client::builtin();
    let made = client.post(MAPS, &map("a")).await.expect(201);
    let writers = (1..=100).map(|n| {
        let (client, mut object) = (client.clone(), made.clone());
        object["data"]["n"] = n.to_string().into();
        tokio::spawn(async move { client.put(&format!("{MAPS}/a"), &object).await })
    });
    let mut codes = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        let answer = writer.await.unwrap();
        if answer.code == 409 {
            assert_eq!(answer.json()["reason"], "Conflict");
        }
        codes.push(answer.code);
    }
    codes.sort_unstable();
    assert_eq!((codes[0], codes[1..].iter().filter(|code| **code == 409).count()), (200, 99));
    let wrong = json!({"preconditions": {"uid": "another"}}).to_string();
    let kind = [("content-type", "application/json")];
    client.send("DELETE", &format!("{MAPS}/a"), &kind, wrong).await.expect(409);
    let mut other = client.get(&format!("{MAPS}/a")).await.expect(200);
    other["metadata"]["uid"] = "another".into();
    client.put(&format!("{MAPS}/a"), &other).await.expect(409);
}

#[tokio::test]
async fn watch_resume_tells_each_event_once_or_expires() {
    let client = forgetful(50);
    let start = revision(&client.post(MAPS, &map("a")).await.expect(201));
    let mut all = Vec::new();
    for n in 1..=100 {
        all.push(change(&client, "a", n).await);
    }
    for (at, from) in std::iter::once(&start).chain(&all).enumerate().step_by(7) {
        let mut watch =
            Events::of(client.stream(&format!("{MAPS}?watch=1&resourceVersion={from}"), &[]).await);
        let within = at >= 50;
        if at < all.len() || !within {
            let first = watch.next().await.unwrap();
            if within {
                let mut seen = vec![revision(&first["object"])];
                while seen.len() < all.len() - at {
                    seen.push(revision(&watch.next().await.unwrap()["object"]));
                }
                assert_eq!(seen, all[at..], "from {from}");
            } else {
                assert_eq!((&first["type"], &first["object"]["code"]), (&json!("ERROR"), &json!(410)));
                assert_eq!(first["object"]["reason"], "Expired");
            }
        }
    }
}

#[tokio::test]
async fn delete_at_compaction_is_told_or_expires() {
    for window in 1..8 {
        let client = forgetful(window);
        let at = revision(&client.post(MAPS, &map("a")).await.expect(201));
        client.delete(&format!("{MAPS}/a")).await.expect(200);
        for n in 0..4 {
            client.post(MAPS, &map(&format!("b{n}"))).await.expect(201);
        }
        let mut watch = Events::of(client.stream(&format!("{MAPS}?watch=1&resourceVersion={at}"), &[]).await);
        let first = watch.brief().await;
        assert_eq!(first, if window >= 5 { "DELETED a" } else { "ERROR " }, "a window of {window}");
    }
}

#[tokio::test]
async fn slow_watcher_is_told_everything_or_closed() {
    let client = forgetful(20);
    let at = revision(&client.post(MAPS, &map("a")).await.expect(201));
    let mut watch = Events::of(client.stream(&format!("{MAPS}?watch=1&resourceVersion={at}"), &[]).await);
    let mut told = at;
    for round in 0..3 {
        let mut last = 0;
        for n in 0..10 {
            last = change(&client, "a", round * 10 + n + 1).await;
        }
        while told < last {
            let seen = revision(&watch.next().await.unwrap()["object"]);
            assert_eq!(seen, told + 1, "nobody else writes, so nothing may be missing");
            told = seen;
        }
    }
    for n in 0..100 {
        change(&client, "a", n).await;
    }
    let last = watch.next().await.unwrap();
    assert_eq!(last["object"]["code"], 410, "what it missed is gone: {last}");
    assert!(watch.next().await.is_none(), "and so is the watch");
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_bookmark_has_nothing_older_after_it() {
    let client = forgetful(10_000);
    let at = revision(&client.post(MAPS, &map("a")).await.expect(201));
    let query = format!("{MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={at}");
    let mut watch = Events::of(client.stream(&query, &[]).await);
    let writing = client.clone();
    let writer = tokio::spawn(async move {
        let (client, mut last) = (writing, 0);
        for n in 1..=300 {
            last = change(&client, "a", n).await;
            // Others move the store's revision too, and with it the bookmarks.
            client
                .post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"generateName": "s"}}))
                .await
                .expect(201);
        }
        last
    });
    let (mut told, mut events, mut bookmarks) = (at, 0, 0);
    while events < 300 || bookmarks == 0 {
        let event = watch.next().await.unwrap();
        let seen = revision(&event["object"]);
        if event["type"] == "BOOKMARK" {
            assert!(seen >= told, "a bookmark at {seen} after {told}");
            bookmarks += 1;
        } else {
            assert!(seen > told, "an event at {seen} after {told}");
            events += 1;
        }
        told = seen;
    }
    assert!(told >= writer.await.unwrap());
}

#[tokio::test]
async fn paging_shows_one_revision_and_expires_with_a_way_on() {
    let client = forgetful(5);
    for n in 0..6 {
        client.post(MAPS, &map(&format!("m{n}"))).await.expect(201);
    }
    let first = client.get(&format!("{MAPS}?limit=2")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    client.delete(&format!("{MAPS}/m3")).await.expect(200);
    // Another list takes the only place among kept snapshots; the history still knows.
    client.get(&format!("{MAPS}?limit=1")).await.expect(200);
    let second = client.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!((names(&second), revision(&second)), (vec!["m2", "m3"], revision(&first)));
    for n in 0..10 {
        change(&client, "m4", n).await;
    }
    client.get(&format!("{MAPS}?limit=1")).await.expect(200);
    let gone = client.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(410);
    assert_eq!(gone["reason"], "Expired");
    let fresh = gone["metadata"]["continue"].as_str().expect("a way to go on");
    let rest = client.get(&format!("{MAPS}?limit=2&continue={fresh}")).await.expect(200);
    assert_eq!(names(&rest), ["m2", "m4"], "as things are now");
    assert!(revision(&rest) > revision(&first));
    let exact = format!("{MAPS}?resourceVersionMatch=Exact&resourceVersion={}", revision(&first));
    client.get(&exact).await.expect(410);
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_read_sees_every_acknowledged_write() {
    let client = Client::builtin();
    let writers = (0..8).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                let name = format!("w{writer}-{n}");
                let made = revision(&client.post(MAPS, &map(&name)).await.expect(201));
                let list = client.get(MAPS).await.expect(200);
                assert!(names(&list).contains(&&*name) && revision(&list) >= made);
                client.get(&format!("{MAPS}/{name}")).await.expect(200);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let list = client.get(MAPS).await.expect(200);
    let all: BTreeSet<_> = names(&list).into_iter().collect();
    assert_eq!(all.len(), 160);
}
