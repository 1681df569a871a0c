//! The images of a node on disk: unpacked layers, shared between images, and an index.
//!
//! ```text
//! images/images.json            the index: a list of [`Image`]
//! images/layers/<24 hex>/       a layer, ready to be an overlay's lower directory
//! images/layers/<24 hex>.json   its full digest and size; there once it is complete
//! images/lock                   taken by whoever changes any of this, in any process
//! ```
//!
//! What always holds: the index names only complete layers; it is replaced atomically
//! after they are on disk; nothing is cached, so that `carrack image` and a running agent
//! can share it. Layers that no image and no container uses go when an image is removed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::bundle::{Launch, read_json, write_json};
use crate::error::{Result, RuntimeError};
use crate::image::config::{ImageDocument, RunConfig};
use crate::image::reference::{Reference, is_digest};
use crate::image::unpack;
use crate::traits::ImageStatus;

/// Hex digits of a layer's directory name: short, because overlayfs takes the names of
/// all layers in one page. The full digest is checked besides.
const NAME_DIGITS: usize = 24;

/// An image in the index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    /// What the outside sees.
    #[serde(flatten)]
    pub status: ImageStatus,
    /// Directory names of its layers, the topmost first.
    pub layers: Vec<String>,
}

/// A complete layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Layer {
    /// Digest of the uncompressed archive.
    pub diff_id: String,
    /// Bytes of its files.
    pub size: u64,
}

/// The store of one data directory.
#[derive(Clone, Debug)]
pub struct ImageStore {
    dir: PathBuf,
    run_dir: PathBuf,
}

