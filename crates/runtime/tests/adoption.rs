//! Pods outlive the agent: dropped clients, an agent killed at any moment, a shim killed.
//! Needs root; see `support`.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // each test file uses a part of it
mod support;

use std::path::Path;
use std::time::Duration;

use carrack_runtime::*;
use support::{Lab, again, config, skip, wait_for};

/// Tells the test binary to be an agent in this directory.
const AGENT: &str = "CARRACK_TEST_AGENT";

/// Not a test by itself: the agent that others kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent() {
    let Ok(value) = std::env::var(AGENT) else { return };
    let (dir, group) = value.split_once(' ').unwrap();
    let runtime = Builtin::open(config(Path::new(dir), group)).await.unwrap();
    let spec = SandboxSpec {
        pod_uid: "adopted".into(),
        name: "pod".into(),
        labels: [("app".to_owned(), "x".to_owned())].into(),
        ..SandboxSpec::default()
    };
    let sandbox = runtime.run_sandbox(&spec).await.unwrap();
    for (name, args) in [("ticking", vec!["tick"]), ("short", vec!["sleep", "2"])] {
        let spec = ContainerSpec {
            name: name.into(),
            image: support::IMAGE.into(),
            args: args.into_iter().map(str::to_owned).collect(),
            log_path: Path::new(dir).join(name).join("0.log"),
            ..ContainerSpec::default()
        };
        let id = runtime.create_container(&sandbox.id, &spec).await.unwrap();
        runtime.start_container(&id).await.unwrap();
    }
    std::fs::write(Path::new(dir).join("agent-ready"), "").unwrap();
    std::future::pending::<()>().await;
}

async fn until_exists(path: &Path) {
    for _ in 0..1000 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} does not appear", path.display());
}

fn container<'a>(status: &'a SandboxStatus, name: &str) -> &'a ContainerStatus {
    status.containers.iter().find(|c| c.spec.name == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_agent() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let place = format!("{} {}", lab.dir.path().display(), lab.cgroup_root);
    let mut agent = again("agent", AGENT, &place);
    until_exists(&lab.dir.path().join("agent-ready")).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    let log = lab.dir.path().join("ticking/0.log");
    let before = std::fs::metadata(&log).unwrap().len();
    // The short one ends while nobody is there to see it.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(std::fs::metadata(&log).unwrap().len() > before, "it does not tick any more");

    let runtime = Builtin::open(config(lab.dir.path(), &lab.cgroup_root)).await.unwrap();
    let list = runtime.list().await.unwrap();
    assert_eq!(list.len(), 1);
    let pod = &list[0];
    assert_eq!((pod.state, pod.spec.labels["app"].as_str()), (SandboxState::Ready, "x"));
    assert!(pod.netns.as_ref().unwrap().exists());
    let ContainerState::Exited(exit) = &container(pod, "short").state else { panic!("{pod:?}") };
    assert_eq!((exit.exit_code, exit.reason.as_str()), (0, "Completed"));
    assert!(exit.finished_at > exit.started_at.unwrap());
    let ticking = container(pod, "ticking");
    assert!(matches!(ticking.state, ContainerState::Running { .. }), "{ticking:?}");
    let command = vec!["program".into(), "echo".into(), "still".into(), "here".into()];
    let output = runtime.exec_sync(&ticking.id, command, Duration::from_secs(5)).await.unwrap();
    assert_eq!(output.stdout, b"still here\n");

    // Dropping the client changes nothing either.
    drop(runtime);
    let runtime = Builtin::open(config(lab.dir.path(), &lab.cgroup_root)).await.unwrap();
    let mut events = runtime.events();
    runtime.stop_container(&ticking.id, Duration::ZERO, None).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(5), events.recv()).await.unwrap().unwrap();
    let RuntimeEvent::ContainerExited { container, exit, .. } = event else { panic!("{event:?}") };
    assert_eq!((&container, exit.exit_code), (&ticking.id, 137));
    runtime.remove_sandbox(&pod.id).await.unwrap();
    assert!(runtime.list().await.unwrap().is_empty());
    drop(runtime);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_shim() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (sandbox, id) = lab.run(&["sleep", "100"], |_| {}).await;
    let mut events = lab.runtime.events();
    let shim = sandbox.netns.as_ref().unwrap().components().nth(2).unwrap();
    let shim: i32 = shim.as_os_str().to_str().unwrap().parse().unwrap();
    let shim = nix::unistd::Pid::from_raw(shim);
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
    loop {
        let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap();
        if event.unwrap() == (RuntimeEvent::SandboxLost { sandbox: sandbox.id.clone() }) {
            break;
        }
    }
    let exit = wait_for(&lab.runtime, &id).await;
    assert_eq!((exit.exit_code, exit.reason.as_str()), (255, "ContainerStatusUnknown"));
    let status = lab.runtime.sandbox_status(&sandbox.id).await.unwrap();
    assert_eq!((status.state, status.netns), (SandboxState::NotReady, None));
    assert!(lab.runtime.create_container(&sandbox.id, &ContainerSpec::default()).await.is_err());
    // An agent that comes later sees the same.
    let later = Builtin::open(config(lab.dir.path(), &lab.cgroup_root)).await.unwrap();
    let status = later.sandbox_status(&sandbox.id).await.unwrap();
    assert_eq!(status.state, SandboxState::NotReady);
    assert_eq!(wait_for(&later, &id).await.exit_code, 255);
    drop(later);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_made_things_are_removed() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let run = lab.dir.path().join("run");
    std::fs::create_dir_all(run.join("0123/containers/45/upper")).unwrap();
    let (sandbox, id) = lab.run(&["sleep", "100"], |_| {}).await;
    let half = run.join(&sandbox.id.0).join("containers/half");
    std::fs::create_dir_all(half.join("upper")).unwrap();
    let later = Builtin::open(config(lab.dir.path(), &lab.cgroup_root)).await.unwrap();
    assert!(!run.join("0123").exists());
    assert!(!half.exists());
    let status = later.container_status(&id).await.unwrap();
    assert!(matches!(status.state, ContainerState::Running { .. }));
    drop(later);
    lab.finish().await;
}
