//! The collector on a whole server (`finalizer-gc`): a new owner of the same name keeps its
//! dependents, foreground deletion waits for what blocks it, and a `kill -9` in the middle
//! changes nothing in the end.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use carrack_lab::server::Server;
use carrack_lab::writes::{MAPS, send};
use kube::Client;
use serde_json::{Value, json};

/// How long the collector may take for anything.
const PATIENCE: Duration = Duration::from_secs(90);
/// Owners of one name, one after the other.
const ROUNDS: usize = 12;

/// One answered request; a server that is just coming up is asked again.
async fn ask(client: &Client, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answered = async {
        loop {
            if let Some(answer) = send(client, method, path, body).await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("a server that answers")
}

fn at(name: &str) -> String {
    format!("{MAPS}/{name}")
}

async fn create(client: &Client, name: &str, owners: &[Value], finalizers: &[&str]) -> Value {
    // A server that has just come up makes its first namespaces meanwhile.
    let there = async {
        while ask(client, "GET", "/api/v1/namespaces/default", &Value::Null).await.0 == 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("the namespace default");
    let meta = json!({"name": name, "ownerReferences": owners, "finalizers": finalizers});
    let (code, made) = ask(client, "POST", MAPS, &json!({ "metadata": meta })).await;
    assert_eq!(code, 201, "{made}");
    made
}

fn owner(object: &Value, blocks: bool) -> Value {
    let meta = &object["metadata"];
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": meta["name"], "uid": meta["uid"],
        "blockOwnerDeletion": blocks})
}

async fn delete(client: &Client, name: &str, policy: &str) {
    let (code, said) = ask(client, "DELETE", &at(name), &json!({ "propagationPolicy": policy })).await;
    assert!(matches!(code, 200 | 202), "{said}");
}

async fn names(client: &Client) -> BTreeSet<String> {
    let (_, list) = ask(client, "GET", MAPS, &Value::Null).await;
    let names =
        list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap());
    names.filter(|name| *name != "kube-root-ca.crt").map(str::to_owned).collect()
}

/// Waits until exactly these ConfigMaps are left.
async fn only(client: &Client, expect: &[&str]) {
    let expect: BTreeSet<String> = expect.iter().map(|name| (*name).to_owned()).collect();
    let reached = async {
        while names(client).await != expect {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, reached).await.is_err() {
        assert_eq!(names(client).await, expect);
    }
}

/// The collector has worked on everything before: what it is given now is collected.
async fn settled(client: &Client) {
    for n in 0..16 {
        let made = create(client, &format!("probe-owner-{n}"), &[], &[]).await;
        create(client, &format!("probe-{n}"), &[owner(&made, false)], &[]).await;
        delete(client, &format!("probe-owner-{n}"), "Background").await;
    }
    let gone = async {
        while names(client).await.iter().any(|name| name.starts_with("probe")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("a collector that works");
}

async fn release(client: &Client, name: &str) {
    let (_, mut object) = ask(client, "GET", &at(name), &Value::Null).await;
    object["metadata"]["finalizers"] = json!([]);
    let (code, said) = ask(client, "PUT", &at(name), &object).await;
    assert_eq!(code, 200, "{said}");
}

/// A server that has made what a cluster has from its first moment.
async fn server(dir: &tempfile::TempDir) -> (Server, Client) {
    let mut server = Server::new(&dir.path().join("data"), &["--disable", "scheduler"]).unwrap();
    server.start().unwrap();
    let client = server.client().unwrap();
    while ask(&client, "GET", "/readyz", &Value::Null).await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizer_gc_a_new_owner_keeps_its_dependents() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, client) = server(&dir).await;
    let mut made = create(&client, "owner", &[], &[]).await;
    for round in 0..ROUNDS {
        for n in 0..3 {
            create(&client, &format!("of-{round}-{n}"), &[owner(&made, n == 0)], &[]).await;
        }
        let last = made;
        delete(&client, "owner", "Background").await;
        made = create(&client, "owner", &[], &[]).await;
        // While the collector is at the old owner's.
        create(&client, &format!("new-{round}"), &[owner(&made, true)], &[]).await;
        create(&client, &format!("both-{round}"), &[owner(&last, false), owner(&made, false)], &[]).await;
        if round % 4 == 3 {
            server.kill().unwrap();
            server.start().unwrap();
        }
        settled(&client).await;
        // Only of the owner that is there; what has both has lost the reference to the one
        // that is gone.
        only(&client, &["owner", &format!("new-{round}"), &format!("both-{round}")]).await;
        let unlinked = async {
            loop {
                let (_, both) = ask(&client, "GET", &at(&format!("both-{round}")), &Value::Null).await;
                if both["metadata"]["ownerReferences"].as_array().map(Vec::len) == Some(1) {
                    return both;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let both = tokio::time::timeout(PATIENCE, unlinked).await.expect("one reference");
        assert_eq!(both["metadata"]["ownerReferences"][0]["uid"], made["metadata"]["uid"]);
    }
    delete(&client, "owner", "Background").await;
    only(&client, &[]).await;
    server.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizer_gc_in_the_foreground_waits_for_what_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, client) = server(&dir).await;
    let held = &["example.org/held"];
    let made = create(&client, "owner", &[], &[]).await;
    create(&client, "blocks", &[owner(&made, true)], held).await;
    create(&client, "does-not", &[owner(&made, false)], held).await;
    create(&client, "free", &[owner(&made, true)], &[]).await;
    delete(&client, "owner", "Foreground").await;
    // The owner waits, visibly, and all its dependents are on their way.
    only(&client, &["owner", "blocks", "does-not"]).await;
    server.kill().unwrap();
    server.start().unwrap();
    settled(&client).await;
    only(&client, &["owner", "blocks", "does-not"]).await;
    let (_, waiting) = ask(&client, "GET", &at("owner"), &Value::Null).await;
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert!(waiting["metadata"]["deletionTimestamp"].is_string(), "{waiting}");
    for name in ["blocks", "does-not"] {
        let (_, dependent) = ask(&client, "GET", &at(name), &Value::Null).await;
        assert!(dependent["metadata"]["deletionTimestamp"].is_string(), "{dependent}");
    }
    // What does not block does not hold the owner once the other is gone.
    release(&client, "blocks").await;
    only(&client, &["does-not"]).await;
    // A new owner of the same name has nothing to do with what is left.
    create(&client, "owner", &[], &[]).await;
    release(&client, "does-not").await;
    only(&client, &["owner"]).await;
    server.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizer_gc_leaves_dependents_while_the_owner_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, client) = server(&dir).await;
    let made = create(&client, "owner", &[], &["example.org/held"]).await;
    create(&client, "dependent", &[owner(&made, false)], &[]).await;
    delete(&client, "owner", "Background").await;
    settled(&client).await;
    // Deleted but there: an owner is one until it is gone.
    only(&client, &["owner", "dependent"]).await;
    server.kill().unwrap();
    server.start().unwrap();
    settled(&client).await;
    only(&client, &["owner", "dependent"]).await;
    release(&client, "owner").await;
    only(&client, &[]).await;
    server.stop().unwrap();
}
