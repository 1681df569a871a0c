//! Records what a kube-apiserver answers to the cases in `crates/api/tests/answers`:
//! each line is an object and its resource; the server's sentences are added as
//! `answer` (none when it accepts). Requests are dry runs, sent with curl.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::upstream;

/// Runs the task with the server's URL and a bearer token.
pub fn run(url: &str, token: &str) -> Result<()> {
    let path = upstream::root().join("crates/api/tests/answers/create.jsonl");
    let mut out = String::new();
    for line in std::fs::read_to_string(&path)?.lines() {
        let mut case: Value = serde_json::from_str(line)?;
        let answer = post(url, token, &case).with_context(|| line.to_owned())?;
        case["answer"] = match answer["kind"].as_str() {
            Some("Status") => sentences(&answer),
            Some(_) => Value::Array(Vec::new()),
            None => bail!("not an object: {answer}"),
        };
        if answer["kind"] != "Status" {
            // What defaulting and admission made of it.
            let mut stored = answer.clone();
            for field in ["metadata", "status"] {
                stored.as_object_mut().map(|fields| fields.remove(field));
            }
            case["stored"] = stored;
        }
        out.push_str(&serde_json::to_string(&case)?);
        out.push('\n');
    }
    std::fs::write(&path, out)?;
    Ok(())
}

/// The causes, sorted (upstream walks maps in any order), or the message when there are none.
fn sentences(status: &Value) -> Value {
    let causes = status["details"]["causes"].as_array();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<String> = causes
        .into_iter()
        .flatten()
        .map(|cause| format!("{}: {}", text(&cause["field"]), text(&cause["message"])))
        .collect();
    if all.is_empty() {
        all.push(text(&status["message"]));
    }
    all.sort();
    all.dedup();
    all.into()
}

fn post(url: &str, token: &str, case: &Value) -> Result<Value> {
    let resource = case["resource"].as_str().context("a case names its resource")?;
    let (gv, plural) = resource.rsplit_once('/').context("group/version/plural")?;
    let root = if gv.contains('/') { "apis" } else { "api" };
    let namespace = case["object"]["metadata"]["namespace"].as_str();
    let scope = namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
    let mut curl = Command::new("curl")
        .args(["-sk", "-X", "POST", "-H", &format!("Authorization: Bearer {token}")])
        .args(["-H", "Content-Type: application/json", "-d", "@-"])
        .arg(format!("{url}/{root}/{gv}/{scope}{plural}?dryRun=All"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("running curl")?;
    let body = serde_json::to_vec(&case["object"])?;
    curl.stdin.take().context("curl's input")?.write_all(&body)?;
    let output = curl.wait_with_output()?;
    ensure!(output.status.success(), "curl failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}
