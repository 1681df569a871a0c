//! The scheduler's loop: takes the next pod, asks [`decide`], has it written.
//!
//! One task owns snapshot and queue, so a decision sees every earlier one. Writes run
//! beside it; a pod is assumed on its node until the watch confirms it or the binding
//! fails. After a restart everything is rebuilt from the watches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use carrack_client::resource::PODS;
use carrack_client::{Error, Scope, Source, Update};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::act::Writer;
use crate::decide::{
    ClaimInfo, Decision, Eviction, Memory, PodInfo, Profile, Turn, Verdict, VolumeInfo, VolumePlan, decide,
};
use crate::view::{Kind, Others, View, subscribe};

/// Writes under way at once; beyond that, decisions wait.
const MAX_WRITES: usize = 256;

/// How long the volumes of a pod may take.
const VOLUME_TIMEOUT: Duration = Duration::from_secs(600);

/// The scheduler.
pub(crate) struct Scheduler {
    writer: Writer,
    seed: u64,
    started: Instant,
    view: View,
    memory: Memory,
    /// Where the next search begins.
    next_node: usize,
    writes: JoinSet<Done>,
    /// Pods whose volumes are being bound or made, with their nodes, by uid.
    awaited: HashMap<Arc<str>, Awaited>,
}

/// A pod that waits for its volumes.
struct Awaited {
    pod: Arc<PodInfo>,
    node: String,
    plan: VolumePlan,
    until: Duration,
    written: bool,
}

/// What became of a write.
enum Done {
    Volumes { pod: Arc<PodInfo>, result: Result<(), Error> },
    Bound { pod: Arc<PodInfo>, node: String, result: Result<(), Error> },
    Evicted { pod: Arc<PodInfo>, failed: bool },
}

impl Scheduler {
    pub(crate) fn new(writer: Writer, profiles: Vec<Profile>, seed: u64) -> Self {
        Self {
            writer,
            seed,
            started: Instant::now(),
            view: View::new(profiles),
            memory: Memory::default(),
            next_node: 0,
            writes: JoinSet::new(),
            awaited: HashMap::new(),
        }
    }

