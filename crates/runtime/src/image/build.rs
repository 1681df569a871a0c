//! Makes an image of a few files: a single-layer OCI archive. For the example, whose image
//! is the carrack binary alone, and for tests.
//!
//! What always holds: the same input gives the same bytes (no times, root owns everything).

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::image::config::{Descriptor, ImageDocument, Manifest, Platform, RootFs, RunConfig, architecture};
use crate::image::unpack::hex;
use crate::traits::ImageConfig;

/// A file of an image.
#[derive(Clone, Debug)]
pub struct BuildFile {
    /// Absolute path in the image; parents are made.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Its mode, such as 0o755.
    pub mode: u32,
}

/// Writes an archive with one image named `reference` to `out`; answers its id.
pub fn oci_archive(
    reference: &str,
    files: &[BuildFile],
    config: &ImageConfig,
    out: impl Write,
) -> io::Result<String> {
    let layer = layer(files)?;
    let layer_digest = digest(&layer);
    let document = serde_json::to_vec(&ImageDocument {
        architecture: architecture().to_owned(),
        os: "linux".to_owned(),
        config: Some(RunConfig::from(config)),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer_digest.clone()] },
    })?;
    let descriptor = |media_type: &str, bytes: &[u8]| Descriptor {
        media_type: media_type.to_owned(),
        digest: digest(bytes),
        size: bytes.len() as u64,
        ..Descriptor::default()
    };
    let manifest = serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        config: Some(descriptor("application/vnd.oci.image.config.v1+json", &document)),
        layers: vec![descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        manifests: Vec::new(),
    })?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry.annotations.insert("io.containerd.image.name".to_owned(), reference.to_owned());
    entry.annotations.insert("org.opencontainers.image.ref.name".to_owned(), reference.to_owned());
    entry.platform =
        Some(Platform { architecture: architecture().to_owned(), os: "linux".into(), variant: None });
    let index =
        serde_json::to_vec(&Manifest { schema_version: 2, manifests: vec![entry], ..Manifest::default() })?;
    let mut tar = tar::Builder::new(out);
    let mut add = |name: &str, bytes: &[u8]| append(&mut tar, name, bytes, 0o644);
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", &index)?;
    for blob in [&manifest, &document, &layer] {
        add(&format!("blobs/{}", digest(blob).replace(':', "/")), blob)?;
    }
    tar.into_inner()?.flush()?;
    Ok(digest(&document))
}

fn layer(files: &[BuildFile]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut made: Vec<String> = Vec::new();
    for file in files {
        let path = file.path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            let folder = format!("{}/", &path[..at]);
            if !made.contains(&folder) {
                let mut header = header(0, 0o755);
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, &folder, io::empty())?;
                made.push(folder);
            }
        }
        append(&mut tar, path, &file.content, file.mode)?;
    }
    tar.into_inner()
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64, mode), name, bytes)
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}
