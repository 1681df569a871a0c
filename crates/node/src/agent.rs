//! Hands each pod of this node to a worker of its own, and passes on what concerns it.
//!
//! What always holds: a pod has one worker from its first sight until nothing of it
//! is left; a pod's name says nothing, its uid everything; sandboxes that no pod of
//! the API owns are ended once the API has said what there is.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_api::Record;
use carrack_client::{Scope, Source, Update, resource};
use carrack_runtime::{ContainerState, RuntimeEvent, SandboxStatus};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use crate::shared::Shared;
use crate::spec::GRACE;
use crate::worker::{Mailbox, Worker};

/// Mailboxes by uid.
pub type Mailboxes = Arc<Mutex<HashMap<String, Arc<Mailbox>>>>;

/// Told the uids of all pods with a worker, so that what belongs to none can go.
pub type Reconcile = Box<dyn Fn(&BTreeSet<String>) + Send + Sync>;

/// The agent of a node.
pub struct Agent {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailboxes: Mailboxes,
    /// What the runtime had at the start, by uid of the pod.
    pub(crate) found: HashMap<String, Vec<SandboxStatus>>,
    pub(crate) pods: Pods,
    pub(crate) workers: JoinSet<String>,
    pub(crate) reconcile: Reconcile,
}

/// The pods of this node as last seen, for the endpoint: by uid.
#[derive(Clone, Default)]
pub struct Pods(Arc<Mutex<HashMap<String, Arc<Record>>>>);

// === impl Pods ===

impl Pods {
    /// All of them.
    pub fn all(&self) -> Vec<Arc<Record>> {
        self.0.lock().expect("nobody panics with the pods locked").values().cloned().collect()
    }

    /// The pod of a namespace and name (the newest, should two be there).
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Record>> {
        let pods = self.0.lock().expect("nobody panics with the pods locked");
        let named = pods.values().filter(|r| r.key.namespace() == namespace && r.key.name() == name);
        named.max_by_key(|r| r.revision).cloned()
    }

    fn put(&self, record: &Arc<Record>) {
        let mut pods = self.0.lock().expect("nobody panics with the pods locked");
        pods.insert(record.header().uid.to_string(), record.clone());
    }

    fn remove(&self, uid: &str) {
        self.0.lock().expect("nobody panics with the pods locked").remove(uid);
    }
}

/// Puts something into a pod's mailbox, if it has a worker.
pub fn tell(mailboxes: &Mailboxes, uid: &str, change: impl FnOnce(&mut crate::worker::Inbox)) {
    let mailbox = mailboxes.lock().expect("nobody panics with the mailboxes locked").get(uid).cloned();
    if let Some(mailbox) = mailbox {
        mailbox.put(change);
    }
}

// === impl Agent ===

impl Agent {
    /// Runs until the source ends or the task is aborted; containers run on then.
    pub async fn run(mut self, source: Arc<dyn Source>, node: String) {
        let mut events = self.shared.runtime.events();
        self.adopt().await;
        let scope = Scope { fields: Some(format!("spec.nodeName={node}")), ..Scope::default() };
        let mut updates = source.subscribe(&resource::PODS, scope);
        loop {
            tokio::select! {
                update = updates.next() => match update {
                    Some(update) => self.update(update),
                    None => break,
                },
                event = events.recv() => match event {
                    Ok(event) => self.event(&event),
                    Err(RecvError::Lagged(_)) => self.wake_all(),
                    Err(RecvError::Closed) => break,
                },
                Some(ended) = self.workers.join_next(), if !self.workers.is_empty() => {
                    if let Ok(uid) = ended {
                        self.ended(&uid);
                    }
                }
            }
        }
        tracing::warn!("the agent has nothing more to follow");
    }

