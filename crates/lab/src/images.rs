//! Programs and images from Debian's packages, fetched once with apt and kept in the
//! lab's cache. Nothing is installed on the host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use carrack_runtime::ImageConfig;
use carrack_runtime::image::build::BuildFile;

use crate::machine::run;
use crate::paths;

/// One archive at a time: tests ask for the same ones at once.
static MAKE: Mutex<()> = Mutex::new(());
/// One fetch at a time: apt has a lock of its own, which fails instead of waiting.
static FETCH: Mutex<()> = Mutex::new(());

/// Debian's static busybox: the shell and the tools of machines and test images.
///
/// # Errors
/// It cannot be fetched.
pub fn busybox() -> Result<PathBuf> {
    Ok(packages(&["busybox-static"])?.join("bin/busybox"))
}

/// A tree with these packages unpacked, and nothing else: dependencies are named, not
/// resolved, so that images stay small.
///
/// # Errors
/// A package cannot be fetched or unpacked.
pub fn packages(names: &[&str]) -> Result<PathBuf> {
    let tree = paths::cache()?.join("trees").join(names.join("+"));
    let _one = FETCH.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if tree.exists() {
        return Ok(tree);
    }
    let debs = fetch(names)?;
    // Unpacked beside its place and then moved, so that an interrupted run leaves nothing.
    let fresh = tree.with_extension("new");
    let _ = std::fs::remove_dir_all(&fresh);
    std::fs::create_dir_all(&fresh)?;
    for deb in debs {
        let mut command = Command::new("dpkg-deb");
        command.arg("-x").args([&deb, &fresh]);
        run(command, Duration::from_secs(60))?;
    }
    std::fs::rename(&fresh, &tree)?;
    Ok(tree)
}

fn fetch(names: &[&str]) -> Result<Vec<PathBuf>> {
    let dir = paths::cache()?.join("debs");
    std::fs::create_dir_all(&dir)?;
    let missing: Vec<&str> = names.iter().copied().filter(|name| find(&dir, name).is_none()).collect();
    if !missing.is_empty() {
        let download = || {
            let mut command = Command::new("apt-get");
            command
                .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
                .args(&missing)
                .current_dir(&dir);
            run(command, Duration::from_secs(300))
        };
        if download().is_err() {
            // A new machine has no package lists yet.
            let mut update = Command::new("apt-get");
            update.args(["-qq", "update"]);
            run(update, Duration::from_secs(300))?;
            download()?;
        }
    }
    let found =
        names.iter().map(|name| find(&dir, name).with_context(|| format!("apt did not bring {name}")));
    let found = found.collect::<Result<Vec<_>>>()?;
    ensure!(found.len() == names.len());
    Ok(found)
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let prefix = format!("{name}_");
    let fits =
        |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&prefix));
    std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).find(fits)
}

/// Where a cluster finds the busybox image.
pub const BUSYBOX: &str = "docker.io/library/busybox:1";
/// Where a cluster finds the nginx image; its second version differs in a file only.
pub const NGINX: &str = "docker.io/library/nginx:1";

/// Applets that the busybox image has as programs; its shell knows all of them.
const APPLETS: &[&str] = &["busybox", "sh", "cat", "echo", "false", "ls", "nc", "sleep", "true", "wget"];

/// An OCI archive with busybox.
///
/// # Errors
/// The packages cannot be fetched, or the archive not be written.
pub fn busybox_archive() -> Result<PathBuf> {
    archive("busybox.tar", BUSYBOX, || {
        let program = std::fs::read(busybox()?)?;
        let file =
            |name: &&str| BuildFile { path: format!("/bin/{name}"), content: program.clone(), mode: 0o755 };
        let config = ImageConfig {
            cmd: vec!["sh".into()],
            env: vec!["PATH=/bin:/usr/bin".into()],
            ..ImageConfig::default()
        };
        Ok((APPLETS.iter().map(file).chain(accounts()).collect(), config))
    })
}

/// An OCI archive with nginx, tagged `docker.io/library/nginx:<tag>`.
///
/// # Errors
/// As [`busybox_archive`].
pub fn nginx_archive(tag: &str) -> Result<PathBuf> {
    let reference = format!("docker.io/library/nginx:{tag}");
    archive(&format!("nginx-{tag}.tar"), &reference, || {
        let tree = packages(&[
            "nginx",
            "libc6",
            "libcrypt1",
            "libpcre2-8-0",
            "libssl3",
            "zlib1g",
            "busybox-static",
        ])?;
        let mut files = Vec::new();
        for (from, to) in [("usr/sbin/nginx", "/usr/sbin/nginx"), ("bin/busybox", "/bin/sh")] {
            files.push(BuildFile { path: to.into(), content: std::fs::read(tree.join(from))?, mode: 0o755 });
        }
        let libraries = [
            "ld-linux-x86-64.so.2",
            "libc.so.6",
            "libcrypt.so.1",
            "libcrypto.so.3",
            "libpcre2-8.so.0",
            "libssl.so.3",
            "libz.so.1",
        ];
        for name in libraries {
            let places = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
            let found = places.iter().map(|place| tree.join(place).join(name)).find(|path| path.exists());
            let found = found.with_context(|| format!("{name} is in none of the packages"))?;
            let place = if name.starts_with("ld-") { "/lib64" } else { "/lib/x86_64-linux-gnu" };
            files.push(BuildFile {
                path: format!("{place}/{name}"),
                content: std::fs::read(found)?,
                mode: 0o755,
            });
        }
        let text =
            |path: &str, text: &str| BuildFile { path: path.into(), content: text.into(), mode: 0o644 };
        files.push(text("/etc/nginx/nginx.conf", NGINX_CONFIG));
        files.push(text("/usr/share/nginx/html/index.html", "<h1>It works</h1>\n"));
        files.push(text("/version", tag));
        files.push(text("/var/lib/nginx/body/.keep", ""));
        files.extend(accounts());
        let config = ImageConfig {
            entrypoint: vec!["/usr/sbin/nginx".into(), "-g".into(), "daemon off;".into()],
            exposed_ports: vec!["80/tcp".into()],
            stop_signal: "SIGQUIT".into(),
            ..ImageConfig::default()
        };
        Ok((files, config))
    })
}

const NGINX_CONFIG: &str = "
user root;
worker_processes 1;
error_log stderr notice;
pid /run/nginx.pid;
events { worker_connections 512; }
http {
    access_log off;
    default_type text/html;
    server {
        listen 80 reuseport;
        root /usr/share/nginx/html;
    }
}
";

/// The files in which programs look up users.
fn accounts() -> Vec<BuildFile> {
    let file = |path: &str, text: &str| BuildFile { path: path.into(), content: text.into(), mode: 0o644 };
    vec![
        file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        file("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        file("/run/.keep", ""),
        file("/tmp/.keep", ""),
    ]
}

/// Makes an archive once.
fn archive(
    file: &str,
    reference: &str,
    content: impl FnOnce() -> Result<(Vec<BuildFile>, ImageConfig)>,
) -> Result<PathBuf> {
    let path = paths::cache()?.join(file);
    let _one = MAKE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if path.exists() {
        return Ok(path);
    }
    let (files, config) = content()?;
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    carrack_runtime::image::build::oci_archive(reference, &files, &config, std::fs::File::create(&fresh)?)?;
    std::fs::rename(&fresh, &path)?;
    Ok(path)
}
