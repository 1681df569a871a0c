//! `/metrics`: what the server counts, under upstream's names and labels.
//!
//! Labels come from what is served, never from what a client makes up, so that their
//! number is bounded.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::registry::Registry as Objects;
use crate::request::{Attributes, RequestInfo};

/// Upper bounds in seconds.
const BUCKETS: [f64; 13] = [0.001, 0.005, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// What requests are told apart by, besides their code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    component: &'static str,
    dry_run: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    code: u16,
    component: &'static str,
    dry_run: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Long {
    component: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watched {
    group: String,
    resource: String,
    version: String,
}

/// The server's counters.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter<u64, AtomicU64>>,
    durations: Family<Labels, Histogram>,
    long: Family<Long, Gauge<i64, AtomicI64>>,
    events: Family<Watched, Counter<u64, AtomicU64>>,
}

/// A watch that is being served; dropping it ends the count.
pub(crate) struct LongRunning {
    gauge: Gauge<i64, AtomicI64>,
    events: Counter<u64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        registry.register("apiserver_request", "Requests answered", requests.clone());
        let durations: Family<Labels, Histogram> = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let help = "Seconds from a request's head to its answer's";
        registry.register("apiserver_request_duration_seconds", help, durations.clone());
        let long = Family::default();
        registry.register("apiserver_longrunning_requests", "Watches being served", long.clone());
        let events = Family::default();
        registry.register("apiserver_watch_events", "Events told to watches", events.clone());
        Self { registry, requests, durations, long, events }
    }

    /// Counts one answered request. Paths that nothing serves share one label, so that
    /// a client cannot make labels up.
    pub(crate) fn observe(&self, info: &RequestInfo, code: u16, took: Duration) {
        let at = &info.attributes;
        let known = at.is_resource && code != 404 && code != 401 && code != 403;
        let text = |text: &str| if known { text.to_owned() } else { String::new() };
        let labels = Labels {
            component: "apiserver",
            dry_run: if info.query.get("dryRun") == Some("All") { "All" } else { "" },
            group: text(&at.group),
            resource: text(&at.resource),
            scope: scope(at),
            subresource: text(&at.subresource),
            verb: verb(at),
            version: text(&at.version),
        };
        if labels.verb != "WATCH" {
            self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        }
        let Labels { component, dry_run, group, resource, scope, subresource, verb, version } = labels;
        let request =
            Request { code, component, dry_run, group, resource, scope, subresource, verb, version };
        self.requests.get_or_create(&request).inc();
    }

    /// Counts a watch for as long as the answer lives.
    pub(crate) fn long_running(&self, info: &RequestInfo) -> LongRunning {
        let at = &info.attributes;
        let (group, version, resource) =
            (at.group.to_string(), at.version.to_string(), at.resource.to_string());
        let watched = Watched { group: group.clone(), resource: resource.clone(), version: version.clone() };
        let long = Long {
            component: "apiserver",
            group,
            resource,
            scope: scope(at),
            subresource: at.subresource.to_string(),
            verb: verb(at),
            version,
        };
        let gauge = self.long.get_or_create(&long).clone();
        gauge.inc();
        LongRunning { gauge, events: self.events.get_or_create(&watched).clone() }
    }

    /// The text exposition, in the form that upstream's tools read.
    pub(crate) fn text(&self, objects: &Objects) -> String {
        let mut open = String::new();
        encode(&mut open, &self.registry).expect("writing to memory cannot fail");
        let mut out = String::with_capacity(open.len() + 4096);
        for line in open.lines().filter(|line| *line != "# EOF") {
            out.push_str(&counters_by_full_name(line));
            out.push('\n');
        }
        for name in ["apiserver_resource_objects", "apiserver_storage_objects"] {
            let _ = writeln!(out, "# HELP {name} Objects stored");
            let _ = writeln!(out, "# TYPE {name} gauge");
            for kind in objects.kinds().iter().filter(|kind| kind.stored()) {
                let count = objects.store().snapshot(&kind.resource).len();
                let _ = match name {
                    "apiserver_storage_objects" => {
                        writeln!(out, "{name}{{resource=\"{}\"}} {count}", kind.resource)
                    }
                    _ => writeln!(
                        out,
                        "{name}{{group=\"{}\",resource=\"{}\"}} {count}",
                        kind.group, kind.plural
                    ),
                };
            }
        }
        out
    }
}

/// OpenMetrics names a family of counters without the ending of its samples.
fn counters_by_full_name(line: &str) -> std::borrow::Cow<'_, str> {
    let told = line.strip_prefix("# TYPE ").or_else(|| line.strip_prefix("# HELP "));
    let counter = told.is_some_and(|rest| {
        ["apiserver_request ", "apiserver_watch_events "].iter().any(|name| rest.starts_with(name))
    });
    if !counter {
        return line.into();
    }
    let (head, rest) = line.split_at(7);
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    format!("{head}{name}_total {rest}").into()
}

fn verb(at: &Attributes) -> &'static str {
    match &*at.verb {
        "create" => "POST",
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "update" => "PUT",
        "patch" if at.is_resource => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "OTHER",
    }
}

fn scope(at: &Attributes) -> &'static str {
    match (at.name.is_empty(), at.namespace.is_empty()) {
        _ if !at.is_resource => "",
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    }
}

// === impl LongRunning ===

impl LongRunning {
    /// Counts events that are told.
    pub(crate) fn events(&self, count: usize) {
        self.events.inc_by(count as u64);
    }
}

impl Drop for LongRunning {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_the_names_of_their_samples() {
        for (line, expect) in [
            ("# TYPE apiserver_request counter", "# TYPE apiserver_request_total counter"),
            (
                "# HELP apiserver_request Requests answered.",
                "# HELP apiserver_request_total Requests answered.",
            ),
            (
                "# TYPE apiserver_request_duration_seconds histogram",
                "# TYPE apiserver_request_duration_seconds histogram",
            ),
            ("apiserver_request_total{verb=\"GET\"} 1", "apiserver_request_total{verb=\"GET\"} 1"),
        ] {
            assert_eq!(counters_by_full_name(line), expect);
        }
    }
}
