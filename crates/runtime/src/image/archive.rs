//! Images from archives: what `docker save` writes and OCI image layouts, as tar files,
//! also gzipped.
//!
//! What always holds: the archive is read where it lies, by the places of its members;
//! only layers are unpacked, by `unpack`. Documents in it are limited in size, and digests
//! that an archive states are checked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Result, RuntimeError};
use crate::image::config::{Descriptor, DockerEntry, Manifest};
use crate::image::reference::{Reference, is_digest};
use crate::image::store::{ImageStore, parse_config};
use crate::image::unpack::{decompress, hex};
use crate::traits::ImageStatus;

/// Longest manifest, index or configuration.
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// Members of an archive.
const MAX_MEMBERS: usize = 100_000;

/// Imports every image of an archive.
pub fn import(store: &ImageStore, path: &Path) -> Result<Vec<ImageStatus>> {
    let mut archive = Archive::open(path)?;
    if archive.has("manifest.json") {
        return import_docker(store, &mut archive);
    }
    if archive.has("index.json") {
        return import_oci(store, &mut archive);
    }
    Err(invalid("neither manifest.json (docker save) nor index.json (OCI layout) is in the archive"))
}

fn import_docker(store: &ImageStore, archive: &mut Archive) -> Result<Vec<ImageStatus>> {
    let entries: Vec<DockerEntry> = archive.json("manifest.json")?;
    let mut imported = Vec::new();
    for entry in entries {
        let config = archive.document(&entry.config)?;
        let (id, document) = parse_config(&config)?;
        if document.rootfs.diff_ids.len() != entry.layers.len() {
            return Err(invalid(&format!("image {id} states another number of layers than it has")));
        }
        for (diff_id, layer) in document.rootfs.diff_ids.iter().zip(&entry.layers) {
            store.add_layer(diff_id, archive.member(layer)?)?;
        }
        let mut status = store.add_image(&config, None, None)?;
        for tag in entry.repo_tags.unwrap_or_default() {
            status = store.add_image(&config, Some(&Reference::parse(&tag)?), None)?;
        }
        imported.push(status);
    }
    Ok(imported)
}

fn import_oci(store: &ImageStore, archive: &mut Archive) -> Result<Vec<ImageStatus>> {
    let index: Manifest = archive.json("index.json")?;
    let mut imported = Vec::new();
    for descriptor in &index.manifests {
        let reference = reference(descriptor)?;
        let mut manifest: Manifest = archive.blob_json(descriptor)?;
        if !manifest.manifests.is_empty() {
            let here = manifest.for_this_machine().cloned();
            let here = here.ok_or_else(|| invalid("no image for this machine's architecture"))?;
            manifest = archive.blob_json(&here)?;
        }
        let Some(config) = &manifest.config else {
            return Err(invalid("a manifest without config"));
        };
        let config = archive.blob(config)?;
        let (id, document) = parse_config(&config)?;
        if document.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(invalid(&format!("image {id} states another number of layers than it has")));
        }
        for (diff_id, layer) in document.rootfs.diff_ids.iter().zip(&manifest.layers) {
            store.add_layer(diff_id, archive.member(&blob_path(layer)?)?)?;
        }
        let digest = reference.as_ref().map(|_| descriptor.digest.as_str());
        imported.push(store.add_image(&config, reference.as_ref(), digest)?);
    }
    Ok(imported)
}

/// The name of an image in a layout: containerd's annotation is a whole reference, the
/// standard one may be a mere tag, which names nothing by itself.
fn reference(descriptor: &Descriptor) -> Result<Option<Reference>> {
    let full = descriptor.annotations.get("io.containerd.image.name");
    let standard = descriptor.annotations.get("org.opencontainers.image.ref.name");
    let named = full.or(standard.filter(|name| name.contains(['/', ':'])));
    named.map(|name| Reference::parse(name)).transpose()
}