    /// Runs until dropped.
    pub(crate) async fn run(mut self, source: Arc<dyn Source>) {
        let mut pods = source.subscribe(&PODS, Scope::default());
        let mut others = subscribe(&*source);
        loop {
            self.drain(&mut pods, &mut others);
            if self.ready() {
                self.place_next();
                continue;
            }
            // The streams lag behind only while something waits in them.
            let awaited = self.awaited.values().map(|awaited| awaited.until).min();
            let due = self.view.queue.next_due().into_iter().chain(awaited).min();
            let due = due.map(|due| self.started + due);
            tokio::select! {
                Some((kind, update)) = others.next() => self.other_update(kind, update),
                Some(update) = pods.next() => self.pod_update(update),
                Some(done) = self.writes.join_next() => self.done(done),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.give_up_waiting();
                }
                else => return tracing::warn!("the scheduler's source ended"),
            }
        }
    }

    /// Applies what has already arrived, so that decisions are made on the latest.
    fn drain(&mut self, pods: &mut BoxStream<'static, Update>, others: &mut Others) {
        // Bounded, so that a flood does not keep decisions waiting.
        for _ in 0..1000 {
            let Some(Some((kind, update))) = others.next().now_or_never() else { break };
            self.other_update(kind, update);
        }
        for _ in 0..1000 {
            let Some(Some(update)) = pods.next().now_or_never() else { break };
            self.pod_update(update);
        }
        while let Some(done) = self.writes.try_join_next() {
            self.done(done);
        }
    }

    fn pod_update(&mut self, update: Update) {
        let now = self.now();
        self.view.pod_update(update, now);
    }

    fn other_update(&mut self, kind: Kind, update: Update) {
        let now = self.now();
        self.view.other_update(kind, update, now);
        if kind == Kind::Claim && !self.awaited.is_empty() {
            self.bind_awaited();
        }
    }

    fn ready(&mut self) -> bool {
        let now = self.now();
        self.view.synced() && self.writes.len() < MAX_WRITES && self.view.queue.ready(now)
    }

    fn place_next(&mut self) {
        let now = self.now();
        let Some(pod) = self.view.queue.take(now) else { return };
        let View { snapshot, profiles, .. } = &mut self.view;
        let found = profiles.iter().enumerate().find(|(_, profile)| profile.name == pod.scheduler);
        let Some(profile) = found else { return };
        let turn = Turn { seed: self.seed, start: self.next_node, now: self.writer.clock.now().as_second() };
        let (decision, next) = decide(snapshot, &mut self.memory, &pod, profile, turn);
        self.next_node = next;
        match decision {
            Decision::Place { node, volumes, .. } => {
                self.view.snapshot.place(pod.clone(), &node);
                if volumes.is_empty() {
                    self.bind(pod, node);
                } else {
                    self.write_volumes(pod, node, volumes, now);
                }
            }
            Decision::Unschedulable(verdict) => self.unschedulable(&pod, verdict, now),
        }
    }

    fn unschedulable(&mut self, pod: &Arc<PodInfo>, verdict: Verdict, now: Duration) {
        tracing::debug!(pod = %pod.key(), message = verdict.message, "pod fits nowhere");
        let queue = &mut self.view.queue;
        queue.refused(&pod.uid, verdict.plugins, now);
        let nominated = match &verdict.eviction {
            Some(eviction) => {
                self.view.snapshot.nominate(pod.clone(), &eviction.node);
                Some(&*eviction.node)
            }
            None if verdict.withdraw => {
                self.view.snapshot.withdraw(&pod.uid);
                Some("")
            }
            None => None,
        };
        self.writer.report(pod, "Unschedulable", &verdict.message, nominated);
        if let Some(eviction) = verdict.eviction {
            self.evict(pod.clone(), eviction);
        }
    }

    fn evict(&mut self, pod: Arc<PodInfo>, eviction: Eviction) {
        tracing::debug!(pod = %pod.key(), node = eviction.node, victims = eviction.victims.len(), "preempts");
        eviction.displaced.iter().for_each(|other| self.view.snapshot.withdraw(&other.uid));
        self.view.queue.evicting(&pod.uid);
        let writer = self.writer.clone();
        self.writes.spawn(async move {
            let result = writer.evict(&pod, &eviction).await;
            if let Err(error) = &result {
                tracing::warn!(pod = %pod.key(), %error, "eviction failed");
            }
            Done::Evicted { pod, failed: result.is_err() }
        });
    }

    fn bind(&mut self, pod: Arc<PodInfo>, node: String) {
        let writer = self.writer.clone();
        self.writes.spawn(async move {
            let result = writer.bind(&pod, &node).await;
            Done::Bound { pod, node, result }
        });
    }

    /// Has the volumes bound or made; the pod is bound when they are.
    fn write_volumes(&mut self, pod: Arc<PodInfo>, node: String, plan: VolumePlan, now: Duration) {
        let volumes = self.view.snapshot.volumes_mut();
        for (volume, claim) in &plan.bind {
            let owner = (claim.namespace.clone(), claim.name.clone(), claim.uid.clone());
            let assumed = VolumeInfo { claim: Some(owner), ..(**volume).clone() };
            volumes.volumes.insert(volume.name.clone(), Arc::new(assumed));
        }
        for claim in &plan.provision {
            let assumed = ClaimInfo { selected_node: Some(node.as_str().into()), ..(**claim).clone() };
            volumes.claims.insert((claim.namespace.clone(), claim.name.clone()), Arc::new(assumed));
        }
        let (writer, on, steps, of) = (self.writer.clone(), node.clone(), plan.clone(), pod.clone());
        let awaited = Awaited { pod, node, plan, until: now + VOLUME_TIMEOUT, written: false };
        self.awaited.insert(of.uid.clone(), awaited);
        self.writes.spawn(async move {
            let result = writer.volumes(&steps, &on).await;
            Done::Volumes { pod: of, result }
        });
    }

    /// Binds the pods whose volumes are there by now.
    fn bind_awaited(&mut self) {
        let volumes = self.view.snapshot.volumes();
        let bound = |awaited: &Awaited| {
            let claim = |claim: &Arc<ClaimInfo>| {
                volumes.claim(&claim.namespace, &claim.name).is_some_and(|claim| claim.bound)
            };
            let mut claims = awaited.plan.bind.iter().map(|(_, claim)| claim).chain(&awaited.plan.provision);
            awaited.written && claims.all(claim)
        };
        let there = self.awaited.iter().filter(|(_, awaited)| bound(awaited));
        let there: Vec<Arc<str>> = there.map(|(uid, _)| uid.clone()).collect();
        for uid in there {
            if let Some(Awaited { pod, node, .. }) = self.awaited.remove(&uid) {
                self.bind(pod, node);
            }
        }
    }

    fn give_up_waiting(&mut self) {
        let now = self.now();
        let late = self.awaited.iter().filter(|(_, awaited)| awaited.until <= now);
        let late: Vec<Arc<PodInfo>> = late.map(|(_, awaited)| awaited.pod.clone()).collect();
        for pod in late {
            self.awaited.remove(&pod.uid);
            self.failed(&pod, Some("binding volumes: context deadline exceeded"));
        }
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = self.now();
        match done {
            Err(error) => tracing::error!(%error, "a write broke off"),
            Ok(Done::Evicted { pod, failed }) => self.view.queue.evicted(&pod.uid, failed, now),
            Ok(Done::Volumes { pod, result: Ok(()) }) => {
                if let Some(awaited) = self.awaited.get_mut(&pod.uid) {
                    awaited.written = true;
                }
                self.bind_awaited();
            }
            Ok(Done::Volumes { pod, result: Err(error) }) => {
                if let Some(awaited) = self.awaited.remove(&pod.uid) {
                    self.restore(&awaited.plan);
                }
                self.failed(&pod, Some(&error.to_string()));
            }
            Ok(Done::Bound { pod, node, result: Ok(()) }) => self.writer.bound(&pod, &node),
            Ok(Done::Bound { pod, node, result: Err(error) }) => {
                tracing::debug!(pod = %pod.key(), node, %error, "binding failed");
                let known = error.is_not_found() || error.is_conflict();
                let message = error.to_string();
                self.failed(&pod, (!known).then_some(&*message));
            }
        }
    }

    /// Takes assumptions about volumes back, where the watch has said nothing newer.
    fn restore(&mut self, plan: &VolumePlan) {
        let volumes = self.view.snapshot.volumes_mut();
        for (volume, _) in &plan.bind {
            if volumes.volumes.get(&volume.name).is_some_and(|now| now.revision == volume.revision) {
                volumes.volumes.insert(volume.name.clone(), volume.clone());
            }
        }
        for claim in &plan.provision {
            let key = (claim.namespace.clone(), claim.name.clone());
            if volumes.claims.get(&key).is_some_and(|now| now.revision == claim.revision) {
                volumes.claims.insert(key, claim.clone());
            }
        }
    }

    /// A pod that was assumed on a node did not get there.
    fn failed(&mut self, pod: &Arc<PodInfo>, message: Option<&str>) {
        let Some(waiting) = self.view.queue.get(&pod.uid).cloned() else {
            // Meanwhile bound by someone, or gone: the watch has said what holds.
            return;
        };
        let now = self.now();
        self.view.queue.back_off(&pod.uid, now);
        self.view.unassume(&pod.uid, now);
        if let Some(message) = message {
            self.writer.report(&waiting, "SchedulerError", message, Some(""));
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}
