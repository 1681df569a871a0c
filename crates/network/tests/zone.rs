//! What the cluster's names answer: a table, after the Kubernetes DNS specification 1.1.0.

#![allow(clippy::unwrap_used)]

mod support;

use carrack_network::dns::Zone;
use carrack_network::dns::zone::Answer;
use carrack_network::plan::*;
use hickory_proto::rr::{Name, Record, RecordType};
use proptest::prelude::*;
use support::*;

fn services() -> Vec<ServiceWithEndpoints> {
    let ports = |list: &[(&str, Protocol, u16)]| {
        list.iter().map(|(name, protocol, number)| port(name, *protocol, *number, None)).collect()
    };
    let db_ports = [("pg", Protocol::Tcp, 5432)];
    let host = |ip: &str, hostname: Option<&str>, ready: bool| EndpointInput {
        hostname: hostname.map(str::to_owned),
        ready,
        ..endpoint(ip, &db_ports)
    };
    let headless = |name: &str| ServiceInput { headless: true, ..service(name, &[], ports(&db_ports)) };
    let alias = |name: &str, target: &str| ServiceInput {
        service_type: ServiceType::ExternalName,
        external_name: Some(target.into()),
        ..service(name, &[], vec![])
    };
    let web = [("http", Protocol::Tcp, 80), ("dns", Protocol::Udp, 53)];
    let plain = |service: ServiceInput| ServiceWithEndpoints { service, endpoints: vec![] };
    let db = vec![
        host("10.42.0.5", Some("db-0"), true),
        host("10.42.0.6", None, true),
        host("10.42.0.7", Some("db-2"), false),
    ];
    vec![
        plain(service("web", &["10.96.0.20", "fd00:96::20"], ports(&web))),
        ServiceWithEndpoints { service: headless("db"), endpoints: db.clone() },
        ServiceWithEndpoints {
            service: ServiceInput { publish_not_ready: true, ..headless("early") },
            endpoints: db[2..].to_vec(),
        },
        plain(headless("empty")),
        plain(alias("out", "www.example.org")),
        plain(alias("in", "web.default.svc.cluster.local.")),
        plain(alias("bad", "")),
    ]
}

fn show(record: &Record) -> String {
    format!("{} {}", record.record_type(), record.data)
}

fn answer(name: &str, kind: RecordType) -> String {
    let services = services();
    let zone = Zone::build("cluster.local", &services, ["default", "lonely"]);
    match zone.lookup(&Name::from_ascii(name).unwrap(), kind, 0) {
        Answer::NotOurs => "not ours".into(),
        Answer::NoData(soa) => format!("no data, {}", soa.name),
        Answer::NoSuchName(soa) => format!("no such name, {}", soa.name),
        Answer::Alias(record, _) => show(&record),
        Answer::Records(records, additional) => {
            let mut text = records.iter().map(show).collect::<Vec<_>>().join("; ");
            for record in additional {
                text += &format!(" + {} {}", record.name, show(&record));
            }
            text
        }
    }
}