fn blob_path(descriptor: &Descriptor) -> Result<String> {
    if !is_digest(&descriptor.digest) {
        return Err(invalid(&format!("\"{}\" is no sha256 digest", descriptor.digest)));
    }
    Ok(format!("blobs/{}", descriptor.digest.replace(':', "/")))
}

fn invalid(words: &str) -> RuntimeError {
    RuntimeError::InvalidImage(words.to_owned())
}

struct Archive {
    file: File,
    /// Offset and length of each member.
    members: HashMap<String, (u64, u64)>,
    /// docker writes links between equal layers.
    links: HashMap<String, String>,
}

impl Archive {
    fn open(path: &Path) -> Result<Self> {
        let bad = |e: io::Error| RuntimeError::InvalidImage(format!("{}: {e}", path.display()));
        let mut file = File::open(path).map_err(RuntimeError::io("open", path))?;
        let mut head = [0; 2];
        let n = file.read(&mut head).map_err(bad)?;
        file.rewind().map_err(bad)?;
        if head[..n] == [0x1f, 0x8b] {
            // To be read here and there, it must be plain.
            let mut plain = unnamed_file(path)?;
            let mut from = decompress(file).map_err(bad)?;
            io::copy(&mut from, &mut plain).map_err(bad)?;
            plain.rewind().map_err(bad)?;
            file = plain;
        }
        let (mut members, mut links) = (HashMap::new(), HashMap::new());
        let mut tar = tar::Archive::new(&file);
        for entry in tar.entries_with_seek().map_err(bad)? {
            let entry = entry.map_err(bad)?;
            let name = clean(&String::from_utf8_lossy(&entry.path_bytes()));
            if members.len() >= MAX_MEMBERS {
                return Err(invalid(&format!("more than {MAX_MEMBERS} members in the archive")));
            }
            if let Some(link) = entry.link_name_bytes() {
                let link = String::from_utf8_lossy(&link).into_owned();
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let is_symlink = entry.header().entry_type() == tar::EntryType::Symlink;
                let target = if is_symlink { format!("{folder}/{link}") } else { link };
                links.insert(name, clean(&target));
            } else {
                members.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        Ok(Self { file, members, links })
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let name = clean(name);
        let name = self.links.get(&name).unwrap_or(&name);
        self.members.get(name).copied()
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn member(&mut self, name: &str) -> Result<impl Read + Send + use<>> {
        let (offset, length) =
            self.find(name).ok_or_else(|| invalid(&format!("\"{name}\" is missing in the archive")))?;
        let bad = |e: io::Error| invalid(&format!("\"{name}\": {e}"));
        let mut file = self.file.try_clone().map_err(bad)?;
        file.seek(SeekFrom::Start(offset)).map_err(bad)?;
        Ok(io::BufReader::with_capacity(1 << 16, file.take(length)))
    }

    fn document(&mut self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let member = self.member(name)?;
        member.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(|e| invalid(&e.to_string()))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(invalid(&format!("\"{name}\" is larger than {MAX_DOCUMENT} bytes")));
        }
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let bytes = self.document(name)?;
        serde_json::from_slice(&bytes).map_err(|e| invalid(&format!("\"{name}\": {e}")))
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.document(&blob_path(descriptor)?)?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        if digest != descriptor.digest {
            return Err(invalid(&format!("blob {} has digest {digest}", descriptor.digest)));
        }
        Ok(bytes)
    }

    fn blob_json<T: serde::de::DeserializeOwned>(&mut self, descriptor: &Descriptor) -> Result<T> {
        let bytes = self.blob(descriptor)?;
        serde_json::from_slice(&bytes).map_err(|e| invalid(&format!("blob {}: {e}", descriptor.digest)))
    }
}

/// A file without a name beside the archive, or in `/tmp` where that is not possible.
fn unnamed_file(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let open = |dir: &Path| {
        File::options().read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(dir)
    };
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    open(beside)
        .or_else(|_| open(&std::env::temp_dir()))
        .map_err(RuntimeError::io("create a file in", beside))
}

fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}
