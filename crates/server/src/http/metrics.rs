//! `/metrics`: what the server counts, under upstream's names.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::request::Attributes;

/// Upper bounds in seconds.
const BUCKETS: [f64; 13] = [0.001, 0.005, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verb {
    verb: String,
}

/// The server's counters.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter<u64, AtomicU64>>,
    durations: Family<Verb, Histogram>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        registry.register("apiserver_request", "Requests answered", requests.clone());
        let durations: Family<Verb, Histogram> = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let help = "Seconds from a request's head to its answer's";
        registry.register("apiserver_request_duration_seconds", help, durations.clone());
        Self { registry, requests, durations }
    }

    /// Counts one answered request. Paths that nothing serves share one label, so that
    /// a client cannot make labels up.
    pub(crate) fn observe(&self, at: &Attributes, code: u16, took: Duration) {
        let known = at.is_resource && code != 404 && code != 401 && code != 403;
        let text = |text: &str| if known { text.to_owned() } else { String::new() };
        let verb = match &*at.verb {
            "create" => "POST",
            "get" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "update" => "PUT",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            _ => "OTHER",
        };
        let scope = match (at.name.is_empty(), at.namespace.is_empty()) {
            _ if !at.is_resource => "",
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        let request = Request {
            verb: verb.into(),
            group: text(&at.group),
            version: text(&at.version),
            resource: text(&at.resource),
            subresource: text(&at.subresource),
            scope,
            component: "apiserver",
            code,
        };
        self.requests.get_or_create(&request).inc();
        if verb != "WATCH" {
            self.durations.get_or_create(&Verb { verb: verb.into() }).observe(took.as_secs_f64());
        }
    }

    /// The text exposition.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        encode(&mut out, &self.registry).expect("writing to memory cannot fail");
        out
    }
}
