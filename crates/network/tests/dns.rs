//! The DNS server on its sockets, in a network namespace of its own.

#![allow(clippy::unwrap_used)]

mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use carrack_network::apply::{Proxy, ProxyConfig};
use carrack_network::dns::{DnsConfig, DnsServer, Zone};
use carrack_network::plan::*;
use carrack_network::pod::{PodNetwork, PodNetworkConfig};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

fn in_netns_async(test: impl Future<Output = ()> + Send + 'static) {
    in_netns(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(20), test).await.unwrap() });
    });
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn by_udp(server: SocketAddr, bytes: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(bytes).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).await.unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn by_tcp(stream: &mut TcpStream, message: &Message) -> Message {
    let bytes = message.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

/// A resolver that knows one name and counts its questions.
async fn resolver() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.2:53").await.unwrap();
    let address = socket.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let name = request.queries[0].name.clone();
            // A forged answer first: another number, and then another question.
            let mut forged = request.clone().into_response();
            forged.metadata.id ^= 1;
            socket.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
            let mut forged = question("evil.example.", RecordType::A).into_response();
            forged.metadata.id = request.metadata.id;
            socket.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
            let mut reply = request.into_response();
            if name == Name::from_ascii("www.example.org.").unwrap() {
                reply.add_answer(Record::from_rdata(name, 60, RData::A(A([192, 0, 2, 80].into()))));
            } else {
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&reply.to_vec().unwrap(), client).await.unwrap();
        }
    });
    (address, count)
}

async fn start(upstreams: Vec<SocketAddr>) -> (DnsServer, SocketAddr) {
    let config = DnsConfig {
        listen: vec!["127.0.0.10:53".parse().unwrap()],
        upstreams,
        domain: "cluster.local".into(),
    };
    let server = DnsServer::start(config).await.unwrap();
    let address = server.sockets()[0];
    let many = |i: u8| endpoint(&format!("10.42.0.{i}"), &[]);
    let alias = ServiceInput {
        service_type: ServiceType::ExternalName,
        external_name: Some("www.example.org".into()),
        ..service("out", &[], vec![])
    };
    let circle = ServiceInput {
        external_name: Some("circle.default.svc.cluster.local".into()),
        name: "circle".into(),
        ..alias.clone()
    };
    let services = [
        ServiceWithEndpoints { service: service("web", &["10.96.0.20"], vec![]), endpoints: vec![] },
        ServiceWithEndpoints {
            service: ServiceInput { headless: true, ..service("many", &[], vec![]) },
            endpoints: (1..=200).map(many).collect(),
        },
        ServiceWithEndpoints { service: alias, endpoints: vec![] },
        ServiceWithEndpoints { service: circle, endpoints: vec![] },
    ];
    server.publish(Arc::new(Zone::build("cluster.local", &services, ["default"])));
    (server, address)
}

#[test]
fn the_clusters_names_by_udp_and_tcp() {
    in_netns_async(async {
        let (_server, address) = start(vec![]).await;
        let web = question("web.default.svc.cluster.local.", RecordType::A);
        let answer = by_udp(address, &web.to_vec().unwrap()).await;
        assert_eq!(addresses(&answer), ["10.96.0.20"]);
        assert!(answer.metadata.authoritative && answer.metadata.id == 4711);

        // 200 addresses do not fit into a datagram, but into a connection, which goes on.
        let mut many = question("many.default.svc.cluster.local.", RecordType::A);
        let answer = by_udp(address, &many.to_vec().unwrap()).await;
        assert!(answer.metadata.truncation && answer.answers.is_empty());
        many.set_edns({
            let mut edns = Edns::new();
            edns.set_max_payload(4096);
            edns
        });
        let answer = by_udp(address, &many.to_vec().unwrap()).await;
        assert!(answer.metadata.truncation && answer.edns.is_some());
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(by_tcp(&mut stream, &many).await.answers.len(), 200);
        assert_eq!(addresses(&by_tcp(&mut stream, &web).await), ["10.96.0.20"]);

        let gone = question("gone.default.svc.cluster.local.", RecordType::A);
        let answer = by_udp(address, &gone.to_vec().unwrap()).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(answer.authorities.len(), 1, "the SOA");
        let circle = question("circle.default.svc.cluster.local.", RecordType::A);
        let answer = by_udp(address, &circle.to_vec().unwrap()).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        let elsewhere = question("www.example.org.", RecordType::A);
        let answer = by_udp(address, &elsewhere.to_vec().unwrap()).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "nobody to ask");
    });
}

