//! ServiceCIDRs: says that a range is ready, and keeps one that is being deleted until no
//! address is allocated from it alone.
//!
//! Follows upstream's `pkg/controller/servicecidrs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use carrack_api::{Key, Record, Value};
use carrack_client::clock::rfc3339;
use carrack_client::controller::{Controller, Error, Writes};
use carrack_client::resource::{IP_ADDRESSES, SERVICE_CIDRS};
use carrack_client::{Cache, Client, Clock};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::shell::{self, Shared};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// How long a deleted range stays, so that whoever allocates has heard of it.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    address: u128,
    v4: bool,
    length: u32,
}

/// A ServiceCIDR, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Range {
    /// Its name.
    pub name: String,
    /// Its prefixes.
    pub prefixes: Vec<Prefix>,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
    /// Whether it has our finalizer.
    pub held: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Put the finalizer on.
    Hold,
    /// Say that it is ready.
    Ready,
    /// Say that addresses keep it.
    Terminating,
    /// Look again then.
    Wait(SignedDuration),
    /// Take the finalizer off.
    Release,
}

impl Prefix {
    /// Reads `10.0.0.0/16`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let (address, v4) = number(address.parse().ok()?);
        let length: u32 = length.parse().ok()?;
        (length <= if v4 { 32 } else { 128 }).then_some(Self { address, v4, length })
    }

    fn holds(&self, address: u128, v4: bool) -> bool {
        let bits = if self.v4 { 32 } else { 128 } - self.length;
        v4 == self.v4 && address.checked_shr(bits).unwrap_or(0) == self.address.checked_shr(bits).unwrap_or(0)
    }

    fn within(&self, other: &Self) -> bool {
        other.length <= self.length && other.holds(self.address, self.v4)
    }
}

fn number(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(v4) => (u32::from(v4).into(), true),
        IpAddr::V6(v6) => (v6.into(), false),
    }
}

/// Decides about one range: `all` are all ranges with it, `addresses` those that the
/// allocator has given out.
pub fn decide(range: &Range, all: &[Range], addresses: &[IpAddr], now: Timestamp) -> Option<Step> {
    let Some(deleted) = range.deleted else {
        return Some(if range.held { Step::Ready } else { Step::Hold });
    };
    if !range.held {
        return None;
    }
    let others = || all.iter().filter(|other| other.name != range.name && other.deleted.is_none());
    let covered = range.prefixes.iter().all(|own| others().any(|o| o.prefixes.iter().any(|p| own.within(p))));
    let only_ours = |address: &IpAddr| {
        let (address, v4) = number(*address);
        let holds = |range: &Range| range.prefixes.iter().any(|prefix| prefix.holds(address, v4));
        holds(range) && !others().any(holds)
    };
    if !covered && addresses.iter().any(only_ours) {
        return Some(Step::Terminating);
    }
    let left = deleted.checked_add(GRACE).ok()?.duration_since(now);
    Some(if left.is_positive() { Step::Wait(left) } else { Step::Release })
}

struct ServiceCidrs {
    client: Client,
    clock: Arc<dyn Clock>,
    ranges: Arc<Cache>,
    addresses: Arc<Cache>,
}

/// Starts it.
pub(crate) fn start(shared: &Shared) {
    let client = shared.client("service-cidrs-controller");
    let queue = shell::queue();
    let (ranges, addresses) = (shared.informers.cache(&SERVICE_CIDRS), shared.informers.cache(&IP_ADDRESSES));
    let (wake, all) = (queue.clone(), ranges.clone());
    let wake_all = move || all.all().iter().for_each(|range| wake.add(range.key.clone()));
    let wake_deleted = {
        let (wake, all) = (queue.clone(), ranges.clone());
        move || {
            let deleted = all.all().into_iter().filter(|range| range.header().deleting);
            deleted.for_each(|range| wake.add(range.key.clone()));
        }
    };
    shell::enqueue_changes(&ranges, &queue);
    ranges.add_handler(Box::new(move |_, _| wake_all()));
    addresses.add_handler(Box::new(move |_, new| {
        if new.is_none() {
            wake_deleted();
        }
    }));
    let clock = shared.clock.clone();
    shared.run(ServiceCidrs { client, clock, ranges, addresses }, queue, 1);
}

fn read(record: &Record) -> Range {
    let object = record.decode();
    let cidrs = object["spec"]["cidrs"].as_array().into_iter().flatten();
    Range {
        name: record.key.name().to_owned(),
        prefixes: cidrs.filter_map(|cidr| Prefix::parse(cidr.as_str()?)).collect(),
        deleted: object["metadata"]["deletionTimestamp"].as_str().and_then(|at| at.parse().ok()),
        held: record.header().finalizers.iter().any(|finalizer| &**finalizer == FINALIZER),
    }
}

impl Controller for ServiceCidrs {
    type Plan = (Arc<Record>, Step);

