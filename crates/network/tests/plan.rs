//! The plan: what Services and endpoints become, and that differences add up.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use carrack_network::plan::diff::{Element, elements_of};
use carrack_network::plan::render::render;
use carrack_network::plan::rules::Chain;
use carrack_network::plan::ruleset::Verdict;
use carrack_network::plan::*;
use proptest::prelude::*;
use support::*;

const TCP: [(&str, Protocol, u16); 1] = [("", Protocol::Tcp, 8080)];

fn web(change: impl FnOnce(&mut ServiceInput)) -> ServiceInput {
    let mut web = service("web", &["10.96.0.20"], vec![port("", Protocol::Tcp, 80, Some(30080))]);
    change(&mut web);
    web
}

fn here(last: u8) -> EndpointInput {
    endpoint(&format!("10.42.0.{last}"), &TCP)
}

fn there(last: u8) -> EndpointInput {
    EndpointInput { node_name: Some("there".into()), ..endpoint(&format!("10.42.1.{last}"), &TCP) }
}

fn not_ready(endpoint: EndpointInput) -> EndpointInput {
    EndpointInput { ready: false, serving: false, ..endpoint }
}

fn leaving(endpoint: EndpointInput) -> EndpointInput {
    EndpointInput { ready: false, serving: true, terminating: true, ..endpoint }
}

fn ruleset(service: ServiceInput, endpoints: &[EndpointInput]) -> Ruleset {
    plan(&[ServiceWithEndpoints { service, endpoints: endpoints.to_vec() }], &[], &node())
}

/// Each frontend on a line: key, then where it leads.
fn show(ruleset: &Ruleset) -> String {
    let line = |(key, frontend): (&FrontendKey, &Arc<Frontend>)| {
        let inside = if key.view == View::Internal { " inside" } else { "" };
        let to: Vec<_> = frontend.endpoints.iter().map(|to| format!("{}:{}", to.ip, to.port)).collect();
        let to = match frontend.verdict(key) {
            Verdict::Choose(Chain::Sticky { .. }) => format!("{} sticky", to.join(" ")),
            Verdict::Choose(_) => to.join(" "),
            Verdict::Refuse => "refuse".into(),
            Verdict::Drop => "drop".into(),
        };
        format!("{}:{}/{}{inside} {to}", key.ip, key.port, key.protocol.name())
    };
    ruleset.frontends.iter().map(line).collect::<Vec<_>>().join("; ")
}

