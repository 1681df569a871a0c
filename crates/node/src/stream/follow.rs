//! Answers `/containerLogs`: a stream of a log's lines, followed while the container
//! runs. Waits on inotify and the runtime's events; polls nothing.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use carrack_api::status::Status;
use carrack_runtime::{ContainerId, ContainerState, RuntimeEvent};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use nix::sys::inotify::AddWatchFlags;
use tokio::fs::File;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::logs::{Filter, newest, tail_offset};
use super::{Body, Endpoint, Query, refuse};
use crate::sys::{Queue, inotify};

/// Chunks between reader and connection.
const AHEAD: usize = 8;
/// Longest line that is kept together.
const MAX_LINE: usize = 1 << 20;

/// One request.
struct Request {
    path: PathBuf,
    offset: u64,
    filter: Filter,
    left: u64,
    /// The container to follow while it runs.
    follow: Option<ContainerId>,
}

/// The answer to a request for logs.
pub(super) async fn answer(
    endpoint: &Endpoint,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Response<Body> {
    let request = match prepare(endpoint, namespace, pod, container, query).await {
        Ok(request) => request,
        Err(status) => return refuse(&status),
    };
    let (sender, receiver) = mpsc::channel::<Bytes>(AHEAD);
    let endpoint = endpoint.clone();
    tokio::spawn(async move {
        if let Err(error) = stream(&endpoint, request, sender).await {
            tracing::debug!(%error, "log stream ended");
        }
    });
    let chunks = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (Ok::<_, io::Error>(Frame::data(chunk)), receiver))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(chunks)));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}

async fn prepare(
    endpoint: &Endpoint,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Result<Request, Status> {
    let record = endpoint.pods.find(namespace, pod).ok_or_else(|| Status::not_found("", "pods", pod))?;
    let uid = record.header().uid.to_string();
    if container.contains('/') || container.starts_with('.') {
        return Err(Status::bad_request(format!("container {container:?} is not valid for pod {pod}")));
    }
    let previous = query.flag(&["previous"]);
    let dir = endpoint.shared.paths.pod_logs(namespace, pod, &uid).join(container);
    let Some((attempt, path)) = newest(&dir, previous) else {
        return Err(Status::bad_request(if previous {
            format!("previous terminated container \"{container}\" in pod \"{pod}\" not found")
        } else {
            format!("container \"{container}\" in pod \"{pod}\" is waiting to start: ContainerCreating")
        }));
    };
    let number = |name: &str| -> Result<Option<u64>, Status> {
        let Some(text) = query.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Status::bad_request(format!("invalid {name}: {text:?}")))
    };
    let now = endpoint.shared.now();
    let seconds = number("sinceSeconds")?.and_then(|s| i64::try_from(s).ok());
    let since: Option<Timestamp> = match (seconds, query.get("sinceTime")) {
        (Some(seconds), _) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, Some(time)) => time.parse().ok(),
        (None, None) => None,
    };
    let offset = match number("tailLines")? {
        Some(lines) => tail_offset(&path, lines).map_err(Status::internal)?,
        None => 0,
    };
    let stream = match query.get("stream") {
        Some("Stdout") => "stdout",
        Some("Stderr") => "stderr",
        _ => "",
    };
    let filter = Filter::new(query.flag(&["timestamps"]), since, stream);
    let running = if query.flag(&["follow"]) && !previous {
        let instance = endpoint.instance(namespace, pod, container).await.ok();
        let own = instance.filter(|i| i.spec.attempt == attempt);
        own.filter(|i| matches!(i.state, ContainerState::Running { .. } | ContainerState::Created))
            .map(|i| i.id)
    } else {
        None
    };
    let left = number("limitBytes")?.unwrap_or(u64::MAX);
    Ok(Request { path, offset, filter, left, follow: running })
}

/// Reads what there is, then what comes.
async fn stream(endpoint: &Endpoint, mut request: Request, sender: mpsc::Sender<Bytes>) -> io::Result<()> {
    // Subscribed before the first read, so that nothing falls between.
    let mut events = endpoint.shared.runtime.events();
    let watch = Watch::new(request.path.parent().unwrap_or(Path::new("/")))?;
    let mut reader = Reader::open(&request.path, request.offset).await?;
    let mut ended = match &request.follow {
        None => true,
        Some(id) => !matches!(
            endpoint.shared.runtime.container_status(id).await.map(|s| s.state),
            Ok(ContainerState::Running { .. } | ContainerState::Created)
        ),
    };
    loop {
        reader.pump(&mut request, &sender).await?;
        if reader.replaced(&request.path).await {
            reader.pump(&mut request, &sender).await?;
            reader = Reader::open(&request.path, 0).await?;
            continue;
        }
        if ended || request.left == 0 {
            return Ok(());
        }
        tokio::select! {
            changed = watch.changed() => changed?,
            () = sender.closed() => return Ok(()),
            event = events.recv() => match event {
                Ok(RuntimeEvent::ContainerExited { container, .. }) => {
                    ended = request.follow.as_ref() == Some(&container);
                }
                Ok(RuntimeEvent::SandboxLost { .. }) | Err(RecvError::Lagged(_)) => {
                    if let Some(id) = &request.follow {
                        let state = endpoint.shared.runtime.container_status(id).await;
                        ended = !matches!(state.map(|s| s.state), Ok(ContainerState::Running { .. }));
                    }
                }
                Ok(_) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
        }
    }
}

/// Reads one file in whole lines.
struct Reader {
    file: File,
    inode: u64,
    pending: Vec<u8>,
}

impl Reader {
    async fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path).await?;
        file.seek(io::SeekFrom::Start(offset)).await?;
        let inode = file.metadata().await?.ino();
        Ok(Self { file, inode, pending: Vec::new() })
    }

    /// Sends every whole line there is now.
    async fn pump(&mut self, request: &mut Request, sender: &mpsc::Sender<Bytes>) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while request.left > 0 {
            let read = self.file.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            self.pending.extend_from_slice(&buffer[..read]);
            let whole = self.pending.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = self.pending.drain(..whole).collect();
            if self.pending.len() > MAX_LINE {
                self.pending.clear();
            }
            let mut out = Vec::with_capacity(lines.len());
            for line in lines.split_inclusive(|b| *b == b'\n') {
                request.filter.write(line, &mut out);
            }
            out.truncate(usize::try_from(request.left).unwrap_or(usize::MAX));
            request.left -= out.len() as u64;
            if !out.is_empty() && sender.send(out.into()).await.is_err() {
                request.left = 0;
            }
        }
        Ok(())
    }

    /// Whether the path now names another file: the log was rotated.
    async fn replaced(&self, path: &Path) -> bool {
        tokio::fs::metadata(path).await.is_ok_and(|meta| meta.ino() != self.inode)
    }
}

/// Wakes when something in a directory changes.
struct Watch(AsyncFd<Queue>);

impl Watch {
    fn new(dir: &Path) -> io::Result<Self> {
        let queue = inotify()?;
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        queue.get_ref().0.add_watch(dir, flags)?;
        Ok(Self(queue))
    }

    async fn changed(&self) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        while let Ok(events) = self.0.get_ref().0.read_events() {
            if events.is_empty() {
                break;
            }
        }
        guard.clear_ready();
        Ok(())
    }
}
