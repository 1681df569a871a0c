//! What a Service is given on its way into the store, and gives back when it goes.
//!
//! An address is held by an IPAddress object of its name, a node port by a key of our
//! own; both are compare-and-set, so that no two Services ever hold the same. What a
//! failed write leaves is given back at once, what a crash leaves by [`super::repair`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use carrack_api::field::{Error, Errors, Path};
use carrack_api::status::Status;
use carrack_api::{Key, Value, validation};
use carrack_store::Store;
use futures::future::BoxFuture;
use serde_json::json;

use super::families::{
    self, allocates_node_ports, cluster_ips, is_headless, may_have_node_ports, needs_cluster_ip,
    needs_health_port, node_port,
};
use super::held::{self, Claim, Holder};
use super::{AddressRange, Ranges, range};
use crate::auth::node::references::{items, text};
use crate::registry::{Call, Registry};
use crate::request::User;
use crate::seams::{Finish, Strategy};

/// The strategy of `services`.
pub struct Services {
    store: Arc<dyn Store>,
    ranges: Ranges,
}

/// What one write has taken so far.
struct Taken<'a> {
    services: &'a Services,
    registry: &'a Registry,
    call: &'a Call,
    holder: Holder,
    seed: u64,
    keys: Vec<Key>,
    /// Node ports of a dry run, in range or not.
    dry_ports: Vec<i64>,
}

impl Services {
    /// Allocates from `ranges`.
    pub fn new(store: Arc<dyn Store>, ranges: Ranges) -> Self {
        Self { store, ranges }
    }

    /// The cluster's own ranges, then those of ServiceCIDRs that are ready.
    fn address_ranges(&self) -> Vec<AddressRange> {
        let mut ranges = self.ranges.addresses.clone();
        for cidr in self.store.snapshot("servicecidrs.networking.k8s.io").iter() {
            let object = cidr.decode();
            let ready = items(&object, "/status/conditions")
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            if ready && !cidr.header().deleting {
                let own = items(&object, "/spec/cidrs").filter_map(|c| AddressRange::parse(c.as_str()?));
                own.for_each(|range| {
                    if !ranges.contains(&range) {
                        ranges.push(range);
                    }
                });
            }
        }
        ranges
    }

    fn prepare(&self, service: &mut Value, old: Option<&Value>) {
        if let Some(old) = old {
            families::patch_allocated(service, old);
        }
        families::normalize(service, old);
        // What does not fit is said when allocation begins, after validation.
        let mut settled = service.clone();
        if families::settle_families(&mut settled, old, &self.ranges.families()).is_empty() {
            *service = settled;
        }
        if let Some(old) = old {
            families::drop_left_behind(service, old);
        }
    }

    async fn begin(
        &self,
        call: &Call,
        registry: &Registry,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Finish, Status> {
        invalid(service, unfit(call, service))?;
        let errors = families::settle_families(service, old, &self.ranges.families());
        invalid(service, errors)?;
        let uid = text(service, "/metadata/uid").unwrap_or_default();
        let name = text(service, "/metadata/name").unwrap_or_default().to_owned();
        let mut taken = Taken {
            services: self,
            registry,
            call,
            seed: range::seed(self.ranges.seed, uid),
            holder: Holder { namespace: call.namespace.clone(), name: name.into() },
            keys: Vec::new(),
            dry_ports: Vec::new(),
        };
        let result = taken.all(service, old).await;
        let Taken { keys, holder, .. } = taken;
        if let Err(status) = result {
            held::release(&self.store, &keys, &holder).await;
            return Err(status);
        }
        let left = match old {
            Some(old) => held_by(old).difference(&held_by(service)).cloned().collect(),
            None => Vec::new(),
        };
        let store = self.store.clone();
        Ok(Finish::with(move |committed| {
            Box::pin(async move {
                let back = if committed { left } else { keys };
                held::release(&store, &back, &holder).await;
            })
        }))
    }
}

impl Strategy for Services {
    fn prepare_create(&self, _: &Call, service: &mut Value) {
        self.prepare(service, None);
    }

