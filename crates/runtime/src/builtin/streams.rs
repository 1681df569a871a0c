//! Commands in containers, attaching to them, and connections into a pod.
//!
//! What always holds: streams are pipes that go straight between this process and the
//! container's; the shim only launches and reports. Each session has a connection of its
//! own, whose end kills the command.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::builtin::client::ShimClient;
use crate::builtin::terminal::Terminal;
use crate::builtin::{Member, Pod, Shared};
use crate::error::{Result, RuntimeError};
use crate::shim::protocol::{Answer, Event, Op};
use crate::spec::{ContainerId, SandboxId};
use crate::traits::{ContainerState, Duplex, ExecOutput, ExecRequest, ExecSession, TerminalSize};

/// Each output of `exec_sync` (as in the CRI).
const MAX_OUTPUT: usize = 16 << 20;
/// How long output may go on after the command has ended: what it left running in the
/// background may hold the pipe for ever.
const DRAIN: Duration = Duration::from_secs(1);
/// Size of the pipes to attached clients, who are cut off when they fill.
const ATTACH_PIPE: i32 = 1 << 20;

fn failed(e: impl ToString) -> RuntimeError {
    RuntimeError::Exec(e.to_string())
}

fn running(shared: &Shared, id: &ContainerId) -> Result<(Arc<Pod>, Arc<Member>)> {
    let (pod, member) = shared.member(id)?;
    if !member.is_running() {
        return Err(RuntimeError::NotRunning(id.to_string()));
    }
    Ok((pod, member))
}

/// Our and the other side's ends of the three streams.
struct Streams {
    stdin: pipe::Sender,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
    theirs: Vec<OwnedFd>,
}

impl Streams {
    fn new(size: Option<i32>) -> Result<Self> {
        let pipe = || -> std::io::Result<(OwnedFd, OwnedFd)> {
            let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            if let Some(size) = size {
                // More than the usual 64 KiB may be refused to a user; that is fine.
                let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(size));
            }
            Ok((read, write))
        };
        let make = || -> std::io::Result<Self> {
            let (stdin_theirs, stdin) = pipe()?;
            let (stdout, stdout_theirs) = pipe()?;
            let (stderr, stderr_theirs) = pipe()?;
            Ok(Self {
                stdin: pipe::Sender::from_owned_fd(stdin)?,
                stdout: pipe::Receiver::from_owned_fd(stdout)?,
                stderr: pipe::Receiver::from_owned_fd(stderr)?,
                theirs: vec![stdin_theirs, stdout_theirs, stderr_theirs],
            })
        };
        make().map_err(failed)
    }
}

pub(super) async fn exec(
    shared: &Arc<Shared>,
    id: &ContainerId,
    request: ExecRequest,
) -> Result<ExecSession> {
    let (pod, _) = running(shared, id)?;
    if request.command.is_empty() {
        return Err(failed("no command given"));
    }
    let (client, events) = ShimClient::connect(&pod.dir).await.map_err(|e| pod.shim_error(e))?;
    let terminal = request.tty.then(|| request.size.unwrap_or_default());
    let op = Op::Exec { container: id.0.clone(), args: request.command, terminal };
    if request.tty {
        let (answer, mut descriptors) = client.request_with(op, &[]).await.map_err(|e| pod.shim_error(e))?;
        started(id, answer)?;
        let master = descriptors.pop().ok_or_else(|| failed("no terminal came along"))?;
        return terminal_session(client, events, master, request.stdin);
    }
    let mut streams = Streams::new(None)?;
    let theirs = std::mem::take(&mut streams.theirs);
    let (answer, _) = client.request_with(op, &theirs).await.map_err(|e| pod.shim_error(e))?;
    drop(theirs);
    started(id, answer)?;
    Ok(ExecSession {
        stdin: request.stdin.then(|| Box::new(streams.stdin) as _),
        stdout: Some(Box::new(streams.stdout)),
        stderr: Some(Box::new(streams.stderr)),
        resize: None,
        exit: Box::pin(exit_code(client, events)),
    })
}

fn started(id: &ContainerId, answer: Answer) -> Result<()> {
    match answer {
        Answer::Started { .. } => Ok(()),
        Answer::Unknown => Err(RuntimeError::NotRunning(id.to_string())),
        Answer::Failed(message) => Err(failed(message)),
        other => Err(failed(format!("the shim answers {other:?}"))),
    }
}

fn terminal_session(
    client: ShimClient,
    events: mpsc::Receiver<Event>,
    master: OwnedFd,
    stdin: bool,
) -> Result<ExecSession> {
    let terminal = Terminal::new(master).map_err(failed)?;
    let resizer = terminal.clone();
    Ok(ExecSession {
        stdin: stdin.then(|| Box::new(terminal.clone()) as _),
        stdout: Some(Box::new(terminal)),
        stderr: None,
        resize: Some(Box::new(move |size: TerminalSize| resizer.resize(size))),
        exit: Box::pin(exit_code(client, events)),
    })
}

