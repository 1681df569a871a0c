//! Records what a kube-apiserver answers to the cases in `crates/api/tests/answers`:
//! each line is an object and its resource; the server's sentences are added as
//! `answer` (none when it accepts). Updates create their object, change it in a dry run
//! and delete it again. Requests are sent with curl.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::upstream;

/// The media type of a Table.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Runs the task with the server's URL and a bearer token.
pub fn run(url: &str, token: &str) -> Result<()> {
    let server = Server { url, token };
    each_case("create.jsonl", |case| {
        let answer = server.send("POST", case, "", "?dryRun=All", &case["object"])?;
        case["answer"] = sentences(&answer);
        if answer["kind"] != "Status" {
            // What defaulting and admission made of it, and how it is listed.
            let mut stored = answer.clone();
            stored["metadata"].as_object_mut().map(|fields| fields.remove("managedFields"));
            let table = server.send_for("POST", case, "", "?dryRun=All", &case["object"], TABLE)?;
            case["cells"] = table["rows"][0]["cells"].clone();
            case["stored"] = stored;
        }
        Ok(())
    })?;
    each_case("update.jsonl", |case| {
        let name = case["object"]["metadata"]["name"].as_str().context("a name")?.to_owned();
        let mut old = server.send("POST", case, "", "", &case["object"])?;
        if old["reason"] == "AlreadyExists" {
            old = server.send("GET", case, &format!("/{name}"), "", &Value::Null)?;
        }
        ensure!(old["kind"] != "Status", "cannot create: {}", old["message"]);
        if case["status"].is_object() {
            let status = serde_json::json!({"status": case["status"]});
            server.send("PATCH", case, &format!("/{name}/status"), "", &status)?;
        }
        let at = if case["subresource"] == "status" { format!("/{name}/status") } else { format!("/{name}") };
        let answer = server.send("PATCH", case, &at, "?dryRun=All", &case["changes"]);
        server.send("DELETE", case, &format!("/{name}"), "?gracePeriodSeconds=0", &Value::Null)?;
        case["old"] = old;
        case["answer"] = sentences(&answer?);
        Ok(())
    })?;
    in_order(&server)
}

/// Records the cases that are held to upstream's order of causes too, but where it answers
/// twice in two orders (it walks maps in any).
fn in_order(server: &Server<'_>) -> Result<()> {
    let answer = |case: &mut Value, send: &dyn Fn(&Value) -> Result<Value>| -> Result<()> {
        let (first, second) = (causes(&send(case)?), causes(&send(case)?));
        if first != second {
            case["anyOrder"] = true.into();
        }
        case["answer"] = first.iter().map(|text| without_uids(text)).collect();
        Ok(())
    };
    each_case("kinds-create.jsonl", |case| {
        answer(case, &|case| server.send("POST", case, "", "?dryRun=All", &case["object"]))
    })?;
    each_case("kinds-update.jsonl", |case| {
        let name = case["object"]["metadata"]["name"].as_str().context("a name")?.to_owned();
        let mut old = server.send("POST", case, "", "", &case["object"])?;
        ensure!(old["kind"] != "Status", "cannot create: {}", old["message"]);
        old["metadata"].as_object_mut().map(|fields| fields.remove("managedFields"));
        case["old"] = serde_json::from_str(&without_uids(&old.to_string()))?;
        let at = if case["subresource"] == "status" { format!("/{name}/status") } else { format!("/{name}") };
        answer(case, &|case| server.send("PATCH", case, &at, "?dryRun=All", &case["changes"]))?;
        let free = serde_json::json!({"metadata": {"finalizers": null}});
        server.send("PATCH", case, &format!("/{name}"), "", &free)?;
        let now = "?gracePeriodSeconds=0&propagationPolicy=Background";
        server.send("DELETE", case, &format!("/{name}"), now, &Value::Null)?;
        Ok(())
    })
}

/// A text with one and the same uid in place of each of its own.
fn without_uids(text: &str) -> String {
    const UID: &str = "5e0b7e8a-0000-4000-8000-000000000000";
    let is_uid = |part: &[u8]| {
        part.iter().zip(UID.bytes()).all(|(&byte, like)| match like {
            b'-' => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
    };
    let mut text = text.to_owned();
    let mut at = 0;
    while at + UID.len() <= text.len() {
        if is_uid(&text.as_bytes()[at..at + UID.len()]) {
            text.replace_range(at..at + UID.len(), UID);
        }
        at += 1;
    }
    text
}

/// Passes every line of a file through `record` and writes them back.
fn each_case(file: &str, record: impl Fn(&mut Value) -> Result<()>) -> Result<()> {
    let path = upstream::root().join("crates/api/tests/answers").join(file);
    let mut out = String::new();
    for line in std::fs::read_to_string(&path)?.lines() {
        let mut case: Value = serde_json::from_str(line)?;
        record(&mut case).with_context(|| line.to_owned())?;
        out.push_str(&serde_json::to_string(&case)?);
        out.push('\n');
    }
    std::fs::write(&path, out)?;
    Ok(())
}

/// The causes, sorted (upstream walks maps in any order), or the message when there are none.
fn sentences(status: &Value) -> Value {
    let mut all = causes(status);
    all.sort();
    all.dedup();
    all.into()
}

/// The causes as they come, or the message when there are none.
fn causes(status: &Value) -> Vec<String> {
    if status["kind"] != "Status" {
        return Vec::new();
    }
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
    all
}

/// A kube-apiserver.
struct Server<'a> {
    url: &'a str,
    token: &'a str,
}

impl Server<'_> {
    /// Sends a body to the case's resource, or to what `at` adds to its path.
    fn send(&self, method: &str, case: &Value, at: &str, query: &str, body: &Value) -> Result<Value> {
        self.send_for(method, case, at, query, body, "application/json")
    }

    /// The same, for an answer of a media type.
    fn send_for(
        &self,
        method: &str,
        case: &Value,
        at: &str,
        query: &str,
        body: &Value,
        accept: &str,
    ) -> Result<Value> {
        let resource = case["resource"].as_str().context("a case names its resource")?;
        let (gv, plural) = resource.rsplit_once('/').context("group/version/plural")?;
        let root = if gv.contains('/') { "apis" } else { "api" };
        let namespace = case["object"]["metadata"]["namespace"].as_str();
        let scope = namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
        let ty = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut curl = Command::new("curl")
            .args(["-sk", "-X", method, "-H", &format!("Authorization: Bearer {}", self.token)])
            .args(["-H", &format!("Content-Type: {ty}"), "-H", &format!("Accept: {accept}"), "-d", "@-"])
            .arg(format!("{}/{root}/{gv}/{scope}{plural}{at}{query}", self.url))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("running curl")?;
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        curl.stdin.take().context("curl's input")?.write_all(&body)?;
        let output = curl.wait_with_output()?;
        ensure!(output.status.success(), "curl failed");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