    fn prepare_update(&self, call: &Call, service: &mut Value, old: &Value) {
        if call.subresource.is_empty() {
            self.prepare(service, Some(old));
        }
    }

    fn begin_create<'a>(
        &'a self,
        call: &'a Call,
        registry: &'a Registry,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Finish, Status>> {
        Box::pin(self.begin(call, registry, object, None))
    }

    fn begin_update<'a>(
        &'a self,
        call: &'a Call,
        registry: &'a Registry,
        object: &'a mut Value,
        old: &'a Value,
    ) -> BoxFuture<'a, Result<Finish, Status>> {
        Box::pin(self.begin(call, registry, object, Some(old)))
    }

    fn after_delete<'a>(
        &'a self,
        call: &'a Call,
        registry: &'a Registry,
        service: &'a Value,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let name = text(service, "/metadata/name").unwrap_or_default();
            let holder = Holder { namespace: call.namespace.clone(), name: name.into() };
            let keys: Vec<Key> = held_by(service).into_iter().collect();
            held::release(&self.store, &keys, &holder).await;
            // A Service made anew under the name must not start with old endpoints.
            if let Ok(endpoints) = registry.call(User::loopback(), "endpoints", &call.namespace, name) {
                _ = registry.delete(&endpoints, &Default::default()).await;
            }
        })
    }
}

// === impl Taken ===

