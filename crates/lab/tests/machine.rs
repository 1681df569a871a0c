//! A machine is a place of its own, and leaves nothing behind.

use std::time::Duration;

use carrack_lab::machine::{self, Machine, run};
use carrack_lab::traces::Traces;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn is_a_place_of_its_own() {
    let machine = Machine::start().unwrap();
    let said = |words: &[&str]| {
        let mut command = machine.busybox(words[0]).unwrap();
        command.args(&words[1..]);
        run(command, LIMIT).unwrap()
    };
    assert_eq!(said(&["hostname"]).trim(), "lab");
    assert!(said(&["ip", "-o", "addr"]).contains(machine::ADDRESS));
    assert!(said(&["ip", "route"]).contains("default"));
    let before = Traces::of(&machine).unwrap();
    assert_eq!(before.difference(&Traces::of(&machine).unwrap()), "", "looking changes nothing");

    said(&["mount", "-t", "tmpfs", "lab", "/mnt"]);
    said(&["ip", "link", "add", "left", "type", "bridge"]);
    said(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter"]);
    let difference = before.difference(&Traces::of(&machine).unwrap());
    for seen in ["+ mount: / /mnt", "rp_filter:1", "left"] {
        assert!(difference.contains(seen), "{seen:?} in\n{difference}");
    }
    let pid = machine.pid();
    drop(machine);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" /mnt "));
}
