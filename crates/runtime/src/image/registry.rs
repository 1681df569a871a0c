//! Pulling images from OCI registries (distribution spec 1.1).
//!
//! What always holds: every manifest, config and layer is checked against its digest before
//! it counts; documents and layers are limited to what their descriptors say; credentials
//! go only to the registry they are for and to the token service it names, never along a
//! redirect, and appear in no error or log.

mod auth;
mod http;
mod resolve;

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::error::{Result, RuntimeError};
use crate::image::config::{ACCEPT, Descriptor, Manifest};
use crate::image::reference::{Reference, is_digest};
use crate::image::store::{ImageStore, parse_config};
use crate::image::unpack::hex;
use crate::traits::{ImageStatus, RegistryAuth};
use auth::Session;
use http::{HttpClient, IDLE, Response};

/// Longest manifest or configuration.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Layers of one image that come at a time.
const PARALLEL: usize = 3;
/// Compressed bytes of one layer.
const MAX_LAYER: u64 = 32 << 30;

/// Registries with special treatment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// `host` or `host:port` that may be spoken to without TLS; loopback always may.
    pub insecure: Vec<String>,
    /// Files with further certificate authorities, PEM.
    pub ca_files: Vec<PathBuf>,
}

/// The registries of the world, as reached from here.
pub struct Registries {
    http: HttpClient,
    /// One turn per layer being fetched, so that two images fetch a common one once.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// One pull under way.
struct Pull<'a> {
    registries: &'a Registries,
    store: &'a ImageStore,
    reference: &'a Reference,
    session: Session<'a>,
}

impl Registries {
    /// Nothing is read or reached before the first pull.
    pub fn new(config: RegistryConfig) -> Self {
        Self { http: HttpClient::new(config), turns: Mutex::default() }
    }

    /// Pulls an image into the store.
    pub async fn pull(
        &self,
        store: &ImageStore,
        reference: &str,
        auth: Option<&RegistryAuth>,
    ) -> Result<ImageStatus> {
        let reference = Reference::parse(reference)?;
        let session = Session::new(&self.http, &reference, auth);
        Pull { registries: self, store, reference: &reference, session }.run().await
    }

