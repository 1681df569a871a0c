//! Attaching and detaching pods.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::addresses::Addresses;
use super::links::{self, End, Link, Mac, OUR_PROTOCOL, Via};
use super::{NODE_LINK, POD_LINK, PodAddresses, PodNetworkConfig, PodNetworkError, Reconciled, sysctl};
use crate::apply::conntrack;
use crate::netlink::{Messages, Protocol, Socket};
use crate::plan::Prefix;

/// The hardware address of every pod's gateway: the outer end of its own pair, so that one
/// for all is no conflict.
const GATEWAY_MAC: Mac = [0x0e, 0xca, 0x77, 0xac, 0x00, 0x01];
/// What pods' links are called outside: this and 12 hexadecimal digits.
const PREFIX: &str = "ck";
/// How long the kernel's link watcher is waited for, and in what steps.
const WATCHER_TURNS: usize = 200;
const WATCHER_TURN: Duration = Duration::from_micros(500);
/// When nothing says otherwise.
const DEFAULT_MTU: u32 = 1500;

/// The node's pod network. Calls block, for a millisecond or two; they may come from several
/// threads, all in the node's network namespace.
#[derive(Debug)]
pub struct PodNetwork {
    inner: Mutex<Inner>,
    gateways: Vec<IpAddr>,
    mtu: u32,
    with_v6: bool,
}

#[derive(Debug)]
struct Inner {
    socket: Socket,
    addresses: Addresses,
}

