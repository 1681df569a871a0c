//! A whole cluster in a machine: `carrack up`, and kubectl against it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::machine::{Machine, output, run, until};
use crate::paths;

/// How long anything in a cluster may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster whose control plane runs in the foreground of the machine.
pub struct Cluster {
    /// Where it runs.
    pub machine: Machine,
    data: PathBuf,
    up: Option<Child>,
}

impl Cluster {
    /// Starts a machine and a cluster in it; returns once the API answers.
    ///
    /// # Errors
    /// It does not come up: the error holds its log.
    pub fn start(flags: &[&str]) -> Result<Self> {
        let machine = Machine::start()?;
        let data = machine.dir().join("data");
        let mut cluster = Self { machine, data, up: None };
        cluster.up(flags)?;
        Ok(cluster)
    }

    /// Runs `carrack up` (again).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn up(&mut self, flags: &[&str]) -> Result<()> {
        self.begin(flags)?;
        until(PATIENCE, || {
            if let Some(status) = self.up.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("carrack up ended with {status}:\n{}", self.said());
            }
            let mut ready = self.kubectl(&["get", "--raw", "/readyz"])?;
            ready.arg("--request-timeout=2s");
            run(ready, PATIENCE)
        })
        .map(drop)
        .with_context(|| self.said())
    }

    /// Runs `carrack up` and does not wait for it.
    ///
    /// # Errors
    /// The binary has not been built.
    pub fn begin(&mut self, flags: &[&str]) -> Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.log())?;
        let mut command = self.carrack("up")?;
        command.args(["--node-name", "lab"]).args(flags);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.up = Some(command.spawn().context("cannot start carrack")?);
        Ok(())
    }

    /// Kills the control plane and the agent, and nothing else, without warning.
    ///
    /// # Errors
    /// The process cannot be found.
    pub fn kill(&mut self) -> Result<()> {
        let pid = std::fs::read_to_string(self.data.join("carrack.pid"))?;
        let mut kill = self.machine.busybox("kill")?;
        kill.args(["-9", pid.trim()]);
        run(kill, PATIENCE)?;
        if let Some(mut up) = self.up.take() {
            up.wait()?;
        }
        Ok(())
    }

    /// A carrack command on the cluster's data directory.
    ///
    /// # Errors
    /// The binary has not been built.
    pub fn carrack(&self, subcommand: &str) -> Result<Command> {
        let mut command = self.machine.command(paths::carrack()?);
        command.arg(subcommand).arg("--data-dir").arg(&self.data);
        Ok(command)
    }

    /// A kubectl command as the administrator.
    ///
    /// # Errors
    /// kubectl has not been built.
    pub fn kubectl(&self, words: &[&str]) -> Result<Command> {
        let mut command = self.machine.command(paths::upstream("kubectl")?);
        command.env("KUBECONFIG", self.data.join("kubeconfig"));
        command.env("HOME", self.machine.dir());
        command.args(words);
        Ok(command)
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    ///
    /// # Errors
    /// It fails: the error holds what it said.
    pub fn k(&self, words: &[&str]) -> Result<String> {
        run(self.kubectl(words)?, PATIENCE * 2)
    }

    /// Runs kubectl and returns exit code, output and error output, whatever they are.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn try_k(&self, words: &[&str]) -> Result<(i32, String, String)> {
        let output = output(self.kubectl(words)?, PATIENCE * 2)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }

    /// Applies manifests given as text.
    ///
    /// # Errors
    /// As [`k`](Self::k).
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let path = self.machine.dir().join("apply.yaml");
        std::fs::write(&path, manifests)?;
        self.k(&["apply", "-f", &path.display().to_string()])
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What the cluster has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.machine.dir().join("carrack.log")
    }
}
