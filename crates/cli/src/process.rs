//! What every long-running command shares: threads, logging, signals.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Worker threads. More than a small machine has cores: while caches of a large cluster
/// fill, the kernel still lets someone answer. No more than a few: the work is short.
const WORKERS: std::ops::RangeInclusive<usize> = 4..=8;

/// The runtime that everything runs on.
///
/// # Errors
/// The kernel gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(*WORKERS.start(), *WORKERS.end()))
        .thread_name("carrack")
        .enable_all()
        .build()
        .context("cannot start threads")
}

/// Lets this process have as many files, and so connections, open as it may at all. Programs
/// of containers would inherit that, so only a control plane on its own does it.
pub fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Logs to standard error by a filter such as `info` or `warn,carrack_server=debug`.
///
/// # Errors
/// The filter cannot be read.
pub fn log(filter: &str) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("{filter:?} is not a log filter such as info or carrack_server=debug"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot log: {error}"))
}

/// Resolves at the first SIGINT or SIGTERM.
///
/// # Errors
/// Signals cannot be handled.
pub async fn told_to_stop() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
