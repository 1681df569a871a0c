//! The shim's loop: waits for clients, output and ended children, and does what they ask.
//!
//! What always holds: one thread, one `poll` without a timeout, so an idle pod costs no
//! wake-ups; nothing in the loop waits for a client or a container. A child that is being
//! launched reports on a channel of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::shim::connection::{Closed, Connection};
use crate::shim::container::{Attached, Container, Pod, set_nonblocking};
use crate::shim::program::{FAILURE, Stdio, TERMINAL};
use crate::shim::protocol::{Answer, ContainerReport, Event, Message, Op, Request, negotiate};
use crate::sys;
use crate::traits::TerminalSize;

/// Bytes moved at once.
const BUFFER: usize = 16 * 1024;
/// Input of attached clients that may wait for a container.
const MAX_UNWRITTEN: usize = 64 * 1024;

/// All that a shim holds.
pub struct Server {
    /// Directory of the sandbox.
    pub dir: PathBuf,
    /// The pod's `/dev/shm`.
    pub shm: OwnedFd,
    /// The shim's own process namespace.
    pub pid_namespace: OwnedFd,
    /// Says when children have ended.
    pub signals: SignalFd,
    /// Where clients connect.
    pub listener: OwnedFd,
    connections: BTreeMap<u64, Connection>,
    containers: BTreeMap<String, Container>,
    commands: BTreeMap<i32, Command>,
    launching: Vec<Launching>,
    stopping: Vec<(u64, u64)>,
    next: u64,
    buffer: Vec<u8>,
}

/// A command run in a container.
struct Command {
    connection: u64,
    pidfd: OwnedFd,
}

/// A child that has not executed its program yet.
struct Launching {
    channel: OwnedFd,
    pid: i32,
    /// None for a command.
    container: Option<String>,
    connection: u64,
    request: u64,
    terminal: Option<OwnedFd>,
}

/// What a descriptor in the poll set stands for.
enum Token {
    Signals,
    Listener,
    Connection(u64),
    Channel(i32),
    Output(String, usize),
    Input(String),
}

impl Server {
    /// Takes over what the set-up has made.
    pub fn new(
        dir: PathBuf,
        shm: OwnedFd,
        pid_namespace: OwnedFd,
        signals: SignalFd,
        listener: OwnedFd,
        first_client: Option<OwnedFd>,
    ) -> Self {
        let mut server = Self {
            dir,
            shm,
            pid_namespace,
            signals,
            listener,
            connections: BTreeMap::new(),
            containers: BTreeMap::new(),
            commands: BTreeMap::new(),
            launching: Vec::new(),
            stopping: Vec::new(),
            next: 0,
            buffer: vec![0; BUFFER],
        };
        if let Some(socket) = first_client {
            server.add_connection(socket);
        }
        server
    }

    /// Runs until told to shut down.
    pub fn run(mut self) {
        loop {
            for (token, events) in self.wait() {
                match token {
                    Token::Signals => {
                        let _ = self.signals.read_signal();
                        self.reap();
                    }
                    Token::Listener => self.accept(),
                    Token::Connection(id) => {
                        if self.serve(id, events) {
                            return;
                        }
                    }
                    Token::Channel(pid) => self.hear_child(pid),
                    Token::Output(id, stream) => {
                        if let Some(container) = self.containers.get_mut(&id) {
                            container.pump_output(stream, &mut self.buffer);
                        }
                    }
                    Token::Input(id) => {
                        if let Some(container) = self.containers.get_mut(&id) {
                            container.pump_input(&mut self.buffer);
                        }
                    }
                }
            }
        }
    }