    fn turn(&self, diff_id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(diff_id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(diff_id.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

impl Pull<'_> {
    async fn run(mut self) -> Result<ImageStatus> {
        let (digest, mut manifest) = self.manifest(self.reference.manifest()).await?;
        if !manifest.manifests.is_empty() {
            let here = manifest.for_this_machine().map(|d| d.digest.clone());
            let here = here.ok_or_else(|| self.error("no match for platform in manifest: not found"))?;
            manifest = self.manifest(&here).await?.1;
        }
        let descriptor = manifest.config.as_ref();
        let descriptor = descriptor.ok_or_else(|| self.error("the manifest has no config"))?;
        let config = self.document(descriptor).await?;
        let (id, document) = parse_config(&config)?;
        let diff_ids = &document.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(self.error(format!("image {id} states another number of layers than it has")));
        }
        let this = &self;
        let each = diff_ids.iter().zip(&manifest.layers);
        let fetches: Vec<_> = each.map(|(diff_id, layer)| this.layer(diff_id, layer)).collect();
        futures::stream::iter(fetches).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        let (store, reference) = (self.store.clone(), self.reference.clone());
        blocking(move || store.add_image(&config, Some(&reference), Some(&digest))).await
    }

    fn error(&self, message: impl ToString) -> RuntimeError {
        RuntimeError::Pull { reference: self.reference.to_string(), message: message.to_string() }
    }

    /// A manifest by tag or digest, with its digest.
    async fn manifest(&mut self, which: &str) -> Result<(String, Manifest)> {
        let path = format!("/v2/{}/manifests/{which}", self.reference.repository);
        let response = self.session.get(&path, Some(ACCEPT)).await?;
        let stated = response.headers().get("docker-content-digest").cloned();
        let body = self.collect(response, MAX_DOCUMENT).await?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&body)));
        let stated = stated.as_ref().and_then(|d| d.to_str().ok()).filter(|d| is_digest(d));
        let wanted = if is_digest(which) { Some(which) } else { stated };
        if wanted.is_some_and(|wanted| wanted != digest) {
            let wanted = wanted.unwrap_or_default();
            return Err(self.error(format!("the manifest has digest {digest}, not {wanted}")));
        }
        let manifest =
            serde_json::from_slice(&body).map_err(|e| self.error(format!("manifest {digest}: {e}")))?;
        Ok((digest, manifest))
    }

    async fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > MAX_DOCUMENT {
            return Err(self.error(format!("a config of {} bytes", descriptor.size)));
        }
        let response = self.blob(descriptor).await?;
        let body = self.collect(response, MAX_DOCUMENT).await?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&body)));
        if digest != descriptor.digest {
            return Err(self.error(format!("blob {} has digest {digest}", descriptor.digest)));
        }
        Ok(body)
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Response> {
        if !is_digest(&descriptor.digest) {
            return Err(self.error(format!("\"{}\" is no sha256 digest", descriptor.digest)));
        }
        let path = format!("/v2/{}/blobs/{}", self.reference.repository, descriptor.digest);
        self.session.get(&path, None).await
    }

    async fn collect(&self, response: Response, limit: u64) -> Result<Vec<u8>> {
        http::collect(response, limit).await.map_err(|e| self.error(e))
    }

    /// Fetches and unpacks a layer at the same time.
    async fn layer(&self, diff_id: &str, descriptor: &Descriptor) -> Result<()> {
        let turn = self.registries.turn(diff_id);
        let _mine = turn.lock().await;
        if self.store.layer(diff_id)?.is_some() {
            return Ok(());
        }
        if descriptor.size > MAX_LAYER {
            return Err(self.error(format!("a layer of {} bytes", descriptor.size)));
        }
        let response = self.blob(descriptor).await?;
        let (sender, receiver) = mpsc::channel(16);
        let (store, diff_id) = (self.store.clone(), diff_id.to_owned());
        let unpacking =
            blocking(move || store.add_layer(&diff_id, Incoming { receiver, current: Bytes::new() }));
        let (layer, ()) = tokio::join!(unpacking, forward(response, descriptor, sender));
        layer.map(drop).map_err(|e| self.error(e))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(RuntimeError::Conflict(format!("a background task failed: {e}"))),
    }
}

/// Passes a body on, ending with an error unless it is what the descriptor says.
async fn forward(mut response: Response, descriptor: &Descriptor, to: mpsc::Sender<io::Result<Bytes>>) {
    let (mut hash, mut size) = (Sha256::new(), 0u64);
    let end = loop {
        let frame = match tokio::time::timeout(IDLE, response.frame()).await {
            Err(_) => break Err(io::Error::other("the registry stopped sending")),
            Ok(None) => break Ok(()),
            Ok(Some(Err(e))) => break Err(io::Error::other(e)),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        size += data.len() as u64;
        hash.update(&data);
        if size > descriptor.size {
            break Err(io::Error::other("the registry sends more than it announced"));
        }
        // Once the archive has ended, nobody wants the rest.
        if to.send(Ok(data)).await.is_err() {
            return;
        }
    };
    let digest = format!("sha256:{}", hex(&hash.finalize()));
    let end = end.and_then(|()| {
        let same = digest == descriptor.digest;
        let words = || format!("blob {} has digest {digest}", descriptor.digest);
        if same { Ok(()) } else { Err(io::Error::other(words())) }
    });
    if let Err(e) = end {
        let _ = to.send(Err(e)).await;
    }
}

/// A body as a reader, for a thread that may wait.
struct Incoming {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(data) => self.current = data?,
            }
        }
        let n = buffer.len().min(self.current.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}
