//! From nothing to a running application and back to nothing.

use std::time::Duration;

use carrack_lab::machine::{Machine, run};
use carrack_lab::paths;
use carrack_lab::traces::Traces;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn up_answers_and_down_leaves_no_trace() {
    let machine = Machine::start().unwrap();
    let data = machine.dir().join("data");
    let carrack = |words: &[&str]| {
        let mut command = machine.command(paths::carrack().unwrap());
        command.args(words).arg("--data-dir").arg(&data);
        run(command, LIMIT).unwrap()
    };
    let before = Traces::of(&machine).unwrap();

    let said = carrack(&["up", "--detach", "--example", "hello", "--node-name", "lab"]);
    for step in
        ["control plane ready", "node lab ready", "answering", "http://127.0.0.1:30080", "KUBECONFIG="]
    {
        assert!(said.contains(step), "{step:?} in\n{said}");
    }
    for address in ["127.0.0.1", "10.77.0.2"] {
        let mut wget = machine.busybox("wget").unwrap();
        wget.args(["-qO-", &format!("http://{address}:30080/")]);
        assert!(run(wget, LIMIT).unwrap().starts_with("Hello from Carrack!"), "at {address}");
    }
    let kubeconfig = carrack(&["kubeconfig"]);
    assert!(kubeconfig.contains("client-certificate-data") && kubeconfig.contains("https://127.0.0.1:6443"));
    assert!(carrack(&["image", "list"]).contains("carrack.local/hello:1"));
    assert_ne!(before.difference(&Traces::of(&machine).unwrap()), "", "something runs");

    carrack(&["down", "--purge"]);
    assert_eq!(before.difference(&Traces::of(&machine).unwrap()), "");
    assert!(!data.exists());
}
