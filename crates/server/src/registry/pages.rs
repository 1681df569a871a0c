//! Continue tokens, and the snapshots that the next pages are taken from: all pages
//! of a list show one revision, or the client is told that it is gone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use carrack_api::Revision;
use carrack_api::status::Status;
use carrack_store::Snapshot;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// What upstream's tokens say of their version; ours are read by nobody else, but a
/// person who decodes one recognizes it.
const VERSION: &str = "meta.k8s.io/v1";

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You \
    can start a new list without the continue parameter, or use the continue token in this response to \
    retrieve the remainder of the results. Continuing with the provided token results in an inconsistent \
    list - objects that were created, modified, or deleted between the time the first chunk was returned and \
    now may show up in the list.";

/// Where the next page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// Snapshot of all pages; `None` takes the newest (the token of an expired list).
    pub(crate) revision: Option<Revision>,
    /// Whole key of the last object handed out.
    pub(crate) after: String,
    /// Objects that come after it, where known.
    pub(crate) remaining: Option<usize>,
    /// When the first page was handed out, in seconds since 1970.
    pub(crate) since: i64,
}

/// How many seconds a list may be gone on with: upstream's compaction forgets revisions
/// of so long ago, and clients are written for that.
const LIFETIME: i64 = 300;

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remaining: Option<usize>,
    #[serde(default)]
    since: i64,
}

impl Token {
    /// The text for clients; `prefix` is what all keys of the list start with.
    pub(crate) fn encode(&self, prefix: &str) -> String {
        let wire = Wire {
            v: VERSION.into(),
            rv: self.revision.map_or(-1, |revision| revision as i64),
            start: self.after.strip_prefix(prefix).unwrap_or(&self.after).into(),
            remaining: self.remaining,
            since: self.since,
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).expect("plain fields always encode"))
    }

    /// Whether the list was begun too long ago to go on consistently.
    pub(crate) fn is_old(&self, now: Timestamp) -> bool {
        self.revision.is_some() && now.as_second().saturating_sub(self.since) > LIFETIME
    }

    /// Reads a client's token.
    pub(crate) fn decode(text: &str, prefix: &str) -> Result<Self, Status> {
        let bad = |why: String| {
            Status::bad_request(format!("invalid continue token: continue key is not valid{why}"))
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
            bad(format!(": illegal base64 data at input byte {}", illegal_byte(text, &error)))
        })?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| bad(format!(": {error}")))?;
        if wire.v != VERSION {
            return Err(bad(format!(": server does not recognize this encoded version {}", wire.v)));
        }
        if wire.rv == 0 {
            return Err(bad(": incorrect encoded start resourceVersion 0 (version meta.k8s.io/v1)".into()));
        }
        if wire.start.is_empty() {
            return Err(bad(": encoded start key empty (version meta.k8s.io/v1)".into()));
        }
        Ok(Self {
            revision: u64::try_from(wire.rv).ok(),
            after: format!("{prefix}{}", wire.start),
            remaining: wire.remaining,
            since: wire.since,
        })
    }
}

/// Where Go's decoder stops: a byte that is no letter of the alphabet, or the end of what
/// is too short.
fn illegal_byte(text: &str, error: &base64::DecodeError) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        _ => text.len() / 4 * 4,
    }
}

/// 410 with a token for going on inconsistently.
pub(crate) fn expired(token: &Token, prefix: &str) -> Status {
    let go_on = Token { revision: None, remaining: None, ..token.clone() };
    let mut status = Status::expired(EXPIRED);
    status.details = serde_json::json!({ super::CONTINUE: go_on.encode(prefix) });
    status
}

/// How long a snapshot is kept after its last use; while the history reaches back to it,
/// it can be made again.
const KEPT: Duration = Duration::from_secs(300);

/// The snapshots of lists that are being paged through, the least recently used
/// going first. A snapshot shares everything with the head but what has changed since.
#[derive(Default)]
pub(crate) struct Pages {
    most: usize,
    kept: Arc<Mutex<VecDeque<Kept>>>,
}

struct Kept {
    resource: Box<str>,
    snapshot: Snapshot,
    used: Instant,
}

impl Pages {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, kept: Arc::default() }
    }

    /// Keeps a snapshot for a while; its last moment is a timer's, not the next request's.
    pub(crate) fn keep(&self, resource: &str, snapshot: &Snapshot) {
        if self.get(resource, snapshot.revision).is_some() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() {
            tokio::spawn(let_go(Arc::downgrade(&self.kept)));
        }
        kept.push_back(Kept { resource: resource.into(), snapshot: snapshot.clone(), used: Instant::now() });
        while kept.len() > self.most {
            kept.pop_front();
        }
    }

    pub(crate) fn get(&self, resource: &str, revision: Revision) -> Option<Snapshot> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|k| &*k.resource == resource && k.snapshot.revision == revision)?;
        let mut entry = kept.remove(at)?;
        let snapshot = entry.snapshot.clone();
        entry.used = Instant::now();
        kept.push_back(entry);
        Some(snapshot)
    }
}

/// Lets snapshots go when their time has come; ends when there are none.
async fn let_go(kept: Weak<Mutex<VecDeque<Kept>>>) {
    let mut next = Instant::now() + KEPT;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.front().is_some_and(|entry| entry.used + KEPT <= Instant::now()) {
            kept.pop_front();
        }
        match kept.front() {
            Some(entry) => next = entry.used + KEPT,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn snapshots_go_when_nobody_pages_any_more() {
        let store = carrack_store::Local::memory(carrack_store::Limits::default());
        let pages = Pages::new(2);
        let snapshot = carrack_store::Store::snapshot(&store, "pods");
        for resource in ["a", "b", "c"] {
            pages.keep(resource, &snapshot);
        }
        let there = |resource| pages.get(resource, snapshot.revision).is_some();
        assert_eq!(["a", "b", "c"].map(there), [false, true, true]);
        tokio::time::sleep(KEPT / 2).await;
        assert!(there("b"));
        tokio::time::sleep(KEPT / 2 + Duration::from_secs(1)).await;
        assert_eq!(["b", "c"].map(there), [true, false]);
        tokio::time::sleep(KEPT + Duration::from_secs(1)).await;
        assert!(pages.kept.lock().unwrap().is_empty());
    }

    #[test]
    fn tokens_read_back() {
        for (revision, remaining) in [(Some(7), Some(3)), (None, None)] {
            let token = Token { revision, after: "pods/default/web".into(), remaining, since: 1_700_000_000 };
            let at = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).expect("in range");
            assert_eq!((token.is_old(at(300)), token.is_old(at(301))), (false, revision.is_some()));
            for prefix in ["pods/", "pods/default/"] {
                assert_eq!(Token::decode(&token.encode(prefix), prefix).unwrap(), token);
            }
        }
        for bad in ["", "%", "e30", "bm8"] {
            assert_eq!(Token::decode(bad, "pods/").unwrap_err().code, 400, "{bad}");
        }
    }
}
