//! A control plane on the loopback, without a machine of its own: for programs that
//! only talk to the API.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::machine::{run, until};
use crate::paths;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running `carrack server`; it ends with this.
pub struct Plane {
    server: Started,
    dir: TempDir,
}

/// A program that ends when this is dropped.
pub struct Started {
    child: Child,
    log: PathBuf,
}

// === impl Started ===

impl Started {
    /// Starts a program whose output goes to a file.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn new(mut command: Command, log: &Path) -> Result<Self> {
        let said = format!("cannot start {command:?}");
        let file = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Self { child: command.spawn().context(said)?, log: log.to_owned() })
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It has ended: what it said.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended with {status}:\n{}", self.log.display(), self.said()),
            None => Ok(()),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on now.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

// === impl Plane ===

impl Plane {
    /// Starts one; returns once it is ready.
    ///
    /// # Errors
    /// It does not come up: the error holds what it said.
    pub fn start(flags: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(paths::carrack()?);
        command.arg("server").arg("--data-dir").arg(dir.path().join("data"));
        command.args(["--listen", &format!("127.0.0.1:{}", free_port()?)]).args(flags);
        let server = Started::new(command, &dir.path().join("carrack.log"))?;
        let mut plane = Self { server, dir };
        until(Duration::from_secs(60), || {
            plane.server.check()?;
            let mut ready = plane.kubectl(&["get", "--raw", "/readyz"])?;
            ready.arg("--request-timeout=2s");
            run(ready, PATIENCE)
        })?;
        Ok(plane)
    }

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("data/kubeconfig")
    }

    /// A directory that goes with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// An upstream program as the administrator.
    ///
    /// # Errors
    /// It has not been built.
    pub fn program(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(paths::upstream(name)?);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.dir()).current_dir(self.dir());
        Ok(command)
    }

    /// A kubectl command.
    ///
    /// # Errors
    /// It has not been built.
    pub fn kubectl(&self, words: &[&str]) -> Result<Command> {
        let mut command = self.program("kubectl")?;
        command.args(words);
        Ok(command)
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    ///
    /// # Errors
    /// It fails: the error holds what it said.
    pub fn k(&self, words: &[&str]) -> Result<String> {
        run(self.kubectl(words)?, PATIENCE)
    }

    /// Applies manifests given as text.
    ///
    /// # Errors
    /// As [`k`](Self::k).
    pub fn apply(&self, manifests: &str) -> Result<String> {
        let path = self.dir().join("apply.yaml");
        std::fs::write(&path, manifests)?;
        self.k(&["apply", "-f", &path.display().to_string()])
    }
}
