//! What the runtime's tests share: a runtime in a directory of its own, an image of the
//! test program, and the checks that nothing is left behind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use carrack_runtime::image::build::{BuildFile, oci_archive};
use carrack_runtime::*;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_runtime-test-program");
pub const IMAGE: &str = "localhost/test:1";

/// True, with a printed reason, when these tests cannot run here.
pub fn skip() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root for namespaces and mounts");
    }
    !root
}

/// A runtime with an image, which is taken down when it is dropped.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub cgroup_root: String,
    pub runtime: Builtin,
}

impl Lab {
    pub async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup_root = format!("carrack-test-{}-{count}", std::process::id());
        let runtime = Builtin::open(config(dir.path(), &cgroup_root)).await.unwrap();
        let lab = Self { dir, cgroup_root, runtime };
        lab.import().await;
        lab
    }

    async fn import(&self) {
        let archive = self.dir.path().join("image.tar");
        let file = |path: &str, content: Vec<u8>, mode| BuildFile { path: path.into(), content, mode };
        let files = [
            file("/bin/program", std::fs::read(PROGRAM).unwrap(), 0o755),
            file("/etc/passwd", b"root:x:0:0::/root:/x\nweb:x:33:44::/srv:/x\n".to_vec(), 0o644),
            file("/etc/group", b"root:x:0:\nextra:x:55:web\n".to_vec(), 0o644),
            file("/plain", b"not a program".to_vec(), 0o644),
        ];
        let image = ImageConfig {
            entrypoint: vec!["/bin/program".into()],
            cmd: vec!["echo".into(), "from the image".into()],
            env: vec!["PATH=/bin".into(), "FROM_IMAGE=yes".into()],
            ..ImageConfig::default()
        };
        let out = std::fs::File::create(&archive).unwrap();
        oci_archive(IMAGE, &files, &image, out).unwrap();
        self.runtime.import_image(&archive).await.unwrap();
    }

    pub async fn sandbox(&self, spec: SandboxSpec) -> Sandbox {
        let uid = uuid::Uuid::new_v4().to_string();
        let spec = SandboxSpec { pod_uid: uid, namespace: "default".into(), ..spec };
        self.runtime.run_sandbox(&spec).await.unwrap()
    }

    /// A sandbox with one started container.
    pub async fn run(
        &self,
        args: &[&str],
        change: impl FnOnce(&mut ContainerSpec),
    ) -> (Sandbox, ContainerId) {
        let sandbox = self.sandbox(SandboxSpec { hostname: "pod".into(), ..Default::default() }).await;
        let id = self.start(&sandbox.id, args, change).await;
        (sandbox, id)
    }

    pub async fn start(
        &self,
        sandbox: &SandboxId,
        args: &[&str],
        change: impl FnOnce(&mut ContainerSpec),
    ) -> ContainerId {
        let id = self.create(sandbox, args, change).await;
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    pub async fn create(
        &self,
        sandbox: &SandboxId,
        args: &[&str],
        change: impl FnOnce(&mut ContainerSpec),
    ) -> ContainerId {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut spec = ContainerSpec {
            name: "main".into(),
            image: IMAGE.into(),
            args: args.iter().map(|a| a.to_string()).collect(),
            log_path: self.dir.path().join(format!("logs/{number}/0.log")),
            ..ContainerSpec::default()
        };
        change(&mut spec);
        self.runtime.create_container(sandbox, &spec).await.unwrap()
    }

    /// Waits for the end.
    pub async fn exit(&self, id: &ContainerId) -> ExitStatus {
        wait_for(&self.runtime, id).await
    }

    /// The content of the log, stamps left out.
    pub async fn log(&self, id: &ContainerId) -> String {
        let status = self.runtime.container_status(id).await.unwrap();
        let text = std::fs::read_to_string(&status.spec.log_path).unwrap();
        text.lines().map(|l| l.split_once(' ').unwrap().1.to_owned() + "\n").collect()
    }

    /// Runs to the end; answers exit code and log.
    pub async fn output(&self, args: &[&str], change: impl FnOnce(&mut ContainerSpec)) -> (i32, String) {
        let (sandbox, id) = self.run(args, change).await;
        let exit = self.exit(&id).await;
        let log = self.log(&id).await;
        self.runtime.remove_sandbox(&sandbox.id).await.unwrap();
        (exit.exit_code, log)
    }

    /// Removes all sandboxes and checks that nothing of them is left.
    pub async fn finish(self) {
        for sandbox in self.runtime.list().await.unwrap() {
            self.runtime.remove_sandbox(&sandbox.id).await.unwrap();
        }
        self.runtime.close();
        let run = self.dir.path().join("run");
        let left: Vec<_> = std::fs::read_dir(&run).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "left in {}: {left:?}", run.display());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.dir.path().to_string_lossy().into_owned();
        assert!(!mounts.contains(&own), "mounts are left:\n{mounts}");
        let groups = groups(&self.cgroup_root);
        assert!(groups.is_empty(), "control groups are left: {groups:?}");
        let processes = processes_naming(&own);
        assert!(processes.is_empty(), "processes are left: {processes:?}");
    }
}

impl Drop for Lab {
    /// After a failed test: end what still runs, by its control groups.
    fn drop(&mut self) {
        for dir in groups(&self.cgroup_root) {
            let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            for pid in procs.lines().filter_map(|l| l.parse::<i32>().ok()) {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        for _ in 0..50 {
            let mut left = groups(&self.cgroup_root);
            left.sort_by_key(|d| std::cmp::Reverse(d.components().count()));
            left.iter().for_each(|dir| drop(std::fs::remove_dir(dir)));
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

pub fn config(dir: &Path, cgroup_root: &str) -> BuiltinConfig {
    BuiltinConfig {
        cgroup_root: cgroup_root.to_owned(),
        shim_program: PathBuf::from(PROGRAM),
        ..BuiltinConfig::new(dir)
    }
}

pub async fn wait_for(runtime: &Builtin, id: &ContainerId) -> ExitStatus {
    let mut events = runtime.events();
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        if let ContainerState::Exited(exit) = runtime.container_status(id).await.unwrap().state {
            return exit;
        }
        assert!(Instant::now() < limit, "container {id} does not end");
        let _ = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
    }
}

/// All directories of our tree of control groups, in every hierarchy.
pub fn groups(root: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        collect(&hierarchy.path().join(root), &mut found);
    }
    collect(&Path::new("/sys/fs/cgroup").join(root), &mut found);
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    if dir.is_dir() {
        found.push(dir.to_path_buf());
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            collect(&entry.path(), found);
        }
    }
}

/// Command lines that name a directory.
pub fn processes_naming(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) && entry.file_name() != "self" {
            found.push(format!("{:?} {line}", entry.file_name()));
        }
    }
    found
}

/// Runs this test binary again, for one test.
pub fn again(test: &str, variable: &str, value: &str) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(variable, value)
        .spawn()
        .unwrap()
}
