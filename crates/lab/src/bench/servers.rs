//! Starting the servers that are compared, each on a loopback port and a fresh
//! directory, and stopping them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Programs;
use crate::https::{Client, Request};
use crate::machine::{run, until};
use crate::paths;
use crate::process::Usage;

/// The bearer token of the peer's administrator, on the loopback, for one run.
const TOKEN: &str = "bench-token-of-one-run";

/// Who issues the tokens of service accounts, as Carrack says unless it is told otherwise.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A running server; dropped, its processes end.
pub struct Running {
    /// How the report calls it.
    pub name: &'static str,
    /// Base URL.
    pub url: String,
    /// apiload's flags that say who it is.
    pub credentials: Vec<String>,
    /// Client certificate and key of the same administrator.
    pub certificate: Option<(PathBuf, PathBuf)>,
    processes: Vec<Child>,
    _dir: tempfile::TempDir,
}

impl Running {
    /// The processes' ids, with commas between.
    pub fn pids(&self) -> String {
        self.processes.iter().map(|p| p.id().to_string()).collect::<Vec<_>>().join(",")
    }

    /// Resident memory of the processes in MB.
    pub fn memory_mb(&self) -> f64 {
        self.processes.iter().map(|p| Usage::of(p.id()).memory_mb).sum()
    }

    /// Processor time of the processes so far, in seconds.
    pub fn cpu(&self) -> f64 {
        self.processes.iter().map(|p| Usage::of(p.id()).cpu).sum()
    }

    /// Starts kube-scheduler beside upstream's server, with its client's limits raised.
    ///
    /// # Errors
    /// It has not been built, or does not start.
    pub fn add_scheduler(&mut self) -> Result<()> {
        let dir = self._dir.path();
        let kubeconfig = dir.join("scheduler.kubeconfig");
        fs::write(&kubeconfig, token_kubeconfig(&self.url))?;
        let port = free_port()?;
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--authentication-kubeconfig={}", kubeconfig.display()),
            format!("--authorization-kubeconfig={}", kubeconfig.display()),
            format!("--cert-dir={}", dir.join("scheduler").display()),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".into(),
            "--leader-elect=false".into(),
            "--kube-api-qps=5000".into(),
            "--kube-api-burst=5000".into(),
        ];
        let log = dir.join("scheduler.log");
        let mut process = start(&paths::upstream("kube-scheduler")?, &arguments, &log)?;
        listening(&format!("127.0.0.1:{port}"), &mut process, &log)?;
        self.processes.push(process);
        Ok(())
    }

    /// Size of one stored pod, as the server answers it.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn pod_size(&self, programs: &Programs) -> Result<usize> {
        let mut command = Command::new(&programs.apiload);
        command.args(["-server", &self.url, "-n", "1", "-c", "1", "-watchers", "0", "-namespace", "size"]);
        command.args(&self.credentials);
        let text = run(command, Duration::from_secs(60))?;
        let figures: serde_json::Value = serde_json::from_str(&text)?;
        let get = &figures["get"];
        let (rate, mib) = (get["per_second"].as_f64(), get["mib_per_second"].as_f64());
        let (rate, mib) = rate.zip(mib).context("apiload reported no size")?;
        Ok((mib * 1_048_576.0 / rate).round() as usize)
    }
}

/// How the peer's administrator reaches it by his token.
fn token_kubeconfig(url: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: bench\n\
         clusters: [{{name: bench, cluster: {{server: {url}, insecure-skip-tls-verify: true}}}}]\n\
         users: [{{name: bench, user: {{token: {TOKEN}}}}}]\n\
         contexts: [{{name: bench, context: {{cluster: bench, user: bench}}}}]\n"
    )
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn directory() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(paths::cache()?)?)
}

/// A port that nobody listens on just now.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Child> {
    let log = File::create(log)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot start {}", program.display()))
}

