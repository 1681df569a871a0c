//! Sends cases to one server, in order, and fills in what a request takes from earlier
//! answers. A server knows nothing of the other's answers.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;

use anyhow::Result;
use serde_json::Value;

use super::case::{Case, Step};
use crate::https::{Answer, Client, Connection, Request};

/// How many cases that only read run at a time.
const READERS: usize = 24;

/// What one server said to the steps of a case; none where a step was left out.
pub type Said = Vec<Option<Answer>>;

/// Revision, uid and continue token of answers.
#[derive(Debug, Clone, Default)]
struct Memory {
    /// From the whole run, by the step's name.
    saved: HashMap<String, String>,
    /// From this case.
    own: HashMap<&'static str, String>,
}

/// Sends all cases and passes on what the server says, case by case. It ends early when
/// nobody listens any more.
///
/// # Errors
/// The server does not answer.
pub fn send(client: &Client, cases: &[Case], to: &SyncSender<(usize, Said)>) -> Result<()> {
    let mut memory = Memory::default();
    let mut connections: Vec<Connection> = (0..READERS).map(|_| client.connection()).collect();
    let mut at = 0;
    while at < cases.len() {
        let readers = cases[at..].iter().take(READERS).take_while(|case| case.reads_only).count().max(1);
        let group = &cases[at..at + readers];
        let said: Vec<Result<(Said, Memory)>> = std::thread::scope(|scope| {
            let work: Vec<_> = group
                .iter()
                .zip(&mut connections)
                .map(|(case, connection)| {
                    let memory = memory.clone();
                    scope.spawn(move || run(connection, case, memory))
                })
                .collect();
            work.into_iter().map(|thread| thread.join().expect("sending does not panic")).collect()
        });
        for outcome in said {
            let (said, after) = outcome?;
            memory.saved.extend(after.saved);
            if to.send((at, said)).is_err() {
                return Ok(());
            }
            at += 1;
        }
    }
    Ok(())
}

/// What stands in the place of an answer that did not come.
pub const NO_ANSWER: &str = "no answer";

fn run(connection: &mut Connection, case: &Case, mut memory: Memory) -> Result<(Said, Memory)> {
    memory.own.clear();
    let mut made = false;
    let mut said = Vec::with_capacity(case.steps.len());
    for step in &case.steps {
        if step.cleans && !made {
            said.push(None);
            continue;
        }
        let request = memory.fill(&step.request);
        // No answer is an answer too, of code 0; a server that has ended is found out soon.
        let answer = connection.send(&request).or_else(|error| match connection.is_served() {
            true => Ok(Answer { body: format!("{NO_ANSWER}: {error:#}").into_bytes(), ..Answer::default() }),
            false => Err(error),
        })?;
        made |= answer.code == 201 && !request.path.contains("dryRun=All");
        if step.cleans && request.method == "GET" {
            await_end(connection, &request);
        }
        memory.learn(step, &answer);
        if let Some(settled) = await_status(connection, &request, &answer) {
            memory.own.insert("rv", settled);
        }
        said.push(Some(answer));
    }
    Ok((said, memory))
}

/// Waits for an object to go, for what has no end that one could wait for: a few tenths of
/// a second.
fn await_end(connection: &mut Connection, request: &Request) {
    for _ in 0..20 {
        if connection.send(request).is_ok_and(|answer| answer.code == 404) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Kinds whose status the API server itself writes, some time after a write of theirs.
const SELF_WRITTEN: &[&str] = &["/customresourcedefinitions", "/apiservices", "/flowschemas"];

/// Waits until the server has written what it has to say of an object, and returns the
/// revision of that.
fn await_status(connection: &mut Connection, request: &Request, answer: &Answer) -> Option<String> {
    let collection = SELF_WRITTEN.iter().find_map(|plural| {
        let end = request.path.find(plural)? + plural.len();
        Some(&request.path[..end])
    })?;
    if request.method == "GET" || !matches!(answer.code, 200 | 201) || request.path.contains("dryRun=") {
        return None;
    }
    let revision = |answer: &Answer| {
        let object = serde_json::from_slice::<Value>(&answer.body).ok()?;
        let meta = |field: &str| Some(object["metadata"][field].as_str()?.to_owned());
        Some((meta("name")?, meta("resourceVersion")?))
    };
    let (name, mut last) = revision(answer)?;
    let get = Request {
        method: "GET".into(),
        path: format!("{collection}/{name}"),
        headers: vec![("Accept".into(), "application/json".into())],
        ..Request::default()
    };
    // Quiet for a while, at most for three seconds.
    let mut quiet = 0;
    for _ in 0..30 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let (_, now) = revision(&connection.send(&get).ok()?)?;
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        if quiet == 4 {
            break;
        }
    }
    Some(last)
}

impl Memory {
    fn fill(&self, request: &Request) -> Request {
        let mut request = request.clone();
        request.path = self.text(&request.path);
        // Only bodies that are text refer to anything.
        if let Ok(body) = std::str::from_utf8(&request.body)
            && body.contains('@')
        {
            request.body = self.text(body).into_bytes();
        }
        request
    }

    fn text(&self, text: &str) -> String {
        if !text.contains('@') {
            return text.to_owned();
        }
        let mut text = text.to_owned();
        for (name, value) in &self.own {
            text = text.replace(&format!("@{name}@"), value);
        }
        for (name, value) in &self.saved {
            text = text.replace(&format!("@{name}@"), value);
        }
        text
    }

    fn learn(&mut self, step: &Step, answer: &Answer) {
        let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return };
        let meta = &body["metadata"];
        for (name, field) in
            [("rv", "resourceVersion"), ("uid", "uid"), ("continue", "continue"), ("name", "name")]
        {
            let Some(value) = meta[field].as_str().filter(|value| !value.is_empty()) else { continue };
            if name == "rv" {
                self.own.entry("rv0").or_insert_with(|| value.to_owned());
            }
            self.own.insert(name, value.to_owned());
            if let Some(saved) = &step.saved {
                self.saved.insert(format!("{name}:{saved}"), value.to_owned());
            }
        }
    }
}
