//! `make scale`: thousands of simulated nodes and a hundred thousand pods on this machine,
//! then pods coming and going; prints what it cost and how long answers took.

use std::time::Duration;

use anyhow::{Context, Result};
use carrack_lab::scale::{self, Size, report};

fn setting(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().with_context(|| format!("{name}={text:?} is not a number"))
        }
        _ => Ok(default),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let seconds = |name, default| Ok::<_, anyhow::Error>(Duration::from_secs(setting(name, default)? as u64));
    let size = Size {
        nodes: setting("NODES", 5000)?,
        pods: setting("PODS", 100_000)?,
        replicas: setting("REPLICAS", 100)?,
        churn: seconds("CHURN", 300)?,
        rate: u32::try_from(setting("RATE", 50)?)?,
        idle: seconds("IDLE", 30)?,
    };
    let outcome = scale::run(&size).await?;
    println!("\n{}", report::table(&outcome));
    Ok(())
}
