//! Measures the rules: docs/decisions/rules.md has its figures.
//!
//! `cargo run --release -p carrack-network --example rules`, as root. It works in network
//! namespaces of its own, which vanish with it.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use carrack_network::apply::{Proxy, ProxyConfig};
use carrack_network::netlink::{Messages, Protocol as Netlink, Socket};
use carrack_network::plan::*;
use carrack_network::pod::{PodNetwork, PodNetworkConfig, links};
use nix::sched::{CloneFlags, setns, unshare};

const PER_SERVICE: usize = 5;

fn main() {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("run it as root");
        measure();
    });
    thread.join().unwrap();
}

fn measure() {
    let mut m = Messages::default();
    links::set_up(&mut m, 1);
    Socket::open(Netlink::Route).unwrap().exchange(&m).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let network = PodNetwork::open(PodNetworkConfig {
        state_dir: directory.path().to_owned(),
        pod_cidrs: vec!["10.42.0.0/24".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        host_addresses: vec![],
        mtu: None,
    })
    .unwrap();
    let (server, client) = (netns(), netns());
    let path = |netns: &File| format!("/proc/self/fd/{}", netns.as_raw_fd());
    let start = Instant::now();
    let pod = network.attach(path(&server).as_ref(), "server").unwrap();
    println!("attach a pod: {:?}", start.elapsed());
    network.attach(path(&client).as_ref(), "client").unwrap();
    let listen = || TcpListener::bind("0.0.0.0:8080").unwrap();
    let listener = within(&server, listen);
    std::thread::spawn(move || listener.incoming().for_each(drop));

    for count in [10, 1_000, 10_000] {
        println!("\n{count} Services x {PER_SERVICE} endpoints");
        let mut services = services(count, pod.v4.into());
        let mut proxy = Proxy::new(ProxyConfig::default()).unwrap();
        let start = Instant::now();
        let ruleset = plan(&services, &[], &node());
        println!("  plan                            {:>10.3?}", start.elapsed());
        let start = Instant::now();
        let report = proxy.sync_now(&ruleset).unwrap();
        println!("  load from scratch               {:>10.3?} ({} updates)", start.elapsed(), report.updates);
        let start = Instant::now();
        proxy.sync_now(&ruleset).unwrap();
        println!("  nothing to do                   {:>10.3?}", start.elapsed());

        let (mut syncing, mut kernel) = (Vec::new(), Vec::new());
        let removed = services[1].endpoints.pop();
        let rulesets = [plan(&services, &[], &node()), ruleset];
        services[1].endpoints.extend(removed);
        let busy = on_cpu();
        for turn in 0..200 {
            let start = Instant::now();
            let report = proxy.sync_now(&rulesets[turn % 2]).unwrap();
            assert!(!report.from_scratch && report.updates > 0);
            syncing.push(start.elapsed());
            kernel.push(report.kernel);
        }
        println!("  one endpoint changes, CPU           {:>10.3?}", (on_cpu() - busy) / 200);
        show("                      diff and apply", syncing);
        show("                      of it in the kernel", kernel);
        let connect = |to: &str| {
            let to: SocketAddr = to.parse().unwrap();
            within(&client, || (0..3000).map(|_| connect(to)).collect::<Vec<_>>())
        };
        show("connect: pod to pod", connect(&format!("{}:8080", pod.v4)));
        show("connect: pod to Service to pod", connect("10.96.1.0:80"));
        proxy.cleanup().unwrap();
    }
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("  {what:<34} least {:>9.1?}  p50 {:>9.1?}  p99 {:>9.1?}", at(0.0), at(0.5), at(0.99));
}

/// What this thread has had of a CPU, which others on the machine do not change.
fn on_cpu() -> Duration {
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn connect(to: SocketAddr) -> Duration {
    let start = Instant::now();
    let stream = TcpStream::connect(to).unwrap();
    let took = start.elapsed();
    drop(stream);
    took
}

fn netns() -> File {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    std::thread::spawn(make).join().unwrap()
}

fn within<T: Send>(netns: &File, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = || {
            setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        scope.spawn(inside).join().unwrap()
    })
}

fn node() -> NodeInput {
    NodeInput {
        name: "here".into(),
        addresses: vec![[192, 0, 2, 2].into()],
        pod_cidrs: vec!["10.42.0.0/24".parse().unwrap()],
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        local_service_ips: vec![],
    }
}

/// The first Service leads to the pod that listens; the others to addresses elsewhere.
fn services(count: usize, pod: IpAddr) -> Vec<ServiceWithEndpoints> {
    let service = |index: usize| {
        let [_, _, high, low] = (index as u32 + 256).to_be_bytes();
        ServiceWithEndpoints {
            service: ServiceInput {
                namespace: "default".into(),
                name: format!("service-{index}"),
                cluster_ips: vec![Ipv4Addr::new(10, 96, high, low).into()],
                ports: vec![ServicePort {
                    name: String::new(),
                    protocol: Protocol::Tcp,
                    port: 80,
                    node_port: None,
                    app_protocol: None,
                }],
                ..ServiceInput::default()
            },
            endpoints: (0..PER_SERVICE).map(|slot| endpoint(index, slot)).collect(),
        }
    };
    let mut services: Vec<_> = (0..count).map(service).collect();
    services[0].endpoints.truncate(1);
    services[0].endpoints[0].ip = pod;
    services
}

fn endpoint(service: usize, slot: usize) -> EndpointInput {
    let [_, high, middle, low] = ((service * PER_SERVICE + slot) as u32 + 65_536).to_be_bytes();
    EndpointInput {
        ip: Ipv4Addr::new(172, 16 + high, middle, low).into(),
        ports: [EndpointPort { name: String::new(), protocol: Protocol::Tcp, port: 8080 }].into(),
        ready: true,
        serving: true,
        terminating: false,
        node_name: None,
        hostname: None,
        target_pod: None,
    }
}