#[test]
fn services_become_frontends() {
    let local = |s: &mut ServiceInput| s.external_traffic_policy = TrafficPolicy::Local;
    let inside = |s: &mut ServiceInput| s.internal_traffic_policy = TrafficPolicy::Local;
    let no_node_port = |s: &mut ServiceInput| s.ports[0].node_port = None;
    type Case<'a> = (&'a str, ServiceInput, Vec<EndpointInput>, &'a str);
    let table: Vec<Case<'_>> = vec![
        ("none", web(no_node_port), vec![], "10.96.0.20:80/tcp refuse"),
        ("not ready", web(no_node_port), vec![not_ready(here(3))], "10.96.0.20:80/tcp refuse"),
        (
            "sorted, once, of its family",
            web(no_node_port),
            vec![there(9), here(3), here(3), endpoint("fd00::3", &TCP)],
            "10.96.0.20:80/tcp 10.42.0.3:8080 10.42.1.9:8080",
        ),
        (
            "those leaving only if no other is ready",
            web(no_node_port),
            vec![leaving(here(3)), here(4)],
            "10.96.0.20:80/tcp 10.42.0.4:8080",
        ),
        (
            "those leaving rather than nobody",
            web(no_node_port),
            vec![leaving(here(3)), not_ready(here(4))],
            "10.96.0.20:80/tcp 10.42.0.3:8080",
        ),
        (
            "internal Local",
            web(|s| (no_node_port(s), inside(s)).0),
            vec![here(3), there(9)],
            "10.96.0.20:80/tcp 10.42.0.3:8080",
        ),
        (
            "internal Local, none here",
            web(|s| (no_node_port(s), inside(s)).0),
            vec![there(9)],
            "10.96.0.20:80/tcp drop",
        ),
        (
            "internal Local, none at all",
            web(|s| (no_node_port(s), inside(s)).0),
            vec![],
            "10.96.0.20:80/tcp refuse",
        ),
        (
            "node port",
            web(|_| ()),
            vec![there(9)],
            "10.96.0.20:80/tcp 10.42.1.9:8080; 192.0.2.2:30080/tcp 10.42.1.9:8080",
        ),
        (
            "external Local: outsiders get what is here, insiders all",
            web(local),
            vec![here(3), there(9)],
            "10.96.0.20:80/tcp 10.42.0.3:8080 10.42.1.9:8080; 192.0.2.2:30080/tcp 10.42.0.3:8080; \
             192.0.2.2:30080/tcp inside 10.42.0.3:8080 10.42.1.9:8080",
        ),
        (
            "external Local, none here",
            web(local),
            vec![there(9)],
            "10.96.0.20:80/tcp 10.42.1.9:8080; 192.0.2.2:30080/tcp drop; \
             192.0.2.2:30080/tcp inside 10.42.1.9:8080",
        ),
        (
            "affinity",
            web(|s| {
                no_node_port(s);
                s.session_affinity = SessionAffinity::ClientIp { timeout_seconds: 10 };
            }),
            vec![here(3)],
            "10.96.0.20:80/tcp 10.42.0.3:8080 sticky",
        ),
        ("headless", web(|s| (s.headless, s.cluster_ips) = (true, vec![])), vec![here(3)], ""),
        ("alias", web(|s| s.service_type = ServiceType::ExternalName), vec![here(3)], ""),
        (
            "another port's name",
            web(|s| s.ports[0].name = "x".into()),
            vec![here(3)],
            "10.96.0.20:80/tcp refuse; 192.0.2.2:30080/tcp refuse",
        ),
        (
            "the address that this node answers on",
            web(|s| {
                no_node_port(s);
                s.cluster_ips = vec![ip("10.96.0.10")];
            }),
            vec![here(3)],
            "",
        ),
        (
            "endpoints that no endpoint can be",
            web(no_node_port),
            vec![endpoint("127.0.0.1", &TCP), endpoint("0.0.0.0", &TCP), endpoint("224.0.0.1", &TCP)],
            "10.96.0.20:80/tcp refuse",
        ),
    ];
    for (what, service, endpoints, expect) in table {
        assert_eq!(show(&ruleset(service, &endpoints)), expect, "{what}");
    }
}

#[test]
fn external_ips_take_over_nothing() {
    let addresses = [
        "203.0.113.7",
        "127.0.0.1",
        "169.254.169.254",
        "10.42.0.1",
        "10.96.0.1",
        "192.0.2.2",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
    ];
    let mut node = node();
    node.local_service_ips.push(ip("192.0.2.2"));
    let service = web(|s| s.external_ips = addresses.map(ip).to_vec());
    let ruleset = plan(&[ServiceWithEndpoints { service, endpoints: vec![] }], &[], &node);
    let external: Vec<_> = ruleset.frontends.keys().filter(|key| key.port == 80).map(|key| key.ip).collect();
    assert_eq!(external, [ip("10.96.0.20"), ip("203.0.113.7")]);
    assert_eq!(ruleset.notes.len(), addresses.len() - 1);
    assert!(ruleset.notes[0].contains("default/web: external IP 127.0.0.1 is not one it may have"));
}

