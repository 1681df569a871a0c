//! What agent and shim say to each other over `shim.sock`.
//!
//! A frame is a big-endian u32 length and that many bytes of JSON, at most 1 MiB. The agent
//! sends [`Request`]s, the shim answers each with a [`Message::Reply`] of the same id, in
//! any order; on a connection that said `Watch` it also sends [`Message::Event`]s.
//! Descriptors travel with the first byte of a frame (SCM_RIGHTS).
//!
//! Shims outlive upgrades, so: the first request is `Hello` with every version the agent
//! speaks, and the shim picks the highest both know or closes. Within a version only optional
//! fields are added; both sides ignore fields they do not know. An operation that an
//! older shim lacks is answered with an error.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::traits::{ExitStatus, TerminalSize};

/// Versions of the protocol that this binary speaks.
pub const VERSIONS: [u32; 1] = [1];
/// Longest frame.
pub const MAX_FRAME: usize = 1 << 20;
/// Name of the socket in the sandbox's directory.
pub const SOCKET: &str = "shim.sock";
/// Name of the file that configures a shim ([`ShimConfig`]).
pub const SHIM_CONFIG: &str = "shim.json";

/// What the shim is told when it starts; read from [`SHIM_CONFIG`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShimConfig {
    /// Id of the sandbox.
    pub sandbox: String,
    /// Host name; empty keeps the node's.
    pub hostname: String,
    /// A network namespace of its own.
    pub new_network: bool,
    /// An IPC namespace of its own.
    pub new_ipc: bool,
    /// One process namespace for all containers.
    pub shared_pid: bool,
    /// Kernel parameters by dotted name.
    pub sysctls: Vec<(String, String)>,
    /// Control groups to move into.
    pub cgroups: Vec<std::path::PathBuf>,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the agent, echoed in the reply.
    pub id: u64,
    /// What to do.
    pub op: Op,
}

/// Operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Op {
    /// First on every connection.
    Hello {
        /// Versions the agent speaks.
        versions: Vec<u32>,
    },
    /// Send events on this connection from now on. Answered with `Containers`.
    Watch,
    /// Launch the bundle `containers/<container>`. Answered with `Started`.
    Start {
        /// Container id.
        container: String,
    },
    /// Signal the first process; SIGKILL reaches every process of the container.
    Signal {
        /// Container id.
        container: String,
        /// Signal number.
        signal: i32,
    },
    /// Run a command; the frame carries stdin, stdout and stderr (none with a terminal).
    /// Answered with `Started`, with the terminal attached; [`Event::ExecExited`] follows
    /// on this connection. Closing the connection kills the command.
    Exec {
        /// Container id.
        container: String,
        /// Program and arguments.
        args: Vec<String>,
        /// Run it on a terminal of this size.
        terminal: Option<TerminalSize>,
    },
    /// Connect to the streams of the first process; the frame carries the reading end of
    /// the client's stdin, and the writing ends of its stdout and stderr.
    Attach {
        /// Container id.
        container: String,
    },
    /// Size of the terminal of the first process.
    Resize {
        /// Container id.
        container: String,
        /// New size.
        size: TerminalSize,
    },
    /// Connect to a port of localhost in the pod; the reply carries the socket.
    Connect {
        /// TCP port.
        port: u16,
    },
    /// Drop the memory of an ended container.
    Forget {
        /// Container id.
        container: String,
    },
    /// Kill all containers. Answered when all are reaped and recorded.
    Stop,
    /// End the shim; only after `Stop`.
    Shutdown,
}

/// From the shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Message {
    /// Answer to the request of that id.
    Reply {
        /// The request's id.
        id: u64,
        /// What came of it.
        answer: Answer,
    },
    /// Something happened.
    Event(Event),
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Answer {
    /// The version both speak, and the shim's process id.
    Hello {
        /// Version chosen.
        version: u32,
        /// Process id of the shim on the node.
        pid: i32,
    },
    /// Done.
    Done,
    /// A process runs.
    Started {
        /// Its id on the node.
        pid: i32,
        /// Since when.
        started_at: Timestamp,
    },
    /// All containers that were started and not forgotten.
    Containers(Vec<ContainerReport>),
    /// No such container (any more).
    Unknown,
    /// It did not work; the words are for people.
    Failed(String),
}

/// One container as its shim knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerReport {
    /// Container id.
    pub container: String,
    /// Process id on the node.
    pub pid: i32,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// How it ended, when it did.
    pub exit: Option<ExitStatus>,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A container's first process ended; its exit record is on disk.
    Exited {
        /// Container id.
        container: String,
        /// How.
        exit: ExitStatus,
    },
    /// The command of this connection ended.
    ExecExited {
        /// 128 + n after signal n.
        exit_code: i32,
    },
}

/// Encodes a frame.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value).expect("protocol types have string keys only");
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Takes one whole frame off the front of `buffer`; None when more bytes are needed.
///
/// # Errors
/// A frame over [`MAX_FRAME`] or one that is no `T`: the connection cannot go on.
pub fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, String> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*head) as usize;
    if length > MAX_FRAME {
        return Err(format!("frame of {length} bytes"));
    }
    let Some(body) = buffer.get(4..4 + length) else {
        return Ok(None);
    };
    let value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    buffer.drain(..4 + length);
    Ok(Some(value))
}

/// The highest version that both sides speak.
pub fn negotiate(theirs: &[u32]) -> Option<u32> {
    VERSIONS.iter().copied().filter(|v| theirs.contains(v)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let first = Request { id: 1, op: Op::Hello { versions: vec![1, 2] } };
        let second = Request { id: 2, op: Op::Start { container: "c".into() } };
        let mut bytes = encode(&first);
        bytes.extend(encode(&second));
        for cut in 0..bytes.len() {
            let mut buffer = bytes[..cut].to_vec();
            let mut seen = Vec::new();
            while let Some(request) = decode::<Request>(&mut buffer).unwrap() {
                seen.push(request);
            }
            buffer.extend(&bytes[cut..]);
            while let Some(request) = decode::<Request>(&mut buffer).unwrap() {
                seen.push(request);
            }
            assert_eq!(seen, [first.clone(), second.clone()], "cut at {cut}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn bad_frames_are_errors() {
        assert!(decode::<Request>(&mut vec![0xff, 0, 0, 0]).is_err());
        assert!(decode::<Request>(&mut vec![0, 0, 0, 2, b'[', b']']).is_err());
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let text = br#"{"id":7,"op":{"connect":{"port":80,"later":true}},"more":1}"#;
        let request: Request = serde_json::from_slice(text).unwrap();
        assert_eq!(request.op, Op::Connect { port: 80 });
    }

    #[test]
    fn versions() {
        for (theirs, expect) in [(&[1][..], Some(1)), (&[1, 2], Some(1)), (&[2, 3], None), (&[], None)] {
            assert_eq!(negotiate(theirs), expect);
        }
    }
}
