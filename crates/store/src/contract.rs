//! What every backend must do, as checks that take any store. Each check starts on
//! an empty store and panics with what it saw.

use std::collections::HashSet;
use std::sync::Arc;

use carrack_api::{Content, Key, Revision};
use serde_json::{Value, json};

use crate::{Change, CommitError, Committed, Event, Expect, Field, Store, Watch, Write};

/// Runs every check on a fresh store from `make`.
pub async fn run<S, F>(mut make: S)
where
    S: FnMut() -> F,
    F: Future<Output = Arc<dyn Store>>,
{
    compare_and_set(&*make().await).await;
    one_revision_each(&*make().await).await;
    snapshots_stay(&*make().await).await;
    ranges(&*make().await).await;
    watch_resumes(&*make().await).await;
    watch_by_field(&*make().await).await;
    race(make().await).await;
    barrier(&*make().await).await;
}

/// A text of that many letters which cannot be compressed, the same every time.
pub fn noise(length: usize) -> String {
    let mut state = 1u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + (state >> 58) as u8)
    });
    letters.filter(|letter| *letter != '\\').take(length).collect()
}

/// An object with one field to tell its writes apart.
pub fn content(name: &str, value: i64) -> Content {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"value": value.to_string()}},
        "data": {"value": value.to_string()},
    });
    Content::encode(&object, &[""; 0]).expect("has metadata")
}

fn key(name: &str) -> Key {
    Key::new("configmaps", "default", name)
}

/// Writes `value` under `name`.
pub async fn put(
    store: &dyn Store,
    name: &str,
    expect: Expect,
    value: i64,
) -> Result<Committed, CommitError> {
    let content = Some(content(name, value));
    store.commit(Write { key: key(name), expect, content, unsynced: false }).await
}

/// Deletes `name`.
pub async fn delete(store: &dyn Store, name: &str, at: Revision) -> Result<Committed, CommitError> {
    store.commit(Write { key: key(name), expect: Expect::At(at), content: None, unsynced: false }).await
}

fn found(result: Result<Committed, CommitError>) -> Option<Revision> {
    match result {
        Err(CommitError::Conflict(record)) => record.map(|record| record.revision),
        other => panic!("expected a conflict, got {other:?}"),
    }
}

async fn compare_and_set(store: &dyn Store) {
    assert_eq!(found(put(store, "a", Expect::At(5), 0).await), None, "an update of nothing");
    assert_eq!(found(delete(store, "a", 5).await), None, "a deletion of nothing");
    let first = put(store, "a", Expect::Absent, 1).await.expect("creates").revision;
    assert_eq!(found(put(store, "a", Expect::Absent, 2).await), Some(first), "a second creation");
    let second = put(store, "a", Expect::At(first), 2).await.expect("updates").revision;
    assert!(second > first);
    assert_eq!(found(put(store, "a", Expect::At(first), 3).await), Some(second), "a stale update");
    assert_eq!(found(delete(store, "a", first).await), Some(second), "a stale deletion");
    let gone = delete(store, "a", second).await.expect("deletes");
    assert!(gone.revision > second);
    assert_eq!(gone.record.revision, second, "a deletion answers with the last record");
    assert!(store.get(&key("a")).is_none());
    let again = put(store, "a", Expect::Absent, 4).await.expect("creates again");
    assert!(again.revision > gone.revision);
    let record = store.get(&key("a")).expect("is there");
    assert_eq!((record.revision, &record.decode()["data"]), (again.revision, &json!({"value": "4"})));
    assert_eq!(record.header().label("value"), Some("4"));
}

async fn one_revision_each(store: &dyn Store) {
    let mut seen = HashSet::new();
    let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    let writes = names.iter().map(|name| put(store, name, Expect::Absent, 0));
    for committed in futures::future::join_all(writes).await {
        let committed = committed.expect("creates");
        assert!(seen.insert(committed.revision), "revision {} was given twice", committed.revision);
        assert_eq!(committed.record.revision, committed.revision);
    }
    assert!(store.revision() >= seen.into_iter().max().unwrap_or(0));
}

async fn snapshots_stay(store: &dyn Store) {
    put(store, "a", Expect::Absent, 1).await.expect("creates");
    let before = store.snapshot("configmaps");
    put(store, "b", Expect::Absent, 1).await.expect("creates");
    assert_eq!((before.len(), store.snapshot("configmaps").len()), (1, 2));
    assert!(store.snapshot("configmaps").revision > before.revision);
    assert!(store.snapshot("nothing").is_empty());
}

