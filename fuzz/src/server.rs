//! A whole server in this process that allows everything, for targets of requests.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use carrack_server::seams::{Authorizer, Decision};
use carrack_server::{Attributes, Server, User};
use carrack_store::{Limits, Local};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tower_service::Service;

use crate::OBJECTS;

/// Requests after which a server is made anew, so that what they leave does not add up.
const LIFE: usize = 1000;
/// Frames read of an answer at most: a watch has no end.
const FRAMES: usize = 64;

struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn authorize<'a>(&'a self, _: &'a User, _: &'a Attributes) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(Decision::Allow(String::new())))
    }
}

struct Running {
    runtime: tokio::runtime::Runtime,
    server: Server,
    answered: usize,
}

impl Running {
    /// A server that holds an object of most kinds.
    fn start() -> Self {
        // Whatever waits for something to happen is told at once that its time is up.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let guard = runtime.enter();
        let store = Arc::new(Local::memory(Limits::default()));
        let server =
            Server::builder(store, carrack_api::kinds::builtin()).authorizer(Arc::new(AlwaysAllow)).build();
        drop(guard);
        let mut running = Self { runtime, server, answered: 0 };
        let namespaces = ["default", "lab", "kube-system"].map(|name| {
            format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}}}}"#)
        });
        for namespace in namespaces {
            running.send("POST", "/api/v1/namespaces", "application/json", namespace.into());
        }
        for (kind, version, object) in OBJECTS.iter() {
            let path = path(kind, *version, object["metadata"]["namespace"].as_str(), "");
            running.send("POST", &path, "application/json", object.to_string().into());
        }
        running.answered = 0;
        running
    }

    fn send(&mut self, method: &str, uri: &str, content_type: &str, body: Bytes) -> Option<StatusCode> {
        let request = Request::builder().method(method).uri(uri).header("content-type", content_type);
        let mut request = request.body(Full::new(body)).ok()?;
        request.extensions_mut().insert(User::new("tester", ["system:authenticated"]));
        self.answered += 1;
        let mut server = self.server.clone();
        Some(self.runtime.block_on(async move {
            let Ok(answer) = server.call(request).await;
            let code = answer.status();
            let mut body = answer.into_body();
            for _ in 0..FRAMES {
                if !matches!(body.frame().now_or_never(), Some(Some(Ok(_)))) {
                    break;
                }
            }
            code
        }))
    }
}

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// Makes a server before anything is measured, where there is none or it is used up.
pub fn prepare() {
    RUNNING.with_borrow_mut(|running| {
        if running.as_ref().is_none_or(|running| running.answered > LIFE) {
            *running = None;
            *running = Some(Running::start());
        }
    });
}

/// Sends a request; `None` when there is no such URI. (500 is what upstream, too, says to a
/// few mistakes, such as a strategic merge of lists of unlike items.)
pub fn send(method: &str, uri: &str, content_type: &str, body: &[u8]) -> Option<StatusCode> {
    let body = Bytes::copy_from_slice(body);
    RUNNING.with_borrow_mut(|running| running.as_mut()?.send(method, uri, content_type, body))
}

/// The path of a collection (`name` empty) or of an object in it.
pub fn path(kind: &carrack_api::kind::Kind, version: usize, namespace: Option<&str>, name: &str) -> String {
    let api_version = kind.api_version(version);
    let root = if api_version.contains('/') { "apis" } else { "api" };
    let namespace = match kind.namespaced {
        true => format!("namespaces/{}/", namespace.unwrap_or("default")),
        false => String::new(),
    };
    let name = if name.is_empty() { String::new() } else { format!("/{name}") };
    format!("/{root}/{api_version}/{namespace}{}{name}", kind.plural)
}

/// Bytes of a query at most: no server takes a longer head of a request.
const QUERY: usize = 16 << 10;

/// Text with everything escaped that has no place in a query.
pub fn escaped(text: &str) -> String {
    text.bytes()
        .take(QUERY)
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            b'=' | b'&' | b'-' | b'_' | b'.' | b'%' | b'+' | b',' | b'/' | b'!' | b':' | b';' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
