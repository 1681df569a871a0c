//! Pods, Services and rules together, in a real kernel: who reaches whom.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use carrack_network::apply::{Proxy, ProxyConfig};
use carrack_network::netlink::{Protocol as Netlink, Socket};
use carrack_network::plan::*;
use carrack_network::pod::{PodAddresses, PodNetwork, PodNetworkConfig, links};
use support::*;

fn config(directory: &Path) -> PodNetworkConfig {
    PodNetworkConfig {
        state_dir: directory.to_owned(),
        pod_cidrs: vec!["10.42.0.0/24".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        host_addresses: vec![ip("10.96.0.10")],
        mtu: None,
    }
}

/// Answers each connection with its own name and the caller's address, until the test ends.
fn serve(pod: &Netns, port: u16, name: &'static str) {
    let listener = pod.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
            let _ = stream.write_all(format!("{name} {peer}").as_bytes());
        }
    });
}

fn ask(address: &str) -> Result<String, ErrorKind> {
    let address: SocketAddr = address.parse().unwrap();
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2));
    let mut stream = stream.map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.kind())?;
    Ok(text)
}

fn web(pods: &[PodAddresses]) -> ServiceWithEndpoints {
    let tcp = [("", Protocol::Tcp, 8080)];
    ServiceWithEndpoints {
        service: service("web", &["10.96.0.20"], vec![port("", Protocol::Tcp, 80, Some(30080))]),
        endpoints: pods.iter().map(|pod| endpoint(&pod.v4.to_string(), &tcp)).collect(),
    }
}

/// The node's own address: on `carrack0`, since a namespace of our own has no other link.
fn here() -> NodeInput {
    NodeInput { addresses: vec![ip("10.42.0.1")], ..node() }
}

fn setting(path: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/{path}")).unwrap().trim().to_owned()
}

/// What must be as before when all is taken down: links, routes, sysctls, connections.
fn state() -> (Vec<String>, usize, String, String) {
    let mut socket = Socket::open(Netlink::Route).unwrap();
    let links = links::list(&mut socket).unwrap().into_iter().map(|link| link.name).collect();
    let routes = links::routes(&mut socket).unwrap().len();
    (links, routes, setting("net/ipv4/ip_forward"), setting("net/netfilter/nf_conntrack_count"))
}

#[test]
fn pods_reach_services_and_each_other() {
    in_netns(|| {
        let directory = tempfile::tempdir().unwrap();
        let before = state();
        let network = PodNetwork::open(config(directory.path())).unwrap();
        assert_eq!(setting("net/ipv4/ip_forward"), "1");
        let (a, b) = (Netns::new(), Netns::new());
        let start = Instant::now();
        let pods = [network.attach(&a.path(), "a").unwrap(), network.attach(&b.path(), "b").unwrap()];
        println!("two pods attached in {:?}", start.elapsed());
        assert_eq!(network.attach(&a.path(), "a").unwrap(), pods[0], "repeated");
        serve(&a, 8080, "a");
        serve(&b, 8080, "b");
        let (ip_a, ip_b) = (pods[0].v4.to_string(), pods[1].v4.to_string());

        // Pod to pod, host to pod, pod to host: everyone is seen by their own address.
        assert_eq!(b.run(|| ask(&format!("{ip_a}:8080"))), Ok(format!("a {ip_b}")));
        assert_eq!(ask(&format!("{ip_a}:8080")), Ok("a 10.42.0.1".into()));

        let mut proxy = Proxy::new(ProxyConfig::default()).unwrap();
        let mut sync = |services: &[ServiceWithEndpoints]| {
            proxy.sync_now(&plan(services, &[], &here())).unwrap();
        };
        sync(&[web(&pods)]);
        let ask_often =
            |address: &str| -> BTreeSet<String> { (0..40).map(|_| ask(address).unwrap()).collect() };
        // Through the ClusterIP to both; to itself, the pod is seen as the node.
        let seen = a.run(|| ask_often("10.96.0.20:80"));
        assert_eq!(seen, BTreeSet::from(["a 10.42.0.1".into(), format!("b {ip_a}")]));
        let both = BTreeSet::from(["a 10.42.0.1".to_owned(), "b 10.42.0.1".to_owned()]);
        assert_eq!(ask_often("10.96.0.20:80"), both, "the node itself, through the ClusterIP");
        assert_eq!(ask_often("10.42.0.1:30080"), both, "and through the node port");
        let seen = b.run(|| ask_often("10.42.0.1:30080"));
        assert_eq!(seen, BTreeSet::from([format!("a {ip_b}"), "b 10.42.0.1".into()]));

        // One endpoint less: from the moment that sync returns, nobody gets there.
        sync(&[web(&pods[1..])]);
        assert_eq!(a.run(|| ask_often("10.96.0.20:80")), BTreeSet::from([format!("b {ip_a}")]));

        // None: refused at once, from everywhere; so is what no Service claims.
        sync(&[web(&[])]);
        for address in ["10.96.0.20:80", "10.42.0.1:30080", "10.96.0.99:80", "10.96.0.20:81"] {
            let start = Instant::now();
            assert_eq!(a.run(|| ask(address)), Err(ErrorKind::ConnectionRefused), "{address}");
            assert_eq!(ask(address), Err(ErrorKind::ConnectionRefused), "{address}");
            assert!(start.elapsed() < Duration::from_millis(500), "refused, not timed out");
        }

        network.detach("a").unwrap();
        network.detach("a").unwrap();
        assert_ne!(ask(&format!("{ip_a}:8080")), Ok("a 10.42.0.1".into()));
        assert_eq!(network.reconcile(&BTreeSet::new()).unwrap().links, 1);
        assert_ne!(setting("net/netfilter/nf_conntrack_count"), "0");
        PodNetwork::cleanup(directory.path()).unwrap();
        PodNetwork::cleanup(directory.path()).unwrap();
        proxy.cleanup().unwrap();
        assert_eq!(state(), before, "everything is as it was");
    });
}