impl PodNetwork {
    /// Makes (or adopts) `carrack0`, routes and sysctls, and reads the allocations.
    pub fn open(config: PodNetworkConfig) -> Result<Self, PodNetworkError> {
        let addresses = Addresses::open(&config.state_dir.join("addresses"), &config.pod_cidrs)?;
        let mut socket = open_socket()?;
        let has_v6 = Path::new("/proc/sys/net/ipv6").exists();
        let with_v6 = has_v6 && config.pod_cidrs.iter().any(Prefix::is_v6);
        if !with_v6 && config.pod_cidrs.iter().any(Prefix::is_v6) {
            tracing::warn!("this kernel has no IPv6: pods get IPv4 addresses only");
        }
        sysctl::set(&config.state_dir, &sysctl::wanted(with_v6))?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => uplink_mtu(&mut socket).map_err(PodNetworkError::io("cannot read links"))?,
        };
        let gateways: Vec<_> = addresses.gateways();
        let gateways: Vec<_> = gateways.into_iter().filter(|ip| ip.is_ipv4() || with_v6).collect();
        node_link(&mut socket, &config, &gateways, mtu, has_v6)?;
        let inner = Mutex::new(Inner { socket, addresses });
        Ok(Self { inner, gateways, mtu, with_v6 })
    }

    /// Gives the pod `eth0`, addresses and routes in the network namespace at `netns` (a path
    /// like `/proc/PID/ns/net`). Safe to repeat: the same pod keeps its addresses and, if
    /// it is in the same namespace, its connections.
    pub fn attach(&self, netns: &Path, pod_uid: &str) -> Result<PodAddresses, PodNetworkError> {
        let failed = |what: &str| PodNetworkError::io(format!("cannot {what} of pod {pod_uid}"));
        let namespace = File::open(netns).map_err(failed("open the network namespace"))?;
        let mut inside = socket_within(&namespace).map_err(failed("enter the network namespace"))?;

        let mut inner = self.lock();
        let addresses = inner.addresses.allocate(pod_uid)?;
        let addresses = PodAddresses { v6: addresses.v6.filter(|_| self.with_v6), ..addresses };
        let pod_mac = mac_of(addresses);
        let name = link_name(pod_uid);
        let pair = |socket: &mut Socket| {
            let mut m = Messages::default();
            let here = End { name: &name, mac: GATEWAY_MAC };
            let there = End { name: POD_LINK, mac: pod_mac };
            links::new_veth(&mut m, here, there, namespace.as_fd(), self.mtu);
            socket.request(&m, |_, _| false).map_err(|(_, error)| error)
        };
        let mut made = pair(&mut inner.socket);
        if made.as_ref().is_err_and(exists) {
            // From an earlier attempt: complete it, unless its other end is elsewhere.
            made = match links::find(&mut inside, POD_LINK) {
                Ok(Some(_)) => Ok(()),
                _ => delete_links(&mut inner.socket, &[&name]).and_then(|()| pair(&mut inner.socket)),
            };
        }
        made.map_err(failed("make the interfaces"))?;
        self.outside(&mut inner.socket, pod_uid, addresses, pod_mac)
            .map_err(failed("set up the host's end"))?;
        drop(inner);
        self.inside(&mut inside, addresses).map_err(failed("set up the interface"))?;
        let mut inner = self.lock();
        wait_until_working(&mut inner.socket, &name).map_err(failed("wait for the host's end"))?;
        Ok(addresses)
    }

    fn outside(
        &self,
        socket: &mut Socket,
        pod_uid: &str,
        addresses: PodAddresses,
        pod_mac: Mac,
    ) -> io::Result<()> {
        let index = index_of(socket, &link_name(pod_uid))?;
        let mut m = Messages::default();
        links::set_strict(&mut m, index);
        let optional = links::set_no_link_local(&mut m, index);
        // An alias may have 255 bytes; a uid is some 36.
        let shown: String = pod_uid.chars().take(60).collect();
        links::set_alias(&mut m, index, &format!("carrack: pod {shown}"));
        links::set_up(&mut m, index);
        for ip in all(addresses) {
            let source = self.gateways.iter().find(|gateway| gateway.is_ipv4() == ip.is_ipv4());
            links::add_neighbour(&mut m, index, ip, pod_mac);
            links::add_route(&mut m, host(ip), Via::Link(index), source.copied());
        }
        socket.request(&m, |number, _| number == optional).map_err(|(_, error)| error)
    }

    fn inside(&self, socket: &mut Socket, addresses: PodAddresses) -> io::Result<()> {
        const LOOPBACK: u32 = 1;
        let index = index_of(socket, POD_LINK)?;
        let mut m = Messages::default();
        links::set_up(&mut m, LOOPBACK);
        let optional = links::set_no_link_local(&mut m, index);
        for ip in all(addresses) {
            links::add_address(&mut m, index, ip);
        }
        links::set_up(&mut m, index);
        for ip in all(addresses) {
            let gateway = self.gateways.iter().find(|gateway| gateway.is_ipv4() == ip.is_ipv4());
            let Some(gateway) = gateway.copied() else { continue };
            let everywhere: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let everywhere = Prefix::new(everywhere, 0).expect("no bits are too many");
            links::add_neighbour(&mut m, index, gateway, GATEWAY_MAC);
            links::add_route(&mut m, host(gateway), Via::Link(index), None);
            links::add_route(&mut m, everywhere, Via::Gateway(index, gateway), None);
        }
        socket.request(&m, |number, _| number == optional).map_err(|(_, error)| error)
    }

    /// The addresses a pod holds, if any (for adoption after a restart).
    pub fn addresses(&self, pod_uid: &str) -> Option<PodAddresses> {
        self.lock().addresses.get(pod_uid)
    }

    /// Takes the link away and frees the addresses. Safe to repeat, also after the
    /// namespace has gone.
    pub fn detach(&self, pod_uid: &str) -> Result<(), PodNetworkError> {
        let mut inner = self.lock();
        let failed = PodNetworkError::io(format!("cannot remove the interface of pod {pod_uid}"));
        delete_links(&mut inner.socket, &[&link_name(pod_uid)]).map_err(failed)?;
        inner.addresses.release(pod_uid)?;
        Ok(())
    }

    /// Detaches every pod that is not in `live`, and removes links that belong to none: for
    /// after a crash. Call it before new pods are attached.
    pub fn reconcile(&self, live: &BTreeSet<String>) -> Result<Reconciled, PodNetworkError> {
        let mut inner = self.lock();
        let keep: BTreeSet<String> = live.iter().map(|uid| link_name(uid)).collect();
        let failed = || PodNetworkError::io("cannot remove interfaces of pods that are gone");
        let found = pod_links(&mut inner.socket).map_err(failed())?;
        let gone: Vec<_> = found.iter().filter(|name| !keep.contains(*name)).collect();
        delete_links(&mut inner.socket, &gone).map_err(failed())?;
        let mut reconciled = Reconciled { links: gone.len(), addresses: 0 };
        for pod in inner.addresses.pods() {
            if !live.contains(&pod) && inner.addresses.release(&pod)? {
                reconciled.addresses += 1;
            }
        }
        Ok(reconciled)
    }

    /// Removes every link and route of ours, ends the connections that went over them, and
    /// gives sysctls their former values: what `down --purge` needs. Fine if there is nothing. Allocations are files in the state
    /// directory, which the caller removes.
    pub fn cleanup(state_dir: &Path) -> Result<(), PodNetworkError> {
        let mut socket = open_socket()?;
        let failed = || PodNetworkError::io("cannot remove interfaces and routes");
        let mut ours = links::routes(&mut socket).map_err(failed())?;
        ours.retain(|route| route.protocol == OUR_PROTOCOL);
        let mut names = pod_links(&mut socket).map_err(failed())?;
        names.push(NODE_LINK.to_owned());
        delete_links(&mut socket, &names).map_err(failed())?;
        let mut m = Messages::default();
        ours.iter().for_each(|route| links::delete_route(&mut m, route));
        // Most have gone with their links.
        let gone = |_, errno| matches!(errno, Errno::ESRCH | Errno::ENODEV | Errno::EINVAL);
        socket.request(&m, gone).map_err(|(_, error)| failed()(error))?;
        let prefixes: Vec<Prefix> = ours.iter().filter_map(|route| route.to).collect();
        if !prefixes.is_empty() {
            let failed = PodNetworkError::io("cannot end the connections of pods");
            conntrack::forget(&prefixes).map_err(failed)?;
        }
        sysctl::restore(state_dir)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic leaves files and kernel as they are, which every call expects.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_socket() -> Result<Socket, PodNetworkError> {
    Socket::open(Protocol::Route).map_err(PodNetworkError::io("cannot open a netlink socket"))
}

/// A socket in another namespace. A thread of its own makes it, so that no thread that does
/// anything else ever changes its namespace.
fn socket_within(namespace: &File) -> io::Result<Socket> {
    std::thread::scope(|scope| {
        let open = || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            Socket::open(Protocol::Route)
        };
        let thread = std::thread::Builder::new().stack_size(64 * 1024).spawn_scoped(scope, open)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the helper thread failed")))
    })
}

