//! Measures what pods cost: `cargo run --release -p carrack-runtime --example launch_cost [PODS]`
//! (as root). It is where the figures of docs/decisions/launching.md come from.
//!
//! Starts so many pods of one container, one after the other and then all at once, and prints
//! latency, CPU of everything involved, and the memory of the shims.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_runtime::image::build::{BuildFile, oci_archive};
use carrack_runtime::{
    Builtin, BuiltinConfig, ContainerSpec, ContainerState, ImageConfig, Runtime, SHIM_COMMAND, SandboxId,
    SandboxSpec, shim_main,
};

/// As in the carrack binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IMAGE: &str = "localhost/cost:1";

fn main() {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(first) if first == SHIM_COMMAND => std::process::exit(shim_main(args)),
        Some(first) if first == "sleep" => std::thread::sleep(Duration::from_secs(600)),
        first => {
            let pods = first.and_then(|n| n.to_str()?.parse().ok()).unwrap_or(50);
            let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            threads.expect("threads can be made").block_on(measure(pods));
        }
    }
}

async fn measure(pods: usize) {
    let dir = PathBuf::from(format!("/var/tmp/carrack-cost-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory can be made");
    let config = BuiltinConfig { cgroup_root: "carrack-cost".into(), ..BuiltinConfig::new(&dir) };
    let runtime = Arc::new(Builtin::open(config).await.expect("the runtime opens"));
    import(&runtime, &dir).await;
    for at_once in [false, true] {
        let (start, cpu) = (Instant::now(), cpu_of("self"));
        let mut times = Vec::new();
        let mut ids = Vec::new();
        if at_once {
            let tasks: Vec<_> =
                (0..pods).map(|n| tokio::spawn(one(runtime.clone(), dir.clone(), n))).collect();
            for task in tasks {
                let (id, steps) = task.await.expect("a pod starts");
                ids.push(id);
                times.push(steps);
            }
        } else {
            for n in 0..pods {
                let (id, steps) = one(runtime.clone(), dir.clone(), n).await;
                ids.push(id);
                times.push(steps);
            }
        }
        let (wall, cpu) = (start.elapsed(), cpu_of("self") - cpu);
        let title = if at_once { "all at once" } else { "one after the other" };
        let (shims, containers) = cpu_of_pods(&runtime, &ids).await;
        let n = pods as f64;
        println!(
            "{pods} pods, {title}: {:.0} ms in all; CPU a pod: agent {:.2}, shim {:.2}, container {:.2} ms",
            ms(wall),
            cpu / n,
            shims / n,
            containers / n
        );
        for (step, name) in ["run_sandbox", "create_container", "start_container", "total"].iter().enumerate()
        {
            let mut column: Vec<f64> = times.iter().map(|t| ms(t[step])).collect();
            column.sort_by(f64::total_cmp);
            let at = |q: f64| column[((column.len() - 1) as f64 * q) as usize];
            println!("  {name:<17} p50 {:6.2}  p99 {:6.2} ms", at(0.5), at(0.99));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        print_memory(&runtime, &ids).await;
        let start = Instant::now();
        for id in &ids {
            runtime.remove_sandbox(id).await.expect("a pod can be removed");
        }
        println!("  removal {:.2} ms a pod", ms(start.elapsed()) / pods as f64);
    }
    runtime.close();
    std::fs::remove_dir_all(&dir).expect("the directory can be removed");
}

async fn import(runtime: &Builtin, dir: &std::path::Path) {
    let archive = dir.join("image.tar");
    let content = std::fs::read("/proc/self/exe").expect("we can be read");
    let files = [BuildFile { path: "/program".into(), content, mode: 0o755 }];
    let config =
        ImageConfig { entrypoint: vec!["/program".into(), "sleep".into()], ..ImageConfig::default() };
    let out = std::fs::File::create(&archive).expect("a file can be made");
    oci_archive(IMAGE, &files, &config, out).expect("an image can be made");
    let start = Instant::now();
    runtime.import_image(&archive).await.expect("the image can be imported");
    println!("import {:.0} ms", ms(start.elapsed()));
}

async fn one(runtime: Arc<Builtin>, dir: PathBuf, n: usize) -> (SandboxId, [Duration; 4]) {
    let spec = SandboxSpec {
        pod_uid: uuid::Uuid::new_v4().to_string(),
        name: format!("pod-{n}"),
        hostname: format!("pod-{n}"),
        resolv_conf: Some("nameserver 10.96.0.10\n".into()),
        ..SandboxSpec::default()
    };
    let t0 = Instant::now();
    let sandbox = runtime.run_sandbox(&spec).await.expect("a sandbox runs");
    let t1 = Instant::now();
    let spec = ContainerSpec {
        name: "main".into(),
        image: IMAGE.into(),
        log_path: dir.join(format!("logs/{n}/0.log")),
        ..ContainerSpec::default()
    };
    let id = runtime.create_container(&sandbox.id, &spec).await.expect("a container is made");
    let t2 = Instant::now();
    runtime.start_container(&id).await.expect("a container starts");
    (sandbox.id, [t1 - t0, t2 - t1, t2.elapsed(), t0.elapsed()])
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// Milliseconds of CPU that the threads of a process have had.
fn cpu_of(process: &str) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    times.sum::<f64>() / 1e6
}

/// The same of the shims and the containers' processes.
async fn cpu_of_pods(runtime: &Builtin, ids: &[SandboxId]) -> (f64, f64) {
    let (mut shims, mut containers) = (0.0, 0.0);
    for id in ids {
        let status = runtime.sandbox_status(id).await.expect("the sandbox is there");
        let netns = status.netns.expect("it has a namespace");
        let shim = netns.components().nth(2).expect("/proc/<pid>/ns/net");
        shims += cpu_of(&shim.as_os_str().to_string_lossy());
        for container in status.containers {
            if let ContainerState::Running { pid, .. } = container.state {
                containers += cpu_of(&pid.to_string());
            }
        }
    }
    (shims, containers)
}

async fn print_memory(runtime: &Builtin, ids: &[SandboxId]) {
    let (mut pss, mut private) = (0, 0);
    for id in ids {
        let status = runtime.sandbox_status(id).await.expect("the sandbox is there");
        let netns = status.netns.expect("it has a namespace");
        let process = netns.parent().and_then(|p| p.parent()).expect("/proc/<pid>/ns/net");
        let text = std::fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|l| l.strip_prefix(name));
            line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        pss += field("Pss:");
        private += field("Private_Dirty:");
    }
    let n = ids.len() as u64;
    println!("  a shim: PSS {} kB, private dirty {} kB", pss / n, private / n);
}
