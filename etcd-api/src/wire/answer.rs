//! The answer of a range: taken apart without decoding its keys, and put together again.

use bytes::{BufMut, Bytes};
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
    let header = HeaderFields::of(header);
    let kvs: Vec<Bytes> = kvs.collect();
    let size = chunk_len(header.len())
        + kvs.iter().map(|kv| chunk_len(kv.len())).sum::<usize>()
        + integer_len(u64::from(more))
        + integer_len(count.cast_unsigned());
    let mut out = Vec::with_capacity(size);
    put_prefix(HEADER, header.len(), &mut out);
    header.put(&mut out);
    for kv in kvs {
        put_prefix(KVS, kv.len(), &mut out);
        out.put_slice(&kv);
    }
    put_integer(MORE, u64::from(more), &mut out);
    put_integer(COUNT, count.cast_unsigned(), &mut out);
    Bytes::from(out)
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

fn put_prefix(number: u8, len: usize, out: &mut Vec<u8>) {
    out.put_u8(number << 3 | 2);
    encode_varint(len as u64, out);
}
