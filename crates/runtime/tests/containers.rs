//! Containers as they really run: needs root, makes namespaces and control groups of its
//! own, and checks after each test that nothing of them is left.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // each test file uses a part of it
mod support;

use support::{Lab, skip};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_and_records() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (code, log) = lab.output(&[], |_| {}).await;
    assert_eq!((code, log.as_str()), (0, "stdout F from the image\n"));
    let (code, log) = lab.output(&["both"], |_| {}).await;
    assert_eq!(code, 0);
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort();
    assert_eq!(lines, ["stderr F to stderr", "stdout F to stdout"]);
    let (code, _) = lab.output(&["exit", "3"], |_| {}).await;
    assert_eq!(code, 3);
    lab.finish().await;
}

use carrack_runtime::*;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environment_user_and_directory() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (_, log) = lab
        .output(&["env"], |c| {
            c.env = vec![("A".into(), "1".into()), ("FROM_IMAGE".into(), "no".into())];
        })
        .await;
    let mut lines: Vec<&str> = log.lines().map(|l| l.strip_prefix("stdout F ").unwrap()).collect();
    lines.sort();
    assert_eq!(lines, ["A=1", "FROM_IMAGE=no", "HOME=/root", "HOSTNAME=pod", "PATH=/bin"]);
    let (_, log) = lab.output(&["cwd"], |c| c.working_dir = Some("/made/here".into())).await;
    assert_eq!(log, "stdout F /made/here\n");
    let (_, log) = lab.output(&["cat", "/proc/self/status"], |c| c.user.uid = Some(33)).await;
    let field = |name: &str| {
        let line = log.lines().find(|l| l.contains(name)).unwrap();
        line.split(name).nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("Uid:"), "33 33 33 33");
    assert_eq!(field("Gid:"), "44 44 44 44");
    assert_eq!(field("Groups:"), "44 55");
    assert_eq!(field("CapEff:"), "0000000000000000");
    assert_eq!(field("CapInh:"), "0000000000000000");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("NoNewPrivs:"), "0");
    assert_eq!(field("NSpid:"), "1");
    // SIGPIPE only, and that is the program's own doing: it is written in Rust.
    assert_eq!(field("SigIgn:"), "0000000000001000");
    assert_eq!(field("SigBlk:"), "0000000000000000");
    assert_eq!(field("THP_enabled:"), "1");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confinement() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (_, log) = lab.output(&["cat", "/proc/self/status"], |_| {}).await;
    let line = log.lines().find(|l| l.contains("CapEff:")).unwrap();
    assert!(line.ends_with("a80425fb"), "{line}");
    let (_, log) = lab
        .output(&["cat", "/proc/self/status"], |c| {
            c.security.drop_capabilities = vec!["ALL".into()];
            c.security.add_capabilities = vec!["NET_BIND_SERVICE".into()];
            c.security.no_new_privileges = true;
            c.security.seccomp = Seccomp::Unconfined;
        })
        .await;
    for expect in ["CapBnd:\t0000000000000400", "NoNewPrivs:\t1", "Seccomp:\t0"] {
        assert!(log.contains(expect), "{expect} in {log}");
    }
    // Nothing of the node is open, and nothing of it is seen.
    let (_, log) = lab.output(&["ls", "/proc/self/fd"], |_| {}).await;
    assert_eq!(log, "stdout F 0 1 2 3\n", "3 is the directory being read");
    let (_, log) = lab.output(&["ls", "/"], |_| {}).await;
    assert_eq!(log, "stdout F bin dev etc plain proc sys\n");
    let (_, log) = lab.output(&["ls", "/dev"], |_| {}).await;
    assert_eq!(
        log,
        "stdout F fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n"
    );
    let (_, log) = lab.output(&["cat", "/proc/keys", "/proc/timer_list"], |_| {}).await;
    assert_eq!(log, "");
    let (code, log) = lab.output(&["write", "/proc/sys/kernel/core_pattern", "x"], |_| {}).await;
    assert_eq!(code, 1, "{log}");
    let (code, log) = lab.output(&["write", "/new", "x"], |c| c.security.read_only_root = true).await;
    assert!(code == 1 && log.contains("Read-only"), "{log}");
    // The shim's binary, which is what process 1 was before it became the program.
    let (code, log) = lab.output(&["write", "/proc/1/root/proc/1/exe", "x"], |_| {}).await;
    assert_eq!(code, 1, "{log}");
    let mounts = lab.output(&["cat", "/proc/self/mounts"], |_| {}).await.1;
    for line in mounts.lines().filter(|l| !l.contains(" devtmpfs ")) {
        let (_, rest) = line.split_once("F ").unwrap();
        let fields: Vec<&str> = rest.split(' ').collect();
        let devices = fields[1] == "/dev/pts" || fields[3].split(',').any(|o| o == "nodev");
        assert!(devices, "a mount with devices: {rest}");
    }
    let (_, log) = lab
        .output(&["ls", "/dev"], |c| {
            c.security.privileged = true;
        })
        .await;
    assert!(log.contains(" loop") || log.split(' ').count() > 15, "{log}");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let sandbox = lab.sandbox(SandboxSpec::default()).await;
    for (command, expect) in [
        ("nothing", "exec: \"nothing\": executable file not found in $PATH"),
        ("/nothing", "exec: \"/nothing\": stat /nothing: no such file or directory"),
        ("/plain", "exec: \"/plain\": permission denied"),
        ("/etc", "exec: \"/etc\": permission denied"),
    ] {
        let id = lab.create(&sandbox.id, &[], |c| c.command = vec![command.into()]).await;
        match lab.runtime.start_container(&id).await {
            Err(RuntimeError::Start { message, .. }) => assert_eq!(message, expect),
            other => panic!("{command}: {other:?}"),
        }
        let exit = lab.exit(&id).await;
        assert_eq!((exit.exit_code, exit.reason.as_str()), (128, "StartError"));
        lab.runtime.remove_container(&id).await.unwrap();
    }
    let missing = ContainerSpec { image: "nope".into(), ..ContainerSpec::default() };
    let e = lab.runtime.create_container(&sandbox.id, &missing).await.unwrap_err();
    assert_eq!(e.to_string(), "image \"nope\" not found");
    let id = lab
        .create(&sandbox.id, &[], |c| {
            c.mounts = vec![Mount {
                container_path: "/data".into(),
                source: MountSource::Bind { host_path: "/no/such/place".into(), sub_path: None },
                read_only: false,
                propagation: Propagation::Private,
            }];
        })
        .await;
    let e = lab.runtime.start_container(&id).await.unwrap_err().to_string();
    assert!(e.contains("mount /data: open \"/no/such/place\": no such file or directory"), "{e}");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let volume = lab.dir.path().join("volume");
    std::fs::create_dir_all(volume.join("sub")).unwrap();
    std::fs::write(volume.join("file"), "content\n").unwrap();
    std::fs::write(volume.join("sub/inner"), "inner\n").unwrap();
    std::os::unix::fs::symlink("/etc", volume.join("escape")).unwrap();
    let mount = |path: &str, sub: Option<&str>, read_only| Mount {
        container_path: path.into(),
        source: MountSource::Bind { host_path: volume.clone(), sub_path: sub.map(str::to_owned) },
        read_only,
        propagation: Propagation::Private,
    };
    let (code, log) = lab
        .output(&["cat", "/data/file", "/one/inner", "/deep/er/inner", "/etc/single"], |c| {
            c.mounts = vec![
                mount("/data", None, false),
                mount("/one", Some("sub"), true),
                mount("/deep/er/", Some("./sub"), true),
                mount("/etc/single", Some("file"), true),
            ];
        })
        .await;
    assert_eq!(
        (code, log.as_str()),
        (0, "stdout F content\nstdout F inner\nstdout F inner\nstdout F content\n")
    );
    let (code, _) =
        lab.output(&["write", "/data/new", "x"], |c| c.mounts = vec![mount("/data", None, false)]).await;
    assert_eq!(code, 0);
    assert_eq!(std::fs::read_to_string(volume.join("new")).unwrap(), "x");
    let (code, log) =
        lab.output(&["write", "/data/no", "x"], |c| c.mounts = vec![mount("/data", None, true)]).await;
    assert!(code == 1 && log.contains("Read-only"), "{log}");
    lab.output(&["echo"], |c| c.mounts = vec![mount("/data", Some("made/by/us"), false)]).await;
    assert!(volume.join("made/by/us").is_dir());
    let sandbox = lab.sandbox(SandboxSpec::default()).await;
    for sub in ["escape", "escape/ssl", "../x", "/etc", "sub/../../.."] {
        let id = lab.create(&sandbox.id, &[], |c| c.mounts = vec![mount("/data", Some(sub), false)]).await;
        let e = lab.runtime.start_container(&id).await.unwrap_err().to_string();
        assert!(e.contains("subPath"), "{sub}: {e}");
    }
    let (_, log) = lab
        .output(&["cat", "/proc/self/mounts"], |c| {
            c.mounts = vec![Mount {
                container_path: "/scratch".into(),
                source: MountSource::Tmpfs { size: Some(1 << 20) },
                read_only: false,
                propagation: Propagation::Private,
            }];
        })
        .await;
    assert!(log.contains("/scratch tmpfs rw,nosuid,nodev,relatime,size=1024k"), "{log}");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_and_terminal() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (_, id) = lab.run(&["sleep", "60"], |_| {}).await;
    let run = |args: &[&str]| {
        let mut command = vec!["program".to_owned()];
        command.extend(args.iter().map(|a| a.to_string()));
        lab.runtime.exec_sync(&id, command, Duration::from_secs(10))
    };
    let output = run(&["both"]).await.unwrap();
    assert_eq!(output.exit_code, 0);
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"to stdout\n"[..], &b"to stderr\n"[..]));
    assert_eq!(run(&["exit", "9"]).await.unwrap().exit_code, 9);
    let status = String::from_utf8(run(&["cat", "/proc/self/status"]).await.unwrap().stdout).unwrap();
    assert!(status.contains("Seccomp:\t2") && status.contains("CapEff:\t00000000a80425fb"), "{status}");
    let output = run(&["ls", "/proc/self/fd"]).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 1 2 3\n");
    let e = lab.runtime.exec_sync(&id, vec!["nope".into()], Duration::ZERO).await.unwrap_err();
    assert!(e.to_string().contains("executable file not found in $PATH"), "{e}");
    let command = vec!["program".into(), "sleep".into(), "30".into()];
    let e = lab.runtime.exec_sync(&id, command, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(e, RuntimeError::ExecTimeout { .. }), "{e}");

    let request =
        ExecRequest { command: vec!["program".into(), "copy".into()], stdin: true, ..Default::default() };
    let mut session = lab.runtime.exec(&id, request).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through the container").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "through the container");
    assert_eq!(session.exit.await.unwrap(), 0);

    let request = ExecRequest {
        command: vec!["program".into(), "tty".into()],
        stdin: true,
        tty: true,
        size: Some(TerminalSize { width: 100, height: 30 }),
    };
    let mut session = lab.runtime.exec(&id, request).await.unwrap();
    (session.resize.as_ref().unwrap())(TerminalSize { width: 80, height: 25 });
    session.stdin.as_mut().unwrap().write_all(b"typed\n").await.unwrap();
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("terminal: true") && text.contains("got typed"), "{text}");
    assert_eq!(session.exit.await.unwrap(), 0);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (_, id) = lab.run(&["signals"], |_| {}).await;
    while !lab.log(&id).await.contains("waiting") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lab.runtime.stop_container(&id, Duration::from_secs(10), None).await.unwrap();
    let exit = lab.exit(&id).await;
    assert_eq!((exit.exit_code, exit.reason.as_str()), (7, "Error"));
    let (_, id) = lab.run(&["sleep", "60"], |_| {}).await;
    // Process 1 without a handler does not hear SIGTERM.
    lab.runtime.stop_container(&id, Duration::from_millis(100), None).await.unwrap();
    let exit = lab.exit(&id).await;
    assert_eq!((exit.exit_code, exit.signal), (137, 9));
    // Again, and of what is not there.
    lab.runtime.stop_container(&id, Duration::from_secs(1), None).await.unwrap();
    lab.runtime.remove_container(&id).await.unwrap();
    lab.runtime.remove_container(&id).await.unwrap();
    lab.runtime.stop_container(&"nobody".into(), Duration::ZERO, None).await.unwrap();
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (sandbox, id) = lab.run(&["alloc", "200"], |c| c.resources.memory_limit = Some(32 << 20)).await;
    let exit = lab.exit(&id).await;
    assert_eq!((exit.exit_code, exit.reason.as_str()), (137, "OOMKilled"));
    let id = lab
        .start(&sandbox.id, &["sleep", "60"], |c| {
            c.resources.cpu_shares = Some(200);
            c.resources.cpu_quota = Some(50_000);
            c.resources.pids_limit = Some(33);
        })
        .await;
    let groups = support::groups(&lab.cgroup_root);
    let read = |name: &str| {
        let files = groups.iter().filter(|g| g.ends_with(&id.0)).map(|g| g.join(name));
        let file = files.into_iter().find(|f| f.exists());
        file.map(|f| std::fs::read_to_string(f).unwrap().trim().to_owned())
    };
    assert_eq!(read("pids.max").as_deref(), Some("33"));
    let quota = read("cpu.cfs_quota_us").or(read("cpu.max")).unwrap();
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    assert_eq!(read("cgroup.procs").unwrap().lines().count(), 1);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_of_a_pod() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let sysctl = ("net.ipv4.ip_local_port_range".to_owned(), "2000\t3000".to_owned());
    let spec = SandboxSpec {
        hostname: "web-0".into(),
        resolv_conf: Some("nameserver 10.96.0.10\n".into()),
        sysctls: BTreeMap::from([sysctl]),
        share_process_namespace: true,
        ..SandboxSpec::default()
    };
    let sandbox = lab.sandbox(spec).await;
    let netns = std::fs::metadata(sandbox.netns.as_ref().unwrap()).unwrap();
    let own = std::fs::metadata("/proc/self/ns/net").unwrap();
    assert_ne!(std::os::unix::fs::MetadataExt::ino(&netns), std::os::unix::fs::MetadataExt::ino(&own));
    let server = lab.start(&sandbox.id, &["serve", "8080"], |_| {}).await;
    while !lab.log(&server).await.contains("listening") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut stream = lab.runtime.port_forward(&sandbox.id, 8080).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello from the pod\n");
    assert!(lab.runtime.port_forward(&sandbox.id, 8081).await.is_err());
    let files = [
        "cat",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/proc/sys/kernel/hostname",
        "/proc/sys/net/ipv4/ip_local_port_range",
    ];
    let id = lab.start(&sandbox.id, &files, |_| {}).await;
    assert_eq!(lab.exit(&id).await.exit_code, 0);
    let log = lab.log(&id).await.replace("stdout F ", "");
    assert_eq!(log, "web-0\nnameserver 10.96.0.10\nweb-0\n2000\t3000\n");
    // One process namespace: its first process is ours, and the server is seen.
    let id = lab.start(&sandbox.id, &["ls", "/proc"], |_| {}).await;
    lab.exit(&id).await;
    let log = lab.log(&id).await;
    let processes = log.split(' ').filter(|w| w.parse::<u32>().is_ok()).count();
    assert!(processes >= 3, "{log}");
    // Not even with CAP_SYS_PTRACE does that first process lead anywhere.
    let ptrace = |c: &mut ContainerSpec| c.security.add_capabilities = vec!["SYS_PTRACE".into()];
    let id = lab.start(&sandbox.id, &["ls", "/proc/1/root/"], ptrace).await;
    lab.exit(&id).await;
    assert_eq!(lab.log(&id).await, "stdout F \n");
    lab.runtime.stop_container(&server, Duration::ZERO, None).await.unwrap();
    let node = lab
        .sandbox(SandboxSpec { host_network: true, host_pid: true, host_ipc: true, ..Default::default() })
        .await;
    assert_eq!(node.netns, None);
    let id = lab.start(&node.id, &["sleep", "60"], |_| {}).await;
    lab.runtime.stop_container(&id, Duration::ZERO, None).await.unwrap();
    assert_eq!(lab.exit(&id).await.exit_code, 137);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaching() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (_, id) = lab
        .run(&["copy"], |c| {
            c.stdin = true;
            c.stdin_once = true;
        })
        .await;
    let mut session = lab.runtime.attach(&id).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    let mut seen = [0; 6];
    session.stdout.as_mut().unwrap().read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"hello\n");
    drop(stdin);
    assert_eq!(session.exit.await.unwrap(), 0);
    assert_eq!(lab.log(&id).await, "stdout F hello\n");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_out() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let sandbox = lab.sandbox(SandboxSpec::default()).await;
    // CVE-2024-21626: a working directory through a descriptor of ours.
    for n in 3..30 {
        let dir = format!("/proc/self/fd/{n}");
        let id = lab.create(&sandbox.id, &["cwd"], |c| c.working_dir = Some(dir.clone())).await;
        let e = lab.runtime.start_container(&id).await.unwrap_err().to_string();
        assert!(e.contains("chdir to cwd") || e.contains("outside of the container"), "{dir}: {e}");
        lab.runtime.remove_container(&id).await.unwrap();
    }
    // CVE-2019-5736: the binary of the node, run in the container and opened for writing.
    let id = lab.create(&sandbox.id, &["sleep", "1"], |c| c.command = vec!["/proc/self/exe".into()]).await;
    let before = std::fs::read(support::PROGRAM).unwrap();
    if lab.runtime.start_container(&id).await.is_ok() {
        let command = ["program", "write", "/proc/1/exe", "overwritten"].map(str::to_owned);
        let output = lab.runtime.exec_sync(&id, command.to_vec(), Duration::from_secs(5)).await;
        assert_ne!(output.map(|o| o.exit_code).unwrap_or(1), 0);
        lab.exit(&id).await;
        // Nobody runs it now, which is when an open for writing would succeed.
    }
    assert_eq!(std::fs::read(support::PROGRAM).unwrap(), before);
    // A device made with CAP_MKNOD opens nothing, also not where one may mount.
    let (_, log) = lab.output(&["device"], |_| {}).await;
    assert_eq!(log, "stdout F permission denied\n");
    let admin = |c: &mut ContainerSpec| c.security.add_capabilities = vec!["SYS_ADMIN".into()];
    let (_, log) = lab.output(&["device", "mount"], admin).await;
    assert_eq!(log, "stdout F permission denied\n");
    let (_, log) = lab.output(&["device", "mount"], |c| c.security.privileged = true).await;
    assert_eq!(log, "stdout F opened\n");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_a_log_that_rotates() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let sandbox = lab.sandbox(SandboxSpec::default()).await;
    let rotation = LogRotation { max_bytes: 40_000, max_files: 50 };
    let id = lab.create(&sandbox.id, &["spam", "20000"], |c| c.log_rotation = rotation).await;
    let path = lab.runtime.container_status(&id).await.unwrap().spec.log_path;
    lab.runtime.start_container(&id).await.unwrap();
    let runtime = lab.runtime.clone();
    let ended = {
        let id = id.clone();
        Box::pin(async move { drop(support::wait_for(&runtime, &id).await) })
    };
    let options = carrack_runtime::logs::LogOptions { follow: true, ..Default::default() };
    let mut reader = carrack_runtime::logs::open(&path, options, Some(ended)).unwrap();
    let mut text = String::new();
    while let Some(piece) = reader.next().await {
        text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
    }
    // It may have begun after some rotations, but from there on nothing is missing.
    let numbers: Vec<u32> = text.lines().map(|l| l.strip_prefix("line ").unwrap().parse().unwrap()).collect();
    assert_eq!(numbers.last(), Some(&19_999));
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "a gap after {:?}", numbers.first());
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert!(files > 10, "{files}");
    lab.finish().await;
}
