//! Everything that the scheduler watches, brought into snapshot and queue.
//!
//! Each update is applied once and wakes the waiting pods that it may help. Nothing is
//! decided and nothing is written here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use carrack_api::Record;
use carrack_client::{Resource, Scope, Source, Update, resource};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};

use crate::decide::hints::Event;
use crate::decide::queue::Queue;
use crate::decide::{
    AttachmentInfo, BudgetInfo, CapacityInfo, ClaimInfo, ClassInfo, LabelSet, NodeFacts, OwnerKind, PodInfo,
    Profile, Snapshot, VolumeInfo, read_limits,
};

/// What is watched besides pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Node,
    Namespace,
    Owner(OwnerKind),
    Budget,
    Claim,
    Volume,
    Class,
    CsiNode,
    CsiDriver,
    Capacity,
    Attachment,
}

/// Every kind with its resource.
fn kinds() -> [(Kind, &'static Resource); 14] {
    [
        (Kind::Node, &resource::NODES),
        (Kind::Namespace, &resource::NAMESPACES),
        (Kind::Owner(OwnerKind::Service), &resource::SERVICES),
        (Kind::Owner(OwnerKind::ReplicationController), &resource::REPLICATION_CONTROLLERS),
        (Kind::Owner(OwnerKind::ReplicaSet), &resource::REPLICA_SETS),
        (Kind::Owner(OwnerKind::StatefulSet), &resource::STATEFUL_SETS),
        (Kind::Budget, &resource::POD_DISRUPTION_BUDGETS),
        (Kind::Claim, &resource::PERSISTENT_VOLUME_CLAIMS),
        (Kind::Volume, &resource::PERSISTENT_VOLUMES),
        (Kind::Class, &resource::STORAGE_CLASSES),
        (Kind::CsiNode, &resource::CSI_NODES),
        (Kind::CsiDriver, &resource::CSI_DRIVERS),
        (Kind::Capacity, &resource::CSI_STORAGE_CAPACITIES),
        (Kind::Attachment, &resource::VOLUME_ATTACHMENTS),
    ]
}

/// Updates of everything but pods.
pub(crate) type Others = SelectAll<BoxStream<'static, (Kind, Update)>>;

/// Subscribes to everything but pods.
pub(crate) fn subscribe(source: &dyn Source) -> Others {
    let stream = |(kind, resource): (Kind, &Resource)| {
        source.subscribe(resource, Scope::default()).map(move |update| (kind, update)).boxed()
    };
    kinds().into_iter().map(stream).collect()
}

/// Snapshot and queue, as the watches have it.
pub(crate) struct View {
    pub(crate) snapshot: Snapshot,
    pub(crate) queue: Queue,
    pub(crate) profiles: Vec<Profile>,
    /// Uids by store key, to tell a pod from its successor of the same name.
    uids: HashMap<String, Arc<str>>,
    /// Objects of the kinds of which a reset leaves some out, by kind.
    known: HashMap<Kind, HashMap<String, Arc<Record>>>,
    synced: HashSet<Kind>,
    pods_synced: bool,
}

impl View {
    pub(crate) fn new(profiles: Vec<Profile>) -> Self {
        Self {
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            profiles,
            uids: HashMap::new(),
            known: HashMap::new(),
            synced: HashSet::new(),
            pods_synced: false,
        }
    }

    /// Whether everything has been seen once.
    pub(crate) fn synced(&self) -> bool {
        self.pods_synced && self.synced.len() == kinds().len()
    }

    pub(crate) fn pod_update(&mut self, update: Update, now: Duration) {
        match update {
            Update::Reset { records, .. } => {
                self.pods_synced = true;
                let there: HashSet<&str> = records.iter().map(|record| &*record.header().uid).collect();
                let known = self.snapshot.placed().chain(self.queue.uids());
                let gone: Vec<Arc<str>> = known.filter(|uid| !there.contains(uid)).map(Arc::from).collect();
                gone.iter().for_each(|uid| self.pod_gone(uid, now));
                records.iter().for_each(|record| self.pod_changed(record, now));
            }
            Update::Changed { record, .. } => self.pod_changed(&record, now),
            Update::Deleted { record, .. } => {
                self.uids.remove(record.key.as_str());
                self.pod_gone(&record.header().uid, now);
            }
            Update::Progress(_) => {}
        }
    }

    /// Whether a pod neither holds anything on a node nor waits for one of the profiles,
    /// as far as its header tells.
    fn is_nothing(&self, record: &Record) -> bool {
        let is_empty = |field: &str| record.field(field).is_some_and(str::is_empty);
        let ended = || matches!(record.field("status.phase"), Some("Succeeded" | "Failed"));
        let strange = || {
            let scheduler = record.field("spec.schedulerName");
            scheduler.is_some_and(|name| self.profiles.iter().all(|profile| profile.name != name))
        };
        ended() || is_empty("spec.nodeName") && is_empty("status.nominatedNodeName") && strange()
    }

    fn pod_changed(&mut self, record: &Record, now: Duration) {
        let uid: Arc<str> = (&*record.header().uid).into();
        // A successor of the same name: the deletion may have been missed in a reset.
        let before = self.uids.insert(record.key.as_str().to_owned(), uid.clone());
        if let Some(before) = before.filter(|before| *before != uid) {
            self.pod_gone(&before, now);
        }
        if self.is_nothing(record) {
            return self.pod_gone(&uid, now);
        }
        let mut pod = PodInfo::read(record);
        pod.needs = self.snapshot.share(&pod.needs);
        let pod = Arc::new(pod);
        let mine = self.profiles.iter().any(|profile| profile.name == pod.scheduler);
        if pod.terminal {
            self.pod_gone(&pod.uid, now);
        } else if !pod.node_name.is_empty() {
            self.queue.remove(&pod.uid);
            let node = pod.node_name.clone();
            // Until the watch has said it, nobody else was told that it is there.
            let before = self.snapshot.pod(&pod.uid).filter(|pod| !pod.node_name.is_empty()).cloned();
            self.snapshot.place(pod.clone(), &node);
            let event = match &before {
                Some(before) => Event::PodChanged(before, &pod),
                None => Event::PodPlaced(&pod),
            };
            self.queue.changed(&event, now);
        } else if pod.pending() {
            if pod.nominated.is_empty() {
                self.snapshot.withdraw(&pod.uid);
            } else {
                self.snapshot.nominate(pod.clone(), &pod.nominated);
            }
            if mine {
                self.queue.set(pod, now);
            }
        } else {
            self.pod_gone(&pod.uid, now);
        }
    }

    /// A pod holds nothing any more.
    fn pod_gone(&mut self, uid: &str, now: Duration) {
        let waiting = self.queue.get(uid).cloned();
        self.queue.remove(uid);
        self.snapshot.withdraw(uid);
        if !self.unassume(uid, now) {
            waiting.iter().for_each(|pod| self.queue.changed(&Event::PodGone(pod), now));
        }
    }

    /// Takes a pod off its node, if it is on one.
    pub(crate) fn unassume(&mut self, uid: &str, now: Duration) -> bool {
        let pod = self.snapshot.pod(uid).cloned();
        let node = self.snapshot.node_of(uid).map(str::to_owned);
        let Some((pod, node)) = pod.zip(node) else { return false };
        self.snapshot.remove(uid);
        // An assumed pod does not say itself where it was.
        let pod = PodInfo { node_name: node, ..(*pod).clone() };
        self.queue.changed(&Event::PodGone(&pod), now);
        true
    }

    pub(crate) fn other_update(&mut self, kind: Kind, update: Update, now: Duration) {
        match update {
            Update::Reset { records, .. } => {
                self.synced.insert(kind);
                let there: HashSet<&str> = records.iter().map(|record| record.key.as_str()).collect();
                let known = self.known.get(&kind).into_iter().flatten();
                let gone = known.filter(|(key, _)| !there.contains(key.as_str()));
                let gone: Vec<Arc<Record>> = gone.map(|(_, record)| record.clone()).collect();
                gone.iter().for_each(|record| self.gone(kind, record, now));
                records.into_iter().for_each(|record| self.changed(kind, record, now));
            }
            Update::Changed { record, .. } => self.changed(kind, record, now),
            Update::Deleted { record, .. } => self.gone(kind, &record, now),
            Update::Progress(_) => {}
        }
    }

    fn changed(&mut self, kind: Kind, record: Arc<Record>, now: Duration) {
        let (namespace, name): (Box<str>, Box<str>) =
            (record.key.namespace().into(), record.key.name().into());
        match kind {
            Kind::Node => self.node_changed(&record, now),
            Kind::Namespace => {
                let labels = record.header().labels.iter();
                let labels: LabelSet = labels.map(|(key, value)| (&**key, &**value)).collect();
                self.snapshot.set_namespace(&name, Some(labels));
            }
            Kind::Owner(owner) => self.snapshot.owners_mut().set(owner, &record),
            Kind::Budget => {
                self.snapshot.budgets_mut().insert((namespace, name), BudgetInfo::read(&record));
            }
            Kind::Claim => {
                let claim = Arc::new(ClaimInfo::read(&record));
                self.snapshot.volumes_mut().claims.insert((namespace, name), claim.clone());
                self.queue.changed(&Event::Claim(&claim), now);
            }
            Kind::Volume => {
                let volume = Arc::new(VolumeInfo::read(&record));
                let before = self.snapshot.volumes_mut().volumes.insert(name, volume.clone());
                self.queue.changed(&Event::Volume(before.as_deref(), &volume), now);
            }
            Kind::Class => {
                self.snapshot.volumes_mut().classes.insert(name, ClassInfo::read(&record));
                self.queue.changed(&Event::Class, now);
            }
            Kind::CsiNode => {
                self.snapshot.volumes_mut().limits.insert(name, read_limits(&record));
                self.queue.changed(&Event::CsiNode, now);
            }
            Kind::CsiDriver => {
                let tracks = record.decode()["spec"]["storageCapacity"].as_bool().unwrap_or(false);
                self.snapshot.volumes_mut().tracking.insert(name, tracks);
                self.queue.changed(&Event::Capacity, now);
            }
            Kind::Capacity => {
                let key = record.key.as_str().into();
                self.snapshot.volumes_mut().capacities.insert(key, CapacityInfo::read(&record));
                self.queue.changed(&Event::Capacity, now);
            }
            Kind::Attachment => {
                self.snapshot.volumes_mut().attachments.insert(name, AttachmentInfo::read(&record));
            }
        }
        self.known.entry(kind).or_default().insert(record.key.as_str().to_owned(), record);
    }

    fn gone(&mut self, kind: Kind, record: &Arc<Record>, now: Duration) {
        if let Some(known) = self.known.get_mut(&kind) {
            known.remove(record.key.as_str());
        }
        let (namespace, name): (Box<str>, Box<str>) =
            (record.key.namespace().into(), record.key.name().into());
        match kind {
            Kind::Node => {
                let facts = self.snapshot.node(&name).map(|node| node.facts.clone());
                self.snapshot.remove_node(&name);
                if let Some(facts) = facts {
                    self.queue.changed(&Event::NodeGone(&facts), now);
                }
            }
            Kind::Namespace => self.snapshot.set_namespace(&name, None),
            Kind::Owner(owner) => self.snapshot.owners_mut().remove(owner, record),
            Kind::Budget => {
                self.snapshot.budgets_mut().remove(&(namespace, name));
            }
            Kind::Claim => {
                self.snapshot.volumes_mut().claims.remove(&(namespace, name));
            }
            Kind::Volume => {
                self.snapshot.volumes_mut().volumes.remove(&name);
            }
            Kind::Class => {
                self.snapshot.volumes_mut().classes.remove(&name);
            }
            Kind::CsiNode => {
                self.snapshot.volumes_mut().limits.remove(&name);
                self.queue.changed(&Event::CsiNode, now);
            }
            Kind::CsiDriver => {
                self.snapshot.volumes_mut().tracking.remove(&name);
                self.queue.changed(&Event::Capacity, now);
            }
            Kind::Capacity => {
                self.snapshot.volumes_mut().capacities.remove(record.key.as_str());
            }
            Kind::Attachment => {
                self.snapshot.volumes_mut().attachments.remove(&name);
                self.queue.changed(&Event::Detached, now);
            }
        }
    }

    fn node_changed(&mut self, record: &Record, now: Duration) {
        let facts = NodeFacts::read(record);
        let before = self.snapshot.node(&facts.name).map(|node| node.facts.clone());
        // Most changes of a node are heartbeats.
        if before.as_ref().is_some_and(|before| **before == facts) {
            return;
        }
        self.snapshot.set_node(facts.clone());
        let event = match &before {
            Some(before) => Event::NodeChanged(before, &facts),
            None => Event::NodeAdded(&facts),
        };
        self.queue.changed(&event, now);
    }
}
