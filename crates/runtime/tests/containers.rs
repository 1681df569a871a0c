//! Containers as they really run: needs root, makes namespaces and control groups of its
//! own, and checks after each test that nothing of them is left.

#![allow(clippy::unwrap_used)]

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