#[test]
fn the_first_claim_stands() {
    let entry = |name: &str, last| ServiceWithEndpoints {
        service: web(|s| s.name = name.into()),
        endpoints: vec![here(last)],
    };
    let ruleset = plan(&[entry("a", 3), entry("b", 4)], &[], &node());
    assert_eq!(show(&ruleset), "10.96.0.20:80/tcp 10.42.0.3:8080; 192.0.2.2:30080/tcp 10.42.0.3:8080");
    assert_eq!(ruleset.notes.len(), 2);
    assert!(
        ruleset.notes[1].starts_with("192.0.2.2 port 30080/tcp belongs to default/a; default/b wants it")
    );
    assert!(ruleset.reaches(ip("10.42.0.3")) && !ruleset.reaches(ip("10.42.0.4")));
}

#[test]
fn host_ports_and_local_ports() {
    let host_port = |host_ip: Option<&str>, host_port| HostPort {
        host_ip: host_ip.map(ip),
        host_port,
        protocol: Protocol::Udp,
        pod_ip: ip("10.42.0.3"),
        container_port: 53,
    };
    let asked = [host_port(None, 53), host_port(Some("0.0.0.0"), 54), host_port(Some("192.0.2.9"), 55)];
    let ruleset = plan(&[], &asked, &node());
    assert_eq!(show(&ruleset), "192.0.2.2:53/udp 10.42.0.3:53; 192.0.2.2:54/udp 10.42.0.3:53");

    let services = [ServiceWithEndpoints { service: web(|_| ()), endpoints: vec![here(3), there(9)] }];
    let ports = local_ports(&services, &node());
    let to = |text| Endpoint { ip: ip(text), port: 8080 };
    assert_eq!(ports[&(Protocol::Tcp, 30080)], [to("10.42.0.3"), to("10.42.1.9")]);
}

#[test]
fn what_is_elsewhere_is_masqueraded_for_outsiders_only() {
    let cluster = ruleset(web(|_| ()), &[here(3), there(9)]);
    let remote = (Endpoint { ip: ip("10.42.1.9"), port: 8080 }, Protocol::Tcp);
    assert_eq!(cluster.remote, BTreeSet::from([remote]));
    assert_eq!(cluster.hairpin, BTreeSet::from([ip("10.42.0.3")]));
    let local = |s: &mut ServiceInput| s.external_traffic_policy = TrafficPolicy::Local;
    assert_eq!(ruleset(web(local), &[here(3), there(9)]).remote, BTreeSet::new());
}

#[test]
fn the_table_as_text() {
    let affinity = |s: &mut ServiceInput| {
        s.cluster_ips.push(ip("fd00:96::20"));
        s.external_ips.push(ip("203.0.113.7"));
    };
    let services = [
        ServiceWithEndpoints {
            service: web(affinity),
            endpoints: vec![here(3), there(9), endpoint("fd00:42::3", &TCP)],
        },
        ServiceWithEndpoints {
            service: service("none", &["10.96.0.21"], vec![port("", Protocol::Udp, 53, None)]),
            endpoints: vec![],
        },
    ];
    insta::assert_snapshot!(render(&plan(&services, &[], &node())));
}

/// What the kernel would hold: it refuses to add what is there and to remove what is not.
#[derive(Default)]
struct Model {
    elements: BTreeSet<Element>,
    chains: BTreeSet<Chain>,
}

impl Model {
    fn apply(&mut self, updates: &[Update]) {
        for update in updates {
            match update {
                Update::AddChain(chain) => assert!(self.chains.insert(*chain), "{update:?}"),
                Update::RemoveChain(chain) => assert!(self.chains.remove(chain), "{update:?}"),
                Update::Add(element) => {
                    if let Element::Service(_, Verdict::Choose(chain)) = element {
                        assert!(self.chains.contains(chain), "leads nowhere: {element:?}");
                    }
                    assert!(self.elements.insert(*element), "{update:?}");
                }
                Update::Remove(element) => assert!(self.elements.remove(element), "{update:?}"),
                Update::SetRules(..) => {}
            }
        }
        let leads_to = |element: &Element| match element {
            Element::Service(_, Verdict::Choose(chain)) => Some(*chain),
            _ => None,
        };
        assert_eq!(self.elements.iter().filter_map(leads_to).collect::<BTreeSet<_>>(), self.chains);
    }