    fn wait(&self) -> Vec<(Token, PollFlags)> {
        let read = PollFlags::POLLIN;
        let mut set = vec![
            (Token::Signals, PollFd::new(self.signals.as_fd(), read)),
            (Token::Listener, PollFd::new(self.listener.as_fd(), read)),
        ];
        for (id, connection) in &self.connections {
            let mut flags = read;
            flags.set(PollFlags::POLLOUT, connection.is_waiting());
            set.push((Token::Connection(*id), PollFd::new(connection.socket.as_fd(), flags)));
        }
        for child in &self.launching {
            set.push((Token::Channel(child.pid), PollFd::new(child.channel.as_fd(), read)));
        }
        for (id, container) in &self.containers {
            for (stream, fd) in container.output.iter().enumerate() {
                if let Some(fd) = fd {
                    set.push((Token::Output(id.clone(), stream), PollFd::new(fd.as_fd(), read)));
                }
            }
            if container.unwritten.is_empty() {
                for fd in container.attached.iter().filter_map(|a| a.stdin.as_ref()) {
                    set.push((Token::Input(id.clone()), PollFd::new(fd.as_fd(), read)));
                }
            } else if let Some(fd) = &container.input {
                let write = PollFlags::POLLOUT;
                set.push((Token::Input(id.clone()), PollFd::new(fd.as_fd(), write)));
            }
        }
        let (mut tokens, mut fds): (Vec<Token>, Vec<PollFd<'_>>) = set.into_iter().unzip();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => eprintln!("poll: {e}"),
        }
        let ready = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        tokens.drain(..).zip(ready).filter(|(_, events)| !events.is_empty()).collect()
    }

    fn add_connection(&mut self, socket: OwnedFd) {
        self.next += 1;
        self.connections.insert(self.next, Connection::new(socket));
    }

    fn accept(&mut self) {
        let flags = nix::sys::socket::SockFlag::SOCK_CLOEXEC;
        use std::os::fd::AsRawFd;
        if let Ok(number) = nix::sys::socket::accept4(self.listener.as_raw_fd(), flags) {
            self.add_connection(sys::own(number));
        }
    }