/// Waits until something accepts connections.
fn listening(address: &str, process: &mut Child, log: &Path) -> Result<()> {
    let address: std::net::SocketAddr = address.parse()?;
    until(Duration::from_secs(60), || {
        if let Some(status) = process.try_wait()? {
            bail!("ended with {status}:\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        Ok(())
    })
}

/// The null server, answering with pods of `size` bytes.
///
/// # Errors
/// It does not start.
pub fn null(programs: &Programs, size: usize, pods: usize) -> Result<Running> {
    let dir = directory()?;
    let log = dir.path().join("log");
    let address = &*format!("127.0.0.1:{}", free_port()?);
    let arguments =
        ["-listen", address, "-n", &pods.to_string(), "-size", &size.to_string()].map(String::from);
    let mut process = start(&programs.nullserver, &arguments, &log)?;
    listening(address, &mut process, &log)?;
    Ok(Running {
        name: "null server",
        url: format!("https://{address}"),
        credentials: Vec::new(),
        certificate: None,
        processes: vec![process],
        _dir: dir,
    })
}

/// `carrack server` on SQLite, with everything on that is on by default and these flags.
///
/// # Errors
/// It does not start.
pub fn carrack(flags: &[&str]) -> Result<Running> {
    let dir = directory()?;
    let (data, log) = (dir.path().join("data"), dir.path().join("log"));
    let address = &*format!("127.0.0.1:{}", free_port()?);
    let mut arguments = vec!["server".into(), "--data-dir".into(), data.display().to_string()];
    arguments.extend(["--listen", address].iter().chain(flags).map(|word| (*word).to_owned()));
    let mut process = start(&paths::carrack()?, &arguments, &log)?;
    listening(address, &mut process, &log)?;
    let (cert, key) = client_certificate(&data.join("kubeconfig"), dir.path())?;
    let credentials = ["-cert".into(), cert.display().to_string(), "-key".into(), key.display().to_string()];
    let server = Running {
        name: "carrack",
        url: format!("https://{address}"),
        credentials: credentials.into(),
        certificate: Some((cert, key)),
        processes: vec![process],
        _dir: dir,
    };
    // As of upstream's: it listens before it can serve.
    let client = Client::new(&server)?;
    until(Duration::from_secs(60), || {
        let request = Request { method: "GET".into(), path: "/readyz".into(), ..Request::default() };
        let answer = client.send(&request)?;
        ensure!(answer.code == 200, "/readyz answers {}", answer.code);
        Ok(())
    })?;
    Ok(server)
}

/// Takes certificate and key out of a kubeconfig, into files for apiload.
fn client_certificate(kubeconfig: &Path, dir: &Path) -> Result<(PathBuf, PathBuf)> {
    use base64::Engine;
    let text = fs::read_to_string(kubeconfig)?;
    let take = |field: &str, file: &str| -> Result<PathBuf> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(field));
        let data = line.with_context(|| format!("no {field} in the kubeconfig"))?.trim();
        let pem = base64::engine::general_purpose::STANDARD.decode(data.trim_matches('"'))?;
        let path = dir.join(file);
        fs::write(&path, pem)?;
        Ok(path)
    };
    Ok((take("client-certificate-data:", "client.crt")?, take("client-key-data:", "client.key")?))
}

/// A CA for clients (`clients.crt`) and the certificate of an administrator who is called
/// what Carrack calls him.
fn administrator(dir: &Path) -> Result<(PathBuf, PathBuf)> {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    fs::write(dir.join("clients.crt"), authority.self_signed(&authority_key)?.pem())?;
    let mut client = CertificateParams::default();
    client.distinguished_name.push(DnType::CommonName, "kubernetes-admin");
    client.distinguished_name.push(DnType::OrganizationName, "system:masters");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let (cert_file, key_file) = (dir.join("admin.crt"), dir.join("admin.key"));
    fs::write(&cert_file, client.signed_by(&key, &Issuer::new(authority, authority_key))?.pem())?;
    fs::write(&key_file, key.serialize_pem())?;
    Ok((cert_file, key_file))
}

/// Upstream's kube-apiserver over etcd, both with default tuning, and these flags.
///
/// # Errors
/// They have not been built (`make upstream`), or do not start.
pub fn upstream(flags: &[&str]) -> Result<Running> {
    let dir = directory()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (client_port, peer_port, port) = (free_port()?, free_port()?, free_port()?);
    let (client, peer) = (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
    let flag = |name: &str, value: &str| format!("--{name}={value}");
    let etcd_log = dir.path().join("etcd.log");
    let etcd_flags = [
        flag("data-dir", &path("etcd")),
        flag("listen-client-urls", &client),
        flag("advertise-client-urls", &client),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", &format!("default={peer}")),
        flag("log-level", "error"),
    ];
    let mut etcd = start(&paths::upstream("etcd")?, &etcd_flags, &etcd_log)?;
    listening(&format!("127.0.0.1:{client_port}"), &mut etcd, &etcd_log)?;

    fs::write(dir.path().join("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n"))?;
    let key = rcgen::KeyPair::generate()?;
    fs::write(dir.path().join("sa.key"), key.serialize_pem())?;
    fs::write(dir.path().join("sa.pub"), key.public_key_pem())?;
    let certificate = administrator(dir.path())?;
    let address = format!("127.0.0.1:{port}");
    let mut arguments = vec![
        flag("client-ca-file", &path("clients.crt")),
        flag("etcd-servers", &client),
        flag("bind-address", "127.0.0.1"),
        flag("secure-port", &port.to_string()),
        flag("cert-dir", &path("certs")),
        flag("token-auth-file", &path("tokens.csv")),
        flag("authorization-mode", "Node,RBAC"),
        flag("service-account-issuer", ISSUER),
        flag("service-account-jwks-uri", &format!("{ISSUER}/openid/v1/jwks")),
        flag("service-account-key-file", &path("sa.pub")),
        flag("service-account-signing-key-file", &path("sa.key")),
        flag("service-cluster-ip-range", "10.96.0.0/16"),
        flag("anonymous-auth", "true"),
    ];
    arguments.extend(flags.iter().map(|word| (*word).to_owned()));
    let log = dir.path().join("apiserver.log");
    let mut apiserver = start(&paths::upstream("kube-apiserver")?, &arguments, &log)?;
    listening(&address, &mut apiserver, &log)?;
    let server = Running {
        name: "kube-apiserver + etcd",
        url: format!("https://{address}"),
        credentials: vec!["-token".into(), TOKEN.into()],
        certificate: Some(certificate),
        processes: vec![etcd, apiserver],
        _dir: dir,
    };
    // It listens long before it can serve.
    until(Duration::from_secs(60), || {
        let mut ready = Command::new(paths::upstream("kubectl")?);
        ready.args(["--server", &server.url, "--token", TOKEN, "--insecure-skip-tls-verify"]);
        ready.args(["get", "--raw", "/readyz", "--kubeconfig", "/dev/null"]);
        run(ready, Duration::from_secs(10))
    })?;
    Ok(server)
}
