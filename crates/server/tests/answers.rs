//! The whole write path against what a kube-apiserver v1.36.3 answered to the same
//! requests (`crates/api/tests/answers`, recorded by `cargo xtask answers`): decoding,
//! admission, defaults, allocation, rules, and what is stored in the end.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod common;

use std::sync::Arc;

use carrack_server::Server;
use carrack_server::admission::{
    DefaultTolerationSeconds, NamespaceLifecycle, Priority, TaintNodesByCondition,
};
use carrack_server::allocate::{Ranges, Services};
use carrack_server::bootstrap::{BootstrapConfig, Progress, bootstrap};
use carrack_server::seams::Admission;
use carrack_store::{Limits, Local, Store};
use common::{AlwaysAllow, Client};
use serde_json::{Value, json};

const CREATE: &str = include_str!("../../api/tests/answers/create.jsonl");
const UPDATE: &str = include_str!("../../api/tests/answers/update.jsonl");

/// Kinds that are served, but whose strategies come with their controllers: what creating
/// one stores is not compared.
const WITHOUT_STRATEGY: [&str; 5] =
    ["Job", "DaemonSet", "PersistentVolume", "PersistentVolumeClaim", "CustomResourceDefinition"];

/// A server with the plugins that the recorded one had (it ran without ServiceAccount).
async fn client() -> Client {
    let store: Arc<dyn Store> = Arc::new(Local::memory(Limits::default()));
    let plugins: [Arc<dyn Admission>; 4] = [
        Arc::new(NamespaceLifecycle::new(store.clone())),
        Arc::new(TaintNodesByCondition),
        Arc::new(Priority::new(store.clone())),
        Arc::new(DefaultTolerationSeconds),
    ];
    let mut builder = Server::builder(store.clone(), carrack_api::kinds::builtin());
    builder = builder.authorizer(Arc::new(AlwaysAllow));
    builder = builder.strategy("services", Arc::new(Services::new(store.clone(), Ranges::default())));
    let server = plugins.into_iter().fold(builder, carrack_server::ServerBuilder::admission).build();
    let config = BootstrapConfig {
        ranges: Ranges::default(),
        advertise: Vec::new(),
        port: 6443,
        client_ca: String::new(),
    };
    bootstrap(server.registry(), &config, &Progress::default()).await.unwrap();
    Client(server)
}

/// The collection's path.
fn path(case: &Value) -> String {
    let (gv, plural) = case["resource"].as_str().unwrap().rsplit_once('/').unwrap();
    let root = if gv.contains('/') { "apis" } else { "api" };
    let namespace = case["object"]["metadata"]["namespace"].as_str();
    let scope = namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
    format!("/{root}/{gv}/{scope}{plural}")
}

/// What an answer says, as the recording has it: causes sorted, first lines only.
fn sentences(answer: &Value) -> Vec<String> {
    if answer["kind"] != "Status" {
        return Vec::new();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let causes = answer["details"]["causes"].as_array().into_iter().flatten();
    let mut all: Vec<String> =
        causes.map(|cause| format!("{}: {}", text(&cause["field"]), text(&cause["message"]))).collect();
    if all.is_empty() {
        all.push(text(&answer["message"]));
    }
    settle(all)
}

fn settle(all: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> =
        all.iter().map(|sentence| sentence.lines().next().unwrap_or_default().to_owned()).collect();
    all.sort();
    all.dedup();
    all
}

fn recorded(case: &Value) -> Vec<String> {
    settle(case["answer"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect())
}

/// Removes what is random or of the moment.
fn forget(object: &mut Value) {
    let meta = object["metadata"].as_object_mut().unwrap();
    for field in ["uid", "creationTimestamp", "managedFields", "resourceVersion"] {
        meta.remove(field);
    }
    if object["kind"] == "Service" {
        for field in ["clusterIP", "clusterIPs"] {
            if object["spec"][field].to_string().contains("10.96.") {
                object["spec"][field] = "allocated".into();
            }
        }
        for port in object["spec"]["ports"].as_array_mut().into_iter().flatten() {
            port.as_object_mut().map(|fields| fields.remove("nodePort"));
        }
    }
}

#[tokio::test]
async fn creations_end_as_upstreams_do() {
    let client = client().await;
    let mut wrong = Vec::new();
    for (at, line) in CREATE.lines().enumerate() {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut answer = client.post(&format!("{}?dryRun=All", path(&case)), &case["object"]).await.json();
        let (said, expect) = (sentences(&answer), recorded(&case));
        if said != expect {
            let missing: Vec<_> = expect.iter().filter(|s| !said.contains(s)).collect();
            let extra: Vec<_> = said.iter().filter(|s| !expect.contains(s)).collect();
            wrong.push(format!("line {}\n  upstream: {missing:#?}\n  here: {extra:#?}", at + 1));
        } else if case["stored"].is_object()
            && !WITHOUT_STRATEGY.iter().any(|kind| case["stored"]["kind"] == **kind)
        {
            let mut stored = case["stored"].clone();
            forget(&mut stored);
            forget(&mut answer);
            if stored != answer {
                wrong.push(format!("line {}\n  upstream: {stored}\n  here:     {answer}", at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn updates_end_as_upstreams_do() {
    let mut wrong = Vec::new();
    for (at, line) in UPDATE.lines().enumerate() {
        let client = client().await;
        let case: Value = serde_json::from_str(line).unwrap();
        let base = path(&case);
        client.post(&base, &case["object"]).await;
        let name = case["object"]["metadata"]["name"].as_str().unwrap();
        let sub = if case["subresource"] == json!("status") { "/status" } else { "" };
        let url = format!("{base}/{name}{sub}?dryRun=All");
        let answer = client.patch(&url, "merge-patch", &case["changes"]).await.json();
        // Cluster addresses differ; the sentences that show one do not otherwise.
        let (said, expect) = (sentences(&answer), recorded(&case));
        if said != expect {
            wrong.push(format!("line {}\n  upstream: {expect:#?}\n  here: {said:#?}", at + 1));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}
