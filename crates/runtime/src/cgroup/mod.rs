//! Control groups of pods and containers: the tree `<root>/pod<uid>/<container>` in every
//! hierarchy that limits need, and one group `<root>/shims` for all shims.
//!
//! What always holds: groups are made by the agent before a process is to enter them,
//! and removed by it after the last one has left; the shim only joins and counts OOM
//! kills. Hierarchies that carry no limit of ours (cpuset, blkio…) are left alone. Device
//! nodes are kept useless by `nodev` mounts; only a container that can mount by itself gets
//! a device group as well (see docs/decisions/launching.md).

pub mod plan;

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use crate::bundle::CgroupJoin;
use crate::error::{Result, RuntimeError};
use crate::spec::Resources;
use crate::sys;
use plan::{CONTROLLERS, Hierarchies};

/// The control groups of one node.
#[derive(Clone, Debug)]
pub struct Cgroups {
    hierarchies: Hierarchies,
    root: String,
    /// Groups that a shim moves itself into.
    shim_dirs: Vec<PathBuf>,
}

impl Cgroups {
    /// Looks at the machine and makes the groups that all pods share. `root` is the name
    /// of our tree, relative to the root of each hierarchy.
    pub fn open(root: &str) -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let text = fs::read_to_string(path).map_err(RuntimeError::io("read", path))?;
        let path = "/proc/self/cgroup";
        let own = fs::read_to_string(path).map_err(RuntimeError::io("read", path))?;
        let mut groups =
            Self { hierarchies: Hierarchies::parse(&text), root: root.to_owned(), shim_dirs: Vec::new() };
        groups.delegate()?;
        for (base, _) in groups.limit_bases() {
            groups.shim_dirs.push(base.join(root).join("shims"));
        }
        // Where an init system keeps track of us by group, leave its group, or stopping the
        // service would end every container.
        let tracked = [
            ("name=systemd", groups.hierarchies.v1.get("name=systemd")),
            ("", {
                let hybrid = !groups.hierarchies.unified();
                groups.hierarchies.v2.as_ref().filter(|_| hybrid)
            }),
        ];
        for (name, base) in tracked {
            if let Some(base) = base.filter(|_| !plan::at_root(&own, name)) {
                groups.shim_dirs.push(base.join(root).join("shims"));
            }
        }
        groups.create_shims()?;
        Ok(groups)
    }

    /// Makes the groups of shims; whoever tidies up groups that are empty may have removed
    /// them since.
    fn create_shims(&self) -> Result<()> {
        for dir in &self.shim_dirs {
            fs::create_dir_all(dir).map_err(RuntimeError::io("create", dir))?;
        }
        Ok(())
    }

    /// Distinct base directories of the hierarchies that limits go to, each with its
    /// first controller.
    fn limit_bases(&self) -> Vec<(PathBuf, &'static str)> {
        if self.hierarchies.unified() {
            return self.hierarchies.v2.iter().map(|base| (base.clone(), "")).collect();
        }
        let mut bases: Vec<(PathBuf, &'static str)> = Vec::new();
        for controller in CONTROLLERS {
            if let Some(base) = self.hierarchies.v1.get(controller)
                && !bases.iter().any(|(b, _)| b == base)
            {
                bases.push((base.clone(), controller));
            }
        }
        bases
    }

    /// v2: hands the controllers down to our tree.
    fn delegate(&self) -> Result<()> {
        if let (true, Some(base)) = (self.hierarchies.unified(), &self.hierarchies.v2) {
            let ours = base.join(&self.root);
            fs::create_dir_all(&ours).map_err(RuntimeError::io("create", &ours))?;
            enable_controllers(base)?;
            enable_controllers(&ours)?;
        }
        Ok(())
    }

    /// The groups a shim joins, as directories.
    pub fn shim_dirs(&self) -> &[PathBuf] {
        &self.shim_dirs
    }

    /// `cgroupsPath` of a container.
    pub fn container_path(&self, pod_uid: &str, container: &str) -> String {
        format!("/{}/pod{pod_uid}/{container}", self.root)
    }

    /// Keeps a container that may mount from devices that it may make nodes of.
    pub fn confine_devices(&self, pod_uid: &str, container: &str, join: &mut CgroupJoin) -> Result<()> {
        if let Some(dir) = &join.v2 {
            return sys::attach_device_program(dir, &plan::v2_devices())
                .map_err(|e| RuntimeError::io("confine devices of", dir)(e.into()));
        }
        let Some(base) = self.hierarchies.v1.get("devices") else {
            let words = "CAP_SYS_ADMIN without privileged needs the devices controller";
            return Err(RuntimeError::InvalidSpec(words.to_owned()));
        };
        let dir = base.join(format!("{}/pod{pod_uid}/{container}", self.root));
        fs::create_dir_all(&dir).map_err(RuntimeError::io("create", &dir))?;
        write(&dir.join("devices.deny"), "a")?;
        for value in plan::v1_devices() {
            write(&dir.join("devices.allow"), &value)?;
        }
        join.v1.push(("devices".to_owned(), dir));
        Ok(())
    }

    /// Everywhere that something of ours may be.
    fn bases(&self) -> Vec<PathBuf> {
        let mut bases: Vec<PathBuf> = self.limit_bases().into_iter().map(|(base, _)| base).collect();
        bases.extend(self.hierarchies.v1.get("devices").cloned());
        bases.dedup();
        bases
    }

    /// Makes a pod's groups, and those that its shim will enter.
    pub fn create_pod(&self, pod_uid: &str, resources: &Resources) -> Result<()> {
        self.create_shims()?;
        let name = format!("{}/pod{pod_uid}", self.root);
        for (base, _) in self.limit_bases() {
            let dir = base.join(&name);
            fs::create_dir_all(&dir).map_err(RuntimeError::io("create", &dir))?;
            if self.hierarchies.unified() {
                enable_controllers(&dir)?;
            }
        }
        self.apply(&name, resources)
    }

    /// Makes a container's groups, limits set.
    pub fn create_container(
        &self,
        pod_uid: &str,
        container: &str,
        resources: &Resources,
    ) -> Result<CgroupJoin> {
        let name = format!("{}/pod{pod_uid}/{container}", self.root);
        let mut join = CgroupJoin::default();
        for (base, controller) in self.limit_bases() {
            let dir = base.join(&name);
            fs::create_dir_all(&dir).map_err(RuntimeError::io("create", &dir))?;
            match controller {
                "" => {
                    join.oom_events = Some(dir.join("memory.events"));
                    join.v2 = Some(dir);
                }
                controller => {
                    if controller == "memory" {
                        join.oom_events = Some(dir.join("memory.oom_control"));
                    }
                    join.v1.push((controller.to_owned(), dir));
                }
            }
        }
        self.apply(&name, resources)?;
        Ok(join)
    }

    fn apply(&self, name: &str, resources: &Resources) -> Result<()> {
        if let (true, Some(base)) = (self.hierarchies.unified(), &self.hierarchies.v2) {
            for (file, value) in plan::v2_values(resources) {
                write(&base.join(name).join(file), &value)?;
            }
            return Ok(());
        }
        for (controller, file, value) in plan::v1_values(resources) {
            if let Some(base) = self.hierarchies.v1.get(controller) {
                write(&base.join(name).join(file), &value)?;
            }
        }
        Ok(())
    }

    /// Removes a pod's groups, unless another sandbox of the same pod has containers in them.
    pub fn remove_pod(&self, pod_uid: &str) {
        for base in self.bases() {
            let _ = fs::remove_dir(base.join(format!("{}/pod{pod_uid}", self.root)));
        }
    }

    /// Kills whatever is left in a container's groups and removes them.
    pub fn remove_container(&self, pod_uid: &str, container: &str) -> Result<()> {
        self.remove(&format!("{}/pod{pod_uid}/{container}", self.root))
    }

    /// Removes what [`Cgroups::open`] made, for taking a node down. Groups with processes
    /// stay.
    pub fn remove_root(&self) {
        for dir in &self.shim_dirs {
            let _ = remove_empty(dir);
            if let Some(parent) = dir.parent() {
                let _ = fs::remove_dir(parent);
            }
        }
        for base in self.bases() {
            let _ = fs::remove_dir(base.join(&self.root));
        }
    }

    fn remove(&self, name: &str) -> Result<()> {
        for base in self.bases() {
            let dir = base.join(name);
            remove_tree(&dir).map_err(RuntimeError::io("remove", &dir))?;
        }
        Ok(())
    }
}

