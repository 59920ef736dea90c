//! Revisions in encoded messages: read and rewritten at the level of tags.
//!
//! A message that concerns one store goes through as bytes. Only the fields that hold revisions
//! are read and replaced; everything else, unknown fields included, is copied as it stands.

use bytes::Bytes;

use crate::framing::Pieces;

mod answer;
mod edit;
mod header;
mod kv;
mod read;
mod rewrite;
mod schema;
mod txn;
mod varint;
mod watch;

pub use answer::{EncodedList, RangeAnswer, encode_range_answer};
pub use header::peek_header;
pub use kv::RawKv;
pub use txn::{TxnOutcome, deleted, range_responses_of_txn, txn_outcome};
pub use watch::{EncodedEvent, RawEvent, WatchAnswer};

/// Why an encoded message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field, or a varint or tag is not one.
    #[error("malformed protobuf message")]
    Malformed,
    /// A sub-message of which there can be one stands there twice. Decoders merge such halves;
    /// no client or store sends them, and half of a comparison cannot be translated.
    #[error("a field that can stand once stands twice")]
    Repeated,
    /// A `range_end` that is spelled out and empty. No client sends it, and etcd's decoder takes it
    /// for a range without an end, where protobuf means one key.
    #[error("an empty range_end is spelled out")]
    EmptyRangeEnd,
    /// Messages are nested more deeply than any decoder follows.
    #[error("message nested too deeply")]
    TooDeep,
}

/// The messages that hold revisions.
///
/// A response that is not named here holds no revision but the one in its header: it can be treated
/// as [`Message::CompactionResponse`], which is nothing but a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    RangeRequest,
    RangeResponse,
    RangeStreamResponse,
    PutRequest,
    PutResponse,
    DeleteRangeRequest,
    DeleteRangeResponse,
    TxnRequest,
    TxnResponse,
    CompactionRequest,
    CompactionResponse,
    WatchRequest,
    WatchResponse,
    LeaseGrantResponse,
    LeaseRevokeResponse,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveResponse,
    LeaseLeasesResponse,
    AlarmResponse,
    StatusResponse,
    DefragmentResponse,
    HashResponse,
    HashKvRequest,
    HashKvResponse,
    SnapshotResponse,
    MemberListResponse,
}

/// `etcdserverpb.ResponseHeader`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub cluster_id: u64,
    pub member_id: u64,
    pub revision: i64,
    pub raft_term: u64,
}

/// How a comparison in a transaction treats its value (`Compare.CompareResult`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// Where a revision stands, which decides how it is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevisionField {
    /// `RangeRequest.revision`, `HashKVRequest.revision`: the revision to read at; 0 is the latest.
    ReadAt,
    /// `min_mod_revision`, `min_create_revision`: 0 is none.
    AtLeast,
    /// `max_mod_revision`, `max_create_revision`: 0 is none.
    AtMost,
    /// The value of a comparison of `mod_revision` or `create_revision`.
    Compare(Comparison),
    /// `CompactionRequest.revision`.
    Compact,
    /// `WatchCreateRequest.start_revision`: 0 is now.
    WatchFrom,
    /// `KeyValue.mod_revision` or `KeyValue.create_revision`: a revision that exists; 0 in the
    /// `KeyValue` of a deletion. `HashKVResponse.hash_revision` too.
    Exact,
    /// `WatchResponse.compact_revision`, `HashKVResponse.compact_revision`.
    Compacted,
}

/// The keys that a revision is about: those of the message in which it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysBeside<'a> {
    /// Empty where the field is absent.
    pub key: &'a [u8],
    /// As in a request: empty for one key, and always empty beside a `KeyValue`.
    pub range_end: &'a [u8],
}

/// What [`rewrite`] writes instead of what it finds.
///
/// A field that can stand once but stands several times counts as its last occurrence, as decoders
/// have it. Each occurrence may be given to [`Rewrite::revision`].
pub trait Rewrite {
    /// Whether the walk looks for keys and calls [`Rewrite::revision_beside`] instead of
    /// [`Rewrite::revision`]. It then reads each message that has keys twice. Where this is false,
    /// the code that looks for keys is not compiled.
    const WANTS_KEYS: bool = false;

    /// The header to send instead of `header`. Called for inner headers of a transaction too, and
    /// never where there is no header.
    fn header(&mut self, header: Header) -> Header;

    /// The revision to send instead of `revision`. That is 0 only in a comparison (also where the
    /// field is absent): everywhere else 0 says that there is none, which no translation changes,
    /// so it is not asked for.
    fn revision(&mut self, field: RevisionField, revision: i64) -> i64;

    /// As [`Rewrite::revision`], with the keys that the revision is about. `None` is a message that
    /// names no key: a compaction, a hash, a watch answer's own fields.
    fn revision_beside(
        &mut self,
        keys: Option<KeysBeside<'_>>,
        field: RevisionField,
        revision: i64,
    ) -> i64 {
        let _ = keys;
        self.revision(field, revision)
    }
}

/// Rewrites one encoded message.
///
/// Bytes that `with` leaves as they are are not copied: where nothing changes, the result shares
/// the buffer of `encoded`.
///
/// # Errors
/// Where `encoded` is not a message of this kind.
pub fn rewrite(
    message: Message,
    encoded: &Bytes,
    with: &mut impl Rewrite,
) -> Result<Bytes, WireError> {
    rewrite::rewrite(schema::of(message), encoded, with)
}

/// As [`rewrite`], for a message that nobody needs as it was: a long one that was put together from its
/// pieces is mostly not copied again.
///
/// # Errors
/// Where `encoded` is not a message of this kind.
pub fn rewrite_owned(
    message: Message,
    encoded: Bytes,
    with: &mut impl Rewrite,
) -> Result<Bytes, WireError> {
    rewrite::rewrite_owned(schema::of(message), encoded, with)
}

/// Rewrites the header of a response, and nothing else of it: for those whose every other field stays
/// as it is. What follows the header is not read, so it does not matter in how many pieces it comes.
///
/// # Errors
/// Where the response is malformed, as far as it is read.
pub fn rewrite_header(response: Pieces, with: &mut impl Rewrite) -> Result<Pieces, WireError> {
    let Some((head, remainder)) = rewrite::rewrite_head(&response.first, with)? else {
        let whole = rewrite(Message::CompactionResponse, &response.into_bytes(), with)?;
        return Ok(whole.into());
    };
    let remainder = Some(remainder).filter(|remainder| !remainder.is_empty());
    Ok(Pieces {
        first: head,
        rest: remainder.into_iter().chain(response.rest).collect(),
    })
}

#[cfg(test)]
mod tests;
