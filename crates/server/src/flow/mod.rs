//! API Priority and Fairness: FlowSchemas sort requests into priority levels, each of which
//! serves so many at once and lets others wait their turn, so that who floods the API
//! delays nobody but itself.
//!
//! The objects are read through an index that is never behind the store. Watches hold
//! their seats until they have begun; streams into pods hold none.
//!
//! (KEP-1040. See `docs/decisions/flow-control.md`.)

pub(crate) mod builtin;
pub mod conditions;
mod level;
mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use carrack_api::status::Status;
use carrack_api::{Record, Value};
use carrack_store::Store;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

pub(crate) use level::Seat;

use crate::auth::follow::{Follow, Index};
use crate::request::{RequestInfo, User};
use level::{Level, Refusal};
use plan::shares::{self, Bounds, Demand};
use plan::spec::{Mode, Spec};

const SCHEMAS: &str = "flowschemas.flowcontrol.apiserver.k8s.io";
const LEVELS: &str = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io";

static SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
static LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// How often limits are adjusted to what is wanted.
const PERIOD: Duration = Duration::from_secs(10);
/// How long a request may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of a list that count as one seat, and those that are in memory at once at most.
const BYTES_PER_SEAT: usize = 100_000;
const MOST_BYTES: usize = 1_000_000;
/// Objects whose size is taken for that of all.
const SAMPLE: usize = 8;

/// Flow control of one server.
pub(crate) struct FlowControl {
    store: Arc<dyn Store>,
    objects: Follow<Objects>,
    live: ArcSwap<Live>,
    /// Held while limits are adjusted or taken over.
    adjusting: Mutex<Adjusting>,
    total: usize,
}

/// The objects as they are stored.
struct Objects {
    schemas: BTreeMap<Box<str>, Value>,
    levels: BTreeMap<Box<str>, Value>,
    spec: Arc<Spec>,
}

/// What requests are sorted by.
#[derive(Default)]
struct Live {
    spec: Arc<Spec>,
    levels: Vec<Arc<Level>>,
    bounds: Vec<Bounds>,
    headers: Vec<Headers>,
}

struct Adjusting {
    last: Option<Instant>,
    smoothed: BTreeMap<Box<str>, f64>,
}

