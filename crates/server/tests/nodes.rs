//! Requests that a node answers: through a dialler that leads to a node in this test.
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use carrack_api::Value;
use carrack_server::Server;
use carrack_server::seams::{NodeDialer, NodeStream};
use common::Client;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_service::Service;

/// Leads to a node that echoes: the request line as a log, bytes after an upgrade.
struct Node;

impl NodeDialer for Node {
    fn dial<'a>(&'a self, node: &'a Value) -> BoxFuture<'a, std::io::Result<Box<dyn NodeStream>>> {
        assert_eq!(node["metadata"]["name"], "n1");
        let (near, far) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let service = service_fn(answer);
            let server = hyper::server::conn::http1::Builder::new();
            server.serve_connection(TokioIo::new(far), service).with_upgrades().await.unwrap();
        });
        Box::pin(std::future::ready(Ok(Box::new(near) as Box<dyn NodeStream>)))
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert!(!request.headers().contains_key("authorization"), "credentials must not reach a node");
    if request.uri().path().contains("/waiting") {
        let refusal = Response::builder().status(400).body(Full::from("container is waiting to start"));
        return Ok(refusal.unwrap());
    }
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        });
        let switch =
            Response::builder().status(101).header("upgrade", "websocket").header("connection", "Upgrade");
        return Ok(switch.body(Full::default()).unwrap());
    }
    Ok(Response::new(Full::from(request.uri().to_string())))
}

async fn cluster() -> Client {
    let server: Server = common::builder(carrack_api::kinds::builtin()).node_dialer(Arc::new(Node)).build();
    let client = Client(server);
    let addresses = json!([{"type": "InternalIP", "address": "10.0.0.7"}]);
    for node in [
        json!({"metadata": {"name": "n1"}, "status": {"addresses": addresses}}),
        json!({"metadata": {"name": "n2"}}),
    ] {
        client.post("/api/v1/nodes", &node).await.expect(201);
    }
    for (name, node) in [("web", "n1"), ("waiting", "n1"), ("floating", "")] {
        let pod = json!({"metadata": {"name": name},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        client.post("/api/v1/namespaces/default/pods", &pod).await.expect(201);
    }
    client
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let client = cluster().await;
    let pods = "/api/v1/namespaces/default/pods";
    let answer = client
        .send(
            "GET",
            &format!("{pods}/web/log?follow=true&tailLines=3&x=y"),
            &[("authorization", "Bearer x")],
            "",
        )
        .await;
    assert_eq!(
        (answer.code, &answer.body[..]),
        (200, &b"/containerLogs/default/web/c?follow=true&tailLines=3"[..])
    );
    let refused = client.get(&format!("{pods}/waiting/log")).await.expect(400);
    assert_eq!(refused["message"], "container is waiting to start");
    client.get(&format!("{pods}/web/log?container=none")).await.expect(400);
    let nothing_yet = client.get(&format!("{pods}/floating/log")).await;
    assert_eq!((nothing_yet.code, nothing_yet.body.len()), (204, 0));
    assert_eq!(nothing_yet.headers["cache-control"], "no-cache, private");
    let metrics = client.get("/api/v1/nodes/n1/proxy/metrics/cadvisor?a=b").await;
    assert_eq!(&metrics.body[..], b"/metrics/cadvisor?a=b");
    let nowhere = client.get("/api/v1/nodes/n2/proxy/metrics").await.expect(500);
    assert_eq!(nowhere["message"], "no preferred addresses found; known addresses: []");
}

#[tokio::test]
async fn proxies_say_what_is_not_there_before_that_they_are_none() {
    let client = cluster().await;
    let namespace = "/api/v1/namespaces/default";
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    client.post(&format!("{namespace}/services"), &service).await.expect(201);
    let refused = |path: &str, code: u16, message: &str| {
        let (client, path, message) = (client.clone(), format!("{namespace}/{path}"), message.to_owned());
        async move {
            assert_eq!(client.get(&path).await.expect(code)["message"], message, "{path}");
        }
    };
    refused("pods/web/proxy/", 400, "address not allowed").await;
    refused("pods/http:none:80/proxy/", 404, "pods \"none\" not found").await;
    refused("pods/a:b:c/proxy/", 400, "invalid pod request \"a:b:c\"").await;
    refused("services/s/proxy/", 404, "services \"s\" not found").await;
    refused("services/s:81/proxy/", 503, "no service port 81 found for service \"s\"").await;
    let endpoints = json!({"metadata": {"name": "s"}});
    client.post(&format!("{namespace}/endpoints"), &endpoints).await.expect(201);
    refused("services/http:s:80/proxy/", 503, "no endpoints available for service \"s\"").await;
    let address = json!({"subsets": [{"addresses": [{"ip": "10.0.0.7"}], "ports": [{"port": 80}]}]});
    client.patch(&format!("{namespace}/endpoints/s"), "merge-patch", &address).await.expect(200);
    refused("services/s:x/proxy/", 503, "no endpoints available for service \"s:x\"").await;
    refused("services/s/proxy/", 503, "proxying to pods and services is not supported").await;
}

#[tokio::test]
async fn exec_passes_bytes_both_ways() {
    let client = cluster().await;
    let (near, far) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(carrack_server::User::new("tester", ["g"]));
            client.0.clone().call(request)
        });
        let server = hyper::server::conn::http1::Builder::new();
        server.serve_connection(TokioIo::new(far), service).with_upgrades().await.unwrap();
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/api/v1/namespaces/default/pods/web/exec?command=sh&stdin=true")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.abc, v5.channel.k8s.io")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"hello");
    let rest = response.into_body().collect().await.unwrap();
    assert!(rest.to_bytes().is_empty());
}
