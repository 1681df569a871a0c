//! One container in its shim: launching its first process, moving its output into the
//! log and to attached clients, recording its end.
//!
//! What always holds: an end is on disk (`exit.json`) before anyone is told of it; all
//! output that was written before it is in the log by then.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::bundle::{self, CgroupJoin, Launch, oci::Config};
use crate::cgroup;
use crate::shim::failure::{Failure, Step};
use crate::shim::log::LogWriter;
use crate::shim::program::{Child, Stdio};
use crate::sys::{self, Cloned};
use crate::traits::ExitStatus;

/// A started container.
pub struct Container {
    /// Directory of its bundle.
    pub bundle: PathBuf,
    /// First process.
    pub pid: i32,
    /// The same, safe against reuse of the number.
    pub pidfd: OwnedFd,
    /// When its program was executed (or its process made, before that).
    pub started_at: Timestamp,
    /// Set when it has ended.
    pub exit: Option<ExitStatus>,
    /// Reading ends of its output (stdout or the terminal, stderr).
    pub output: [Option<OwnedFd>; 2],
    /// Writing end of its input: a pipe, or the terminal.
    pub input: Option<OwnedFd>,
    /// Input that the container has not taken yet.
    pub unwritten: Vec<u8>,
    /// Clients that see the streams.
    pub attached: Vec<Attached>,
    /// It has a terminal.
    pub terminal: bool,
    log: LogWriter,
    stdin_once: bool,
    cgroup: CgroupJoin,
    /// Its processes end with the first one by themselves.
    own_pid_namespace: bool,
}

/// A client of the streams.
pub struct Attached {
    /// Connection that asked.
    pub connection: u64,
    /// Where its input comes from.
    pub stdin: Option<OwnedFd>,
    /// Where the two streams go.
    pub output: [Option<OwnedFd>; 2],
}

/// What launching needs from the pod.
pub struct Pod<'a> {
    /// The pod's `/dev/shm`.
    pub shm: &'a OwnedFd,
}

impl Container {
    /// Makes the process. Answers with the channel on which it reports: it closes when the
    /// program has been executed.
    pub fn launch(bundle: &Path, pod: &Pod<'_>) -> Result<(Self, OwnedFd), Failure> {
        let config: Config = bundle::read_json(&bundle.join(bundle::CONFIG))?;
        let launch: Launch = bundle::read_json(&bundle.join(bundle::LAUNCH))?;
        let log = LogWriter::open(&launch.log_path, launch.log_max_bytes, launch.log_max_files)
            .step(|| format!("open log {}", launch.log_path.display()))?;
        let (ours, theirs) = channel()?;
        let mut pipes = Pipes::default();
        let stdio = if config.process.terminal { Stdio::Terminal(0, 0) } else { pipes.open(launch.stdin)? };
        let own_pid_namespace = config.linux.namespaces.iter().any(|n| n.kind == "pid");
        let mut flags = libc::CLONE_NEWNS;
        if own_pid_namespace {
            flags |= libc::CLONE_NEWPID;
        }
        let group = open_group(&launch.cgroup)?;
        match sys::clone3(flags, group.as_ref().map(|g| g.as_fd())).step(|| "make a process".to_owned())? {
            Cloned::Child => {
                let process = &config.process;
                let child = Child { config: &config, launch: &launch, process, channel: &theirs };
                child.run_first(bundle, pod.shm, stdio)
            }
            Cloned::Parent(pid, pidfd) => {
                let container = Self {
                    bundle: bundle.to_path_buf(),
                    pid,
                    pidfd,
                    started_at: Timestamp::now(),
                    exit: None,
                    output: pipes.output,
                    input: pipes.input,
                    unwritten: Vec::new(),
                    attached: Vec::new(),
                    terminal: config.process.terminal,
                    log,
                    stdin_once: launch.stdin_once,
                    cgroup: launch.cgroup,
                    own_pid_namespace,
                };
                Ok((container, ours))
            }
        }
    }

