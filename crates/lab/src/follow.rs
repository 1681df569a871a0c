//! A watch that is taken up again wherever it broke off, and what it makes of its events:
//! each must come once and in order, or the watch expires and everything is listed anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::writes::{MAPS, revision, send};

/// What a watch of ConfigMaps that is taken up again and again has made of its events.
#[derive(Default)]
pub struct Followed(Mutex<State>);

#[derive(Default)]
struct State {
    /// Names and revisions.
    objects: BTreeMap<String, u64>,
    /// The newest revision seen; 0: it has to list.
    at: u64,
    events: usize,
    lists: usize,
    wrong: Vec<String>,
}

/// Names and revisions in a list.
fn entries(list: &Value) -> Result<BTreeMap<String, u64>> {
    let entry = |item: &Value| Some((item["metadata"]["name"].as_str()?.to_owned(), revision(item)));
    list["items"].as_array().context("a list")?.iter().map(|item| entry(item).context("a name")).collect()
}

impl State {
    fn list(&mut self, list: &Value) -> Result<()> {
        self.objects = entries(list)?;
        self.at = revision(list);
        self.lists += 1;
        Ok(())
    }

    /// Takes an event in; false when the watch has expired.
    fn event(&mut self, event: &Value) -> bool {
        let (kind, object) = (event["type"].as_str().unwrap_or_default(), &event["object"]);
        if kind == "ERROR" {
            if object["code"] != 410 {
                self.wrong.push(format!("an error that is not 410: {object}"));
            }
            self.at = 0;
            return false;
        }
        let at = revision(object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if at <= self.at && kind != "BOOKMARK" {
            self.wrong.push(format!("{kind} {name} at {at} after {}", self.at));
        }
        self.at = self.at.max(at);
        let fits = match kind {
            "ADDED" => self.objects.insert(name.clone(), at).is_none(),
            "MODIFIED" => self.objects.insert(name.clone(), at).is_some(),
            "DELETED" => self.objects.remove(&name).is_some(),
            "BOOKMARK" => true,
            _ => false,
        };
        if !fits {
            self.wrong.push(format!("{kind} {name} at {at} does not fit what was there"));
        }
        self.events += 1;
        true
    }
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches ConfigMaps, taking the watch up where it broke off, for as long as it is
    /// polled.
    pub async fn follow(self: Arc<Self>, client: kube::Client) {
        loop {
            if self.go_on(&client).await.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// A list, or a watch to its end; `None` when nobody answers.
    async fn go_on(&self, client: &kube::Client) -> Option<()> {
        let at = self.lock().at;
        if at == 0 {
            let (200, list) = send(client, "GET", MAPS, &Value::Null).await? else { return None };
            return self.lock().list(&list).ok();
        }
        let path = format!("{MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={at}");
        let request = http::Request::get(path).body(kube::client::Body::empty()).ok()?;
        let answer = client.send(request).await.ok()?;
        let (mut body, mut open) = (answer.into_body(), Vec::new());
        while let Some(Ok(frame)) = body.frame().await {
            open.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = open.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = open.drain(..=end).collect();
                let event = serde_json::from_slice(&line).unwrap_or(Value::Null);
                if !self.lock().event(&event) {
                    return Some(());
                }
            }
        }
        Some(())
    }

    /// Waits, at most `limit`, until the watch has made the same of its events as the list
    /// says, which must stand still. Returns how many events and lists there were.
    ///
    /// # Errors
    /// What was told wrongly.
    pub async fn verify(&self, list: &Value, limit: Duration) -> Result<(usize, usize)> {
        let expect = entries(list)?;
        let waiting = async {
            while self.lock().objects != expect {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let same = tokio::time::timeout(limit, waiting).await.is_ok();
        let state = self.lock();
        ensure!(state.wrong.is_empty(), "not each event once and in order: {:?}", state.wrong);
        ensure!(same, "the watch made something else of its events: {:?}, not {expect:?}", state.objects);
        Ok((state.events, state.lists))
    }
}