impl Taken<'_> {
    async fn all(&mut self, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        self.addresses(service, old).await?;
        let before: BTreeSet<i64> = old.map(ports_of).unwrap_or_default();
        if may_have_node_ports(service) {
            self.node_ports(service, &before).await?;
        }
        if needs_health_port(service) && !old.is_some_and(needs_health_port) {
            self.health_port(service, &before).await?;
        }
        Ok(())
    }

    async fn addresses(&mut self, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        if !needs_cluster_ip(service) || is_headless(service) {
            return Ok(());
        }
        let before = old.map(cluster_ips).unwrap_or_default();
        let mut ips = cluster_ips(service);
        let families = families::families(service);
        ips.resize(families.len(), String::new());
        for (at, family) in families.iter().enumerate() {
            // (Another one in the place of one that it had is refused later.)
            if !ips[at].is_empty() && (at < before.len() || before.contains(&ips[at])) {
                continue;
            }
            ips[at] = match &*ips[at] {
                "" => self.next_address(service, *family, &ips).await?,
                asked => self.address(service, asked).await?,
            };
        }
        if let Some(first) = ips.first() {
            service["spec"]["clusterIP"] = first.as_str().into();
            service["spec"]["clusterIPs"] = json!(ips);
        }
        Ok(())
    }

    /// Takes an address that was asked for.
    async fn address(&mut self, service: &Value, asked: &str) -> Result<String, Status> {
        let refused = |detail: &str| {
            let detail = format!("failed to allocate IP {asked}: {detail}");
            no_address(service, &cluster_ips(service), detail)
        };
        let address: IpAddr = asked.parse().map_err(|_| refused("invalid address"))?;
        let ranges = self.services.address_ranges();
        if !ranges.iter().any(|range| range.contains(address)) {
            let is_own = |range: &&AddressRange| range.first().is_ipv4() == address.is_ipv4();
            let first = ranges.iter().find(is_own).filter(|_| self.call.options.dry_run);
            return Err(match first {
                // (A dry run looks at one range only, and says at which.)
                Some(range) => refused(&format!(
                    "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
                )),
                None => refused("the provided network does not match the current range"),
            });
        }
        match self.take_address(address).await {
            Ok(Claim::Taken) => Ok(address.to_string()),
            Ok(Claim::Held) => Err(refused("provided IP is already allocated")),
            Err(status) if status.code == 422 => Err(refused(&status.message)),
            Err(status) => Err(status),
        }
    }

    /// Takes any free address.
    async fn next_address(
        &mut self,
        service: &Value,
        family: families::Family,
        ips: &[String],
    ) -> Result<String, Status> {
        let ranges = self.services.address_ranges();
        for range in ranges.into_iter().filter(|range| range.family() == family) {
            for address in range.candidates(self.seed) {
                let free = self.services.store.get(&held::address_key(address)).is_none();
                let refused = |status: Status| match status.code {
                    422 => no_address(service, ips, format!("failed to allocate IP: {}", status.message)),
                    _ => status,
                };
                if free && self.take_address(address).await.map_err(refused)? == Claim::Taken {
                    return Ok(address.to_string());
                }
            }
        }
        let name = text(service, "/metadata/name").unwrap_or_default();
        Err(Status::internal(format!("failed to allocate a serviceIP for Service {name:?}: range is full")))
    }

    async fn take_address(&mut self, address: IpAddr) -> Result<Claim, Status> {
        if self.call.options.dry_run {
            let held = self.services.store.get(&held::address_key(address)).is_some();
            return Ok(if held { Claim::Held } else { Claim::Taken });
        }
        let claim = held::claim_address(self.registry, address, &self.holder).await?;
        if claim == Claim::Taken {
            self.keys.push(held::address_key(address));
        }
        Ok(claim)
    }

    async fn node_ports(&mut self, service: &mut Value, before: &BTreeSet<i64>) -> Result<(), Status> {
        let mut ports: Vec<Value> = items(service, "/spec/ports").cloned().collect();
        let mut own = before.clone();
        // One number serves several protocols of the same port.
        let mut by_port: Vec<(i64, i64)> = Vec::new();
        for at in 0..ports.len() {
            let (number, mut asked) = (ports[at]["port"].as_i64().unwrap_or(0), node_port(&ports[at]));
            if asked == 0 && !allocates_node_ports(service) {
                continue;
            }
            let known = by_port.iter().find(|(port, _)| *port == number).map(|(_, port)| *port);
            if asked == 0 {
                let later = || ports.iter().find(|p| p["port"] == number && node_port(p) != 0).map(node_port);
                asked = known.or_else(later).unwrap_or(0);
            }
            let got = if asked == 0 {
                self.next_port(at as u64, &own).await?
            } else {
                if !own.contains(&asked) {
                    let path = Path::ROOT.child("spec");
                    let path = path.child("ports");
                    let path = path.index(at);
                    self.port(asked).await.map_err(|refusal| match refusal {
                        Refusal::Detail(detail) => {
                            let error = Error::invalid(&path.child("nodePort"), asked, &detail);
                            invalid(service, vec![error]).err().unwrap_or_else(|| Status::internal(detail))
                        }
                        Refusal::Status(status) => status,
                    })?;
                }
                asked
            };
            own.insert(got);
            if known.is_none() {
                by_port.push((number, got));
            }
            ports[at]["nodePort"] = got.into();
        }
        if !ports.is_empty() {
            service["spec"]["ports"] = ports.into();
        }
        Ok(())
    }

    async fn health_port(&mut self, service: &mut Value, before: &BTreeSet<i64>) -> Result<(), Status> {
        let asked = service["spec"]["healthCheckNodePort"].as_i64().unwrap_or(0);
        let got = match asked {
            0 => self.next_port(u64::MAX, before).await?,
            _ if before.contains(&asked) => asked,
            _ => {
                self.port(asked).await.map_err(|refusal| match refusal {
                    Refusal::Detail(detail) => Status::internal(format!(
                        "failed to allocate requested HealthCheck NodePort {asked}: {detail}"
                    )),
                    Refusal::Status(status) => status,
                })?;
                asked
            }
        };
        service["spec"]["healthCheckNodePort"] = got.into();
        Ok(())
    }

    /// Takes a port that was asked for.
    async fn port(&mut self, asked: i64) -> Result<(), Refusal> {
        let range = self.services.ranges.ports;
        let held = || Refusal::Detail("provided port is already allocated".to_owned());
        // (As upstream has it, a dry run does not look whether a port is in range.)
        if self.call.options.dry_run {
            if self.is_held(asked) || self.dry_ports.contains(&asked) {
                return Err(held());
            }
            self.dry_ports.push(asked);
            return Ok(());
        }
        if !range.contains(asked) {
            let detail = "provided port is not in the valid range. The range of valid ports is";
            return Err(Refusal::Detail(format!("{detail} {range}")));
        }
        match self.take_port(asked as u16).await.map_err(Refusal::Status)? {
            Claim::Taken => Ok(()),
            Claim::Held => Err(held()),
        }
    }

    /// Takes any free port.
    async fn next_port(&mut self, salt: u64, own: &BTreeSet<i64>) -> Result<i64, Status> {
        if self.call.options.dry_run {
            let port = made_up_port(&self.dry_ports, |port| self.is_held(port));
            self.dry_ports.push(port);
            return Ok(port);
        }
        let seed = self.seed.wrapping_add(salt);
        for port in self.services.ranges.ports.candidates(seed) {
            let free =
                self.services.store.get(&held::port_key(port)).is_none() && !own.contains(&port.into());
            if free && self.take_port(port).await? == Claim::Taken {
                return Ok(port.into());
            }
        }
        Err(Status::internal("failed to allocate a nodePort: range is full"))
    }

    fn is_held(&self, port: i64) -> bool {
        u16::try_from(port).is_ok_and(|port| self.services.store.get(&held::port_key(port)).is_some())
    }

    async fn take_port(&mut self, port: u16) -> Result<Claim, Status> {
        let key = held::port_key(port);
        let claim = held::claim_port(&self.services.store, port, &self.holder, self.call.now).await?;
        if claim == Claim::Taken {
            self.keys.push(key);
        }
        Ok(claim)
    }
}

