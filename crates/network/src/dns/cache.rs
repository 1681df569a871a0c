//! Answers from elsewhere, for a moment. Pure but for the time it is given.
//!
//! The key is the transport and the whole request but its number, so two requests share an answer only if they
//! are the same in every bit, case of letters and EDNS options included.

use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;

use super::upstream::Transport;

/// Answers kept. With the limits of a datagram some megabytes at the very most.
const MAX_ENTRIES: usize = 1024;
/// An answer with more bytes is not kept.
const MAX_BYTES: usize = 4096;
/// For no longer, whatever its TTL: this is to spare a burst, not to replace a resolver.
const MAX_SECONDS: u32 = 30;

/// A bounded cache.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Vec<u8>, Entry>,
    /// In the order of insertion; the oldest goes first.
    order: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Entry {
    answer: Message,
    since: Instant,
    seconds: u32,
}

impl Cache {
    /// The answer to a request, with TTLs as they are by now, under the request's number.
    pub fn get(&self, transport: Transport, request: &[u8], now: Instant) -> Option<Message> {
        let (number, key) = key(transport, request)?;
        let entry = self.entries.get(&key)?;
        let age = u32::try_from(now.duration_since(entry.since).as_secs()).ok()?;
        if age >= entry.seconds {
            return None;
        }
        let mut answer = entry.answer.clone();
        answer.metadata.id = number;
        let records = answer.answers.iter_mut().chain(&mut answer.authorities);
        for record in records.chain(&mut answer.additionals) {
            record.decrement_ttl(age);
        }
        Some(answer)
    }

    /// Keeps an answer, if it is one to keep.
    pub fn put(&mut self, transport: Transport, request: &[u8], answer: &[u8], now: Instant) {
        let Some((_, key)) = key(transport, request).filter(|_| answer.len() <= MAX_BYTES) else {
            return;
        };
        let Ok(answer) = Message::from_vec(answer) else { return };
        let Some(seconds) = lifetime(&answer).filter(|seconds| *seconds > 0) else { return };
        while self.entries.len() >= MAX_ENTRIES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
        }
        let entry = Entry { answer, since: now, seconds };
        if self.entries.insert(key.clone(), entry).is_none() {
            self.order.push_back(key);
        }
    }

    /// Forgets what is out of date; call it now and then.
    pub fn expire(&mut self, now: Instant) {
        let keep =
            |entry: &Entry| now.duration_since(entry.since) < Duration::from_secs(entry.seconds.into());
        self.entries.retain(|_, entry| keep(entry));
        self.order.retain(|key| self.entries.contains_key(key));
    }
}

fn key(transport: Transport, request: &[u8]) -> Option<(u16, Vec<u8>)> {
    let number = request.get(..2)?;
    let key = [&[transport as u8], &request[2..]].concat();
    Some((u16::from_be_bytes([number[0], number[1]]), key))
}

/// Seconds; `None` for answers that are not to be kept.
fn lifetime(answer: &Message) -> Option<u32> {
    if answer.metadata.truncation {
        return None;
    }
    match (answer.metadata.response_code, answer.answers.is_empty()) {
        (ResponseCode::NoError, false) => answer.answers.iter().map(|r| r.ttl).min(),
        // RFC 2308: a negative answer lives as long as the SOA says.
        (ResponseCode::NoError | ResponseCode::NXDomain, _) => {
            answer.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            })
        }
        _ => None,
    }
    .map(|seconds| seconds.min(MAX_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, Record, RecordType};

    fn request(id: u16, host: &str) -> Message {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(host).unwrap(), RecordType::A));
        message
    }

    fn answer(to: &Message, ttl: u32) -> Vec<u8> {
        let mut message = to.clone().into_response();
        let data = RData::A(A([192, 0, 2, 1].into()));
        message.add_answer(Record::from_rdata(to.queries[0].name.clone(), ttl, data));
        message.to_vec().unwrap()
    }

    #[test]
    fn until_it_is_out_of_date() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let first = request(1, "a.example.");
        cache.put(Transport::Udp, &first.to_vec().unwrap(), &answer(&first, 10), now);
        let second = request(2, "a.example.").to_vec().unwrap();
        let found = cache.get(Transport::Udp, &second, now + Duration::from_secs(4)).unwrap();
        assert_eq!((found.metadata.id, found.answers[0].ttl), (2, 6));
        assert!(cache.get(Transport::Udp, &second, now + Duration::from_secs(10)).is_none());
        let other = request(2, "A.example.").to_vec().unwrap();
        assert!(cache.get(Transport::Udp, &other, now).is_none());
        cache.expire(now + Duration::from_secs(10));
        assert!(cache.entries.is_empty() && cache.order.is_empty());
    }

    #[test]
    fn bounded_in_number_time_and_kind() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for i in 0..(MAX_ENTRIES as u32 + 10) {
            let request = request(1, &format!("h{i}.example."));
            cache.put(Transport::Udp, &request.to_vec().unwrap(), &answer(&request, 99_999), now);
        }
        assert_eq!((cache.entries.len(), cache.order.len()), (MAX_ENTRIES, MAX_ENTRIES));
        let last = request(1, "h1000.example.").to_vec().unwrap();
        assert!(cache.get(Transport::Udp, &last, now + Duration::from_secs(31)).is_none());
        let failed = request(1, "f.example.");
        let mut response = failed.clone().into_response();
        response.metadata.response_code = ResponseCode::ServFail;
        let failed = failed.to_vec().unwrap();
        cache.put(Transport::Udp, &failed, &response.to_vec().unwrap(), now);
        assert!(cache.get(Transport::Udp, &failed, now).is_none());
        cache.put(Transport::Udp, b"x", b"y", now);
    }
}
