//! Pulling from a registry on loopback: what works, what is refused, and whose words the
//! error carries. Needs root only to unpack owners.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use carrack_runtime::image::build::{BuildFile, oci_archive};
use carrack_runtime::image::{ImageStore, Registries, RegistryConfig};
use carrack_runtime::{ImageConfig, RegistryAuth};
use sha2::{Digest, Sha256};

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// What a registry answers to a path and an `Authorization`.
type Rules = Arc<dyn Fn(&str, Option<&str>) -> Answer + Send + Sync>;

struct Registry {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    fn start(rules: impl FnOnce(SocketAddr) -> Rules) -> Self {
        Self::start_with(rules, None)
    }

    fn start_with(rules: impl FnOnce(SocketAddr) -> Rules, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let rules = rules(address);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        // Ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (rules, log, tls) = (rules.clone(), log.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &rules, &log),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        let mut stream = rustls::StreamOwned::new(connection, stream);
                        serve(&mut stream, &rules, &log);
                        stream.conn.send_close_notify();
                        stream.flush().ok()
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

fn serve(mut stream: impl Read + Write, rules: &Rules, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
        // What speaks TLS to us gets nothing.
        if head.len() == 1 && head[0] == 0x16 {
            return None;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1)?.to_owned();
    let authorization = head.lines().find_map(|l| l.strip_prefix("authorization: "));
    log.lock().unwrap().push(format!("{path} {}", authorization.unwrap_or("-")));
    let (status, headers, body) = rules(&path, authorization);
    let mut answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("connection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Blobs and manifests of one image, by digest, with the digest of an index of it.
fn image() -> (HashMap<String, Vec<u8>>, String) {
    let file = BuildFile { path: "/hello".into(), content: b"hi".repeat(1000), mode: 0o644 };
    let config = ImageConfig { cmd: vec!["/hello".into()], ..ImageConfig::default() };
    let mut archive = Vec::new();
    oci_archive("x/y:z", &[file], &config, &mut archive).unwrap();
    let mut blobs = HashMap::new();
    let mut top = String::new();
    for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if path == "index.json" {
            let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            top = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        }
        blobs.insert(digest(&bytes), bytes);
    }
    // Compressed, as registries have it.
    let mut manifest: serde_json::Value = serde_json::from_slice(&blobs[&top]).unwrap();
    let layer = &blobs[manifest["layers"][0]["digest"].as_str().unwrap()];
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(layer).unwrap();
    let gz = gz.finish().unwrap();
    manifest["layers"][0]["digest"] = digest(&gz).into();
    manifest["layers"][0]["size"] = gz.len().into();
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"digest": digest(b"other"), "size": 1, "platform": {"os": "linux", "architecture": "riscv64"}},
        {"digest": digest(&manifest), "size": manifest.len(), "platform": {"os": "linux", "architecture": arch}},
    ]});
    let index = serde_json::to_vec(&index).unwrap();
    let top = digest(&index);
    for bytes in [gz, manifest, index] {
        blobs.insert(digest(&bytes), bytes);
    }
    (blobs, top)
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
    (status, Vec::new(), serde_json::to_vec(&body).unwrap())
}

