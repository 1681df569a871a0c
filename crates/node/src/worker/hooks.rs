//! postStart and preStop hooks.

use std::time::Duration;

use carrack_runtime::ContainerId;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use super::actions::Run;
use super::probes;

/// Runs the postStart hook; a container whose hook fails is killed.
pub(super) async fn post_start(run: &Run, container: &Container, id: &ContainerId) {
    let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else { return };
    let Err(error) = handle(run, container, id, hook, Duration::ZERO).await else { return };
    tracing::info!(%error, pod = %run.uid, container = container.name, "postStart hook failed");
    run.warning(Some(&container.name), "FailedPostStartHook", "PostStartHook failed");
    run.normal(Some(&container.name), "Killing", "FailedPostStartHook");
    let seconds = run.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
    let grace = Duration::from_secs(seconds.try_into().unwrap_or(0));
    if let Err(error) = run.shared.runtime.stop_container(id, grace, None).await {
        tracing::warn!(%error, pod = %run.uid, "container not stopped after its hook failed");
    }
}

/// Runs the preStop hook for at most `grace`; its failure only makes an event.
pub(super) async fn pre_stop(run: &Run, container: &Container, id: &ContainerId, grace: Duration) {
    let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else { return };
    match tokio::time::timeout(grace, handle(run, container, id, hook, grace)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::info!(%error, pod = %run.uid, container = container.name, "preStop hook failed");
            run.warning(Some(&container.name), "FailedPreStopHook", "PreStopHook failed");
        }
        Err(_) => {
            tracing::info!(pod = %run.uid, container = container.name, "preStop hook took the whole grace period");
        }
    }
}

async fn handle(
    run: &Run,
    container: &Container,
    id: &ContainerId,
    hook: &LifecycleHandler,
    timeout: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let output = run.shared.runtime.exec_sync(id, command, timeout).await;
        let output = output.map_err(|error| error.to_string())?;
        return match output.exit_code {
            0 => Ok(()),
            code => Err(format!("command exited with {code}")),
        };
    }
    if let Some(get) = &hook.http_get {
        // Any answer counts but a failure's.
        return probes::http(run, container, get, Duration::from_secs(30)).await.map(drop);
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = sleep.seconds.try_into().unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err("invalid handler".to_owned())
}
