//! A server over the memory store, called in this process, for all tests.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;

use bytes::Bytes;
use carrack_api::Kinds;
use carrack_server::seams::{Authorizer, Decision};
use carrack_server::{Attributes, Server, ServerBuilder, User};
use carrack_store::{Limits, Local};
use futures::future::BoxFuture;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower_service::Service;

/// Allows everything: for tests only.
pub struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn authorize<'a>(&'a self, _: &'a User, _: &'a Attributes) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(Decision::Allow(String::new())))
    }
}

/// A server that allows everything.
pub fn builder(kinds: Kinds) -> ServerBuilder {
    let store = Arc::new(Local::memory(Limits::default()));
    Server::builder(store, kinds).authorizer(Arc::new(AlwaysAllow))
}

/// A client in this process.
#[derive(Clone)]
pub struct Client(pub Server);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        if self.headers.get("content-type").is_some_and(|ty| ty.as_bytes().starts_with(b"text/plain")) {
            return String::from_utf8_lossy(&self.body).into();
        }
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn warnings(&self) -> Vec<String> {
        self.headers.get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

impl Client {
    pub fn builtin() -> Self {
        Self(builder(carrack_api::kinds::builtin()).build())
    }

    pub fn request(
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(body.into())).unwrap();
        request.extensions_mut().insert(User::new("tester", ["system:authenticated"]));
        request
    }

    pub async fn stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> http::Response<carrack_server::http::Body> {
        self.0.clone().call(Self::request("GET", path, headers, Bytes::new())).await.unwrap()
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let response = self.0.clone().call(Self::request(method, path, headers, body)).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub async fn patch(&self, path: &str, ty: &str, body: &Value) -> Answer {
        let ty = format!("application/{ty}+json");
        self.send("PATCH", path, &[("content-type", &ty)], body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], Bytes::new()).await
    }
}

/// The events of a watch, one at a time.
pub struct Events {
    body: carrack_server::http::Body,
    buffer: Vec<u8>,
}

impl Events {
    pub fn of(response: http::Response<carrack_server::http::Body>) -> Self {
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let next = tokio::time::timeout(std::time::Duration::from_secs(10), self.body.frame());
            let frame = next.await.expect("a frame within ten seconds")?.unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// Type, name and resourceVersion of the next event.
    pub async fn brief(&mut self) -> String {
        let event = self.next().await.expect("an event");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap())
    }
}