/// Serves the image as `app:1`, blobs behind a redirect.
fn content(blobs: &HashMap<String, Vec<u8>>, top: &str, path: &str) -> Answer {
    let name = path.rsplit('/').next().unwrap();
    let by_digest = blobs.get(if name == "1" { top } else { name });
    match by_digest {
        Some(bytes) if path.starts_with("/storage/") => (200, Vec::new(), bytes.clone()),
        Some(_) if path.contains("/blobs/") => {
            (307, vec![("location", format!("/storage/{name}"))], Vec::new())
        }
        Some(bytes) if path.starts_with("/v2/app/manifests/") => (200, Vec::new(), bytes.clone()),
        _ => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

async fn pull(dir: &Path, reference: &str, auth: Option<RegistryAuth>) -> Result<String, String> {
    pull_with(dir, reference, auth, RegistryConfig::default()).await
}

async fn pull_with(
    dir: &Path,
    reference: &str,
    auth: Option<RegistryAuth>,
    config: RegistryConfig,
) -> Result<String, String> {
    let store = ImageStore::open(dir).unwrap();
    let registries = Registries::new(config);
    match registries.pull(&store, reference, auth.as_ref()).await {
        Ok(status) => Ok(status.repo_tags.join(",")),
        Err(e) => Err(e.to_string()),
    }
}

fn login() -> Option<RegistryAuth> {
    Some(RegistryAuth { username: "me".into(), password: "secret".into(), ..Default::default() })
}

#[tokio::test]
async fn anonymous() {
    let (blobs, top) = image();
    let index = top.clone();
    let registry = Registry::start(|_| Arc::new(move |path, _| content(&blobs, &top, path)));
    let dir = tempfile::tempdir().unwrap();
    let reference = registry.reference("app:1");
    assert_eq!(pull(dir.path(), &reference, None).await, Ok(reference.clone()));
    let store = ImageStore::open(dir.path()).unwrap();
    let found = store.find(&reference).unwrap().unwrap();
    assert_eq!(found.status.config.cmd, ["/hello"]);
    assert_eq!(found.status.repo_digests, [registry.reference(&format!("app@{index}"))]);
    assert_eq!(std::fs::read(store.layers_dir().join(&found.layers[0]).join("hello")).unwrap().len(), 2000);
    // Again: the layer is not fetched twice.
    registry.asked.lock().unwrap().clear();
    pull(dir.path(), &reference, None).await.unwrap();
    assert_eq!(registry.asked.lock().unwrap().len(), 4, "index, manifest, config and its redirect");
    // By digest, and then it goes with its layer.
    let by_digest = registry.reference(&format!("app@{index}"));
    pull(dir.path(), &by_digest, None).await.unwrap();
    store.remove(&found.status.id).unwrap();
    assert!(store.list().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(store.layers_dir()).unwrap().count(), 0);
}

#[tokio::test]
async fn refusals_carry_the_registrys_words() {
    let registry = Registry::start(|_| {
        Arc::new(|path, _| match path {
            p if p.contains("/secret/") => (
                401,
                vec![("www-authenticate", "Basic realm=\"lab\"".to_owned())],
                error(401, "UNAUTHORIZED", "authentication required").2,
            ),
            p if p.contains("/broken/") => (500, Vec::new(), b"oops".to_vec()),
            p if p.contains("/huge/") => (200, Vec::new(), vec![b' '; 5 << 20]),
            _ => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        })
    });
    let dir = tempfile::tempdir().unwrap();
    let at = registry.address;
    for (name, auth, expect) in [
        (
            "nope:2",
            None,
            format!(
                "failed to pull image \"{at}/nope:2\": registry {at} answers 404 Not Found: manifest unknown: manifest unknown"
            ),
        ),
        (
            "secret/x:1",
            None,
            format!(
                "failed to pull image \"{at}/secret/x:1\": registry {at} answers 401 Unauthorized: unauthorized: authentication required; the repository does not exist or needs credentials (imagePullSecrets)"
            ),
        ),
        (
            "secret/x:1",
            login(),
            format!(
                "failed to pull image \"{at}/secret/x:1\": registry {at} answers 401 Unauthorized: unauthorized: authentication required; the credentials given are not accepted"
            ),
        ),
        (
            "broken/x:1",
            None,
            format!(
                "failed to pull image \"{at}/broken/x:1\": registry {at} answers 500 Internal Server Error"
            ),
        ),
        (
            "huge/x:1",
            None,
            format!("failed to pull image \"{at}/huge/x:1\": length limit exceeded (limit 4194304 bytes)"),
        ),
    ] {
        assert_eq!(pull(dir.path(), &registry.reference(name), auth).await, Err(expect));
    }
    let e = pull(dir.path(), "127.0.0.1:1/x:1", None).await.unwrap_err();
    assert!(e.contains("dial tcp 127.0.0.1:1:") && e.contains("refused"), "{e}");
    let e = pull(dir.path(), "Bad", None).await.unwrap_err();
    assert!(e.starts_with("couldn't parse image name \"Bad\""), "{e}");
}

#[tokio::test]
async fn credentials_and_tokens() {
    let (blobs, top) = image();
    let registry = Registry::start(|at| {
        Arc::new(move |path, authorization| {
            let basic = Some("Basic bWU6c2VjcmV0");
            if path.starts_with("/token") {
                assert!(
                    path.contains("service=lab%20registry") && path.contains("scope=repository:app:pull")
                );
                return match authorization == basic {
                    true => (200, Vec::new(), br#"{"token":"t0ken"}"#.to_vec()),
                    false => error(401, "DENIED", "who are you"),
                };
            }
            if authorization == Some("Bearer t0ken") || path.starts_with("/storage/") {
                return content(&blobs, &top, path);
            }
            let challenge = format!(
                "Bearer realm=\"http://{at}/token\",service=\"lab registry\",scope=\"repository:app:pull\""
            );
            (401, vec![("www-authenticate", challenge)], Vec::new())
        })
    });
    let dir = tempfile::tempdir().unwrap();
    let reference = registry.reference("app:1");
    let e = pull(dir.path(), &reference, None).await.unwrap_err();
    assert!(e.contains("401 Unauthorized: denied: who are you"), "{e}");
    assert_eq!(pull(dir.path(), &reference, login()).await, Ok(reference));
    let asked = registry.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|a| a.starts_with("/token")).count(), 2, "{asked:?}");
}

#[tokio::test]
async fn wrong_content_is_refused() {
    let (blobs, top) = image();
    for kind in ["manifest", "layer"] {
        let (blobs, top) = (blobs.clone(), top.clone());
        let registry = Registry::start(move |_| {
            Arc::new(move |path, _| {
                let mut answer = content(&blobs, &top, path);
                let is_manifest = path.contains("/manifests/sha256");
                let is_layer = answer.2.starts_with(&[0x1f, 0x8b]);
                if (kind == "manifest" && is_manifest) || (kind == "layer" && is_layer) {
                    let middle = answer.2.len() / 2;
                    answer.2[middle] ^= 1;
                }
                answer
            })
        });
        let dir = tempfile::tempdir().unwrap();
        let e = pull(dir.path(), &registry.reference("app:1"), None).await;
        assert!(e.is_err(), "{kind}: {e:?}");
        let store = ImageStore::open(dir.path()).unwrap();
        assert!(store.list().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(store.layers_dir()).unwrap().count(), 0, "{kind}");
    }
}

#[tokio::test]
async fn tls_with_an_authority_of_ones_own() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let (blobs, top) = image();
    let rules = |_| -> Rules { Arc::new(move |path, _| content(&blobs, &top, path)) };
    let registry = Registry::start_with(rules, Some(Arc::new(server)));
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let reference = registry.reference("app:1");
    let config = RegistryConfig { ca_files: vec![ca], ..RegistryConfig::default() };
    assert_eq!(pull_with(dir.path(), &reference, None, config).await, Ok(reference.clone()));
    // Without that authority there is no trust, and no falling back to plain HTTP that works.
    assert!(pull(dir.path(), &reference, None).await.is_err());
}
