//! `carrack up`: control plane and node on this machine, in the foreground, or detached
//! with the first lines of progress passed on.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::args;
use crate::config::Config;
use crate::dirs::Dirs;
use crate::node::Node;
use crate::plane::{Options, Plane};
use crate::progress::Progress;
use crate::{example, process};

/// The line with which a detached process says that everything runs.
const READY: &str = "ready";

/// Starts the cluster; returns when it is told to stop, or, detached, once it runs.
///
/// # Errors
/// A part cannot start; the message says which and why.
pub fn run(up: args::Up) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "`carrack up` runs containers and needs root; try `sudo carrack up`, or `carrack server` without a node"
    );
    let dirs = Dirs::open(&up.at.data_dir)?;
    let config = up.settings.resolve(dirs.root())?;
    if up.detach {
        return detach(&dirs);
    }
    if up.report {
        nix::unistd::setsid().context("cannot leave the terminal's session")?;
    }
    process::log(&config.log)?;
    let held = dirs.hold()?;
    dirs.note_ranges(&[config.pod_cidr, config.service_cidr])?;
    process::runtime()?.block_on(async {
        let progress = Progress::new(Box::new(std::io::stdout()));
        let plane = Plane::start(&dirs, &config, &Options::default()).await?;
        progress.done("control plane ready", "");
        let node = Node::start(&dirs, &config, &plane).await?;
        node.ready(&plane).await?;
        progress.done(&format!("node {} ready", config.node_name), "");
        if let Some(args::Example::Hello) = up.example {
            let url = example::hello(&node, &plane).await?;
            progress.done("example \"hello\" answering", &url);
        }
        say_where(&progress, &dirs, &config);
        if up.report {
            progress.line(READY);
            let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
            nix::unistd::dup2_stdout(&nowhere)?;
        } else {
            progress.line(" Ctrl-C stops the control plane; containers go on until `carrack down`");
        }
        process::told_to_stop().await?;
        node.stop().await;
        plane.stop().await;
        drop(held);
        if !up.report {
            println!(" control plane stopped; containers go on: `carrack up` takes them over, `carrack down` stops them");
        }
        Ok(())
    })
}

fn say_where(progress: &Progress, dirs: &Dirs, _config: &Config) {
    progress.line(&format!(" export KUBECONFIG={}    then: kubectl get pods", dirs.kubeconfig().display()));
}

/// Runs the same command in the background and passes its progress on.
fn detach(dirs: &Dirs) -> Result<()> {
    let log = std::fs::File::options().create(true).append(true).open(dirs.log())?;
    let arguments = std::env::args_os().skip(1).filter(|word| word != "--detach");
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .arg("--report")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start the background process")?;
    let progress = child.stdout.take().context("piped above")?;
    for line in BufReader::new(progress).lines() {
        let line = line?;
        if line == READY {
            return Ok(());
        }
        println!("{line}");
        std::io::stdout().flush()?;
    }
    let status = child.wait()?;
    let log = std::fs::read_to_string(dirs.log()).unwrap_or_default();
    let last: Vec<&str> = log.lines().rev().take(5).collect();
    bail!(
        "the cluster did not start ({status}); the end of {}:\n  {}",
        dirs.log().display(),
        last.into_iter().rev().collect::<Vec<_>>().join("\n  ")
    )
}