fn node_link(
    socket: &mut Socket,
    config: &PodNetworkConfig,
    gateways: &[IpAddr],
    mtu: u32,
    has_v6: bool,
) -> Result<(), PodNetworkError> {
    let failed = || PodNetworkError::io(format!("cannot set up {NODE_LINK}"));
    let mut m = Messages::default();
    links::new_bridge(&mut m, NODE_LINK, mtu);
    let known = |_, errno| errno == Errno::EEXIST;
    socket.request(&m, known).map_err(|(_, error)| failed()(error))?;

    let index = index_of(socket, NODE_LINK).map_err(failed())?;
    let mut m = Messages::default();
    let optional = links::set_no_link_local(&mut m, index);
    links::set_up(&mut m, index);
    let usable = |ip: &&IpAddr| ip.is_ipv4() || has_v6;
    for ip in gateways.iter().chain(&config.host_addresses).filter(usable) {
        links::add_address(&mut m, index, *ip);
    }
    for cidr in config.service_cidrs.iter().filter(|cidr| !cidr.is_v6() || has_v6) {
        let source = gateways.iter().find(|ip| ip.is_ipv6() == cidr.is_v6());
        links::add_route(&mut m, *cidr, Via::Link(index), source.copied());
    }
    for cidr in config.pod_cidrs.iter().filter(|cidr| !cidr.is_v6() || has_v6) {
        // What goes to a pod that is not there must not leave by the default route.
        links::add_route(&mut m, *cidr, Via::Unreachable, None);
    }
    socket.request(&m, |number, _| number == optional).map_err(|(_, error)| failed()(error))
}

fn uplink_mtu(socket: &mut Socket) -> io::Result<u32> {
    let routes = links::routes(socket)?;
    let uplink = routes.iter().find(|route| route.is_default).and_then(|route| route.link);
    let links = links::list(socket)?;
    let mtu = links.iter().find(|link| Some(link.index) == uplink).map(|link| link.mtu);
    Ok(mtu.unwrap_or(DEFAULT_MTU))
}

fn index_of(socket: &mut Socket, name: &str) -> io::Result<u32> {
    let link = links::find(socket, name)?;
    link.map(|link| link.index).ok_or_else(|| Errno::ENODEV.into())
}

/// The end of a pair that is brought up first drops what it is to send until the kernel's
/// link watcher has noticed that the other end is up as well. The pod's first answer would
/// be lost to that, and be waited for by seconds. From Linux 6.10 on, asking for the link
/// makes the watcher run.
fn wait_until_working(socket: &mut Socket, name: &str) -> io::Result<()> {
    for _ in 0..WATCHER_TURNS {
        if links::find(socket, name)?.is_none_or(|link| link.is_working) {
            return Ok(());
        }
        std::thread::sleep(WATCHER_TURN);
    }
    tracing::warn!(link = name, "a pod's link is slow to come up");
    Ok(())
}

fn delete_links(socket: &mut Socket, names: &[impl AsRef<str>]) -> io::Result<()> {
    let mut m = Messages::default();
    for name in names {
        links::delete(&mut m, name.as_ref());
    }
    socket.request(&m, |_, errno| errno == Errno::ENODEV).map_err(|(_, error)| error)
}

/// The names of all pods' links that are here.
fn pod_links(socket: &mut Socket) -> io::Result<Vec<String>> {
    let is_ours = |link: &Link| {
        let digits = link.name.strip_prefix(PREFIX).unwrap_or_default();
        link.kind == "veth" && digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit())
    };
    Ok(links::list(socket)?.into_iter().filter(is_ours).map(|link| link.name).collect())
}

/// A name of 14 characters (the kernel allows 15) that follows from the uid: FNV-1a, folded.
fn link_name(pod_uid: &str) -> String {
    let hash = pod_uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{PREFIX}{:012x}", (hash ^ (hash >> 48)) & 0xffff_ffff_ffff)
}

/// A locally administered hardware address that follows from the pod's address.
fn mac_of(addresses: PodAddresses) -> Mac {
    let [a, b, c, d] = addresses.v4.octets();
    [0x0a, 0x58, a, b, c, d]
}

fn all(addresses: PodAddresses) -> impl Iterator<Item = IpAddr> {
    [Some(IpAddr::V4(addresses.v4)), addresses.v6.map(IpAddr::V6)].into_iter().flatten()
}

fn host(ip: IpAddr) -> Prefix {
    Prefix::new(ip, if ip.is_ipv4() { 32 } else { 128 }).expect("the length is of the family")
}

fn exists(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AlreadyExists
}
