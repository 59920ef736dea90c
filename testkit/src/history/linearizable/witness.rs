//! What watchers were told, held against the order that the search tries.

use bytes::Bytes;
use keyloom_etcd_api::{KeyRange, mvccpb::Event};

use super::{Reason, Rules};
use crate::model::Etcd;

/// How the current revision differs from what watchers were told of it.
pub(super) fn contradiction(rules: &Rules, etcd: &Etcd) -> Option<Reason> {
    let revision = etcd.revision();
    let told = sorted(told(rules, revision)?);
    let expected = sorted(etcd.keyspace().changes(revision));
    (told != expected).then(|| Reason::ToldOtherwise {
        revision,
        expected: owned(&expected),
        told: owned(&told),
    })
}

/// Whether the next revision can be the end of a lease.
pub(super) fn ended_lease(rules: &Rules, etcd: &Etcd) -> bool {
    let lease = match &rules.witness {
        Some(witness) if told(rules, etcd.revision() + 1).is_some() => {
            witness.ended_lease(etcd.revision() + 1)
        }
        _ => None,
    };
    lease.is_some_and(|lease| rules.ended_leases.contains(&lease))
}

/// Lets the next revision be the end of a lease.
pub(super) fn end_lease(rules: &Rules, etcd: &mut Etcd) {
    let keys: Vec<Bytes> = told(rules, etcd.revision() + 1)
        .unwrap_or(&[])
        .iter()
        .filter_map(|event| Some(event.kv.as_ref()?.key.clone()))
        .collect();
    for key in keys {
        drop(etcd.keyspace_mut().delete(&KeyRange::key(key)));
    }
    etcd.keyspace_mut().commit();
}

/// What watchers were told of a revision; `None` where nothing is known.
pub(super) fn told(rules: &Rules, revision: i64) -> Option<&[Event]> {
    let witness = rules.witness.as_ref()?;
    let covers = witness.from() < revision && revision <= witness.revision();
    covers.then(|| witness.events(revision))
}

/// In which order the events of one revision come is left open.
fn sorted(events: &[Event]) -> Vec<&Event> {
    let mut sorted: Vec<_> = events.iter().collect();
    sorted.sort_by_key(|event| (event.kv.as_ref().map(|kv| &kv.key), event.r#type));
    sorted
}

fn owned(events: &[&Event]) -> Vec<Event> {
    events.iter().map(|event| (*event).clone()).collect()
}