/// What an answer says of how its request was sorted.
#[derive(Default, Clone)]
pub(crate) struct Headers(Arc<[(&'static HeaderName, HeaderValue)]>);

impl Headers {
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        for (name, value) in self.0.iter() {
            headers.insert((*name).clone(), value.clone());
        }
    }
}

impl Default for Objects {
    fn default() -> Self {
        let (schemas, levels) = (BTreeMap::new(), BTreeMap::new());
        let spec = Arc::new(Spec::of(&schemas, &levels));
        Self { schemas, levels, spec }
    }
}

impl Index for Objects {
    const RESOURCES: &'static [&'static str] = &[SCHEMAS, LEVELS];

    fn apply(&mut self, record: &Record, gone: bool) {
        let objects = if record.key.resource() == SCHEMAS { &mut self.schemas } else { &mut self.levels };
        match gone {
            true => drop(objects.remove(record.key.name())),
            false => drop(objects.insert(record.key.name().into(), record.decode())),
        }
    }

    fn settle(&mut self) {
        let spec = Spec::of(&self.schemas, &self.levels);
        if *self.spec != spec {
            self.spec = Arc::new(spec);
        }
    }
}

impl FlowControl {
    /// Flow control by the objects of a store; all levels together serve `total` requests
    /// at once.
    pub(crate) fn new(store: Arc<dyn Store>, total: usize) -> Self {
        let adjusting = Mutex::new(Adjusting { last: None, smoothed: BTreeMap::new() });
        Self { objects: Follow::new(store.clone()), store, live: ArcSwap::default(), adjusting, total }
    }

    /// Seats for a request, held until it is answered; none if it needs none.
    ///
    /// # Errors
    /// 429 when there are no seats and it may not wait, or has waited long enough.
    pub(crate) async fn admit(
        &self,
        user: &User,
        info: &RequestInfo,
    ) -> (Headers, Result<Option<Seat>, Status>) {
        let at = &info.attributes;
        if at.is_resource && crate::http::is_streaming(at) {
            return (Headers::default(), Ok(None));
        }
        let live = self.live();
        let Some(number) = live.spec.classify(user, at) else { return (Headers::default(), Ok(None)) };
        let schema = &live.spec.schemas[number];
        let (level, headers) = (&live.levels[schema.level], live.headers[number].clone());
        let mode = live.spec.levels[schema.level].mode;
        let width = self.width(info).min(shares::widest(mode, live.bounds[schema.level]));
        let seat = match mode {
            Mode::Exempt => Ok(level.exempt(width)),
            _ => match level.at_once(width) {
                Some(seat) => Ok(seat),
                None => {
                    self.adjust();
                    match mode {
                        Mode::Queue { .. } => level.queue(schema.flow(user, at), width, PATIENCE).await,
                        _ => level.at_once(width).ok_or(Refusal::Busy),
                    }
                }
            },
        };
        let refused = |refusal: Refusal| {
            tracing::debug!(user = %user.name, schema = %schema.name, ?refusal, "refused by flow control");
            Status::too_many_requests("Too many requests, please try again later.", 1)
        };
        (headers, seat.map(Some).map_err(refused))
    }

    /// The newest objects, taken over if they have changed.
    fn live(&self) -> Arc<Live> {
        let live = self.live.load_full();
        let spec = {
            let objects = self.objects.read();
            if Arc::ptr_eq(&objects.spec, &live.spec) {
                return live;
            }
            objects.spec.clone()
        };
        self.take_over(spec);
        self.live.load_full()
    }

    /// Levels that stay keep their seats and who waits in them.
    fn take_over(&self, spec: Arc<Spec>) {
        let mut adjusting = self.adjusting.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.live.load_full();
        if Arc::ptr_eq(&old.spec, &spec) {
            return;
        }
        let bounds = shares::bounds(&spec.levels, self.total);
        let known = |name: &str| old.spec.levels.iter().position(|level| *level.name == *name);
        let level = |(level, bounds): (&plan::spec::Level, &Bounds)| match known(&level.name) {
            Some(at) => {
                old.levels[at].configure(level.mode);
                old.levels[at].clone()
            }
            None => Arc::new(Level::new(level.mode, bounds.nominal)),
        };
        let levels = spec.levels.iter().zip(&bounds).map(level).collect();
        let value = |uid: &str| HeaderValue::from_str(uid).ok().filter(|_| !uid.is_empty());
        let headers = spec.schemas.iter().map(|schema| {
            let pairs = [(&SCHEMA_UID, &schema.uid), (&LEVEL_UID, &spec.levels[schema.level].uid)];
            Headers(pairs.into_iter().filter_map(|(name, uid)| Some((name, value(uid)?))).collect())
        });
        let headers = headers.collect();
        let live = Arc::new(Live { spec, levels, bounds, headers });
        set_limits(&live, &mut adjusting);
        self.live.store(live);
    }

    /// Adjusts limits to what is wanted, from time to time. Only who finds no seat asks, so
    /// that a server with nothing to do does nothing.
    fn adjust(&self) {
        let Ok(mut adjusting) = self.adjusting.try_lock() else { return };
        if adjusting.last.is_none_or(|last| last.elapsed() >= PERIOD) {
            set_limits(&self.live.load_full(), &mut adjusting);
        }
    }

    /// Seats that a request takes: lists by their size, all else one.
    fn width(&self, info: &RequestInfo) -> usize {
        let at = &info.attributes;
        if !at.is_resource || !at.name.is_empty() || !matches!(&*at.verb, "list" | "watch") {
            return 1;
        }
        if &*at.verb == "watch" {
            let revision = info.query.text("resourceVersion");
            let initial = info.query.flag("sendInitialEvents") || matches!(revision, "" | "0");
            if !initial {
                return 1;
            }
        }
        let resource = match &*at.group {
            "" => at.resource.to_string(),
            group => format!("{}.{group}", at.resource),
        };
        let snapshot = self.store.snapshot(&resource);
        let limit = info.query.text("limit").parse::<usize>().ok().filter(|limit| *limit > 0);
        let count = snapshot.len().min(limit.unwrap_or(usize::MAX));
        let (mut sampled, mut bytes) = (0, 0);
        for record in snapshot.iter().take(SAMPLE) {
            (sampled, bytes) = (sampled + 1, bytes + record.content.size());
        }
        let all = (bytes / sampled.max(1)).saturating_mul(count).min(MOST_BYTES);
        all.div_ceil(BYTES_PER_SEAT).max(1)
    }
}

/// Gives every level its limit for the moment.
fn set_limits(live: &Live, adjusting: &mut Adjusting) {
    let mut smoothed = BTreeMap::new();
    let demands: Vec<Demand> = live
        .spec
        .levels
        .iter()
        .zip(&live.levels)
        .zip(&live.bounds)
        .map(|((spec, level), bounds)| {
            let high = level.take_high();
            let before = adjusting.smoothed.get(&spec.name).copied().unwrap_or(0.0);
            let now = shares::smooth(before, high);
            smoothed.insert(spec.name.clone(), now);
            Demand { exempt: spec.mode == Mode::Exempt, bounds: *bounds, high, smoothed: now }
        })
        .collect();
    for (level, limit) in live.levels.iter().zip(shares::limits(&demands)) {
        level.set_limit(limit);
    }
    (adjusting.last, adjusting.smoothed) = (Some(Instant::now()), smoothed);
}
