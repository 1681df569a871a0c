//! Which numbers a user's name stands for in an image: `/etc/passwd` and `/etc/group`,
//! read from its layers.
//!
//! What always holds: the files are opened below the layer, never through a link out of
//! it; nothing is mounted for it. The rules are containerd's CRI plugin's.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use crate::bundle::plan::ResolvedUser;
use crate::error::{Result, RuntimeError};
use crate::spec::User;
use crate::sys;

/// Longest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Resolves who a container runs as; `image_user` is the image's `USER`.
pub fn resolve(
    wanted: &User,
    image_user: &str,
    layers_dir: &Path,
    layers: &[String],
) -> Result<ResolvedUser> {
    let passwd = read_topmost(layers_dir, layers, c"etc/passwd");
    let group = read_topmost(layers_dir, layers, c"etc/group");
    plan(wanted, image_user, &passwd, &group)
}

fn plan(wanted: &User, image_user: &str, passwd: &str, group: &str) -> Result<ResolvedUser> {
    let (user, image_group) = match image_user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (image_user, None),
    };
    let entry = |uid: u32| find(passwd, |f| f.get(2).and_then(|u| u.parse().ok()) == Some(uid));
    let (uid, account) = match (wanted.uid, user) {
        (Some(uid), _) => (uid, entry(uid)),
        (None, "") => (0, entry(0)),
        (None, name) => match name.parse() {
            Ok(uid) => (uid, entry(uid)),
            Err(_) => {
                let account = find(passwd, |f| f.first() == Some(&name));
                let uid = account.as_ref().and_then(|f| f.get(2)?.parse().ok());
                let missing = || {
                    RuntimeError::InvalidSpec(format!(
                        "unable to find user {name}: no matching entries in passwd file"
                    ))
                };
                (uid.ok_or_else(missing)?, account)
            }
        },
    };
    let account_gid = account.as_ref().and_then(|f| f.get(3)?.parse().ok());
    let named_group = match image_group.filter(|_| wanted.uid.is_none()) {
        None | Some("") => None,
        Some(name) => Some(name.parse().ok().or_else(|| gid_of(group, name)).ok_or_else(|| {
            RuntimeError::InvalidSpec(format!(
                "unable to find group {name}: no matching entries in group file"
            ))
        })?),
    };
    let gid = wanted.gid.or(named_group).or(account_gid).unwrap_or(0);
    let mut groups = vec![gid];
    if let Some(name) = account.as_ref().and_then(|f| f.first()).filter(|_| !wanted.strict_groups) {
        for line in group.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let member = fields.get(3).is_some_and(|m| m.split(',').any(|m| m.trim() == *name));
            groups.extend(fields.get(2).filter(|_| member).and_then(|g| g.parse::<u32>().ok()));
        }
    }
    groups.extend(&wanted.supplemental_groups);
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|g| seen.insert(*g));
    let home = account.and_then(|f| f.get(5).filter(|h| !h.is_empty()).map(|h| h.to_string()));
    Ok(ResolvedUser { uid, gid, groups, home })
}

fn find(passwd: &str, matches: impl Fn(&[&str]) -> bool) -> Option<Vec<&str>> {
    passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| matches(fields))
}

fn gid_of(group: &str, name: &str) -> Option<u32> {
    find(group, |f| f.first() == Some(&name)).and_then(|f| f.get(2)?.parse().ok())
}

/// The file from the topmost layer that says anything about it.
fn read_topmost(layers_dir: &Path, layers: &[String], path: &CStr) -> String {
    for layer in layers {
        let Ok(root) = File::open(layers_dir.join(layer)) else {
            continue;
        };
        let resolve = sys::RESOLVE_IN_ROOT | sys::RESOLVE_NO_MAGICLINKS;
        match sys::openat2(Some(root.as_fd()), path, libc::O_RDONLY | libc::O_NONBLOCK, 0, resolve) {
            Ok(file) => {
                let file = File::from(file);
                let mut text = Vec::new();
                if file.metadata().is_ok_and(|m| m.is_file()) {
                    let _ = file.take(MAX_FILE).read_to_end(&mut text);
                }
                return String::from_utf8_lossy(&text).into_owned();
            }
            Err(Errno::ENOENT) => {}
            // A whiteout is a device nobody can open: the file is gone.
            Err(_) => return String::new(),
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:Web:/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,web\nwww:x:44:\nmore:x:45:other,web\n";

    fn check(wanted: &User, image: &str, expect: &str) {
        let shown = plan(wanted, image, PASSWD, GROUP).map_or_else(
            |e| e.to_string(),
            |u| format!("{}:{} {:?} {}", u.uid, u.gid, u.groups, u.home.unwrap_or_default()),
        );
        assert_eq!(shown, expect, "{wanted:?} {image}");
    }

    #[test]
    fn users() {
        let nobody = User::default();
        check(&nobody, "", "0:0 [0, 10] /root");
        check(&nobody, "web", "33:44 [44, 10, 45] /var/www");
        check(&nobody, "33", "33:44 [44, 10, 45] /var/www");
        check(&nobody, "web:www", "33:44 [44, 10, 45] /var/www");
        check(&nobody, "1000:1001", "1000:1001 [1001] ");
        check(&nobody, "1000", "1000:0 [0] ");
        let missing =
            "invalid container configuration: unable to find user ghost: no matching entries in passwd file";
        check(&nobody, "ghost", missing);
        let user = |uid, gid, groups: &[u32], strict| User {
            uid,
            gid,
            supplemental_groups: groups.to_vec(),
            strict_groups: strict,
        };
        check(&user(Some(33), None, &[], false), "root", "33:44 [44, 10, 45] /var/www");
        check(&user(Some(33), None, &[7], true), "", "33:44 [44, 7] /var/www");
        check(&user(Some(5), Some(6), &[6, 8], false), "web:www", "5:6 [6, 8] ");
    }
}
