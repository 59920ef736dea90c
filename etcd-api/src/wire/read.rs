//! Reading the fields of an encoded message one after the other, without decoding them.

use std::ops::Range;

use bytes::Bytes;

use super::{WireError, varint};

/// How deeply messages and groups may be nested: the limit that prost has.
const DEPTH: u8 = 100;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const CHUNK: u64 = 2;
const GROUP: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED32: u64 = 5;

/// A place in the bytes of a message. Positions count from the start of the outermost message.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    /// What of the message has not been read.
    rest: &'a [u8],
    /// Where the message ends.
    end: usize,
    /// How many more levels may follow.
    depth: u8,
}

/// One field of a message.
pub(super) struct Field<'a> {
    pub(super) number: u32,
    /// Where the field begins, with its tag.
    pub(super) start: usize,
    /// Where its value begins, behind the tag; for a chunk that is its length prefix.
    pub(super) value_at: usize,
    /// Where the next field begins.
    pub(super) end: usize,
    value: Value<'a>,
}

enum Value<'a> {
    Varint(u64),
    /// The content of bytes, a string or a message.
    Chunk(&'a [u8]),
    /// A fixed-width number or a group: nothing that is ever looked into.
    Opaque,
}

impl<'a> Field<'a> {
    /// The value of a field that must be a varint.
    #[inline]
    pub(super) fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(value) => Ok(value),
            Value::Chunk(_) | Value::Opaque => Err(WireError::Malformed),
        }
    }

    #[inline]
    pub(super) fn int64(&self) -> Result<i64, WireError> {
        self.varint().map(u64::cast_signed)
    }

    /// The content of a field that must be bytes or a message. It ends with the field.
    #[inline]
    pub(super) fn content(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Chunk(content) => Ok(content),
            Value::Varint(_) | Value::Opaque => Err(WireError::Malformed),
        }
    }

    /// [`Field::content`], sharing the buffer of the outermost `message`.
    pub(super) fn slice(&self, message: &Bytes) -> Result<Bytes, WireError> {
        let length = self.content()?.len();
        slice(message, self.end.saturating_sub(length)..self.end)
    }
}

/// [`Bytes::slice`] panics outside of its bytes; this is for places that should never be there.
fn slice(message: &Bytes, range: Range<usize>) -> Result<Bytes, WireError> {
    if range.start <= range.end && range.end <= message.len() {
        Ok(message.slice(range))
    } else {
        Err(WireError::Malformed)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            end: bytes.len(),
            depth: DEPTH,
        }
    }

    /// A reader of the message in the field that was read last.
    #[inline]
    pub(super) fn enter(&self, field: &Field<'a>) -> Result<Reader<'a>, WireError> {
        Ok(Reader {
            rest: field.content()?,
            end: field.end,
            depth: self.depth.checked_sub(1).ok_or(WireError::TooDeep)?,
        })
    }

    /// What has not been read, sharing the buffer of the outermost `message`.
    pub(super) fn rest(&self, message: &Bytes) -> Result<Bytes, WireError> {
        slice(message, self.at()..self.end)
    }

    /// Where the message ends.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    #[inline]
    fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    /// The next field, or `None` at the end of the message.
    // Inlined by force: as a call it would pass a whole `Field` through memory for each tag.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.at();
        let (number, wire_type) = self.tag()?;
        let value_at = self.at();
        let value = match wire_type {
            VARINT => Value::Varint(self.varint()?),
            CHUNK => {
                let length = self.varint()?;
                Value::Chunk(self.take(length)?)
            }
            _ => {
                self.skip_opaque(number, wire_type, self.depth)?;
                Value::Opaque
            }
        };
        Ok(Some(Field {
            number,
            start,
            value_at,
            end: self.at(),
            value,
        }))
    }

    #[inline(always)]
    fn tag(&mut self) -> Result<(u32, u64), WireError> {
        let tag = u32::try_from(self.varint()?).map_err(|_| WireError::Malformed)?;
        match tag >> 3 {
            0 => Err(WireError::Malformed),
            number => Ok((number, u64::from(tag & 7))),
        }
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(byte.into())
            }
            _ => {
                let (value, length) = varint::long(self.rest).ok_or(WireError::Malformed)?;
                self.rest = self.rest.get(length.get()..).unwrap_or_default();
                Ok(value)
            }
        }
    }

    #[inline(always)]
    fn take(&mut self, length: u64) -> Result<&'a [u8], WireError> {
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = taken.ok_or(WireError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    #[cold]
    fn skip_opaque(&mut self, number: u32, wire_type: u64, depth: u8) -> Result<(), WireError> {
        match wire_type {
            VARINT => self.varint().map(drop),
            CHUNK => self.varint().and_then(|length| self.take(length).map(drop)),
            FIXED32 => self.take(4).map(drop),
            FIXED64 => self.take(8).map(drop),
            GROUP => self.skip_group(number, depth),
            _ => Err(WireError::Malformed),
        }
    }

    /// Groups are older than proto3, but an unknown field may be one.
    fn skip_group(&mut self, number: u32, depth: u8) -> Result<(), WireError> {
        let depth = depth.checked_sub(1).ok_or(WireError::TooDeep)?;
        loop {
            match self.tag()? {
                (inner, GROUP_END) if inner == number => return Ok(()),
                (inner, wire_type) => self.skip_opaque(inner, wire_type, depth)?,
            }
        }
    }
}