#[test]
fn names_answer_as_specified() {
    use RecordType::{A, AAAA, ANY, CNAME, MX, NS, PTR, SOA, SRV, TXT};
    let nothing = "no data, cluster.local.";
    let nobody = "no such name, cluster.local.";
    let table = [
        ("web.default.svc.cluster.local.", A, "A 10.96.0.20"),
        ("WEB.Default.svc.Cluster.LOCAL.", A, "A 10.96.0.20"),
        ("web.default.svc.cluster.local.", AAAA, "AAAA fd00:96::20"),
        ("web.default.svc.cluster.local.", ANY, "A 10.96.0.20; AAAA fd00:96::20"),
        ("web.default.svc.cluster.local.", MX, nothing),
        ("gone.default.svc.cluster.local.", A, nobody),
        ("web.other.svc.cluster.local.", A, nobody),
        ("x.web.default.svc.cluster.local.", A, nobody),
        ("*.default.svc.cluster.local.", A, nobody),
        (
            "_http._tcp.web.default.svc.cluster.local.",
            SRV,
            "SRV 0 100 80 web.default.svc.cluster.local. + web.default.svc.cluster.local. A 10.96.0.20 + web.default.svc.cluster.local. AAAA fd00:96::20",
        ),
        ("_http._udp.web.default.svc.cluster.local.", SRV, nobody),
        ("_http._tcp.web.default.svc.cluster.local.", A, nothing),
        ("_tcp.web.default.svc.cluster.local.", A, nothing),
        ("_sctp.web.default.svc.cluster.local.", A, nobody),
        ("db.default.svc.cluster.local.", A, "A 10.42.0.5; A 10.42.0.6"),
        ("db.default.svc.cluster.local.", AAAA, nothing),
        ("db-0.db.default.svc.cluster.local.", A, "A 10.42.0.5"),
        ("10-42-0-6.db.default.svc.cluster.local.", A, "A 10.42.0.6"),
        ("db-2.db.default.svc.cluster.local.", A, nobody),
        ("db-2.early.default.svc.cluster.local.", A, "A 10.42.0.7"),
        ("empty.default.svc.cluster.local.", A, nothing),
        (
            "_pg._tcp.db.default.svc.cluster.local.",
            SRV,
            "SRV 0 50 5432 db-0.db.default.svc.cluster.local.; SRV 0 50 5432 10-42-0-6.db.default.svc.cluster.local. + db-0.db.default.svc.cluster.local. A 10.42.0.5 + 10-42-0-6.db.default.svc.cluster.local. A 10.42.0.6",
        ),
        ("out.default.svc.cluster.local.", A, "CNAME www.example.org."),
        ("out.default.svc.cluster.local.", CNAME, "CNAME www.example.org."),
        ("in.default.svc.cluster.local.", A, "CNAME web.default.svc.cluster.local."),
        ("bad.default.svc.cluster.local.", A, nobody),
        ("10-42-0-5.default.pod.cluster.local.", A, "A 10.42.0.5"),
        ("fd00-42--5.lonely.pod.cluster.local.", AAAA, "AAAA fd00:42::5"),
        ("10-42-0-5.other.pod.cluster.local.", A, nobody),
        ("web.default.pod.cluster.local.", A, nobody),
        ("cluster.local.", A, nothing),
        ("cluster.local.", NS, "NS ns.dns.cluster.local."),
        ("cluster.local.", SOA, "SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"),
        ("dns-version.cluster.local.", TXT, "TXT 1.1.0"),
        ("svc.cluster.local.", A, nothing),
        ("default.svc.cluster.local.", A, nothing),
        ("lonely.svc.cluster.local.", A, nothing),
        ("other.svc.cluster.local.", A, nobody),
        ("nowhere.cluster.local.", A, nobody),
        ("20.0.96.10.in-addr.arpa.", PTR, "PTR web.default.svc.cluster.local."),
        ("5.0.42.10.in-addr.arpa.", PTR, "PTR db-0.db.default.svc.cluster.local."),
        ("9.0.42.10.in-addr.arpa.", PTR, "not ours"),
        (
            "0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.",
            PTR,
            "PTR web.default.svc.cluster.local.",
        ),
        ("example.org.", A, "not ours"),
        ("notcluster.local.", A, "not ours"),
        (".", A, "not ours"),
    ];
    for (name, kind, expect) in table {
        assert_eq!(answer(name, kind), expect, "{name} {kind}");
    }
}

#[test]
fn first_addresses_take_turns() {
    let services = services();
    let zone = Zone::build("cluster.local", &services, []);
    let name = Name::from_ascii("db.default.svc.cluster.local.").unwrap();
    let first = |turn| match zone.lookup(&name, RecordType::A, turn) {
        Answer::Records(records, _) => show(&records[0]),
        other => panic!("{other:?}"),
    };
    assert_ne!(first(0), first(1));
    assert_eq!(first(0), first(2));
}

proptest! {
    #[test]
    fn any_name_has_an_answer_and_ours_stay(
        labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..12), 0..6),
        hostname in ".{0,80}", service_name in ".{0,80}",
    ) {
        let mut services = services();
        services[1].endpoints[0].hostname = Some(hostname);
        services[0].service.name = service_name;
        let zone = Zone::build("cluster.local", &services, ["default"]);
        let ours = [b"cluster".to_vec(), b"local".to_vec()];
        let labels = labels.into_iter().chain(ours).collect::<Vec<_>>();
        let mut name = Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap();
        name.set_fqdn(true);
        for kind in [RecordType::A, RecordType::SRV, RecordType::PTR, RecordType::ANY] {
            prop_assert_ne!(zone.lookup(&name, kind, 1), Answer::NotOurs);
        }
    }
}
