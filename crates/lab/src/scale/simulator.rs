//! The simulator: `carrack agent` in a process of its own.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::paths;
use crate::server::Server;

/// Simulated nodes in a process of their own. Dropped, it ends.
pub struct Simulator(Child);

impl Simulator {
    /// Starts `carrack agent --simulate`.
    ///
    /// # Errors
    /// The binary is not built.
    pub fn start(server: &Server, nodes: usize, log: &Path) -> Result<Self> {
        let log = File::create(log)?;
        let mut command = Command::new(paths::carrack()?);
        command.arg("agent").arg("--kubeconfig").arg(server.kubeconfig());
        command.args(["--simulate", &nodes.to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().context("carrack agent")?))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
