//! The example "hello": its image is made of this very binary, its manifests ship in
//! it, so that it works offline.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use carrack_api::Value;
use carrack_client::resource::{DEPLOYMENTS, SERVICES};
use carrack_client::{Client, Identity, Patch, Resource, Scope, Update};
use carrack_runtime::ImageConfig;
use carrack_runtime::image::build::{BuildFile, oci_archive};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::Node;
use crate::plane::Plane;

const MANIFESTS: &str = include_str!("../../../examples/hello/hello.yaml");
const IMAGE: &str = "carrack.local/hello:1";
const NAMESPACE: &str = "default";
const ADDRESS: &str = "127.0.0.1:30080";
/// How long the example may take before `up` says that something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// Deploys the example and waits until it answers; returns where.
///
/// # Errors
/// It does not answer in time, or something refuses it.
pub async fn hello(node: &Node, plane: &Plane) -> Result<String> {
    import(node).await.context("cannot make the example's image")?;
    let client = plane.client(&Identity::user("carrack", &["system:masters"]));
    for manifest in MANIFESTS.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(manifest).context("the example's manifest")?;
        apply(&client, &object).await?;
    }
    let answer = async {
        available(plane).await;
        while greeting().await.is_err() {
            // Its rules may be a moment behind its status.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.with_context(|| {
        format!("the example does not answer after {PATIENCE:?}; `kubectl describe pods` says why")
    })?;
    Ok(format!("http://{ADDRESS}"))
}

/// Makes the image of this binary unless it is there.
async fn import(node: &Node) -> Result<()> {
    let program = std::fs::read("/proc/self/exe")?;
    let files = [BuildFile { path: "/carrack".into(), content: program, mode: 0o755 }];
    let config = ImageConfig {
        entrypoint: vec!["/carrack".into(), "hello".into()],
        user: "65534".into(),
        exposed_ports: vec!["8080/tcp".into()],
        ..ImageConfig::default()
    };
    let archive = node.scratch().join("hello.tar");
    oci_archive(IMAGE, &files, &config, std::fs::File::create(&archive)?)?;
    let imported = node.runtime().import_image(&archive).await;
    std::fs::remove_file(&archive)?;
    imported?;
    Ok(())
}

async fn apply(client: &Client, object: &Value) -> Result<()> {
    let resource = resource(object)?;
    let name = object["metadata"]["name"].as_str().context("a manifest without a name")?;
    match client.create(resource, NAMESPACE, object).await {
        Err(error) if error.is_already_exists() => {
            client.patch(resource, (NAMESPACE, name), "", &Patch::Merge(object.clone())).await?;
            Ok(())
        }
        created => Ok(created.map(drop)?),
    }
}

fn resource(object: &Value) -> Result<&'static Resource> {
    match object["kind"].as_str() {
        Some("Deployment") => Ok(&DEPLOYMENTS),
        Some("Service") => Ok(&SERVICES),
        other => bail!("the example has a {other:?}, which `up` does not know"),
    }
}

/// Waits until the Deployment has an available replica.
async fn available(plane: &Plane) {
    let scope = Scope {
        namespace: Some(NAMESPACE.into()),
        fields: Some("metadata.name=hello".into()),
        ..Scope::default()
    };
    let mut updates = plane.source().subscribe(&DEPLOYMENTS, scope);
    while let Some(update) = updates.next().await {
        let record = match update {
            Update::Changed { record, .. } => Some(record),
            Update::Reset { records, .. } => records.into_iter().next(),
            Update::Deleted { .. } | Update::Progress(_) => None,
        };
        let ready = |object: Value| object["status"]["availableReplicas"].as_i64().unwrap_or(0) > 0;
        if record.is_some_and(|record| ready(record.decode())) {
            return;
        }
    }
}

/// Asks once, as a browser on this machine would.
async fn greeting() -> Result<()> {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(ADDRESS).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { bail!("answered {answer:?}") }
    };
    tokio::time::timeout(Duration::from_secs(2), ask).await?
}
