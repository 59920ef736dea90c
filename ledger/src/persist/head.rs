//! The head record: what the other records add up to, and what is kept beside the order.
//!
//! Invariants: a store's slot is its index in `stores`; `stores[i].frontier` is what the persisted
//! order says (kept twice, to see damage). A field that an older program must not pass over raises
//! the format; another may simply be added.

use super::record::{Damage, Kind, open, seal};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Head {
    /// Grows by one with each flush.
    #[prost(uint64, tag = "1")]
    pub(crate) sequence: u64,
    /// The head when the ledger started.
    #[prost(int64, tag = "2")]
    pub(crate) start: i64,
    /// The `u` up to which the order is persisted.
    #[prost(int64, tag = "3")]
    pub(crate) head: i64,
    /// Rule 8: after an unclean end a successor starts above it.
    #[prost(int64, tag = "4")]
    pub(crate) reserved: i64,
    #[prost(int64, tag = "5")]
    pub(crate) compacted: i64,
    #[prost(uint64, tag = "6")]
    pub(crate) chunks: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) hidden_chunks: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) first_tail: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) next_tail: u64,
    /// Nothing was given out above `head`.
    #[prost(bool, tag = "10")]
    pub(crate) clean: bool,
    /// No program has set it yet: the leadership has a record of its own, the stamp.
    #[prost(uint64, tag = "11")]
    pub(crate) leadership: u64,
    #[prost(message, repeated, tag = "12")]
    pub(crate) stores: Vec<Store>,
    /// Hidden writes above the persisted frontier of the default store that were known when an
    /// unfinished flush wrote this record.
    #[prost(int64, repeated, tag = "13")]
    pub(crate) hidden_above: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Store {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(fixed64, tag = "2")]
    pub(crate) cluster_id: u64,
    #[prost(int64, tag = "3")]
    pub(crate) identity: i64,
    #[prost(int64, tag = "4")]
    pub(crate) floor: i64,
    #[prost(int64, tag = "5")]
    pub(crate) frontier: i64,
    #[prost(bool, tag = "6")]
    pub(crate) unsettled: bool,
    #[prost(bool, tag = "7")]
    pub(crate) retired: bool,
}

pub(crate) fn encode(head: &Head) -> Vec<u8> {
    seal(Kind::Head, &head.encode_to_vec())
}

pub(crate) fn decode(record: &[u8]) -> Result<Head, Damage> {
    let head = Head::decode(open(Kind::Head, record)?).map_err(|_| Damage::Content)?;
    let sane = (1..i64::MAX / 4).contains(&head.start)
        && head
            .stores
            .iter()
            .all(|store| (1..=head.start).contains(&store.identity))
        && head.first_tail <= head.next_tail;
    if sane { Ok(head) } else { Err(Damage::Content) }
}