    /// Answers true when the shim is to end.
    fn serve(&mut self, id: u64, events: PollFlags) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let mut state = Ok(());
        if events.contains(PollFlags::POLLOUT) {
            state = connection.flush();
        }
        if state.is_ok() && events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            state = connection.read(&mut self.buffer);
        }
        loop {
            let Some(connection) = self.connections.get_mut(&id) else {
                return false;
            };
            match connection.next() {
                Ok(Some(request)) if request.op == Op::Shutdown && connection.greeted => {
                    self.reply(id, request.id, Answer::Done, Vec::new());
                    return true;
                }
                Ok(Some(request)) => self.handle(id, request),
                Ok(None) => break,
                Err(Closed) => {
                    state = Err(Closed);
                    break;
                }
            }
        }
        if state == Err(Closed) {
            self.close(id);
        }
        false
    }

    /// What a client asked for ends with it.
    fn close(&mut self, id: u64) {
        self.connections.remove(&id);
        for command in self.commands.values().filter(|c| c.connection == id) {
            let _ = sys::pidfd_send_signal(command.pidfd.as_fd(), libc::SIGKILL);
        }
        for container in self.containers.values_mut() {
            container.attached.retain(|a| a.connection != id);
        }
        self.stopping.retain(|(connection, _)| *connection != id);
    }

    fn reply(&mut self, connection: u64, id: u64, answer: Answer, descriptors: Vec<OwnedFd>) {
        self.send(connection, &Message::Reply { id, answer }, descriptors);
    }

    fn send(&mut self, id: u64, message: &Message, descriptors: Vec<OwnedFd>) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.send(message, descriptors) == Err(Closed)
        {
            self.close(id);
        }
    }

    fn handle(&mut self, id: u64, request: Request) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if let Op::Hello { versions } = &request.op {
            match negotiate(versions) {
                Some(version) => {
                    connection.greeted = true;
                    let pid = std::process::id() as i32;
                    self.reply(id, request.id, Answer::Hello { version, pid }, Vec::new());
                }
                None => self.close(id),
            }
            return;
        }
        if !connection.greeted {
            return self.close(id);
        }
        let answer = match request.op {
            Op::Hello { .. } | Op::Shutdown => return,
            Op::Watch => {
                connection.watching = true;
                Answer::Containers(self.report())
            }
            Op::Start { container } => match self.start(id, request.id, container) {
                Ok(()) => return,
                Err(message) => Answer::Failed(message),
            },
            Op::Exec { container, args, terminal } => {
                match self.exec(id, request.id, &container, args, terminal) {
                    Ok(()) => return,
                    Err(answer) => answer,
                }
            }
            Op::Signal { container, signal } => self.signal(&container, signal),
            Op::Attach { container } => self.attach(id, &container),
            Op::Resize { container, size } => self.resize(&container, size),
            Op::Connect { port } => match connect(port) {
                Ok(socket) => return self.reply(id, request.id, Answer::Done, vec![socket]),
                Err(e) => Answer::Failed(format!("connect to port {port}: {e}")),
            },
            Op::Forget { container } => self.forget(&container),
            Op::Stop => {
                for container in self.containers.values().filter(|c| c.exit.is_none()) {
                    let _ = container.signal(libc::SIGKILL);
                }
                self.stopping.push((id, request.id));
                return self.answer_stopped();
            }
        };
        self.reply(id, request.id, answer, Vec::new());
    }

    fn report(&self) -> Vec<ContainerReport> {
        let entry = |(id, c): (&String, &Container)| ContainerReport {
            container: id.clone(),
            pid: c.pid,
            started_at: c.started_at,
            exit: c.exit.clone(),
        };
        self.containers.iter().map(entry).collect()
    }

    fn start(&mut self, connection: u64, request: u64, id: String) -> Result<(), String> {
        if self.containers.contains_key(&id) {
            return Err("it was started before".to_owned());
        }
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(format!("\"{id}\" is no container id"));
        }
        let bundle = self.dir.join("containers").join(&id);
        let (container, channel) =
            Container::launch(&bundle, &Pod { shm: &self.shm }).map_err(|e| e.to_string())?;
        let (pid, name) = (container.pid, Some(id.clone()));
        self.containers.insert(id, container);
        let child = Launching { channel, pid, container: name, connection, request, terminal: None };
        self.launching.push(child);
        Ok(())
    }

    fn exec(
        &mut self,
        connection: u64,
        request: u64,
        container: &str,
        args: Vec<String>,
        terminal: Option<TerminalSize>,
    ) -> Result<(), Answer> {
        let stdio = match terminal {
            Some(size) => Stdio::Terminal(size.width, size.height),
            None => {
                let client = self.connections.get_mut(&connection);
                let streams = client.and_then(|c| c.take_descriptors::<3>());
                Stdio::Streams(streams.ok_or(Answer::Failed("no streams came along".to_owned()))?)
            }
        };
        let container = self.containers.get(container).filter(|c| c.exit.is_none());
        let container = container.ok_or(Answer::Unknown)?;
        let (pid, pidfd, channel) = container
            .launch_further(args, stdio, &self.pid_namespace)
            .map_err(|e| Answer::Failed(e.to_string()))?;
        self.commands.insert(pid, Command { connection, pidfd });
        let child = Launching { channel, pid, container: None, connection, request, terminal: None };
        self.launching.push(child);
        Ok(())
    }

    fn signal(&self, container: &str, signal: i32) -> Answer {
        match self.containers.get(container).map(|c| (&c.exit, c.signal(signal))) {
            None => Answer::Unknown,
            Some((Some(_), _)) | Some((None, Ok(()) | Err(Errno::ESRCH))) => Answer::Done,
            Some((None, Err(e))) => Answer::Failed(format!("signal {signal}: {}", e.desc())),
        }
    }

    fn attach(&mut self, connection: u64, container: &str) -> Answer {
        let client = self.connections.get_mut(&connection);
        let Some([stdin, stdout, stderr]) = client.and_then(|c| c.take_descriptors::<3>()) else {
            return Answer::Failed("no streams came along".to_owned());
        };
        let Some(container) = self.containers.get_mut(container).filter(|c| c.exit.is_none()) else {
            return Answer::Unknown;
        };
        if [&stdin, &stdout, &stderr].into_iter().any(|fd| set_nonblocking(fd).is_err()) {
            return Answer::Failed("the streams are unusable".to_owned());
        }
        let stdin = (container.input.is_some() && container.unwritten.len() < MAX_UNWRITTEN).then_some(stdin);
        let output = [Some(stdout), Some(stderr)];
        container.attached.push(Attached { connection, stdin, output });
        Answer::Done
    }

    fn resize(&self, container: &str, size: TerminalSize) -> Answer {
        let container = self.containers.get(container).filter(|c| c.terminal);
        match container.and_then(|c| c.input.as_ref()) {
            None => Answer::Unknown,
            Some(terminal) => match sys::set_terminal_size(terminal.as_fd(), size.width, size.height) {
                Ok(()) => Answer::Done,
                Err(e) => Answer::Failed(e.desc().to_owned()),
            },
        }
    }

    fn forget(&mut self, container: &str) -> Answer {
        match self.containers.get(container).map(|c| c.exit.is_some()) {
            Some(false) => Answer::Failed("it is running".to_owned()),
            _ => {
                self.containers.remove(container);
                Answer::Done
            }
        }
    }

    /// A child that is being launched says something, or executes its program, which
    /// closes its end.
    fn hear_child(&mut self, pid: i32) {
        let Some(at) = self.launching.iter().position(|c| c.pid == pid) else {
            return;
        };
        loop {
            match sys::receive(self.launching[at].channel.as_fd(), &mut self.buffer) {
                Ok((n, mut descriptors)) if n > 0 && self.buffer[0] == TERMINAL => {
                    self.launching[at].terminal = descriptors.pop();
                }
                Ok((n, _)) if n > 0 && self.buffer[0] == FAILURE => {
                    let message = String::from_utf8_lossy(&self.buffer[1..n]).into_owned();
                    let child = self.launching.remove(at);
                    return self.launch_failed(child, message);
                }
                Ok(_) => {
                    let child = self.launching.remove(at);
                    return self.launched(child);
                }
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn launched(&mut self, child: Launching) {
        let started_at = Timestamp::now();
        let mut descriptors = Vec::new();
        let container = child.container.as_ref().and_then(|id| self.containers.get_mut(id));
        match (container, child.terminal) {
            (Some(container), Some(master)) => {
                if let Err(e) = container.set_terminal(master) {
                    eprintln!("terminal: {e}");
                }
                container.started_at = started_at;
            }
            (Some(container), None) => container.started_at = started_at,
            (None, terminal) => descriptors.extend(terminal),
        }
        let answer = Answer::Started { pid: child.pid, started_at };
        self.reply(child.connection, child.request, answer, descriptors);
        // Launching takes some memory that is not needed again soon.
        sys::trim_memory();
    }

    fn launch_failed(&mut self, child: Launching, message: String) {
        match &child.container {
            Some(id) => {
                if let Some(container) = self.containers.get_mut(id) {
                    let exit = container.failed_to_start(&message);
                    // The agent that asked may not be the one that is there now.
                    let event = Message::Event(Event::Exited { container: id.clone(), exit });
                    self.tell_watchers(&event);
                }
            }
            None => drop(self.commands.remove(&child.pid)),
        }
        self.reply(child.connection, child.request, Answer::Failed(message), Vec::new());
    }

    fn reap(&mut self) {
        loop {
            let (pid, exit_code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code, 0),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid.as_raw(), 128 + signal as i32, signal as i32)
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            // It may have executed its program and ended before its channel was looked at.
            self.hear_child(pid);
            if let Some(command) = self.commands.remove(&pid) {
                let event = Message::Event(Event::ExecExited { exit_code });
                self.send(command.connection, &event, Vec::new());
            }
            self.container_ended(pid, exit_code, signal);
        }
    }

    fn container_ended(&mut self, pid: i32, exit_code: i32, signal: i32) {
        let mut running = self.containers.iter_mut().filter(|(_, c)| c.exit.is_none());
        let Some((id, container)) = running.find(|(_, c)| c.pid == pid) else {
            return;
        };
        let told: Vec<u64> = container.attached.iter().map(|a| a.connection).collect();
        let exit = container.ended(exit_code, signal, &mut self.buffer);
        let event = Message::Event(Event::Exited { container: id.clone(), exit });
        for connection in told {
            self.send(connection, &event, Vec::new());
        }
        self.tell_watchers(&event);
        self.answer_stopped();
    }

    fn tell_watchers(&mut self, event: &Message) {
        let watching = self.connections.iter().filter(|(_, c)| c.watching);
        for id in watching.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.send(id, event, Vec::new());
        }
    }

    fn answer_stopped(&mut self) {
        if self.containers.values().all(|c| c.exit.is_some()) {
            for (connection, request) in std::mem::take(&mut self.stopping) {
                self.reply(connection, request, Answer::Done, Vec::new());
            }
        }
    }
}

/// Loopback answers at once, so that waiting here is short.
fn connect(port: u16) -> std::io::Result<OwnedFd> {
    let limit = Duration::from_millis(500);
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&v4, limit)
        .or_else(|first| TcpStream::connect_timeout(&v6, limit).map_err(|_| first))?;
    Ok(stream.into())
}