    /// Runs a command in the container; answers with its process and the channel.
    pub fn launch_further(
        &self,
        args: Vec<String>,
        stdio: Stdio,
        own_namespace: &OwnedFd,
    ) -> Result<(i32, OwnedFd, OwnedFd), Failure> {
        let config: Config = bundle::read_json(&self.bundle.join(bundle::CONFIG))?;
        let launch: Launch = bundle::read_json(&self.bundle.join(bundle::LAUNCH))?;
        let mut process = config.process.clone();
        process.args = args;
        process.terminal = matches!(stdio, Stdio::Terminal(..));
        if process.terminal && !process.env.iter().any(|e| e.starts_with("TERM=")) {
            process.env.push("TERM=xterm".to_owned());
        }
        let (ours, theirs) = channel()?;
        let group = open_group(&launch.cgroup)?;
        let enter = nix::sched::CloneFlags::CLONE_NEWPID;
        if self.own_pid_namespace {
            // Holds for children made from now on, not for this process.
            nix::sched::setns(&self.pidfd, enter).step(|| "enter the container".to_owned())?;
        }
        let cloned = sys::clone3(0, group.as_ref().map(|g| g.as_fd()));
        if let Ok(Cloned::Child) = cloned {
            let child = Child { config: &config, launch: &launch, process: &process, channel: &theirs };
            child.run_further(self.pidfd.as_fd(), stdio)
        }
        if self.own_pid_namespace {
            nix::sched::setns(own_namespace, enter).step(|| "leave the container".to_owned())?;
        }
        match cloned.step(|| "make a process".to_owned())? {
            Cloned::Parent(pid, pidfd) => Ok((pid, pidfd, ours)),
            Cloned::Child => unreachable!("the child does not return"),
        }
    }

    /// The container made a terminal; this is its master.
    pub fn set_terminal(&mut self, master: OwnedFd) -> nix::Result<()> {
        set_nonblocking(&master)?;
        self.input = master.try_clone().ok();
        self.output = [Some(master), None];
        Ok(())
    }