/// Holds the connection, and with it the command.
async fn exit_code(client: ShimClient, mut events: mpsc::Receiver<Event>) -> Result<i32> {
    let _held = client;
    match events.recv().await {
        Some(Event::ExecExited { exit_code }) => Ok(exit_code),
        Some(Event::Exited { exit, .. }) => Ok(exit.exit_code),
        None => Err(failed("the shim has gone")),
    }
}

pub(super) async fn exec_sync(
    shared: &Arc<Shared>,
    id: &ContainerId,
    command: Vec<String>,
    timeout: Duration,
) -> Result<ExecOutput> {
    let run = async {
        let request = ExecRequest { command, ..ExecRequest::default() };
        let session = exec(shared, id, request).await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut exit = session.exit;
        let exit_code = {
            let reading = async {
                let out = collect(session.stdout, &mut stdout);
                tokio::join!(out, collect(session.stderr, &mut stderr));
            };
            let mut reading = std::pin::pin!(reading);
            tokio::select! {
                code = &mut exit => {
                    let _ = tokio::time::timeout(DRAIN, reading).await;
                    code?
                }
                () = &mut reading => exit.await?,
            }
        };
        Ok(ExecOutput { exit_code, stdout, stderr })
    };
    if timeout.is_zero() {
        return run.await;
    }
    let late = |_| RuntimeError::ExecTimeout { seconds: timeout.as_secs() };
    tokio::time::timeout(timeout, run).await.map_err(late)?
}

/// Reads to the end, keeping what fits.
async fn collect(stream: Option<Box<dyn AsyncRead + Send + Unpin>>, into: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n) = stream.read(&mut buffer).await {
        if n == 0 {
            return;
        }
        let room = MAX_OUTPUT - into.len();
        into.extend_from_slice(&buffer[..n.min(room)]);
    }
}

pub(super) async fn attach(shared: &Arc<Shared>, id: &ContainerId) -> Result<ExecSession> {
    let (pod, member) = running(shared, id)?;
    let (client, events) = ShimClient::connect(&pod.dir).await.map_err(|e| pod.shim_error(e))?;
    let mut streams = Streams::new(Some(ATTACH_PIPE))?;
    let theirs = std::mem::take(&mut streams.theirs);
    let op = Op::Attach { container: id.0.clone() };
    let (answer, _) = client.request_with(op, &theirs).await.map_err(|e| pod.shim_error(e))?;
    drop(theirs);
    match answer {
        Answer::Done => {}
        Answer::Unknown => return Err(RuntimeError::NotRunning(id.to_string())),
        other => return Err(failed(format!("the shim answers {other:?}"))),
    }
    let spec = &member.record.spec;
    let resize = spec.tty.then(|| resizer(pod.clone(), id.clone()));
    let state = member.state.subscribe();
    let exit = async move {
        match exit_code(client, events).await {
            Ok(code) => Ok(code),
            // Cut off; the container may have ended all the same.
            Err(e) => match &*state.borrow() {
                ContainerState::Exited(exit) => Ok(exit.exit_code),
                _ => Err(e),
            },
        }
    };
    Ok(ExecSession {
        stdin: spec.stdin.then(|| Box::new(streams.stdin) as _),
        stdout: Some(Box::new(streams.stdout)),
        stderr: (!spec.tty).then(|| Box::new(streams.stderr) as _),
        resize,
        exit: Box::pin(exit),
    })
}

fn resizer(pod: Arc<Pod>, id: ContainerId) -> Box<dyn Fn(TerminalSize) + Send + Sync> {
    Box::new(move |size| {
        let (Ok(shim), container) = (pod.shim(), id.0.clone()) else {
            return;
        };
        tokio::spawn(async move { shim.request(Op::Resize { container, size }).await });
    })
}

pub(super) async fn port_forward(shared: &Arc<Shared>, id: &SandboxId, port: u16) -> Result<Box<dyn Duplex>> {
    let pod = shared.pod(id)?;
    let (answer, mut descriptors) =
        pod.shim()?.request_with(Op::Connect { port }, &[]).await.map_err(|e| pod.shim_error(e))?;
    match (answer, descriptors.pop()) {
        (Answer::Done, Some(socket)) => {
            let stream = std::net::TcpStream::from(socket);
            stream.set_nonblocking(true).map_err(failed)?;
            Ok(Box::new(tokio::net::TcpStream::from_std(stream).map_err(failed)?))
        }
        (Answer::Failed(message), _) => Err(failed(message)),
        (other, _) => Err(failed(format!("the shim answers {other:?}"))),
    }
}
