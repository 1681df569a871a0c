//! What the tests on a real kernel share: network namespaces of their own, that vanish
//! with the thread (or the file descriptor) that made them. Nothing outside is touched.
//!
//! Without root such a test says so and passes: the pure tests judge everything else.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use carrack_network::netlink::{Messages, Protocol as Netlink, Socket};
use carrack_network::plan::*;
use carrack_network::pod::links;
use nix::sched::{CloneFlags, setns, unshare};
use std::os::fd::AsRawFd;

/// Runs `test` on a thread of its own, in a network namespace of its own.
pub fn in_netns<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to make a network namespace");
        return None;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of our own");
        set_up("lo");
        test()
    });
    match thread.join() {
        Ok(value) => Some(value),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Brings a link of this thread's namespace up.
pub fn set_up(name: &str) {
    let mut socket = Socket::open(Netlink::Route).unwrap();
    let link = links::find(&mut socket, name).unwrap().unwrap();
    let mut m = Messages::default();
    links::set_up(&mut m, link.index);
    socket.request(&m, |_, _| false).unwrap();
}

/// A network namespace that lives as long as this.
pub struct Netns(File);

impl Netns {
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self(std::thread::spawn(make).join().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Runs something in it, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let within = || {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            };
            scope.spawn(within).join().unwrap()
        })
    }
}

/// What nft says of our table, if it is installed.
pub fn nft_list() -> Option<String> {
    let output = std::process::Command::new("nft").args(["list", "table", "inet", "carrack"]).output();
    match output {
        Ok(output) => Some(
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        ),
        Err(_) => {
            eprintln!("not compared with nft: it is not installed");
            None
        }
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn node() -> NodeInput {
    NodeInput {
        name: "here".into(),
        addresses: vec![ip("192.0.2.2")],
        pod_cidrs: vec!["10.42.0.0/24".parse().unwrap()],
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        local_service_ips: vec![ip("10.96.0.10")],
    }
}

pub fn port(name: &str, protocol: Protocol, port: u16, node_port: Option<u16>) -> ServicePort {
    ServicePort { name: name.into(), protocol, port, node_port, app_protocol: None }
}

pub fn service(name: &str, cluster_ips: &[&str], ports: Vec<ServicePort>) -> ServiceInput {
    ServiceInput {
        namespace: "default".into(),
        name: name.into(),
        cluster_ips: cluster_ips.iter().map(|text| ip(text)).collect(),
        ports,
        ..ServiceInput::default()
    }
}

pub fn endpoint(address: &str, ports: &[(&str, Protocol, u16)]) -> EndpointInput {
    let port = |(name, protocol, port): &(&str, Protocol, u16)| EndpointPort {
        name: (*name).into(),
        protocol: *protocol,
        port: *port,
    };
    EndpointInput {
        ip: ip(address),
        ports: ports.iter().map(port).collect::<Arc<[_]>>(),
        ready: true,
        serving: true,
        terminating: false,
        node_name: Some("here".into()),
        hostname: None,
        target_pod: None,
    }
}
