//! Which events are written, counted, combined or dropped.
//!
//! As client-go's EventCorrelator: the same event again raises its count; from the
//! tenth message of one reason about one object within ten minutes they are
//! combined; one object gets a burst of 25 events and then one every five minutes.
//! Memory is bounded: past [`LIMIT`] entries the tables are cleared.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::{Event, EventKind, Reference};

/// Entries of each table (client-go: an LRU of 4096).
const LIMIT: usize = 4096;
/// Different messages from which on they are combined.
const SIMILAR: usize = 10;
/// Window in which messages count as similar.
const WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// Events of one object at once.
const BURST: f64 = 25.0;
/// Events of one object per second in the long run.
const RATE: f64 = 1.0 / 300.0;

/// What to do with an event.
pub(super) enum Outcome {
    /// Too many about this object.
    Drop,
    /// Write it as a new Event.
    Create { event: Event, slot: u64 },
    /// Raise the count of the Event `name`.
    Count { event: Event, slot: u64, name: String, count: i64 },
}

/// Memory of recent events.
#[derive(Default)]
pub(super) struct Correlator {
    /// Similar events: time of the last one and the messages seen.
    groups: HashMap<Group, (Timestamp, HashSet<String>)>,
    /// Written Events: slot, name (once created) and count.
    written: HashMap<(Group, String), (u64, Option<String>, i64)>,
    /// Where a slot is.
    slots: HashMap<u64, (Group, String)>,
    /// Token buckets: tokens left and when.
    buckets: HashMap<Object, (f64, Timestamp)>,
    last_slot: u64,
}

type Object = (String, String, String, String, String);
type Group = (Object, String, EventKind, String);

fn object(about: &Reference) -> Object {
    let Reference { api_version, kind, namespace, name, uid, .. } = about.clone();
    (api_version, kind, namespace, name, uid)
}

impl Correlator {
    /// Decides about an event.
    pub(super) fn observe(&mut self, mut event: Event) -> Outcome {
        let object = object(&event.about);
        let group: Group = (object.clone(), event.about.field_path.clone(), event.kind, event.reason.clone());
        let text = self.combine(&group, &mut event);
        let key = (group, text);
        if self.written.len() >= LIMIT && !self.written.contains_key(&key) {
            self.written.clear();
            self.slots.clear();
        }
        self.last_slot += 1;
        let next = self.last_slot;
        let entry = self.written.entry(key.clone()).or_insert((next, None, 0));
        entry.2 += 1;
        let (slot, name, count) = entry.clone();
        if slot == next {
            self.slots.insert(slot, key);
        }
        if !self.take_token(object, event.time) {
            return Outcome::Drop;
        }
        match name {
            Some(name) => Outcome::Count { event, slot, name, count },
            None => Outcome::Create { event, slot },
        }
    }

    /// The event in `slot` now exists as `name`, with count 1.
    pub(super) fn created(&mut self, slot: u64, name: String) {
        let entry = self.slots.get(&slot).and_then(|key| self.written.get_mut(key));
        if let Some(entry) = entry {
            (entry.1, entry.2) = (Some(name), 1);
        }
    }

    /// Marks the event as combined when there are many like it; returns the text
    /// under which it is counted.
    fn combine(&mut self, group: &Group, event: &mut Event) -> String {
        if self.groups.len() >= LIMIT && !self.groups.contains_key(group) {
            self.groups.clear();
        }
        let (last, messages) =
            self.groups.entry(group.clone()).or_insert_with(|| (event.time, HashSet::new()));
        if event.time.duration_since(*last) > WINDOW {
            messages.clear();
        }
        *last = event.time;
        if messages.len() < SIMILAR {
            messages.insert(event.message.clone());
        }
        if messages.len() < SIMILAR {
            return event.message.clone();
        }
        event.message = format!("(combined from similar events): {}", event.message);
        String::new()
    }

    fn take_token(&mut self, object: Object, now: Timestamp) -> bool {
        if self.buckets.len() >= LIMIT && !self.buckets.contains_key(&object) {
            self.buckets.clear();
        }
        let (tokens, at) = self.buckets.entry(object).or_insert((BURST, now));
        let passed = now.duration_since(*at).as_secs_f64().max(0.0);
        (*tokens, *at) = ((*tokens + passed * RATE).min(BURST), now);
        let allowed = *tokens >= 1.0;
        *tokens -= f64::from(u8::from(allowed));
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, message: &str, second: i64) -> Event {
        Event {
            about: Reference { kind: "Pod".into(), name: name.into(), ..Reference::default() },
            kind: EventKind::Normal,
            reason: "Pulled".into(),
            message: message.into(),
            time: Timestamp::from_second(1_000_000 + second).unwrap(),
        }
    }

    /// One word an event: `+` created, a number counted, `-` dropped; `*` combined.
    fn check(events: impl IntoIterator<Item = Event>, expect: &str) {
        let mut correlator = Correlator::default();
        let mut got = Vec::new();
        for event in events {
            let star = |event: &Event| if event.message.starts_with("(combined") { "*" } else { "" };
            got.push(match correlator.observe(event) {
                Outcome::Drop => "-".to_owned(),
                Outcome::Create { event, slot } => {
                    correlator.created(slot, format!("n{slot}"));
                    format!("+{}", star(&event))
                }
                Outcome::Count { event, count, .. } => format!("{count}{}", star(&event)),
            });
        }
        assert_eq!(got.join(" "), expect);
    }

    #[test]
    fn the_same_event_is_counted() {
        check((0..4).map(|i| event("a", "x", i)), "+ 2 3 4");
        check(["a", "b", "a"].map(|name| event(name, "x", 0)), "+ + 2");
    }

    #[test]
    fn many_messages_are_combined() {
        let events = (0..12).map(|i| event("a", &format!("m{i}"), i));
        check(events, "+ + + + + + + + + +* 2* 3*");
        let slow = (0..12).map(|i| event("a", &format!("m{i}"), i * 601));
        check(slow, "+ + + + + + + + + + + +");
    }

    #[test]
    fn a_flood_is_dropped() {
        let events = (0..27).map(|_| event("a", "x", 0)).chain([event("a", "x", 301), event("a", "x", 302)]);
        let counted: Vec<String> = (2..=25).map(|n| n.to_string()).collect();
        check(events, &format!("+ {} - - 28 -", counted.join(" ")));
    }
}