    /// Moves what there is of one stream; closes it at its end.
    pub fn pump_output(&mut self, stream: usize, buffer: &mut [u8]) {
        let Some(from) = &self.output[stream] else {
            return;
        };
        loop {
            match nix::unistd::read(from, buffer) {
                Ok(0) => break,
                Ok(n) => {
                    self.log.write(stream, &buffer[..n], Timestamp::now());
                    send_to(&mut self.attached, stream, &buffer[..n]);
                    if n < buffer.len() {
                        return;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                // A terminal whose last user has gone says EIO.
                Err(_) => break,
            }
        }
        self.log.finish(stream, Timestamp::now());
        self.output[stream] = None;
    }

    /// Moves input of attached clients to the container, as far as it takes it.
    pub fn pump_input(&mut self, buffer: &mut [u8]) {
        let mut ended = false;
        if self.unwritten.is_empty() {
            for client in &mut self.attached {
                let Some(from) = &client.stdin else { continue };
                match nix::unistd::read(from, buffer) {
                    Ok(0) => {
                        client.stdin = None;
                        ended = true;
                    }
                    Ok(n) => {
                        self.unwritten.extend_from_slice(&buffer[..n]);
                        break;
                    }
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(_) => client.stdin = None,
                }
            }
        }
        if let (false, Some(to)) = (self.unwritten.is_empty(), &self.input) {
            match nix::unistd::write(to, &self.unwritten) {
                Ok(n) => drop(self.unwritten.drain(..n)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => {
                    self.input = None;
                    self.unwritten = Vec::new();
                }
            }
        }
        if ended && self.stdin_once && !self.terminal && self.unwritten.is_empty() {
            self.input = None;
        }
    }

    /// Sends a signal; SIGKILL goes to every process of the container.
    pub fn signal(&self, signal: i32) -> nix::Result<()> {
        sys::pidfd_send_signal(self.pidfd.as_fd(), signal)
    }

    /// Records the end of the first process.
    pub fn ended(&mut self, exit_code: i32, signal: i32, buffer: &mut [u8]) -> ExitStatus {
        if !self.own_pid_namespace
            && let Some(dir) = self.cgroup.any_dir()
        {
            let _ = cgroup::kill_all(dir);
        }
        for stream in 0..2 {
            self.pump_output(stream, buffer);
            if self.output[stream].take().is_some() {
                self.log.finish(stream, Timestamp::now());
            }
        }
        let oom = self.cgroup.oom_events.as_ref().is_some_and(|path| {
            let mut text = String::new();
            fs::File::open(path).and_then(|mut f| f.read_to_string(&mut text)).is_ok()
                && cgroup::plan::oom_kills(&text) > 0
        });
        let reason = match exit_code {
            0 => "Completed",
            _ if oom => "OOMKilled",
            _ => "Error",
        };
        let exit = ExitStatus {
            exit_code,
            signal,
            started_at: Some(self.started_at),
            finished_at: Timestamp::now(),
            reason: reason.to_owned(),
            message: String::new(),
        };
        self.record(exit)
    }

    /// Records that the program could not be executed.
    pub fn failed_to_start(&mut self, message: &str) -> ExitStatus {
        let exit = ExitStatus {
            exit_code: 128,
            signal: 0,
            started_at: None,
            finished_at: Timestamp::now(),
            reason: "StartError".to_owned(),
            message: message.to_owned(),
        };
        self.record(exit)
    }

    fn record(&mut self, exit: ExitStatus) -> ExitStatus {
        if let Err(e) = bundle::write_json(&self.bundle.join(bundle::EXIT), &exit) {
            eprintln!("{e}");
        }
        self.exit = Some(exit.clone());
        self.attached = Vec::new();
        self.input = None;
        self.unwritten = Vec::new();
        exit
    }
}

/// Passes output on; a client that does not keep up with a full pipe is cut off, so that
/// it cannot stall the container.
fn send_to(attached: &mut Vec<Attached>, stream: usize, bytes: &[u8]) {
    attached.retain(|client| {
        let Some(to) = &client.output[stream] else {
            return true;
        };
        matches!(nix::unistd::write(to, bytes), Ok(n) if n == bytes.len())
    });
}

fn open_group(groups: &CgroupJoin) -> Result<Option<fs::File>, Failure> {
    let open = |dir: &PathBuf| fs::File::open(dir).step(|| format!("open control group {}", dir.display()));
    groups.v2.as_ref().map(open).transpose()
}

/// A pair of sockets on which each message arrives whole.
fn channel() -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).step(|| "make a channel".to_owned())
}

/// The shim's ends of a container's streams.
#[derive(Default)]
struct Pipes {
    output: [Option<OwnedFd>; 2],
    input: Option<OwnedFd>,
}

impl Pipes {
    /// Answers with the container's ends.
    fn open(&mut self, stdin: bool) -> Result<Stdio, Failure> {
        let step = || "make pipes".to_owned();
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).step(step);
        let input = if stdin {
            let (theirs, ours) = pipe()?;
            set_nonblocking(&ours).step(step)?;
            self.input = Some(ours);
            theirs
        } else {
            OwnedFd::from(fs::File::open("/dev/null").step(|| "open /dev/null".to_owned())?)
        };
        let output = || -> Result<(OwnedFd, OwnedFd), Failure> {
            let (ours, theirs) = pipe()?;
            set_nonblocking(&ours).step(step)?;
            Ok((ours, theirs))
        };
        let (stdout, stdout_theirs) = output()?;
        let (stderr, stderr_theirs) = output()?;
        self.output = [Some(stdout), Some(stderr)];
        Ok(Stdio::Streams([input, stdout_theirs, stderr_theirs]))
    }
}

/// Reads and writes on it do not wait.
pub fn set_nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    debug_assert!(fd.as_raw_fd() > 2, "standard streams belong to the program");
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
