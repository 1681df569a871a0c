//! Time from creating a pod to seeing it Running on a watch: one after the other, then
//! many at once. `podstart KUBECONFIG [ONE_BY_ONE] [AT_ONCE]`, where the API is reachable;
//! the image is the example's, which has to be there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use carrack_client::connect::{Credentials, Endpoint, connect};
use carrack_client::resource::PODS;
use carrack_client::{Client, DeleteOptions, HttpSource, Scope, Source, Update};
use futures::StreamExt;
use futures::stream::BoxStream;

const PATIENCE: Duration = Duration::from_secs(60);

fn client(kubeconfig: &str) -> Result<Client> {
    let text = std::fs::read_to_string(kubeconfig)?;
    let value = |field: &str| -> Result<String> {
        let line = text.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(field));
        Ok(line.with_context(|| format!("no {field} in {kubeconfig}"))?.trim().trim_matches('"').to_owned())
    };
    let data = |field: &str| -> Result<Vec<u8>> {
        Ok(base64::engine::general_purpose::STANDARD.decode(value(field)?)?)
    };
    let address = value("server: https://")?.parse()?;
    let endpoint = Endpoint {
        address,
        server_name: address.ip().to_string(),
        ca_pem: data("certificate-authority-data:")?,
    };
    let credentials = Credentials::Certificate {
        chain_pem: data("client-certificate-data:")?,
        key_pem: data("client-key-data:")?,
    };
    Ok(Client::new(connect(&endpoint, &credentials)?, "podstart"))
}

fn pod(name: &str) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "podstart"}},
        "spec": {"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": "carrack.local/hello:1", "imagePullPolicy": "Never"}]},
    })
}

/// A pod that took longer than this says where the time went.
const SLOW: Duration = Duration::from_millis(150);

/// When something was seen of a pod, and what its status said.
type Story = Vec<(Instant, String)>;

/// What the pod's object tells of how far it has come.
fn stage(pod: &serde_json::Value) -> String {
    let status = &pod["status"];
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut met: Vec<&str> =
        conditions.iter().filter(|c| c["status"] == "True").filter_map(|c| c["type"].as_str()).collect();
    met.sort_unstable();
    let waiting = status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default();
    format!("{} [{}] {waiting}", status["phase"].as_str().unwrap_or_default(), met.join(" "))
}

/// Waits until the given pods are Running and returns when each was seen so. What was seen
/// on the way goes into `story`.
async fn running(
    updates: &mut BoxStream<'static, Update>,
    mut missing: Vec<String>,
    story: &mut Story,
) -> Result<HashMap<String, Instant>> {
    let mut seen = HashMap::new();
    let watch = async {
        while !missing.is_empty() {
            let update = updates.next().await.context("the watch ended")?;
            let records = match update {
                Update::Changed { record, .. } => vec![record],
                Update::Reset { records, .. } => records,
                Update::Deleted { .. } | Update::Progress(_) => continue,
            };
            for record in records {
                let name = record.key.name();
                let pod = record.decode();
                if missing.iter().any(|m| m == name) {
                    story.push((Instant::now(), stage(&pod)));
                }
                if pod["status"]["phase"] == "Running" && missing.iter().any(|m| m == name) {
                    missing.retain(|m| m != name);
                    seen.insert(name.to_owned(), Instant::now());
                }
            }
        }
        Ok(seen)
    };
    tokio::time::timeout(PATIENCE, watch).await.context("not all pods run")?
}

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    ensure!(words.len() > 1, "podstart KUBECONFIG [ONE_BY_ONE] [AT_ONCE]");
    let number = |at: usize, default| words.get(at).and_then(|w| w.parse().ok()).unwrap_or(default);
    let client = client(&words[1])?;
    let source = HttpSource::new(client.clone());
    let scope =
        Scope { namespace: Some("default".into()), labels: Some("app=podstart".into()), fields: None };
    let mut updates = source.subscribe(&PODS, scope);
    updates.next().await.context("no watch")?;
    let mut times = Vec::new();
    for n in 0..number(2, 20) {
        let name = format!("one-{n}");
        let start = Instant::now();
        client.create(&PODS, "default", &pod(&name)).await?;
        let mut story = vec![(Instant::now(), "answered".to_owned())];
        let took = running(&mut updates, vec![name.clone()], &mut story).await?[&name] - start;
        if took > SLOW {
            println!("{name} took {:.0} ms:", took.as_secs_f64() * 1000.0);
            for (at, what) in story {
                println!("  {:>6.0} ms  {what}", (at - start).as_secs_f64() * 1000.0);
            }
        }
        times.push(took);
        client.delete(&PODS, ("default", &name), &DeleteOptions::default()).await?;
    }
    times.sort();
    let at = |q: f64| times[(q * (times.len() - 1) as f64) as usize].as_secs_f64() * 1000.0;
    ensure!(!times.is_empty(), "at least one pod is to be started by itself");
    println!("one after the other: p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms", at(0.5), at(0.99), at(1.0));
    tokio::time::sleep(Duration::from_secs(3)).await;

    let names: Vec<String> = (0..number(3, 50)).map(|n| format!("many-{n}")).collect();
    let start = Instant::now();
    let creations = names.iter().map(|name| {
        let (client, object) = (client.clone(), pod(name));
        async move { client.create(&PODS, "default", &object).await.map(drop) }
    });
    for created in futures::future::join_all(creations).await {
        created?;
    }
    let created = start.elapsed();
    let seen = running(&mut updates, names.clone(), &mut Vec::new()).await?;
    let last = seen.values().max().context("no pods")?;
    println!(
        "{} at once: created after {:.2} s, all Running after {:.2} s",
        names.len(),
        created.as_secs_f64(),
        (*last - start).as_secs_f64()
    );
    for name in &names {
        client.delete(&PODS, ("default", name), &DeleteOptions::default()).await?;
    }
    Ok(())
}
