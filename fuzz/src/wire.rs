//! The rewriting of encoded messages, with the oracle of its property tests.
//!
//! The first bytes say which message it is, how it is rewritten, and whether what follows is taken
//! as it stands or as the random bytes out of which a message is made.

use bytes::Bytes;

use crate::Entropy;
use oracle::{Came, KINDS, Mapping, check, check_readers};

// What the oracle looks for beside itself.
use crate::{api, generate};
use keyloom_etcd_api::{etcdserverpb, mvccpb, wire};

#[path = "../../etcd-api/src/wire/tests/oracle.rs"]
mod oracle;
#[path = "../../etcd-api/src/wire/tests/typed.rs"]
mod typed;

pub fn target(data: &[u8]) {
    let mut entropy = Entropy(data);
    let (kind, name) = KINDS[entropy.below(KINDS.len())];
    let mapping = Mapping::of(u64::from(entropy.byte()));
    match entropy.byte() % 3 {
        0 => {
            let encoded = Bytes::copy_from_slice(entropy.0);
            check(kind, &encoded, mapping);
            check_readers(&encoded, mapping);
        }
        1 => {
            let (damages, rest) = entropy.0.split_at(entropy.0.len().min(16));
            let mut encoded = generate::message(name, &mut Entropy(rest));
            generate::damage(&mut encoded, &mut Entropy(damages));
            let encoded = Bytes::from(encoded);
            check(kind, &encoded, mapping);
            check_readers(&encoded, mapping);
        }
        _ => {
            let encoded = Bytes::from(generate::message(name, &mut entropy));
            let came = check(kind, &encoded, mapping);
            let expected = match oracle::spells_out(name, &encoded) {
                true => Came::Refused(wire::WireError::EmptyRangeEnd),
                false => Came::Rewritten,
            };
            assert_eq!(came, expected);
            check_readers(&encoded, mapping);
        }
    }
}