/// A port that a dry run tells in the place of one that would be allocated: one above those
/// that it has told, or a likely one.
pub(super) fn made_up_port(told: &[i64], is_held: impl Fn(i64) -> bool) -> i64 {
    const LIKELY: i64 = 32_768;
    const SMALL: i64 = 100;
    let last = match told {
        [] => LIKELY,
        told => told.iter().copied().max().unwrap_or_default().max(0),
    };
    let free = |port: &i64| !told.contains(port) && !is_held(*port);
    (last + 1..SMALL).find(free).unwrap_or(last + 1)
}

enum Refusal {
    Detail(String),
    Status(Status),
}

/// Every node port of a Service.
fn ports_of(service: &Value) -> BTreeSet<i64> {
    let mut ports: BTreeSet<i64> = items(service, "/spec/ports").map(node_port).collect();
    ports.extend(service["spec"]["healthCheckNodePort"].as_i64());
    ports.remove(&0);
    ports
}

/// The keys of all that a Service holds.
pub(super) fn held_by(service: &Value) -> BTreeSet<Key> {
    let ports = ports_of(service);
    let ports = ports.iter().filter_map(|port| Some(held::port_key(u16::try_from(*port).ok()?)));
    let ips = if needs_cluster_ip(service) { cluster_ips(service) } else { Vec::new() };
    let ips = ips.iter().filter_map(|ip| Some(held::address_key(ip.parse().ok()?)));
    ips.chain(ports).collect()
}

/// What is wrong with the fields that allocation goes by. (Validation as a whole comes
/// afterwards, when everything is filled in.)
fn unfit(call: &Call, service: &Value) -> Errors {
    if !needs_cluster_ip(service) {
        return Vec::new();
    }
    let mut errors = validation::validate_create(&call.kind, service);
    errors.retain(|error| {
        ["spec.clusterIP", "spec.ipFamil"].iter().any(|prefix| error.path.starts_with(prefix))
    });
    errors
}

/// Why a Service gets no address.
fn no_address(service: &Value, ips: &[String], detail: String) -> Status {
    let path = Path::ROOT.child("spec");
    let error = Error::invalid(&path.child("clusterIPs"), json!(ips), &detail);
    invalid(service, vec![error]).err().unwrap_or_else(|| Status::internal(detail))
}

fn invalid(service: &Value, errors: Errors) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("", "Service", text(service, "/metadata/name").unwrap_or_default(), &errors))
}
