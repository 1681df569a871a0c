//! Netlink messages as bytes: a writer and a reader. Pure.
//!
//! The writer pads and patches lengths, so that a message it made is well-formed
//! whatever was put in. The reader never goes beyond the bytes it was given; what is
//! malformed ends the iteration.

/// Set on an attribute that holds attributes.
const NESTED: u16 = 1 << 15;
/// The bits of an attribute's type that are its type.
const TYPE_MASK: u16 = 0x3fff;
/// `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// The most bytes an attribute's payload may have: its length field has 16 bits.
pub const MAX_ATTRIBUTE: usize = 65_535 - 4;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 4;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;
/// `NLM_F_DUMP_INTR` in an answer: the dump is not one snapshot.
pub const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLMSG_ERROR`.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub const DONE: u16 = 3;

/// Messages to be sent in one system call, numbered from 1.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    count: u32,
    last: usize,
}

impl Messages {
    /// Appends a message; `fixed` is the structure between header and attributes. Returns
    /// its sequence number.
    pub fn push(&mut self, kind: u16, flags: u16, fixed: &[u8], attributes: impl FnOnce(&mut Self)) -> u32 {
        self.count += 1;
        let start = self.bytes.len();
        self.last = start;
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
        self.pad();
        attributes(self);
        let length = u32::try_from(self.bytes.len() - start).expect("a message is far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.count
    }

    /// Appends an attribute to the message being made.
    ///
    /// # Panics
    /// If the payload is longer than [`MAX_ATTRIBUTE`]: callers split long lists.
    pub fn attribute(&mut self, kind: u16, payload: &[u8]) {
        let length = u16::try_from(payload.len() + 4).expect("callers split long lists");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    /// An attribute with a string that ends in a zero byte.
    pub fn string(&mut self, kind: u16, text: &str) {
        let bytes = [text.as_bytes(), &[0]].concat();
        self.attribute(kind, &bytes);
    }

    /// An attribute with a number in network order, as netfilter has them.
    pub fn be32(&mut self, kind: u16, number: u32) {
        self.attribute(kind, &number.to_be_bytes());
    }

    /// An attribute with a number in the machine's order, as rtnetlink has them.
    pub fn ne32(&mut self, kind: u16, number: u32) {
        self.attribute(kind, &number.to_ne_bytes());
    }

    /// An attribute that holds attributes.
    ///
    /// # Panics
    /// As [`Messages::attribute`].
    pub fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        inner(self);
        let length = u16::try_from(self.bytes.len() - start).expect("callers split long lists");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
    }

    /// Raw bytes within an attribute, for the few structures that are neither.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Asks for an answer to the last message, also if it succeeds.
    pub fn acknowledge_last(&mut self) {
        if self.count > 0 {
            let flags = &mut self.bytes[self.last + 6..self.last + 8];
            let value = u16::from_ne_bytes([flags[0], flags[1]]) | ACK;
            flags.copy_from_slice(&value.to_ne_bytes());
        }
    }

    /// How many messages there are; also the last one's sequence number.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

/// A received message.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// Number of the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages of a datagram.
pub fn received(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    core::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let payload = bytes.get(HEADER..length)?;
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let message = Received {
            kind: half(4),
            flags: half(6),
            sequence: u32::from_ne_bytes(bytes[8..12].try_into().ok()?),
            payload,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Reads attributes.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Attributes<'a> {
    /// The payload of the first attribute of this type.
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == kind).map(|(_, payload)| payload)
    }

    /// The attributes within the first one of this type.
    pub fn nested(&self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes)
    }

    /// The string in the first attribute of this type, without its final zero.
    pub fn string(&self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        core::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    /// Types and payloads in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut bytes = self.0;
        core::iter::from_fn(move || {
            let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
            let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
            let payload = bytes.get(4..length)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, payload))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut messages = Messages::default();
        messages.push(7, CREATE, &[1, 2, 3, 4], |m| {
            m.string(1, "abc");
            m.nest(2, |m| {
                m.be32(1, 5);
                m.attribute(2, &[9]);
            });
        });
        messages.push(8, 0, &[], |_| {});
        messages.acknowledge_last();
        let all: Vec<_> = received(messages.bytes()).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].flags, all[0].sequence), (7, CREATE | REQUEST, 1));
        assert_eq!((all[1].kind, all[1].flags, all[1].sequence), (8, ACK | REQUEST, 2));
        let attributes = Attributes(&all[0].payload[4..]);
        assert_eq!(attributes.string(1), Some("abc"));
        let inner = attributes.nested(2).unwrap();
        assert_eq!(inner.get(1), Some(&5u32.to_be_bytes()[..]));
        assert_eq!(inner.get(2), Some(&[9][..]));
        assert_eq!(inner.get(3), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in received(&bytes) {
                let _ = Attributes(message.payload).iter().count();
            }
            prop_assert!(Attributes(&bytes).iter().count() <= bytes.len());
        }
    }
}
