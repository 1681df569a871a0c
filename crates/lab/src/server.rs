//! One `carrack server` on the loopback: no node, no root; started, killed and started
//! again in a blink.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carrack_client::connect::connect;

use crate::{machine, paths, writes};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a data directory. Dropped, its process is killed.
pub struct Server {
    data: PathBuf,
    address: String,
    flags: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// A server that has not been started, on a port that is free now.
    ///
    /// # Errors
    /// There is no free port.
    pub fn new(data: &Path, flags: &[&str]) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Ok(Self { data: data.to_owned(), address: format!("127.0.0.1:{port}"), flags, process: None })
    }

    /// The log, which all its processes write.
    pub fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// Where the administrator's kubeconfig lies, once it has been started.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// A command of the binary on the data directory.
    ///
    /// # Errors
    /// The binary is not built.
    pub fn carrack(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(paths::carrack()?);
        command.args(arguments).arg("--data-dir").arg(&self.data);
        Ok(command)
    }

    /// Starts it; it answers when this returns. Returns how long that took.
    ///
    /// # Errors
    /// It ends, or does not answer.
    pub fn start(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = self.carrack(&["server", "--listen", &self.address])?;
        command.args(["--node-address", "127.0.0.1"]).args(&self.flags).stdin(Stdio::null());
        let mut child = command.stdout(log.try_clone()?).stderr(log).spawn().context("carrack server")?;
        let address: std::net::SocketAddr = self.address.parse()?;
        let answers = loop {
            if let Some(status) = child.try_wait()? {
                bail!("ended with {status}:\n{}", std::fs::read_to_string(self.log()).unwrap_or_default());
            }
            if std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                break Ok(());
            }
            if began.elapsed() > PATIENCE {
                break Err(anyhow::anyhow!("does not answer"));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        self.process = Some(child);
        answers.map(|()| began.elapsed())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// There is no process.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("is running")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("is running")?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(process.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        machine::until(PATIENCE, || process.try_wait()?.context("still runs"))?;
        Ok(())
    }

    /// The administrator's client. Inside a runtime only.
    ///
    /// # Errors
    /// The server has not been started yet.
    pub fn client(&self) -> Result<kube::Client> {
        let kubeconfig = std::fs::read_to_string(self.kubeconfig())?;
        let (endpoint, credentials) = writes::credentials(&kubeconfig)?;
        Ok(connect(&endpoint, &credentials)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