async fn ranges(store: &dyn Store) {
    for (namespace, name) in [("a", "x"), ("a-b", "y"), ("a", "z"), ("b", "x")] {
        let key = Key::new("configmaps", namespace, name);
        let write = Write { key, expect: Expect::Absent, content: Some(content(name, 0)), unsynced: true };
        store.commit(write).await.expect("creates");
    }
    let snapshot = store.snapshot("configmaps");
    let names = |prefix: &str, after: Option<&str>| -> Vec<String> {
        snapshot.range(prefix, after).map(|r| r.key.to_string()).collect()
    };
    assert_eq!(names("configmaps/a/", None), ["configmaps/a/x", "configmaps/a/z"]);
    assert_eq!(names("configmaps/a/", Some("configmaps/a/x")), ["configmaps/a/z"]);
    assert_eq!(names("configmaps/", Some("configmaps/a/z")), ["configmaps/b/x"]);
    assert_eq!(snapshot.iter().count(), 4);
}

/// A watch of a value hears of what has it, had it or loses it, in order, and of nothing
/// else's falling out of the history.
async fn watch_by_field(store: &dyn Store) {
    let field = |name: &str, value: &str| Field { name: name.into(), value: value.into() };
    let write = async |namespace: &str, node: Option<&str>, expect: Expect| {
        let key = Key::new("pods", namespace, "p");
        let object = node.map(|node| {
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": namespace},
                "spec": {"nodeName": node}})
        });
        let content = object.map(|object| Content::encode(&object, &["spec.nodeName"]).expect("an object"));
        store.commit(Write { key, expect, content, unsynced: true }).await.expect("writes").revision
    };
    let start = write("a", Some("n1"), Expect::Absent).await;
    let mut node = store.watch_field("pods", start, field("spec.nodeName", "n1")).expect("in history");
    let mut other = store.watch_field("pods", start, field("spec.nodeName", "n2")).expect("in history");
    let mut space = store.watch_field("pods", start, field("metadata.namespace", "b")).expect("in history");
    let moved = write("a", Some("n2"), Expect::At(start)).await;
    let there = write("b", Some("n1"), Expect::Absent).await;
    let gone = write("b", None, Expect::At(there)).await;
    let heard = |watch: &mut Watch| -> Vec<Revision> {
        let events = watch.try_next().expect("in history");
        assert!(watch.revision() >= gone);
        events.iter().map(|event| event.revision).collect()
    };
    assert_eq!(heard(&mut node), [moved, there, gone]);
    assert_eq!(heard(&mut other), [moved]);
    assert_eq!(heard(&mut space), [there, gone]);
    assert!(heard(&mut node).is_empty() && heard(&mut space).is_empty());
    let back = write("b", Some("n2"), Expect::Absent).await;
    assert_eq!(other.next().await.expect("in history")[0].revision, back);
    let mut late = store.watch_field("pods", moved, field("spec.nodeName", "n1")).expect("in history");
    assert_eq!(heard(&mut late), [there, gone]);
}

fn told(events: &[Arc<Event>]) -> Vec<(Change, Value, Option<String>)> {
    let before = |e: &Event| e.previous.as_ref().and_then(|r| r.header().label("value").map(str::to_owned));
    events.iter().map(|e| (e.change, e.record.decode()["data"]["value"].clone(), before(e))).collect()
}

async fn watch_resumes(store: &dyn Store) {
    let start = store.revision();
    let mut watch = store.watch("configmaps", start).expect("the head is always in the history");
    assert!(watch.try_next().expect("in history").is_empty());
    let one = put(store, "a", Expect::Absent, 1).await.expect("creates").revision;
    let two = put(store, "a", Expect::At(one), 2).await.expect("updates").revision;
    let three = delete(store, "a", two).await.expect("deletes").revision;
    let mut events = Vec::new();
    while events.len() < 3 {
        events.extend(watch.next().await.expect("in history"));
    }
    let before = |v: &str| Some(v.to_owned());
    assert_eq!(
        told(&events),
        [
            (Change::Created, json!("1"), None),
            (Change::Updated, json!("2"), before("1")),
            (Change::Deleted, json!("2"), before("2")),
        ]
    );
    assert_eq!(events.iter().map(|e| e.revision).collect::<Vec<_>>(), [one, two, three]);
    assert!(watch.revision() >= three);
    let mut resumed = store.watch("configmaps", one).expect("in history");
    assert_eq!(resumed.next().await.expect("in history")[0].revision, two);
    assert!(store.watch("configmaps", 0).is_err(), "revision 0 is before every history");
}

/// 100 writers at one revision: one success, 99 conflicts.
async fn race(store: Arc<dyn Store>) {
    let first = put(&*store, "a", Expect::Absent, 0).await.expect("creates").revision;
    let writers = (0..100).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { put(&*store, "a", Expect::At(first), n).await.is_ok() })
    });
    let wins: Vec<_> = futures::future::join_all(writers).await;
    assert_eq!(wins.into_iter().filter(|win| matches!(win, Ok(true))).count(), 1);
}

async fn barrier(store: &dyn Store) {
    let revision = put(store, "a", Expect::Absent, 0).await.expect("creates").revision;
    assert!(store.read_barrier().await.expect("reaches the head") >= revision);
    assert!(store.get(&key("a")).is_some());
}
