//! Answers as they go over the wire.
//!
//! A range's rows are written straight from the database's memory into the answer: one copy,
//! however large. The bytes are those that prost would write.

use bytes::Bytes;
use keyloom_etcd_api::{Status, etcdserverpb::ResponseHeader, mvccpb::KeyValue};
use prost::{
    DecodeError, Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use crate::session::{Identity, Row};

/// The one maker of headers.
pub(crate) fn header(identity: &Identity, revision: i64) -> ResponseHeader {
    ResponseHeader {
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        revision,
        raft_term: identity.raft_term,
    }
}

/// The header of an operation inside a transaction: etcd fills in nothing else.
pub(crate) fn inner_header(revision: i64) -> ResponseHeader {
    ResponseHeader {
        revision,
        ..ResponseHeader::default()
    }
}

pub(crate) fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// # Errors
/// As grpc-go puts it.
pub(crate) fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    let malformed = |error: DecodeError| {
        Status::internal(format!("grpc: error unmarshalling request: {error}"))
    };
    M::decode(message).map_err(malformed)
}

/// Takes the rows of a range.
pub(crate) trait Sink {
    fn push(&mut self, row: &Row<'_>);
}

impl Sink for Vec<KeyValue> {
    fn push(&mut self, row: &Row<'_>) {
        Self::push(self, row.to_key_value());
    }
}

/// Builds an encoded `RangeResponse`.
#[derive(Debug)]
pub(crate) struct RangeAnswer {
    encoded: Vec<u8>,
}

/// Field numbers of `RangeResponse`.
const HEADER: u32 = 1;
const KVS: u32 = 2;
const MORE: u32 = 3;
const COUNT: u32 = 4;

impl RangeAnswer {
    pub(crate) fn new(header: &ResponseHeader) -> Self {
        let mut encoded = Vec::with_capacity(512);
        prost::encoding::message::encode(HEADER, header, &mut encoded);
        Self { encoded }
    }

    pub(crate) fn finish(mut self, more: bool, count: i64) -> Bytes {
        if more {
            prost::encoding::bool::encode(MORE, &more, &mut self.encoded);
        }
        number(COUNT, count, &mut self.encoded);
        self.encoded.into()
    }
}

impl Sink for RangeAnswer {
    fn push(&mut self, row: &Row<'_>) {
        let to = &mut self.encoded;
        encode_key(KVS, WireType::LengthDelimited, to);
        encode_varint(row_len(row) as u64, to);
        bytes(1, row.key, to);
        number(2, row.create_revision, to);
        number(3, row.mod_revision, to);
        number(4, row.version, to);
        bytes(5, row.value, to);
        number(6, row.lease, to);
    }
}

/// The fields of `KeyValue` have numbers below 16: each tag is one byte.
fn row_len(row: &Row<'_>) -> usize {
    let bytes_len = |bytes: &[u8]| match bytes.len() {
        0 => 0,
        length => 1 + encoded_len_varint(length as u64) + length,
    };
    let number_len = |number: i64| match number {
        0 => 0,
        number => 1 + encoded_len_varint(number.cast_unsigned()),
    };
    bytes_len(row.key)
        + number_len(row.create_revision)
        + number_len(row.mod_revision)
        + number_len(row.version)
        + bytes_len(row.value)
        + number_len(row.lease)
}

fn bytes(tag: u32, bytes: &[u8], to: &mut Vec<u8>) {
    if !bytes.is_empty() {
        encode_key(tag, WireType::LengthDelimited, to);
        encode_varint(bytes.len() as u64, to);
        to.extend_from_slice(bytes);
    }
}

fn number(tag: u32, number: i64, to: &mut Vec<u8>) {
    if number != 0 {
        encode_key(tag, WireType::Varint, to);
        encode_varint(number.cast_unsigned(), to);
    }
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::etcdserverpb::RangeResponse;
    use proptest::prelude::*;

    use super::*;

    fn kv() -> impl Strategy<Value = KeyValue> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..200);
        let numbers = (any::<i64>(), 0..3_i64, 0..200_i64, any::<i64>());
        (bytes(), bytes(), numbers).prop_map(|(key, value, (a, b, c, d))| KeyValue {
            key: key.into(),
            create_revision: a,
            mod_revision: b,
            version: c,
            value: value.into(),
            lease: d,
        })
    }

    proptest! {
        #[test]
        fn the_bytes_are_prosts(
            kvs in prop::collection::vec(kv(), 0..5), more in any::<bool>(), count in any::<i64>()
        ) {
            let header = inner_header(7);
            let mut ours = RangeAnswer::new(&header);
            for kv in &kvs {
                ours.push(&Row {
                    key: &kv.key,
                    mod_revision: kv.mod_revision,
                    create_revision: kv.create_revision,
                    version: kv.version,
                    lease: kv.lease,
                    value: &kv.value,
                });
            }
            let theirs = RangeResponse { header: Some(header), kvs, more, count };
            prop_assert_eq!(ours.finish(more, count), encode(&theirs));
        }
    }
}
