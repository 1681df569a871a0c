//! What fills the cluster: Deployments with a Service each, ten to a namespace.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use carrack_client::resource::{DEPLOYMENTS, NAMESPACES, NODES, SERVICES};
use carrack_client::{Client, HttpSource, Scope, Source, Update};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Size;

/// How long nodes or pods may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// Without any progress for so long, waiting ends.
const STANDSTILL: Duration = Duration::from_secs(120);
/// How often Deployments are counted.
const LOOK: Duration = Duration::from_secs(2);
/// Deployments of a namespace.
const TOGETHER: usize = 10;
/// Creations under way at once.
const AT_ONCE: usize = 16;

/// The Deployments of a run.
pub struct Workload {
    deployments: usize,
    replicas: usize,
}

/// Waits until so many nodes are Ready.
pub async fn nodes_ready(client: &Client, count: usize) -> Result<()> {
    let source = HttpSource::new(client.clone());
    let mut updates = source.subscribe(&NODES, Scope::default());
    let mut ready = HashSet::new();
    let all = async {
        while ready.len() < count {
            let records = match updates.next().await.context("the watch ended")? {
                Update::Reset { records, .. } => records,
                Update::Changed { record, .. } => vec![record],
                Update::Deleted { .. } | Update::Progress(_) => continue,
            };
            let is_ready = |node: &Value| {
                let conditions = node["status"]["conditions"].as_array();
                let mut conditions = conditions.into_iter().flatten();
                conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
            };
            let now = records.iter().filter(|record| is_ready(&record.decode()));
            ready.extend(now.map(|record| record.key.name().to_owned()));
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.context("not all nodes are Ready in time")?
}

/// Namespace and name of every pod that is Running, page by page.
pub async fn running(client: &Client) -> Result<Vec<(String, String)>> {
    #[derive(serde::Deserialize)]
    struct Meta {
        name: String,
        namespace: String,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        metadata: Meta,
    }
    #[derive(serde::Deserialize)]
    struct ListMeta {
        #[serde(rename = "continue", default)]
        token: String,
    }
    #[derive(serde::Deserialize)]
    struct Page {
        metadata: ListMeta,
        items: Vec<Item>,
    }
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/pods?fieldSelector=status.phase%3DRunning&limit=500&continue={token}");
        let page: Page = serde_json::from_slice(&client.get_path(&path).await?)?;
        found.extend(page.items.into_iter().map(|item| (item.metadata.namespace, item.metadata.name)));
        token = page.metadata.token;
        if token.is_empty() {
            return Ok(found);
        }
    }
}

impl Workload {
    /// As many Deployments as hold the pods asked for.
    pub fn of(size: &Size) -> Self {
        Self { deployments: size.pods.div_ceil(size.replicas), replicas: size.replicas }
    }

    /// How many pods they are.
    pub fn pods(&self) -> usize {
        self.deployments * self.replicas
    }

    /// Creates namespaces, Services and Deployments.
    ///
    /// # Errors
    /// The server refuses one.
    pub async fn create(&self, client: &Client) -> Result<()> {
        for number in 0..self.deployments.div_ceil(TOGETHER) {
            let name = format!("scale-{number}");
            client.create(&NAMESPACES, "", &json!({"metadata": {"name": name}})).await?;
        }
        let one = |number: usize| async move {
            let (namespace, name) = (format!("scale-{}", number / TOGETHER), format!("web-{number}"));
            client.create(&SERVICES, &namespace, &service(&name)).await?;
            client.create(&DEPLOYMENTS, &namespace, &deployment(&name, self.replicas)).await?;
            anyhow::Ok(())
        };
        let mut created = futures::stream::iter((0..self.deployments).map(one)).buffer_unordered(AT_ONCE);
        while let Some(result) = created.next().await {
            result?;
        }
        Ok(())
    }

    /// Waits until every pod is ready, as the Deployments say.
    ///
    /// # Errors
    /// They are not in time, or nothing goes on any more.
    pub async fn ready(&self, client: &Client) -> Result<()> {
        let begun = Instant::now();
        let (mut best, mut progress) = (0, Instant::now());
        loop {
            let list: Value = serde_json::from_slice(&client.get_path("/apis/apps/v1/deployments").await?)?;
            let items = list["items"].as_array().into_iter().flatten();
            // What is on its way out is not ready, however it looks to its owner.
            let ready: u64 = items.filter_map(|item| item["status"]["availableReplicas"].as_u64()).sum();
            if ready as usize >= self.pods() {
                return Ok(());
            }
            if ready > best {
                (best, progress) = (ready, Instant::now());
            }
            if progress.elapsed() > STANDSTILL || begun.elapsed() > PATIENCE {
                bail!("{ready} of {} pods are ready", self.pods());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}})
}

fn deployment(name: &str, replicas: usize) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name, "tier": "backend"}}, "spec": pod_spec()}}})
}

/// A pod that nobody keeps.
pub(crate) fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "start"}}, "spec": pod_spec()})
}

/// Two containers, probes, variables and volumes: about 2 kB as sent.
fn pod_spec() -> Value {
    let probe =
        |seconds: u32| json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": seconds});
    json!({"automountServiceAccountToken": false, "containers": [
        {"name": "web", "image": "registry.example/web:1.2.3", "command": ["/bin/web", "--port=8080"],
         "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "two"},
                 {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
         "ports": [{"name": "http", "containerPort": 8080}],
         "readinessProbe": probe(5), "livenessProbe": probe(10),
         "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
         "volumeMounts": [{"name": "config", "mountPath": "/etc/web"}, {"name": "tmp", "mountPath": "/tmp"}]},
        {"name": "sidecar", "image": "registry.example/sidecar:4.5.6",
         "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
         "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}],
        "volumes": [{"name": "config", "configMap": {"name": "web-config", "optional": true}},
                    {"name": "tmp", "emptyDir": {}}]})
}
