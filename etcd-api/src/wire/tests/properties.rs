//! The oracle, asked about many random messages.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{
    api,
    generate::{Entropy, damage, message},
    oracle::{Came, KINDS, Mapping, check, check_readers, repeats, spells_out},
    wire::{Message, WireError},
};

fn kind() -> impl Strategy<Value = (Message, &'static str)> {
    proptest::sample::select(KINDS)
}

fn entropy() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..60), vec(any::<u8>(), 0..900)]
}

fn many() -> ProptestConfig {
    ProptestConfig {
        cases: 4000,
        // The shrunk bytes are in the report of the failure.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn every_message_is_rewritten_as_if_decoded(
        (kind, name) in kind(), random in entropy(), seed: u64,
    ) {
        let encoded = Bytes::from(message(name, &mut Entropy(&random)));
        let expected = if spells_out(name, &encoded) {
            Came::Refused(WireError::EmptyRangeEnd)
        } else {
            Came::Rewritten
        };
        prop_assert_eq!(&check(kind, &encoded, Mapping::of(seed)), &expected);
        prop_assert_eq!(&check(kind, &encoded, Mapping::Same), &expected);
    }

    #[test]
    fn answers_are_read_as_if_decoded(
        name in proptest::sample::select(vec![
            ".mvccpb.KeyValue",
            ".etcdserverpb.RangeResponse",
            ".etcdserverpb.DeleteRangeResponse",
            ".etcdserverpb.TxnResponse",
        ]),
        random in entropy(),
        seed: u64,
    ) {
        let encoded = message(name, &mut Entropy(&random));
        check_readers(&encoded.into(), Mapping::of(seed));
    }

    #[test]
    fn damaged_messages_are_refused_or_read_as_prost_reads_them(
        (kind, name) in kind(), random in entropy(), damages in vec(any::<u8>(), 0..24), seed: u64,
    ) {
        let mut encoded = message(name, &mut Entropy(&random));
        damage(&mut encoded, &mut Entropy(&damages));
        let encoded = Bytes::from(encoded);
        check(kind, &encoded, Mapping::of(seed));
        check_readers(&encoded, Mapping::of(seed));
    }

    #[test]
    fn garbage_does_no_harm((kind, _) in kind(), garbage in vec(any::<u8>(), 0..40), seed: u64) {
        let garbage = Bytes::from(garbage);
        check(kind, &garbage, Mapping::of(seed));
        check_readers(&garbage, Mapping::of(seed));
    }

    /// Two encodings in a row are one message, in which repeated fields are joined and singular ones
    /// stand twice.
    #[test]
    fn what_can_stand_once_stands_once((kind, name) in kind(), random in entropy(), seed: u64) {
        // Holds a message in which there is nothing to look for.
        prop_assume!(kind != Message::StatusResponse);
        let encoded = Bytes::from(message(name, &mut Entropy(&random)).repeat(2));
        prop_assume!(!spells_out(name, &encoded));
        let expected = if repeats(name, &encoded) {
            Came::Refused(WireError::Repeated)
        } else {
            Came::Rewritten
        };
        prop_assert_eq!(check(kind, &encoded, Mapping::of(seed)), expected);
    }
}

/// When etcd's files bring a new one, the tables of the rewriting want a look.
#[test]
fn the_revisions_of_the_api_are_these() {
    let mut revisions = BTreeSet::new();
    let mut headers = 0;
    for (message, fields) in api::messages() {
        for field in fields {
            if field.name().to_lowercase().ends_with("revision") {
                revisions.insert(format!("{message}.{}", field.name()));
            }
            if field.type_name() == ".etcdserverpb.ResponseHeader" {
                assert_eq!(field.number(), 1, "{message}");
                headers += 1;
            }
        }
    }
    let expected = [
        ".etcdserverpb.AuthStatusResponse.authRevision",
        ".etcdserverpb.CompactionRequest.revision",
        ".etcdserverpb.Compare.create_revision",
        ".etcdserverpb.Compare.mod_revision",
        ".etcdserverpb.HashKVRequest.revision",
        ".etcdserverpb.HashKVResponse.compact_revision",
        ".etcdserverpb.HashKVResponse.hash_revision",
        ".etcdserverpb.RangeRequest.max_create_revision",
        ".etcdserverpb.RangeRequest.max_mod_revision",
        ".etcdserverpb.RangeRequest.min_create_revision",
        ".etcdserverpb.RangeRequest.min_mod_revision",
        ".etcdserverpb.RangeRequest.revision",
        ".etcdserverpb.ResponseHeader.revision",
        ".etcdserverpb.WatchCreateRequest.start_revision",
        ".etcdserverpb.WatchResponse.compact_revision",
        ".mvccpb.KeyValue.create_revision",
        ".mvccpb.KeyValue.mod_revision",
    ];
    assert_eq!(headers, 42);
    assert_eq!(revisions, expected.map(String::from).into());
}