    /// What the runtime has from before.
    async fn adopt(&mut self) {
        let listed = loop {
            match self.shared.runtime.list().await {
                Ok(listed) => break listed,
                Err(error) => tracing::error!(%error, "runtime cannot be listed; trying again"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        for sandbox in listed {
            self.found.entry(sandbox.spec.pod_uid.clone()).or_default().push(sandbox);
        }
        for sandboxes in self.found.values_mut() {
            sandboxes.sort_by_key(|s| s.created_at);
        }
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Reset { records, .. } => {
                let live: BTreeSet<String> = records.iter().map(|r| r.header().uid.to_string()).collect();
                records.iter().for_each(|record| self.see(record));
                let gone: Vec<_> = {
                    let mailboxes = self.mailboxes.lock().expect("nobody panics with the mailboxes locked");
                    mailboxes.keys().filter(|uid| !live.contains(*uid)).cloned().collect()
                };
                gone.iter().for_each(|uid| tell(&self.mailboxes, uid, |inbox| inbox.gone = true));
                self.end_orphans();
                (self.reconcile)(&self.known());
            }
            Update::Changed { record, .. } => self.see(&record),
            Update::Deleted { record, .. } => {
                let uid = record.header().uid.to_string();
                tell(&self.mailboxes, &uid, |inbox| {
                    inbox.pod = Some(record.clone());
                    inbox.gone = true;
                });
            }
            Update::Progress(_) => {}
        }
    }

    /// Uids of pods that have a worker.
    fn known(&self) -> BTreeSet<String> {
        let mailboxes = self.mailboxes.lock().expect("nobody panics with the mailboxes locked");
        mailboxes.keys().cloned().collect()
    }

    fn see(&mut self, record: &Arc<Record>) {
        let uid = record.header().uid.to_string();
        self.pods.put(record);
        let known = {
            let mailboxes = self.mailboxes.lock().expect("nobody panics with the mailboxes locked");
            mailboxes.contains_key(&uid)
        };
        if known {
            tell(&self.mailboxes, &uid, |inbox| inbox.pod = Some(record.clone()));
            return;
        }
        let pod = match record.decode_as::<Pod>() {
            Ok(pod) => Arc::new(pod),
            Err(error) => {
                tracing::error!(%error, pod = %record.key, "pod cannot be read");
                return;
            }
        };
        let sandboxes = self.found.remove(&uid).unwrap_or_default();
        self.start(uid, pod, sandboxes, false);
    }

    fn start(&mut self, uid: String, pod: Arc<Pod>, sandboxes: Vec<SandboxStatus>, gone: bool) {
        let mailbox = Arc::new(Mailbox::default());
        if gone {
            mailbox.put(|inbox| inbox.gone = true);
        }
        {
            let mut mailboxes = self.mailboxes.lock().expect("nobody panics with the mailboxes locked");
            mailboxes.insert(uid.clone(), mailbox.clone());
        }
        let worker = Worker::new(self.shared.clone(), uid.clone(), pod, sandboxes);
        self.workers.spawn(async move {
            worker.run(mailbox).await;
            uid
        });
    }

    /// Sandboxes of pods that the API no longer has get a worker that ends them.
    fn end_orphans(&mut self) {
        for (uid, sandboxes) in std::mem::take(&mut self.found) {
            let Some(spec) = sandboxes.last().map(|s| &s.spec) else { continue };
            tracing::info!(pod = %spec.name, namespace = %spec.namespace, "ending a pod that is no more");
            let grace = spec.annotations.get(GRACE).and_then(|g| g.parse::<i64>().ok()).unwrap_or(30);
            let running = sandboxes.iter().flat_map(|s| &s.containers);
            let containers: Vec<_> = running
                .filter(|c| matches!(c.state, ContainerState::Running { .. }))
                .map(|c| k8s_openapi::api::core::v1::Container {
                    name: c.spec.name.clone(),
                    ..Default::default()
                })
                .collect();
            let pod = Pod {
                metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    name: Some(spec.name.clone()),
                    namespace: Some(spec.namespace.clone()),
                    uid: Some(uid.clone()),
                    ..Default::default()
                },
                spec: Some(k8s_openapi::api::core::v1::PodSpec {
                    containers,
                    host_network: Some(spec.host_network),
                    termination_grace_period_seconds: Some(grace),
                    ..Default::default()
                }),
                status: None,
            };
            self.start(uid, Arc::new(pod), sandboxes, true);
        }
    }

    fn event(&self, event: &RuntimeEvent) {
        let sandbox = match event {
            RuntimeEvent::ContainerStarted { sandbox, .. }
            | RuntimeEvent::ContainerExited { sandbox, .. }
            | RuntimeEvent::SandboxLost { sandbox } => sandbox,
        };
        if let Some(uid) = self.shared.owner(sandbox) {
            tell(&self.mailboxes, &uid, |inbox| inbox.runtime_changed = true);
        }
    }

    fn wake_all(&self) {
        let mailboxes = self.mailboxes.lock().expect("nobody panics with the mailboxes locked");
        mailboxes.values().for_each(|mailbox| mailbox.put(|inbox| inbox.runtime_changed = true));
    }

    fn ended(&mut self, uid: &str) {
        self.mailboxes.lock().expect("nobody panics with the mailboxes locked").remove(uid);
        self.pods.remove(uid);
    }
}
