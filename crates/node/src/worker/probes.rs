//! Carries out one probe of a container.
//!
//! Every probe ends within its timeout; bodies are read to 10 KiB at most; redirects
//! are followed only within the host by upstream, here not at all: a 3xx is a success.

use std::time::Duration;

use bytes::Bytes;
use carrack_runtime::ContainerId;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::actions::Run;
use crate::decide::probe::{self, Kind};
use crate::tls;

const MAX_BODY: usize = 10 * 1024;

/// Probes once; a failure makes kubelet's event.
pub(super) async fn probe(
    run: &Run,
    container: &Container,
    id: &ContainerId,
    kind: Kind,
    quiet: bool,
) -> bool {
    let Some(spec) = probe::of(container, kind) else { return true };
    let timeout = Duration::from_secs(spec.timeout_seconds.unwrap_or(1).max(1).unsigned_abs().into());
    let result = if let Some(exec) = &spec.exec {
        exec_probe(run, id, exec.command.clone().unwrap_or_default(), timeout).await
    } else if let Some(get) = &spec.http_get {
        http(run, container, get, timeout).await
    } else if let Some(socket) = &spec.tcp_socket {
        within(timeout, tcp(run, container, socket.host.as_deref(), &socket.port)).await
    } else if let Some(grpc) = &spec.grpc {
        let service = grpc.service.clone().unwrap_or_default();
        within(timeout, grpc_probe(run, grpc.port, service)).await
    } else {
        Err("missing probe handler".to_owned())
    };
    match result {
        Ok(()) => true,
        Err(output) => {
            if !quiet {
                let message = format!("{} probe failed: {output}", kind.name());
                run.warning(Some(&container.name), "Unhealthy", message);
            }
            false
        }
    }
}

async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(format!("timeout: no answer within {timeout:?}")),
    }
}

async fn exec_probe(
    run: &Run,
    id: &ContainerId,
    command: Vec<String>,
    timeout: Duration,
) -> Result<(), String> {
    match run.shared.runtime.exec_sync(id, command.clone(), timeout).await {
        Ok(output) if output.exit_code == 0 => Ok(()),
        Ok(output) => {
            let mut text = output.stdout;
            text.extend(output.stderr);
            text.truncate(MAX_BODY);
            Err(String::from_utf8_lossy(&text).into_owned())
        }
        Err(carrack_runtime::RuntimeError::ExecTimeout { .. }) => {
            Err(format!("command timed out: {:?} timed out after {timeout:?}", command.join(" ")))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The number of a port given by number or name.
fn port_number(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("couldn't find port: {port:?}"))
}

fn host(run: &Run, own: Option<&str>) -> Result<String, String> {
    match own.filter(|host| !host.is_empty()) {
        Some(host) => Ok(host.to_owned()),
        None => {
            run.addresses.first().map(ToString::to_string).ok_or_else(|| "the pod has no address".to_owned())
        }
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let named = |error: std::io::Error| format!("dial tcp {host}:{port}: connect: {error}");
    // Numeric only: a static binary has no resolver of the host's.
    let ip: std::net::IpAddr = match host {
        "localhost" => std::net::Ipv4Addr::LOCALHOST.into(),
        host => host.parse().map_err(|_| format!("dial tcp: {host} is not an address"))?,
    };
    TcpStream::connect((ip, port)).await.map_err(named)
}

async fn tcp(run: &Run, container: &Container, own: Option<&str>, port: &IntOrString) -> Result<(), String> {
    dial(&host(run, own)?, port_number(container, port)?).await.map(drop)
}

/// `httpGet` of a probe or hook: 200–399 is a success.
pub(super) async fn http(
    run: &Run,
    container: &Container,
    get: &HTTPGetAction,
    timeout: Duration,
) -> Result<(), String> {
    let host = host(run, get.host.as_deref())?;
    let port = port_number(container, &get.port)?;
    let path = get.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let secure = get.scheme.as_deref() == Some("HTTPS");
    let scheme = if secure { "https" } else { "http" };
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let url = format!("{scheme}://{shown}:{port}{path}");
    let send = async {
        let mut request = http::Request::get(&path).header("connection", "close");
        let mut named = (false, false, false);
        for header in get.http_headers.iter().flatten() {
            let name = header.name.to_ascii_lowercase();
            named.0 |= name == "host";
            named.1 |= name == "user-agent";
            named.2 |= name == "accept";
            request = request.header(header.name.as_str(), header.value.as_str());
        }
        if !named.0 {
            request = request.header("host", format!("{shown}:{port}"));
        }
        if !named.1 {
            request = request.header("user-agent", "kube-probe/1.36");
        }
        if !named.2 {
            request = request.header("accept", "*/*");
        }
        let request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
        let stream = dial(&host, port).await?;
        if secure {
            let stream = tls::connect_unverified(stream).await.map_err(|error| error.to_string())?;
            exchange(TokioIo::new(stream), request).await
        } else {
            exchange(TokioIo::new(stream), request).await
        }
    };
    let status = match tokio::time::timeout(timeout, send).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(format!("Get \"{url}\": {error}")),
        Err(_) => {
            return Err(format!(
                "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            ));
        }
    };
    if (200..400).contains(&status) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {status}"))
    }
}

async fn exchange<I>(io: I, request: http::Request<Full<Bytes>>) -> Result<u16, String>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string());
    let status = match answer {
        Ok(answer) => {
            let status = answer.status().as_u16();
            let _ = Limited::new(answer.into_body(), MAX_BODY).collect().await;
            Ok(status)
        }
        Err(error) => Err(error),
    };
    driver.abort();
    status
}

/// `grpc.health.v1.Health/Check`, over plain HTTP/2.
async fn grpc_probe(run: &Run, port: i32, service: String) -> Result<(), String> {
    let host = host(run, None)?;
    let port = u16::try_from(port).map_err(|error| error.to_string())?;
    let stream = dial(&host, port).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let shown = if host.contains(':') { format!("[{host}]") } else { host };
    // HealthCheckRequest { string service = 1 }, in gRPC's length-prefixed framing.
    let mut message = Vec::new();
    if !service.is_empty() {
        message.extend([0x0a, u8::try_from(service.len().min(127)).unwrap_or(127)]);
        message.extend(service.as_bytes().iter().take(127));
    }
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    body.extend(message);
    let request = http::Request::post(format!("http://{shown}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string());
    let result = match answer {
        Ok(answer) => {
            let collected = Limited::new(answer.into_body(), MAX_BODY).collect().await;
            let body = collected.map_err(|error| error.to_string())?.to_bytes();
            // HealthCheckResponse { ServingStatus status = 1 }; SERVING is 1.
            match body.get(5..7) {
                Some([0x08, 1]) => Ok(()),
                _ => Err(format!("service unhealthy (responded with {:?})", body.get(5..))),
            }
        }
        Err(error) => Err(error),
    };
    driver.abort();
    result
}
