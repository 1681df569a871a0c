//! Linux capabilities: their names, the default set, and how `add` and `drop` change it.
//!
//! Pure. The default set is the one that docker and containerd give; a container run as
//! another user than root keeps them only in its bounding set, as the kernel has it.

use crate::error::{Result, RuntimeError};

/// Names by number (`linux/capability.h`).
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The number of a capability, with or without `CAP_`, in any case.
pub fn number(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|n| *n == bare).map(|n| n as u8)
}

/// The set a container gets, as a bit mask. `ALL` works in both lists; a capability
/// both added and dropped is added, unless `ALL` stands among the added ones.
pub fn effective(privileged: bool, add: &[String], drop: &[String]) -> Result<u64> {
    let all = (1u64 << NAMES.len()) - 1;
    if privileged {
        return Ok(all);
    }
    let has_all = |list: &[String]| list.iter().any(|c| c.eq_ignore_ascii_case("ALL"));
    let mut set = if has_all(add) {
        all
    } else if has_all(drop) {
        0
    } else {
        DEFAULT.iter().fold(0, |set, name| set | bit(name))
    };
    let drop_mask = mask(drop)?;
    let add_mask = mask(add)?;
    if has_all(add) {
        set &= !drop_mask;
    } else {
        set = (set & !drop_mask) | add_mask;
    }
    Ok(set)
}

/// The names in a mask, as `CAP_…`.
pub fn names(mask: u64) -> Vec<String> {
    let chosen = NAMES.iter().enumerate().filter(|(n, _)| mask & 1 << n != 0);
    chosen.map(|(_, name)| format!("CAP_{name}")).collect()
}

/// The mask of a list of names; unknown ones are ignored (they come from our own bundle).
pub fn mask_of(names: &[String]) -> u64 {
    names.iter().fold(0, |set, name| set | bit(name))
}

fn bit(name: &str) -> u64 {
    number(name).map_or(0, |n| 1 << n)
}

fn mask(names: &[String]) -> Result<u64> {
    let mut set = 0;
    for name in names.iter().filter(|n| !n.eq_ignore_ascii_case("ALL")) {
        let number = number(name)
            .ok_or_else(|| RuntimeError::InvalidSpec(format!("unknown capability \"{name}\"")))?;
        set |= 1 << number;
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], expect: u64) {
        let list = |l: &[&str]| l.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        assert_eq!(effective(false, &list(add), &list(drop)).unwrap(), expect, "{add:?} {drop:?}");
    }

    #[test]
    fn add_and_drop() {
        let default = 0xa804_25fb;
        check(&[], &[], default);
        check(&["NET_ADMIN"], &[], default | 1 << 12);
        check(&["cap_net_admin"], &["ALL"], 1 << 12);
        check(&["NET_BIND_SERVICE"], &["all"], 1 << 10);
        check(&["ALL"], &["SYS_ADMIN"], ((1 << 41) - 1) & !(1 << 21));
        check(&[], &["CHOWN", "KILL"], default & !(1 | 1 << 5));
        assert!(effective(false, &["NONSENSE".into()], &[]).is_err());
        assert_eq!(effective(true, &[], &["ALL".into()]).unwrap(), (1 << 41) - 1);
    }

    #[test]
    fn names_and_masks_are_inverse() {
        let all = (1u64 << NAMES.len()) - 1;
        assert_eq!(mask_of(&names(all)), all);
        assert_eq!(names(1 << 10), ["CAP_NET_BIND_SERVICE"]);
    }
}
