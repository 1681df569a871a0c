//! Layers and archives: what overlayfs is given, and what is refused. Needs root, for
//! devices, owners and overlayfs' attributes.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use carrack_runtime::image::{ImageStore, import};
use sha2::{Digest, Sha256};
use tar::EntryType;

fn skip() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    !root
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// An entry: type, path, link target or content, mode.
type Entry<'a> = (EntryType, &'a str, &'a str, u32);

/// Names go in as they are, which the tar crate's own helpers would refuse.
fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, text, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        let is_file = *kind == EntryType::Regular;
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        if *kind == EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        let content = if is_file { text.as_bytes() } else { b"" };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// `docker save` of one image with these layers, each in its own form.
fn archive(layers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|(plain, _)| digest(plain)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["/x"], "Env": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = serde_json::json!([{
        "Config": "config.json", "RepoTags": ["app:1", "other/app:2"], "Layers": names,
    }]);
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    add("config.json", config.as_bytes());
    for (name, (_, stored)) in names.iter().zip(layers) {
        add(name, stored);
    }
    add("manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// Imports one layer; answers the store's directory and the layer's, or the error.
fn unpack(entries: &[Entry<'_>]) -> Result<(tempfile::TempDir, PathBuf), String> {
    let dir = tempfile::tempdir().unwrap();
    let plain = layer(entries);
    let file = dir.path().join("a.tar");
    std::fs::write(&file, archive(&[(plain.clone(), plain)])).unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    match import(&store, &file) {
        Ok(_) => {
            let image = store.find("app:1").unwrap().unwrap();
            let layer = store.layers_dir().join(&image.layers[0]);
            Ok((dir, layer))
        }
        Err(e) => {
            let left = std::fs::read_dir(store.layers_dir()).unwrap().count();
            assert_eq!(left, 0, "half a layer is left");
            Err(e.to_string())
        }
    }
}

const DIR: EntryType = EntryType::Directory;
const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

#[test]
fn a_layer_becomes_a_lower_directory() {
    if skip() {
        return;
    }
    let (_dir, root) = unpack(&[
        (DIR, "./", "", 0o711),
        (DIR, "usr/", "", 0o755),
        (FILE, "usr/bin/tool", "content", 0o4755),
        (HARD, "usr/bin/same", "usr/bin/tool", 0o755),
        (LINK, "bin", "usr/bin", 0o777),
        (FILE, "bin/through", "a link", 0o600),
        (EntryType::Char, "dev/null", "", 0o666),
        (EntryType::Fifo, "fifo", "", 0o640),
        (FILE, "etc/.wh.gone", "", 0o644),
        (FILE, "opt/.wh..wh..opq", "", 0o644),
        (FILE, ".wh..wh.plnk", "", 0o644),
        (FILE, "twice", "first", 0o644),
        (FILE, "twice", "second", 0o644),
        (DIR, "was-dir/", "", 0o755),
        (FILE, "was-dir/x", "", 0o644),
        (FILE, "was-dir", "now a file", 0o644),
    ])
    .unwrap();
    let meta = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!(meta("").permissions().mode() & 0o7777, 0o711);
    let tool = meta("usr/bin/tool");
    assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.gid(), tool.mtime()), (0o4755, 7, 8, 1_000_000));
    assert_eq!((tool.nlink(), tool.ino()), (2, meta("usr/bin/same").ino()));
    assert_eq!(meta("usr").mtime(), 1_000_000);
    assert!(meta("bin").is_symlink());
    assert_eq!(std::fs::read_to_string(root.join("usr/bin/through")).unwrap(), "a link");
    assert_eq!(meta("dev/null").rdev(), nix::sys::stat::makedev(1, 3));
    assert!(meta("fifo").file_type().is_fifo());
    assert_eq!(meta("etc/gone").rdev(), 0);
    assert!(meta("etc/gone").file_type().is_char_device());
    assert_eq!(std::fs::read_to_string(root.join("twice")).unwrap(), "second");
    assert_eq!(std::fs::read_to_string(root.join("was-dir")).unwrap(), "now a file");
    assert!(!root.join(".wh..wh.plnk").exists() && !root.join("opt/.wh..wh..opq").exists());
    let opaque = std::process::Command::new("getfattr")
        .args(["-n", "trusted.overlay.opaque", "--only-values"])
        .arg(root.join("opt"))
        .output();
    // Not every machine has the program; the overlay test below needs none.
    if let Ok(output) = opaque {
        assert_eq!(output.stdout, b"y");
    }
}

#[test]
fn nothing_leaves_the_layer() {
    if skip() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap().to_owned();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let victim_text = victim.to_str().unwrap().to_owned();
    // Links that lead out are kept as they are, and followed only inside.
    let inside = target.trim_start_matches('/').to_owned();
    let (_dir, root) = unpack(&[
        (DIR, &inside, "", 0o755),
        (LINK, "out", &target, 0o777),
        (FILE, "out/new", "x", 0o644),
        (LINK, "up", "../../../../../../..", 0o777),
        (FILE, "up/at-root", "x", 0o644),
        (LINK, "victim", &victim_text, 0o777),
        (FILE, "victim", "overwritten", 0o644),
    ])
    .unwrap();
    assert!(!outside.path().join("new").exists());
    assert!(root.join(&inside).join("new").exists());
    assert!(root.join("at-root").exists() && !Path::new("/at-root").exists());
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    for (entries, expect) in [
        (vec![(FILE, "../escape", "x", 0o644)], "leads outside"),
        (vec![(FILE, "a/../../escape", "x", 0o644)], "leads outside"),
        (vec![(HARD, "link", "../../etc/passwd", 0o644)], "leads outside"),
        (vec![(HARD, "link", "/etc/passwd", 0o644)], "No such file"),
        (vec![(LINK, "out", &target, 0o777), (FILE, "out/x", "", 0o644)], "No such file"),
        (vec![(FILE, "a/.wh...", "", 0o644)], "whiteout"),
        (vec![(FILE, "a/.wh.", "", 0o644)], "whiteout"),
    ] {
        let e = unpack(&entries).map(drop).unwrap_err();
        assert!(e.contains(expect), "{entries:?}: {e}");
    }
}

#[test]
fn archives_of_every_form() {
    if skip() {
        return;
    }
    let plain = layer(&[(FILE, "one", "1", 0o644)]);
    let second = layer(&[(FILE, "two", "2", 0o644)]);
    let whole = archive(&[(plain.clone(), plain.clone()), (second.clone(), gzip(&second))]);
    for (name, bytes) in [("plain", whole.clone()), ("gzipped", gzip(&whole))] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.tar");
        std::fs::write(&file, bytes).unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let images = import(&store, &file).unwrap();
        assert_eq!(images[0].repo_tags, ["docker.io/library/app:1", "docker.io/other/app:2"], "{name}");
        let image = store.find("app:1").unwrap().unwrap();
        assert!(store.layers_dir().join(&image.layers[0]).join("two").exists(), "topmost first");
        assert_eq!(image.status.config.cmd, ["/x"]);
        // One reference goes, then the other with everything.
        store.remove("app:1").unwrap();
        assert!(store.find("app:1").unwrap().is_none());
        assert!(store.find(&image.status.id).unwrap().is_some());
        store.remove("other/app:2").unwrap();
        assert_eq!(std::fs::read_dir(store.layers_dir()).unwrap().count(), 0);
    }
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    let file = dir.path().join("bad.tar");
    for (bytes, expect) in [
        (b"not a tar at all".to_vec(), "invalid image content"),
        (layer(&[(FILE, "x", "y", 0o644)]), "neither manifest.json (docker save) nor index.json"),
        (archive(&[(plain, second)]), "unpacks to sha256:"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let e = import(&store, &file).unwrap_err().to_string();
        assert!(e.contains(expect), "{e}");
    }
    assert!(import(&store, Path::new("/no/such/file")).is_err());
}