/// Kills every process in the group at `dir` and waits until none is left.
pub fn kill_all(dir: &Path) -> io::Result<()> {
    if fs::write(dir.join("cgroup.kill"), "1").is_err() {
        // Before Linux 5.14 and on v1: stop forks first, so that the loop must end.
        let _ = fs::write(dir.join("pids.max"), "0");
    }
    for round in 0..200 {
        let pids = processes(dir)?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(if round < 10 { 1 } else { 20 }));
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

/// Processes in the group at `dir`; none when it is gone.
pub fn processes(dir: &Path) -> io::Result<Vec<i32>> {
    match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(text) => Ok(text.lines().filter_map(|l| l.parse().ok()).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Removes a group with everything below it, killing processes that are left.
fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    if fs::remove_dir(dir).is_ok() {
        return Ok(());
    }
    kill_all(dir)?;
    remove_empty(dir)
}

/// Removes a group that nobody is in; one stays busy for a moment after its last process
/// has ended.
fn remove_empty(dir: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..100 {
        last = fs::remove_dir(dir);
        match &last {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => return last,
        }
    }
    last
}

fn enable_controllers(dir: &Path) -> Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let have = fs::read_to_string(&file).map_err(RuntimeError::io("read", &file))?;
    for controller in CONTROLLERS {
        if !have.split_whitespace().any(|c| c == controller) {
            write(&file, &format!("+{controller}"))?;
        }
    }
    Ok(())
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).map_err(RuntimeError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program for v2, on whatever cgroup v2 there is, also beside v1.
    #[test]
    fn device_program_is_taken_by_the_kernel() {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let base = Hierarchies::parse(&text).v2;
        let Some(base) = base.filter(|_| nix::unistd::geteuid().is_root()) else {
            eprintln!("skipped: needs root and a cgroup v2 mount");
            return;
        };
        let group = base.join(format!("carrack-test-devices-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        sys::attach_device_program(&group, &plan::v2_devices()).unwrap();
        let script = "echo $$ > \"$0/cgroup.procs\"; true < /dev/null && ! true < /dev/kmsg 2>/dev/null";
        let status = std::process::Command::new("sh").args(["-c", script]).arg(&group).status();
        remove_empty(&group).unwrap();
        assert!(status.unwrap().success());
    }
}