#[test]
fn other_names_are_asked_elsewhere_once() {
    in_netns_async(async {
        let (upstream, count) = resolver().await;
        // One that nobody listens on comes first, and is passed over.
        let (_server, address) = start(vec!["127.0.0.3:53".parse().unwrap(), upstream]).await;
        let ask = async |name: &str| by_udp(address, &question(name, RecordType::A).to_vec().unwrap()).await;
        for _ in 0..3 {
            assert_eq!(addresses(&ask("www.example.org.").await), ["192.0.2.80"]);
        }
        assert_eq!(count.load(Ordering::Relaxed), 1, "kept");
        let answer = ask("other.example.org.").await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        let answer = ask("out.default.svc.cluster.local.").await;
        assert_eq!(addresses(&answer), ["www.example.org.", "192.0.2.80"]);
        let before = count.load(Ordering::Relaxed);
        ask("gone.default.svc.cluster.local.").await;
        assert_eq!(count.load(Ordering::Relaxed), before, "ours are nobody else's business");
    });
}

/// As on a node: on an address of `carrack0`, asked from within a pod.
#[test]
fn pods_ask_their_node() {
    in_netns_async(async {
        let directory = tempfile::tempdir().unwrap();
        let network = PodNetwork::open(PodNetworkConfig {
            state_dir: directory.path().to_owned(),
            pod_cidrs: vec!["10.42.0.0/24".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            host_addresses: vec![ip("10.96.0.10")],
            mtu: None,
        })
        .unwrap();
        let mut proxy = Proxy::new(ProxyConfig::default()).unwrap();
        // Even if a Service without endpoints has the address: the node answers itself.
        let dns = service("kube-dns", &["10.96.0.10"], vec![port("", Protocol::Udp, 53, None)]);
        let services = [ServiceWithEndpoints { service: dns, endpoints: vec![] }];
        proxy.sync(&plan(&services, &[], &node())).await.unwrap();
        let config = DnsConfig {
            listen: vec!["10.96.0.10:53".parse().unwrap()],
            upstreams: vec![],
            domain: "cluster.local".into(),
        };
        let server = DnsServer::start(config).await.unwrap();
        server.publish(Arc::new(Zone::build("cluster.local", &services, [])));
        let pod = Netns::new();
        network.attach(&pod.path(), "pod").unwrap();
        let name = "kube-dns.default.svc.cluster.local.";
        let bytes = question(name, RecordType::A).to_vec().unwrap();
        let asked = tokio::task::spawn_blocking(move || {
            pod.run(|| {
                let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect("10.96.0.10:53").unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                socket.send(&bytes).unwrap();
                let mut buffer = [0; 512];
                let length = socket.recv(&mut buffer).unwrap();
                let stream = std::net::TcpStream::connect("10.96.0.10:53");
                (buffer[..length].to_vec(), stream.is_ok())
            })
        });
        let (answer, by_tcp) = asked.await.unwrap();
        assert_eq!(addresses(&Message::from_vec(&answer).unwrap()), ["10.96.0.10"]);
        assert!(by_tcp);
    });
}

#[test]
fn hostile_datagrams_are_inert() {
    in_netns_async(async {
        let (_server, address) = start(vec![]).await;
        let web = question("web.default.svc.cluster.local.", RecordType::A);
        let check = async |bytes: Vec<u8>, expect: ResponseCode| {
            assert_eq!(by_udp(address, &bytes).await.metadata.response_code, expect);
        };
        let mut two = web.clone();
        two.add_query(web.queries[0].clone());
        check(two.to_vec().unwrap(), ResponseCode::FormErr).await;
        let mut update = web.clone();
        update.metadata.op_code = OpCode::Update;
        check(update.to_vec().unwrap(), ResponseCode::NotImp).await;
        check(question("cluster.local.", RecordType::AXFR).to_vec().unwrap(), ResponseCode::Refused).await;
        // A name that points to itself.
        let mut bytes = web.to_vec().unwrap()[..12].to_vec();
        bytes.extend([0xc0, 12, 0, 1, 0, 1]);
        check(bytes, ResponseCode::FormErr).await;

        // No answer to noise and to answers; and the server lives on.
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(address).await.unwrap();
        for bytes in [&[][..], &[0; 5], &[0xff; 600], &web.clone().into_response().to_vec().unwrap()] {
            socket.send(bytes).await.unwrap();
        }
        socket.send(&web.to_vec().unwrap()).await.unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).await.unwrap();
        assert_eq!(addresses(&Message::from_vec(&buffer[..length]).unwrap()), ["10.96.0.20"]);

        // A client on TCP that promises more than it sends is only itself held up.
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(&[0xff, 0xff, 1]).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(addresses(&by_tcp(&mut stream, &web).await), ["10.96.0.20"]);
    });
}