    fn name(&self) -> &'static str {
        "service-cidr"
    }

    fn caches(&self) -> Vec<Arc<Cache>> {
        vec![self.ranges.clone(), self.addresses.clone()]
    }

    fn decide(&self, key: &Key, now: Timestamp) -> Option<Self::Plan> {
        let record = self.ranges.get(key)?;
        let range = read(&record);
        let all: Vec<Range> = match range.deleted {
            Some(_) => self.ranges.all().iter().map(|record| read(record)).collect(),
            None => Vec::new(),
        };
        let ours = |record: &&Arc<Record>| record.header().label(MANAGED_BY) == Some(ALLOCATOR);
        let addresses: Vec<IpAddr> = match range.deleted {
            Some(_) => {
                let all = self.addresses.all();
                all.iter().filter(ours).filter_map(|record| record.key.name().parse().ok()).collect()
            }
            None => Vec::new(),
        };
        Some((record, decide(&range, &all, &addresses, now)?))
    }

    async fn act(
        &self,
        key: &Key,
        (record, step): Self::Plan,
        writes: &Writes,
    ) -> Result<Option<Duration>, Error> {
        let mut object = record.decode();
        let subresource = match step {
            Step::Wait(left) => return Ok(left.try_into().ok()),
            Step::Hold | Step::Release => {
                let finalizers = &mut object["metadata"]["finalizers"];
                if !finalizers.is_array() {
                    *finalizers = json!([]);
                }
                if let Some(finalizers) = finalizers.as_array_mut() {
                    finalizers.retain(|finalizer| finalizer != FINALIZER);
                    if step == Step::Hold {
                        finalizers.push(FINALIZER.into());
                    }
                }
                ""
            }
            Step::Ready | Step::Terminating => {
                if !set_ready(&mut object, step == Step::Ready, &rfc3339(self.clock.now())) {
                    return Ok(None);
                }
                "status"
            }
        };
        match self.client.replace(&SERVICE_CIDRS, ("", key.name()), subresource, &object).await {
            Ok(_) if step == Step::Release => writes.deleted(key, &record.header().uid),
            Ok(written) => writes.wrote(&written),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }
}

/// Sets the Ready condition; false when it says so already.
fn set_ready(object: &mut Value, ready: bool, now: &str) -> bool {
    let condition = if ready {
        json!({"type": "Ready", "status": "True", "reason": "", "lastTransitionTime": now,
            "message": "Kubernetes Service CIDR is ready"})
    } else {
        json!({"type": "Ready", "status": "False", "reason": "Terminating", "lastTransitionTime": now,
            "message": "There are still IPAddresses referencing the ServiceCIDR, please remove them or create \
                        a new ServiceCIDR"})
    };
    if !object["status"]["conditions"].is_array() {
        object["status"] = json!({"conditions": []});
    }
    let Some(conditions) = object["status"]["conditions"].as_array_mut() else { return false };
    match conditions.iter_mut().find(|own| own["type"] == "Ready") {
        // What made the default range ready words it in its own way.
        Some(own) if own["status"] == condition["status"] && own["reason"] == condition["reason"] => {
            return false;
        }
        Some(own) => *own = condition,
        None => conditions.push(condition),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_go_when_nothing_is_in_them_alone() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let range = |name: &str, cidr: &str, deleted: bool| Range {
            name: name.into(),
            prefixes: Prefix::parse(cidr).into_iter().collect(),
            deleted: deleted.then_some(start),
            held: true,
        };
        let inside: [IpAddr; 1] = ["10.1.0.5".parse().unwrap()];
        let outside: [IpAddr; 1] = ["10.2.0.5".parse().unwrap()];
        let gone = range("x", "10.1.0.0/16", true);
        let check = |all: &[Range], addresses: &[IpAddr], seconds: i64, expect: Step| {
            let found = decide(&gone, all, addresses, start + SignedDuration::from_secs(seconds));
            assert_eq!(found, Some(expect), "{all:?} {addresses:?}");
        };
        let alone = [gone.clone()];
        check(&alone, &inside, 60, Step::Terminating);
        check(&alone, &outside, 60, Step::Release);
        check(&alone, &[], 4, Step::Wait(SignedDuration::from_secs(6)));
        let wider = [gone.clone(), range("y", "10.0.0.0/8", false)];
        check(&wider, &inside, 60, Step::Release);
        let narrow = [gone.clone(), range("y", "10.1.0.0/24", false)];
        check(&narrow, &inside, 60, Step::Release);
        let also_gone = [gone.clone(), range("y", "10.0.0.0/8", true)];
        check(&also_gone, &inside, 60, Step::Terminating);
        let fresh = Range { held: false, ..range("z", "10.1.0.0/16", false) };
        assert_eq!(decide(&fresh, &[], &[], start), Some(Step::Hold));
        assert_eq!(decide(&range("z", "10.1.0.0/16", false), &[], &[], start), Some(Step::Ready));
    }

    #[test]
    fn says_ready_once() {
        let mut object = json!({"metadata": {}});
        assert!(set_ready(&mut object, true, "t"));
        assert!(!set_ready(&mut object, true, "u"));
        assert!(set_ready(&mut object, false, "v"));
        assert_eq!(object["status"]["conditions"][0]["reason"], "Terminating");
    }
}
