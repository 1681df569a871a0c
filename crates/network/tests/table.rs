//! The table in a real kernel: what nft lists is what the plan renders.

#![allow(clippy::unwrap_used)]

mod support;

use carrack_network::apply::{Proxy, ProxyConfig};
use carrack_network::plan::render::render;
use carrack_network::plan::*;
use support::*;

fn example() -> Vec<ServiceWithEndpoints> {
    let tcp = [("", Protocol::Tcp, 8080)];
    let web = ServiceInput {
        external_ips: vec![ip("203.0.113.7")],
        ..service("web", &["10.96.0.20", "fd00:96::20"], vec![port("", Protocol::Tcp, 80, Some(30080))])
    };
    let local = ServiceInput {
        external_traffic_policy: TrafficPolicy::Local,
        session_affinity: SessionAffinity::ClientIp { timeout_seconds: 60 },
        ..service("local", &["10.96.0.21"], vec![port("", Protocol::Tcp, 80, Some(30081))])
    };
    let away = EndpointInput { node_name: Some("there".into()), ..endpoint("10.42.1.9", &tcp) };
    vec![
        ServiceWithEndpoints {
            service: web,
            endpoints: vec![
                endpoint("10.42.0.3", &tcp),
                endpoint("10.42.0.4", &tcp),
                endpoint("fd00:42::3", &tcp),
            ],
        },
        ServiceWithEndpoints { service: local, endpoints: vec![endpoint("10.42.0.5", &tcp), away] },
        ServiceWithEndpoints {
            service: service("none", &["10.96.0.22"], vec![port("", Protocol::Udp, 53, None)]),
            endpoints: vec![],
        },
    ]
}

/// Elements come out of a hash map in any order, and chains in that of their making.
fn normalized(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let line = line.trim().trim_start_matches("elements = { ");
        line.trim_end_matches(" }").trim_end_matches(',').to_owned()
    };
    let mut lines: Vec<_> = text.lines().map(line).filter(|line| !line.is_empty()).collect();
    lines.sort();
    lines
}

fn matches_nft(ruleset: &Ruleset) {
    if let Some(listed) = nft_list() {
        assert_eq!(normalized(&listed), normalized(&render(ruleset)));
    }
}

#[test]
fn the_kernel_takes_it_and_lists_it() {
    in_netns(|| {
        let mut proxy = Proxy::new(ProxyConfig::default()).unwrap();
        let ruleset = plan(&example(), &[], &node());
        let report = proxy.sync_now(&ruleset).unwrap();
        assert!(report.from_scratch && report.updates > 0);
        matches_nft(&ruleset);

        let again = proxy.sync_now(&ruleset).unwrap();
        assert_eq!((again.from_scratch, again.updates), (false, 0));

        // Another agent adopts what it finds by making it anew.
        let mut other = Proxy::new(ProxyConfig::default()).unwrap();
        assert!(other.sync_now(&ruleset).unwrap().from_scratch);
        matches_nft(&ruleset);

        // Someone removes the table; the next change notices and makes all of it.
        other.cleanup().unwrap();
        other.cleanup().unwrap();
        let smaller = plan(&example()[..1], &[], &node());
        assert!(proxy.sync_now(&smaller).unwrap().from_scratch);
        matches_nft(&smaller);
        proxy.cleanup().unwrap();
        assert!(nft_list().is_none_or(|text| !text.contains("service4")));
    });
}

#[test]
fn an_endpoint_is_a_few_elements() {
    in_netns(|| {
        let mut proxy = Proxy::new(ProxyConfig::default()).unwrap();
        let mut services = example();
        proxy.sync_now(&plan(&services, &[], &node())).unwrap();
        services[0].endpoints.remove(0);
        let smaller = plan(&services, &[], &node());
        // In each of three frontends: the verdict replaced, two slots gone, one come back; a
        // chain; and one address that hairpins no more.
        let report = proxy.sync_now(&smaller).unwrap();
        assert_eq!((report.from_scratch, report.updates), (false, 3 * 5 + 3));
        services[0].endpoints.clear();
        proxy.sync_now(&plan(&services, &[], &node())).unwrap();
        services.clear();
        let nothing = plan(&services, &[], &node());
        proxy.sync_now(&nothing).unwrap();
        matches_nft(&nothing);
    });
}