impl ImageStore {
    /// Opens (or makes) the store of a data directory.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let store = Self { dir: data_dir.join("images"), run_dir: data_dir.join("run") };
        let layers = store.layers_dir();
        // Layers hold set-user-id programs: nobody else may reach them on the node.
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&layers).map_err(RuntimeError::io("create", &layers))?;
        Ok(store)
    }

    /// Where layers are.
    pub fn layers_dir(&self) -> PathBuf {
        self.dir.join("layers")
    }

    /// All images.
    pub fn list(&self) -> Result<Vec<Image>> {
        match read_json(&self.dir.join("images.json")) {
            Err(RuntimeError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            images => images,
        }
    }

    /// The image that a reference, digest or id (in full or `sha256:`-less) names.
    pub fn find(&self, reference: &str) -> Result<Option<Image>> {
        let images = self.list()?;
        let id =
            |i: &Image| i.status.id == reference || i.status.id.strip_prefix("sha256:") == Some(reference);
        if let Some(image) = images.iter().find(|i| id(i)) {
            return Ok(Some(image.clone()));
        }
        let reference = Reference::parse(reference)?;
        let wanted = names(&reference);
        Ok(images.into_iter().find(|i| {
            let mut all = i.status.repo_tags.iter().chain(&i.status.repo_digests);
            all.any(|name| *name == wanted)
        }))
    }

    /// A complete layer of that digest, if it is here.
    pub fn layer(&self, diff_id: &str) -> Result<Option<Layer>> {
        let marker = self.layers_dir().join(format!("{}.json", layer_name(diff_id)?));
        if !marker.exists() {
            return Ok(None);
        }
        let layer: Layer = read_json(&marker)?;
        if layer.diff_id != diff_id {
            let words = format!("layers {diff_id} and {} collide", layer.diff_id);
            return Err(RuntimeError::InvalidImage(words));
        }
        Ok(Some(layer))
    }

    /// Unpacks a layer, unless it is here. `diff_id` is what it must turn out to be.
    pub fn add_layer(&self, diff_id: &str, content: impl Read + Send) -> Result<Layer> {
        if let Some(layer) = self.layer(diff_id)? {
            return Ok(layer);
        }
        let name = layer_name(diff_id)?;
        let temporary = self.layers_dir().join(format!("tmp-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&temporary).map_err(RuntimeError::io("create", &temporary))?;
        let unpacked = unpack::unpack(content, &temporary).and_then(|unpacked| {
            if unpacked.diff_id == diff_id {
                return Ok(unpacked);
            }
            let words = format!("layer {diff_id} unpacks to {}", unpacked.diff_id);
            Err(RuntimeError::InvalidImage(words))
        });
        let unpacked = unpacked.inspect_err(|_| drop(fs::remove_dir_all(&temporary)))?;
        let layer = Layer { diff_id: unpacked.diff_id, size: unpacked.size };
        let _lock = self.lock()?;
        if self.layer(diff_id)?.is_some() {
            // Somebody else was faster.
            let _ = fs::remove_dir_all(&temporary);
            return Ok(layer);
        }
        let place = self.layers_dir().join(&name);
        let _ = fs::remove_dir_all(&place);
        fs::rename(&temporary, &place).map_err(RuntimeError::io("rename", &place))?;
        write_json(&self.layers_dir().join(format!("{name}.json")), &layer)?;
        Ok(layer)
    }

    /// Records an image whose layers are all here. Its reference moves away from the image
    /// that had it before.
    pub fn add_image(
        &self,
        config: &[u8],
        reference: Option<&Reference>,
        manifest_digest: Option<&str>,
    ) -> Result<ImageStatus> {
        let (id, document) = parse_config(config)?;
        let mut image = Image::default();
        for diff_id in &document.rootfs.diff_ids {
            let layer = self.layer(diff_id)?.ok_or_else(|| {
                RuntimeError::InvalidImage(format!("layer {diff_id} of image {id} is missing"))
            })?;
            image.status.size += layer.size;
            image.layers.insert(0, layer_name(diff_id)?);
        }
        // A crash of the machine must not leave an index that names half a layer.
        unpack::sync_file_system(&self.dir).map_err(RuntimeError::io("sync", &self.dir))?;
        let _lock = self.lock()?;
        let mut images = self.list()?;
        if let Some(at) = images.iter().position(|i| i.status.id == id) {
            image = images.remove(at);
        }
        image.status.id = id;
        image.status.config = document.config.unwrap_or_else(RunConfig::default).into();
        if let Some(reference) = reference {
            let tag = reference.tagged();
            let digest = manifest_digest.map(|d| reference.with_digest(d));
            for other in &mut images {
                other.status.repo_tags.retain(|t| Some(t) != tag.as_ref());
            }
            for (list, name) in [(&mut image.status.repo_tags, tag), (&mut image.status.repo_digests, digest)]
            {
                if let Some(name) = name.filter(|n| !list.contains(n)) {
                    list.push(name);
                }
            }
        }
        let status = image.status.clone();
        images.push(image);
        self.write(&images)?;
        Ok(status)
    }

    /// Removes a reference, or with an id all of an image's; with its last reference an
    /// image goes, and with the last user its layers.
    pub fn remove(&self, reference: &str) -> Result<()> {
        let image = self.find(reference)?;
        let image = image.ok_or_else(|| RuntimeError::ImageNotFound(reference.to_owned()))?;
        let _lock = self.lock()?;
        let mut images = self.list()?;
        let name = Reference::parse(reference).map(|r| names(&r)).unwrap_or_default();
        for other in images.iter_mut().filter(|i| i.status.id == image.status.id) {
            let status = &mut other.status;
            if status.repo_tags.contains(&name) || status.repo_digests.contains(&name) {
                status.repo_tags.retain(|t| *t != name);
                status.repo_digests.retain(|d| *d != name);
            } else {
                status.repo_tags.clear();
            }
            if status.repo_tags.is_empty() {
                status.repo_digests.clear();
            }
        }
        images.retain(|i| i.status.id != image.status.id || !i.status.repo_tags.is_empty());
        self.write(&images)?;
        self.collect(&images)
    }

    /// Removes layers that neither an image nor a container uses.
    fn collect(&self, images: &[Image]) -> Result<()> {
        let mut used: BTreeSet<String> = images.iter().flat_map(|i| i.layers.clone()).collect();
        for sandbox in fs::read_dir(&self.run_dir).into_iter().flatten().flatten() {
            let containers = fs::read_dir(sandbox.path().join("containers"));
            for container in containers.into_iter().flatten().flatten() {
                let launch = read_json::<Launch>(&container.path().join(crate::bundle::LAUNCH));
                used.extend(launch.into_iter().flat_map(|l| l.rootfs.lower));
            }
        }
        let dir = self.layers_dir();
        for entry in fs::read_dir(&dir).map_err(RuntimeError::io("read", &dir))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let layer = name.strip_suffix(".json");
            if let Some(layer) = layer.filter(|l| !used.contains(*l)) {
                // The marker first: without it the directory counts for nothing.
                let _ = fs::remove_file(entry.path());
                let _ = fs::remove_dir_all(dir.join(layer));
            }
        }
        Ok(())
    }

    fn write(&self, images: &[Image]) -> Result<()> {
        write_json(&self.dir.join("images.json"), &images)
    }

    fn lock(&self) -> Result<Flock<File>> {
        let path = self.dir.join("lock");
        let file = File::create(&path).map_err(RuntimeError::io("create", &path))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| RuntimeError::io("lock", &path)(e.into()))
    }
}

/// An image's id and configuration from the bytes of its config.
pub fn parse_config(config: &[u8]) -> Result<(String, ImageDocument)> {
    use sha2::Digest;
    let id = format!("sha256:{}", unpack::hex(&sha2::Sha256::digest(config)));
    let document: ImageDocument = serde_json::from_slice(config)
        .map_err(|e| RuntimeError::InvalidImage(format!("config {id}: {e}")))?;
    if document.rootfs.diff_ids.is_empty() {
        return Err(RuntimeError::InvalidImage(format!("config {id} names no layers")));
    }
    if !document.rootfs.diff_ids.iter().all(|d| is_digest(d)) {
        return Err(RuntimeError::InvalidImage(format!("config {id} has a malformed diff_id")));
    }
    Ok((id, document))
}

/// How a reference stands in the index: by digest when it has one, else by tag.
fn names(reference: &Reference) -> String {
    match &reference.digest {
        Some(digest) => reference.with_digest(digest),
        None => reference.tagged().unwrap_or_default(),
    }
}

fn layer_name(diff_id: &str) -> Result<String> {
    if !is_digest(diff_id) {
        return Err(RuntimeError::InvalidImage(format!("\"{diff_id}\" is no sha256 digest")));
    }
    Ok(diff_id["sha256:".len()..][..NAME_DIGITS].to_owned())
}
