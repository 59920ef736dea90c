//! A revision is one write's for ever, whatever ended and began between: all that anybody was shown of
//! a revision, in answers, on watches and in values before, is of one store and has one content.

use std::collections::BTreeMap;

use bytes::Bytes;
use keyloom_etcd_api::{
    etcdserverpb::{ResponseOp, response_op::Response},
    mvccpb::KeyValue,
};
use keyloom_testkit::{
    Answer, Step,
    history::{Outcome, Watcher},
};

use crate::stage::Segment;

/// What is known of the revisions that were given out.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    stores: BTreeMap<i64, usize>,
    /// What a key was at a revision.
    values: BTreeMap<(i64, Bytes), Bytes>,
}

/// A key that was seen at a revision, with its value where that was told.
struct Seen<'s> {
    revision: i64,
    key: &'s Bytes,
    value: Option<&'s Bytes>,
}

impl Owners {
    /// Takes in what was seen in a segment; says where that denies what was seen before.
    pub(crate) fn look(
        &mut self,
        segment: &Segment,
        store_of: impl Fn(&[u8]) -> Option<usize>,
    ) -> Option<String> {
        let watchers = segment.history.watchers().ok()?;
        let mut seen = Vec::new();
        let known = [Some(&segment.before), segment.after.as_ref()];
        let known = known.into_iter().flatten();
        known.for_each(|known| kvs(&known.keys, &mut seen));
        for operation in &segment.history.operations {
            if let Outcome::Answered(answer) = &operation.outcome {
                answered(&operation.step, answer, &mut seen);
            }
        }
        let events = watchers.iter().flat_map(Watcher::events);
        for (_, event) in events {
            // The value of a deletion is none.
            kvs(event.kv.as_slice(), &mut seen);
            kvs(event.prev_kv.as_slice(), &mut seen);
        }
        seen.iter()
            .find_map(|seen| self.add(seen, store_of(seen.key)?))
    }

    fn add(&mut self, seen: &Seen<'_>, store: usize) -> Option<String> {
        let Seen {
            revision,
            key,
            value,
        } = seen;
        let owner = *self.stores.entry(*revision).or_insert(store);
        if owner != store {
            return Some(format!(
                "revisions: {revision} was given to store {owner} and to store {store} ({key:?})"
            ));
        }
        let value = (*value)?;
        let place = (*revision, (*key).clone());
        let before = self.values.entry(place).or_insert_with(|| value.clone());
        (before != value)
            .then(|| format!("revisions: at {revision} {key:?} was {before:?} and then {value:?}"))
    }
}

/// Where keys were created and changed.
fn kvs<'s>(kvs: &'s [KeyValue], seen: &mut Vec<Seen<'s>>) {
    for kv in kvs {
        // A list of keys alone has no values.
        let value = Some(&kv.value).filter(|value| !value.is_empty());
        let changed = Seen {
            revision: kv.mod_revision,
            key: &kv.key,
            value,
        };
        let created = Seen {
            revision: kv.create_revision,
            key: &kv.key,
            value: None,
        };
        let both = [changed, created];
        seen.extend(both.into_iter().filter(|seen| seen.revision > 0));
    }
}

fn answered<'s>(step: &'s Step, answer: &'s Answer, seen: &mut Vec<Seen<'s>>) {
    match (step, answer) {
        (_, Answer::Range(range)) => kvs(&range.kvs, seen),
        (Step::Put(put), Answer::Put(answer)) => {
            seen.push(Seen {
                revision: answer.header.as_ref().map_or(0, |header| header.revision),
                key: &put.key,
                value: Some(&put.value).filter(|_| !put.ignore_value),
            });
            kvs(answer.prev_kv.as_slice(), seen);
        }
        (_, Answer::DeleteRange(answer)) => kvs(&answer.prev_kvs, seen),
        (_, Answer::Txn(answer)) => nested(&answer.responses, seen),
        _ => {}
    }
}

fn nested<'s>(responses: &'s [ResponseOp], seen: &mut Vec<Seen<'s>>) {
    for response in responses.iter().filter_map(|it| it.response.as_ref()) {
        match response {
            Response::ResponseRange(range) => kvs(&range.kvs, seen),
            Response::ResponsePut(put) => kvs(put.prev_kv.as_slice(), seen),
            Response::ResponseDeleteRange(delete) => kvs(&delete.prev_kvs, seen),
            Response::ResponseTxn(txn) => nested(&txn.responses, seen),
        }
    }
}
