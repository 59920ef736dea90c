//! The answer of a range: taken apart without decoding its keys, and put together again.

use std::vec;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{Header, RawKv, WireError, header, read::Reader};

const HEADER: u8 = 1;
const KVS: u8 = 2;
const MORE: u8 = 3;
const COUNT: u8 = 4;

/// A `RangeResponse` whose keys are still encoded and share the buffer of the answer. Fields that
/// this program does not know are left behind: an answer that is joined from several is a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeAnswer {
    /// All zero where the answer has none.
    pub header: Header,
    pub kvs: Vec<RawKv>,
    pub more: bool,
    pub count: i64,
}

impl RangeAnswer {
    /// # Errors
    /// Where `response` is not a `RangeResponse`.
    pub fn parse(response: &Bytes) -> Result<Self, WireError> {
        let mut answer = Self::default();
        let mut header = None;
        let mut reader = Reader::new(response);
        while let Some(field) = reader.next()? {
            match u8::try_from(field.number) {
                Ok(HEADER) if header.is_some() => return Err(WireError::Repeated),
                Ok(HEADER) => header = Some(header::read(reader.enter(&field)?)?),
                Ok(KVS) => answer.kvs.push(RawKv::parse(field.slice(response)?)?),
                Ok(MORE) => answer.more = field.varint()? != 0,
                Ok(COUNT) => answer.count = field.int64()?,
                _ => {}
            }
        }
        answer.header = header.unwrap_or_default();
        Ok(answer)
    }
}

/// Encodes a `RangeResponse` of keys that are encoded, and rewritten, already.
pub fn encode_range_answer(
    header: Header,
    kvs: impl Iterator<Item = Bytes>,
    more: bool,
    count: i64,
) -> Bytes {
    EncodedList::new(header, kvs.collect(), more, count).into_bytes()
}

/// A `RangeResponse` that is put together while it is sent, piece by piece: beside the keys as their
/// stores sent them there is one piece of it at a time.
#[derive(Debug)]
pub struct EncodedList {
    /// What stands next.
    begun: Bytes,
    kvs: vec::IntoIter<Bytes>,
    /// What stands behind the keys.
    end: Bytes,
    left: usize,
}

/// The tag and the length before a key are not cut.
const LONGEST_PREFIX: usize = 11;

impl EncodedList {
    #[must_use]
    pub fn new(header: Header, kvs: Vec<Bytes>, more: bool, count: i64) -> Self {
        let fields = HeaderFields::of(header);
        let mut begin = Vec::with_capacity(LONGEST_PREFIX + fields.len());
        put_prefix(HEADER, fields.len(), &mut begin);
        fields.put(&mut begin);
        let mut end = Vec::new();
        put_integer(MORE, u64::from(more), &mut end);
        put_integer(COUNT, count.cast_unsigned(), &mut end);
        let keys = kvs.iter().map(|kv| chunk_len(kv.len()));
        Self {
            left: begin.len() + keys.sum::<usize>() + end.len(),
            begun: begin.into(),
            kvs: kvs.into_iter(),
            end: end.into(),
        }
    }

    /// How much of it was not taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether all of it was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Appends what comes next, as much as there is room for; a few bytes may stay free.
    pub fn put(&mut self, out: &mut BytesMut, mut room: usize) {
        while room > 0 {
            let part = self.begun.split_to(room.min(self.begun.len()));
            out.put_slice(&part);
            room -= part.len();
            self.left -= part.len();
            if !self.begun.is_empty() {
                continue;
            }
            if room < LONGEST_PREFIX && self.kvs.len() > 0 {
                return;
            }
            self.begun = match self.kvs.next() {
                Some(kv) => {
                    let before = out.len();
                    put_prefix(KVS, kv.len(), out);
                    room -= out.len() - before;
                    self.left -= out.len() - before;
                    kv
                }
                None if self.end.is_empty() => return,
                None => std::mem::take(&mut self.end),
            };
        }
    }

    /// All of it in one piece.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.left);
        // The room that may stay free is none at the end.
        self.put(&mut whole, self.left + LONGEST_PREFIX);
        whole.freeze()
    }
}

/// The fields of a header in the order of their numbers.
struct HeaderFields([u64; 4]);

impl HeaderFields {
    fn of(header: Header) -> Self {
        Self([
            header.cluster_id,
            header.member_id,
            header.revision.cast_unsigned(),
            header.raft_term,
        ])
    }

    fn len(&self) -> usize {
        self.0.iter().copied().map(integer_len).sum()
    }

    fn put(&self, out: &mut Vec<u8>) {
        for (number, value) in (1..).zip(self.0) {
            put_integer(number, value, out);
        }
    }
}

// All fields here have numbers below 16, so that a tag is one byte. As proto3 has it, 0 is absent.

fn integer_len(value: u64) -> usize {
    match value {
        0 => 0,
        value => 1 + encoded_len_varint(value),
    }
}

fn put_integer(number: u8, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        out.put_u8(number << 3);
        encode_varint(value, out);
    }
}

fn chunk_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn put_prefix(number: u8, len: usize, out: &mut impl BufMut) {
    out.put_u8(number << 3 | 2);
    encode_varint(len as u64, out);
}
