//! The node-wide settings that routing needs, and their former values.
//!
//! Invariant: before a value is changed, the former one is on disk; it is kept until it has
//! been given back, over any number of restarts. What someone else has changed since is
//! left alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::PodNetworkError;

/// A setting's path below `/proc/sys`, and a value.
type Values = BTreeMap<String, String>;

/// A recorded change.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Change {
    before: String,
    set: String,
}

/// Name of the record in the state directory.
const RECORD: &str = "sysctls.json";

/// The settings for pods of these families. IPv6 forwarding makes a host ignore router
/// advertisements, by which it may have got its own default route, unless it is told
/// (`accept_ra` 2) that it may be both.
pub fn wanted(with_v6: bool) -> Values {
    let mut values = Values::from([("net/ipv4/ip_forward".to_owned(), "1".to_owned())]);
    if !with_v6 {
        return values;
    }
    let interfaces = fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten();
    for interface in interfaces.filter_map(|entry| entry.file_name().into_string().ok()) {
        let path = format!("net/ipv6/conf/{interface}/accept_ra");
        if !["all", "default", "lo"].contains(&interface.as_str())
            && read(&path).is_ok_and(|value| value == "1")
        {
            values.insert(path, "2".to_owned());
        }
    }
    values.insert("net/ipv6/conf/all/forwarding".to_owned(), "1".to_owned());
    values
}

/// Sets them, noting what was there.
pub fn set(state_dir: &Path, wanted: &Values) -> Result<(), PodNetworkError> {
    let mut record = load(state_dir)?;
    for (path, value) in wanted {
        let failed = || PodNetworkError::io(format!("cannot set {} to {value}", path.replace('/', ".")));
        let before = read(path).map_err(failed())?;
        if before == *value {
            continue;
        }
        let change = Change { before, set: value.clone() };
        let kept = record.entry(path.clone()).or_insert(change);
        kept.set.clone_from(value);
        store(state_dir, &record)?;
        fs::write(Path::new("/proc/sys").join(path), value).map_err(failed())?;
    }
    Ok(())
}

/// Gives back the former values and forgets them.
pub fn restore(state_dir: &Path) -> Result<(), PodNetworkError> {
    // Forwarding last resets others of its family, so it goes first: restored in reverse.
    for (path, change) in load(state_dir)?.iter().rev() {
        // An interface may be gone by now.
        if read(path).is_ok_and(|value| value == change.set) {
            fs::write(Path::new("/proc/sys").join(path), &change.before)
                .map_err(PodNetworkError::io(format!("cannot restore {}", path.replace('/', "."))))?;
        }
    }
    match fs::remove_file(state_dir.join(RECORD)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PodNetworkError::io("cannot remove the record of sysctls")(error))
        }
        _ => Ok(()),
    }
}

fn read(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new("/proc/sys").join(path))?.trim().to_owned())
}

fn load(state_dir: &Path) -> Result<BTreeMap<String, Change>, PodNetworkError> {
    let failed = || PodNetworkError::io("cannot read the record of sysctls");
    match fs::read(state_dir.join(RECORD)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed()(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(failed()(error)),
    }
}

fn store(state_dir: &Path, record: &BTreeMap<String, Change>) -> Result<(), PodNetworkError> {
    let write = || {
        let draft = state_dir.join("sysctls.json.draft");
        fs::write(&draft, serde_json::to_vec_pretty(record)?)?;
        fs::rename(draft, state_dir.join(RECORD))
    };
    write().map_err(PodNetworkError::io("cannot record the former values of sysctls"))
}
