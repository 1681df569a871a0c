//! A virtual machine: qemu with the disk, whose power can go at any moment. Its API is on
//! the loopback, and nothing leads out of it.
//!
//! The processor is emulated, which is slow and works everywhere.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use carrack_client::connect::connect;
use serde_json::Value;

use super::disk::{Cut, Disk};
use super::kernel::{self, Kernel};
use super::nbd;
use crate::plane::free_port;
use crate::writes;

const QEMU: &str = "qemu-system-x86_64";
/// How long a machine may take to serve. It is emulated, and others may use the processor.
const PATIENCE: Duration = Duration::from_secs(900);

/// How to boot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Boot {
    /// Look through the database before the server starts.
    pub check: bool,
    /// Use kubectl in the machine once the server runs.
    pub kubectl: bool,
    /// What the machine's clock says at the start, as qemu reads it
    /// (`2031-05-01T00:00:00`); `None`: the time.
    pub clock: Option<&'static str>,
}

/// A computer: kernel, disk, sockets. It is on while there is a [`Guest`].
pub struct Computer {
    kernel: Kernel,
    /// Its disk.
    pub disk: Arc<Disk>,
    dir: PathBuf,
    /// Ports of the loopback that lead to the API, and to the disk's files.
    ports: [u16; 2],
    boots: u32,
}

/// A running machine; dropped, its power is cut.
pub struct Guest {
    child: Child,
    console: PathBuf,
    ports: [u16; 2],
}

// === impl Computer ===

impl Computer {
    /// One with an empty disk; its files are put into `dir`.
    ///
    /// # Errors
    /// Programs or packages are missing.
    pub fn new(dir: &Path, kubectl: bool) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let disk = Arc::new(Disk::new(kernel::file_system(dir)?)?);
        nbd::serve(disk.clone(), &dir.join("disk"))?;
        let kernel = Kernel::get(dir, kubectl)?;
        Ok(Self { kernel, disk, dir: dir.to_owned(), ports: [free_port()?, free_port()?], boots: 0 })
    }

    /// Turns it on.
    ///
    /// # Errors
    /// There is no qemu.
    pub fn boot(&mut self, boot: Boot) -> Result<Guest> {
        self.boots += 1;
        let console = self.dir.join(format!("console-{}", self.boots));
        let mut command = Command::new(QEMU);
        command.args(
            "-nodefaults -display none -no-reboot -accel tcg -machine q35 -cpu max -smp 2 -m 1024".split(' '),
        );
        command.arg("-kernel").arg(&self.kernel.image).arg("-initrd").arg(&self.kernel.initramfs);
        let flags = [(boot.check, " lab.check"), (boot.kubectl, " lab.kubectl")];
        let flags: String = flags.into_iter().filter_map(|(set, flag)| set.then_some(flag)).collect();
        command.args([
            "-append",
            &format!("console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable{flags}"),
        ]);
        command.args(["-rtc", &format!("base={}", boot.clock.unwrap_or("utc"))]);
        let disk = self.dir.join("disk");
        let disk = format!("driver=nbd,node-name=disk,server.type=unix,server.path={}", disk.display());
        command.args(["-blockdev", &disk, "-device"]);
        // Flushes are the guest's to send, as with any disk that has a cache.
        command
            .arg("virtio-blk-pci,drive=disk,write-cache=on,logical_block_size=4096,physical_block_size=4096");
        let [api, files] = self.ports;
        let forward = |host: u16, guest: u16| format!("hostfwd=tcp:127.0.0.1:{host}-10.0.2.15:{guest}");
        let net = format!("user,id=net,restrict=on,{},{}", forward(api, 6443), forward(files, 8000));
        command.args(["-netdev", &net, "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        let log = std::fs::File::create(self.dir.join("qemu.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn();
        let child = child
            .with_context(|| format!("cannot run {QEMU}; `apt-get install qemu-system-x86` brings it"))?;
        Ok(Guest { child, console, ports: self.ports })
    }

    /// Waits for the cut that the disk was told of, at most `limit`; then everything in the
    /// machine is gone, and `seed` decides what of the disk's cache.
    ///
    /// # Errors
    /// The machine had ended before.
    pub fn cut(&self, mut guest: Guest, limit: Duration, seed: &mut u64) -> Result<Cut> {
        self.disk.wait_for_cut(limit);
        guest.check()?;
        drop(guest);
        Ok(self.disk.settle(seed))
    }
}

// === impl Guest ===

impl Guest {
    /// What its console shows.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Whether it runs and nothing is broken.
    ///
    /// # Errors
    /// It does not: what it said.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("qemu ended with {status}:\n{}", self.said());
        }
        ensure!(!self.said().contains("LAB broken"), "{}", self.said());
        Ok(())
    }

    /// Waits until its console shows a text.
    ///
    /// # Errors
    /// It does not in time, or something is broken.
    pub fn wait_until_said(&mut self, text: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let said = self.said();
            if said.contains(text) {
                return Ok(said);
            }
            ensure!(begun.elapsed() < PATIENCE, "{text:?} was not said within {PATIENCE:?}:\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The administrator's client, from the kubeconfig on its disk.
    ///
    /// # Errors
    /// There is none yet.
    pub fn client(&self) -> Result<kube::Client> {
        let (mut endpoint, credentials) = writes::credentials(&self.file("carrack/kubeconfig")?)?;
        endpoint.address = ([127, 0, 0, 1], self.ports[0]).into();
        endpoint.server_name = "127.0.0.1".to_owned();
        Ok(connect(&endpoint, &credentials)?)
    }

    /// A file of its disk.
    ///
    /// # Errors
    /// There is none, or the machine is not up.
    pub fn file(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[1]))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET /{path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "{path}: {head}");
        Ok(body.to_owned())
    }

    /// Waits until the server is ready. Returns the administrator's client.
    ///
    /// # Errors
    /// It ends, or does not serve in time: what it said.
    pub async fn ready(&mut self) -> Result<kube::Client> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let failed = match self.client() {
                Ok(client) => match writes::send(&client, "GET", "/readyz", &Value::Null).await {
                    Some((200, _)) => return Ok(client),
                    other => format!("{other:?}"),
                },
                Err(error) => format!("{error:#}"),
            };
            ensure!(begun.elapsed() < PATIENCE, "not ready within {PATIENCE:?}: {failed}\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
