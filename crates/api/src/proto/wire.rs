//! Protobuf's wire format: tags, varints, lengths.

use crate::decode::Error;

/// What follows a tag.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Item<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// Reads the items of a message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

fn bad(reason: &str) -> Error {
    Error::Unfit(reason.to_owned())
}

impl<'a> Reader<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and value.
    pub fn next(&mut self) -> Result<Option<(u32, Item<'a>)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| bad("proto: illegal tag"))?;
        if number == 0 {
            return Err(Error::Unfit(format!("proto: illegal tag {number} (wire type {tag})")));
        }
        let item = match tag & 7 {
            0 => Item::Varint(self.varint()?),
            1 => Item::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().expect("took eight bytes"))),
            2 => {
                let length =
                    usize::try_from(self.varint()?).map_err(|_| bad("proto: negative length found"))?;
                Item::Bytes(self.take(length)?)
            }
            5 => Item::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().expect("took four bytes"))),
            // Groups have long been out of use.
            kind => return Err(Error::Unfit(format!("proto: illegal wireType {kind}"))),
        };
        Ok(Some((number, item)))
    }

    pub fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(bad(if self.rest.len() < 10 { "unexpected EOF" } else { "proto: integer overflow" }))
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let taken = self.rest.get(..length).ok_or_else(|| bad("unexpected EOF"))?;
        self.rest = &self.rest[length..];
        Ok(taken)
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A varint field.
pub(super) fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// A field of bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A field whose bytes `write` appends. The length is put before them afterwards.
pub(super) fn put_message<E>(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_varint(out, u64::from(number) << 3 | 2);
    let start = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        put_varint(&mut prefix, length as u64);
        out.splice(start..=start, prefix);
    }
    Ok(())
}