    fn of(ruleset: &Ruleset) -> Self {
        let mut model = Self::default();
        for (key, frontend) in &ruleset.frontends {
            model.elements.extend(elements_of(key, frontend));
        }
        model.elements.extend(ruleset.hairpin.iter().map(|ip| Element::Hairpin(*ip)));
        model.elements.extend(ruleset.remote.iter().map(|(to, p)| Element::Remote(*to, *p)));
        model.chains = ruleset.choosers();
        model
    }
}

/// A small world, so that things collide.
fn world() -> impl Strategy<Value = Vec<ServiceWithEndpoints>> {
    let endpoint =
        (0u8..2, 1u8..6, any::<bool>(), any::<bool>()).prop_map(|(node, last, ready, terminating)| {
            let base = if node == 0 { here(last) } else { there(last) };
            EndpointInput { ready, serving: true, terminating, ..base }
        });
    let entry = (
        20u8..24,
        prop::option::of(30080u16..30083),
        any::<[bool; 3]>(),
        prop::collection::vec(endpoint, 0..6),
    );
    let entry = entry.prop_map(|(last, node_port, [local, inside, sticky], endpoints)| {
        let service = web(|s| {
            s.cluster_ips = vec![ip(&format!("10.96.0.{last}"))];
            s.ports[0].node_port = node_port;
            let policy = |local| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
            s.external_traffic_policy = policy(local);
            s.internal_traffic_policy = policy(inside);
            if sticky {
                s.session_affinity = SessionAffinity::ClientIp { timeout_seconds: 10 };
            }
        });
        ServiceWithEndpoints { service, endpoints }
    });
    prop::collection::vec(entry, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However one gets there, by differences or at once, the table is the same.
    #[test]
    fn differences_add_up(worlds in prop::collection::vec(world(), 1..6)) {
        let (mut model, mut current) = (Model::default(), Ruleset::default());
        for services in worlds {
            let fresh = plan(&services, &[], &node());
            let next = fresh.arranged_after(&current);
            model.apply(&diff(&current, &next));
            prop_assert!(diff(&next, &next).is_empty());
            let expect = Model::of(&next);
            prop_assert_eq!(&model.elements, &expect.elements);
            prop_assert_eq!(&model.chains, &expect.chains);
            for (key, frontend) in &next.frontends {
                // Arranging moves endpoints, and does nothing else.
                let mut sorted = frontend.endpoints.clone();
                sorted.sort();
                prop_assert_eq!(&sorted, &fresh.frontends[key].endpoints);
            }
            current = next;
        }
    }

    /// An endpoint that goes takes only its own clients with it; one that comes takes few.
    #[test]
    fn clients_stay(count in 2u8..12, gone in 0u8..12) {
        let sticky = |s: &mut ServiceInput| {
            s.ports[0].node_port = None;
            s.session_affinity = SessionAffinity::ClientIp { timeout_seconds: 10 };
        };
        let all: Vec<_> = (1..=count).map(here).collect();
        let gone = usize::from(gone % count);
        let mut fewer = all.clone();
        fewer.remove(gone);
        let slots = |endpoints: &[EndpointInput]| {
            let ruleset = ruleset(web(sticky), endpoints);
            ruleset.frontends.values().next().unwrap().slots().into_owned()
        };
        let (before, after) = (slots(&all), slots(&fewer));
        prop_assert_eq!(before.len(), 256);
        for (old, new) in before.iter().zip(&after) {
            prop_assert!(old == new || old.ip == all[gone].ip);
        }
        let share = before.iter().filter(|to| to.ip == all[gone].ip).count();
        let fair = 256 / usize::from(count);
        prop_assert!(share * 3 > fair && share < fair * 3, "{share} of {fair}");
    }
}