#[test]
fn udp_follows_the_endpoints() {
    in_netns(|| {
        let directory = tempfile::tempdir().unwrap();
        let network = PodNetwork::open(config(directory.path())).unwrap();
        let (a, b) = (Netns::new(), Netns::new());
        let pods = [network.attach(&a.path(), "a").unwrap(), network.attach(&b.path(), "b").unwrap()];
        for (pod, name) in [(&a, "a"), (&b, "b")] {
            let socket = pod.run(|| UdpSocket::bind("0.0.0.0:5353").unwrap());
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(name.as_bytes(), from);
                }
            });
        }
        let service = |pods: &[PodAddresses]| {
            let udp = [("", Protocol::Udp, 5353)];
            let ports = vec![port("", Protocol::Udp, 53, None)];
            let endpoints = pods.iter().map(|pod| endpoint(&pod.v4.to_string(), &udp)).collect();
            [ServiceWithEndpoints { service: service("udp", &["10.96.0.30"], ports), endpoints }]
        };
        let mut proxy = Proxy::new(ProxyConfig::default()).unwrap();
        let mut sync = |pods: &[PodAddresses]| {
            proxy.sync_now(&plan(&service(pods), &[], &here())).unwrap().connections_ended
        };
        // One socket, one port: for conntrack it is one connection for as long as it is used.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("10.96.0.30:53").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let ask = || {
            let mut buffer = [0; 64];
            socket.send(b"?")?;
            let length = socket.recv(&mut buffer)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        sync(&pods[..1]);
        assert_eq!(ask().unwrap(), "a");
        assert_eq!(sync(&pods[1..]), 1, "the flow to the old endpoint is ended");
        assert_eq!(ask().unwrap(), "b");
        assert_eq!(sync(&pods), 0, "nothing vanished");
        assert_eq!(sync(&[]), 1);
        // Refused by a rule on its own way out, which Linux calls EPERM; pods see a refusal.
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::PermissionDenied);
        let refused = a.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect("10.96.0.30:53").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.send(b"?").and_then(|_| socket.recv(&mut [0; 64])).unwrap_err().kind()
        });
        assert_eq!(refused, ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_client_keeps_its_endpoint() {
    in_netns(|| {
        let directory = tempfile::tempdir().unwrap();
        let network = PodNetwork::open(config(directory.path())).unwrap();
        let client = Netns::new();
        network.attach(&client.path(), "client").unwrap();
        let names = ["a", "b", "c"];
        let spaces = names.map(|_| Netns::new());
        let mut pods = Vec::new();
        for (space, name) in spaces.iter().zip(names) {
            pods.push(network.attach(&space.path(), name).unwrap());
            serve(space, 8080, name);
        }
        let mut proxy = Proxy::new(ProxyConfig::default()).unwrap();
        let mut sync = |pods: &[PodAddresses]| {
            let mut web = web(pods);
            web.service.session_affinity = SessionAffinity::ClientIp { timeout_seconds: 10_800 };
            proxy.sync_now(&plan(&[web], &[], &here())).unwrap();
        };
        let who = || -> BTreeSet<String> {
            let name = |_| ask("10.96.0.20:80").unwrap()[..1].to_owned();
            client.run(|| (0..20).map(name).collect())
        };
        sync(&pods);
        let first = who();
        assert_eq!(first.len(), 1);
        // Another one goes: nothing changes for this client. Its own goes: another, for good.
        let kept = names.iter().position(|name| first.contains(*name)).unwrap();
        let other = (kept + 1) % 3;
        sync(&[pods[kept], pods[3 - kept - other]]);
        assert_eq!(who(), first);
        sync(&[pods[other]]);
        assert_eq!(who(), BTreeSet::from([names[other].to_owned()]));
    });
}

#[test]
fn both_families_if_the_kernel_has_them() {
    if !Path::new("/proc/sys/net/ipv6").exists() {
        eprintln!("skipped: this kernel has no IPv6");
        return;
    }
    in_netns(|| {
        let directory = tempfile::tempdir().unwrap();
        let before = state();
        let dual = || PodNetworkConfig {
            pod_cidrs: vec!["10.42.0.0/24".parse().unwrap(), "fd00:42::/64".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()],
            ..config(directory.path())
        };
        let network = PodNetwork::open(dual()).unwrap();
        let spaces = [Netns::new(), Netns::new()];
        let [a, b] = [0, 1].map(|i| network.attach(&spaces[i].path(), ["a", "b"][i]).unwrap());
        let [v6_a, v6_b] = [a, b].map(|pod| pod.v6.unwrap());
        for (space, name) in spaces.iter().zip(["a", "b"]) {
            let listener = space.run(|| TcpListener::bind("[::]:8080").unwrap());
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let peer = stream.peer_addr().unwrap().ip();
                    let _ = stream.write_all(format!("{name} {peer}").as_bytes());
                }
            });
        }
        assert_eq!(spaces[1].run(|| ask(&format!("[{v6_a}]:8080"))), Ok(format!("a {v6_b}")));

        let mut node = here();
        node.pod_cidrs = dual().pod_cidrs;
        node.cluster_cidrs = dual().pod_cidrs;
        node.service_cidrs = dual().service_cidrs;
        node.addresses.push(ip("fd00:42::1"));
        let mut proxy = Proxy::new(ProxyConfig::default()).unwrap();
        let tcp = [("", Protocol::Tcp, 8080)];
        let mut sync = |pods: &[core::net::Ipv6Addr]| {
            let ports = vec![port("", Protocol::Tcp, 80, Some(30080))];
            let endpoints = pods.iter().map(|pod| endpoint(&pod.to_string(), &tcp)).collect();
            let web = service("web", &["fd00:96::20"], ports);
            let services = [ServiceWithEndpoints { service: web, endpoints }];
            proxy.sync_now(&plan(&services, &[], &node)).unwrap();
        };
        sync(&[v6_a, v6_b]);
        let seen: BTreeSet<_> = spaces[0].run(|| (0..40).map(|_| ask("[fd00:96::20]:80").unwrap()).collect());
        assert_eq!(seen, BTreeSet::from(["a fd00:42::1".into(), format!("b {v6_a}")]));
        sync(&[v6_b]);
        assert_eq!(ask("[fd00:42::1]:30080"), Ok("b fd00:42::1".into()));
        sync(&[]);
        for address in ["[fd00:96::20]:80", "[fd00:96::21]:80"] {
            assert_eq!(spaces[0].run(|| ask(address)), Err(ErrorKind::ConnectionRefused), "{address}");
            assert_eq!(ask(address), Err(ErrorKind::ConnectionRefused), "{address}");
        }
        PodNetwork::cleanup(directory.path()).unwrap();
        proxy.cleanup().unwrap();
        assert_eq!(state(), before, "everything is as it was");
    });
}
