//! `kubectl exec` ends as the command ended, also when nobody read what was sent to it or
//! when it cannot be started.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::Stdio;

use carrack_lab::cluster::{Cluster, PATIENCE};
use carrack_lab::images;
use carrack_lab::machine::run;

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: box}, spec: {terminationGracePeriodSeconds: 0, \
                   containers: [{name: c, image: 'docker.io/library/busybox:1', command: [sleep, '600']}]}}";

/// Runs kubectl with this input; exit code, output, error output.
fn exec(cluster: &Cluster, flags: &[&str], command: &[&str], input: &[u8]) -> (i32, String, String) {
    let words = [&["exec"], flags, &["box", "--"], command].concat();
    let mut kubectl = cluster.kubectl(&words).unwrap();
    kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = kubectl.spawn().unwrap();
    let (mut pipe, input) = (child.stdin.take().unwrap(), input.to_vec());
    // Whoever does not read it closes the pipe.
    let feed = std::thread::spawn(move || drop(pipe.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn ends_as_the_command_ends() {
    let cluster = Cluster::start(&[]).unwrap();
    let mut import = cluster.carrack("image").unwrap();
    import.arg("import").arg(images::busybox_archive().unwrap());
    run(import, PATIENCE).unwrap();
    cluster.apply(POD).unwrap();
    cluster.k(&["wait", "--for=condition=Ready", "pod/box", "--timeout=30s"]).unwrap();

    let much = vec![b'x'; 3_000_000];
    let plain: &[&str] = &[];
    for _ in 0..5 {
        let check = |flags: &[&str], command: &[&str], input: &[u8], expect: (i32, &str, &str)| {
            let (code, out, err) = exec(&cluster, flags, command, input);
            assert_eq!((code, &*out, &*err), expect, "{command:?}");
        };
        check(plain, &["true"], b"", (0, "", ""));
        check(plain, &["sh", "-c", "echo out; echo err >&2"], b"", (0, "out\n", "err\n"));
        let exited = "command terminated with exit code 3\n";
        check(plain, &["sh", "-c", "exit 3"], b"", (3, "", exited));
        check(&["-i"], &["cat"], b"in and out", (0, "in and out", ""));
        check(&["-i"], &["busybox", "wc", "-c"], &much, (0, "3000000\n", ""));
        let nothing = "error: Internal error occurred: error executing command in container: failed to exec in \
                       container: exec: \"nothing\": executable file not found in $PATH\n";
        check(plain, &["nothing"], b"", (1, "", nothing));
        let (code, _, err) = exec(&cluster, &["-i"], &["sh", "-c", "exit 3"], &much);
        assert!(code == 3 && err.ends_with(exited), "{code} {err}");
    }
}
