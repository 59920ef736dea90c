//! The records of a ledger as they come back from a store: whole, damaged, or somebody else's. The
//! stamp and the accepted topology, which have the same frame, are among them.

use keyloom_ledger::{
    AcceptedChange, AcceptedRange, AcceptedRecord, Ledger, Mark, Restored, Seal, Stamp, StoreRev,
    StoreSlot, StoreStart, UnifiedRev, recover,
};

use crate::{Entropy, generate};

pub fn target(data: &[u8]) {
    let mut entropy = Entropy(data);
    let damages = entropy.byte() % 4;
    beside(damages, &mut entropy);
    let (ledger, mut records) = written(&mut entropy);
    for _ in 0..damages {
        damage(&mut records, &mut entropy);
    }
    if damages == 3 {
        records.push(("head".to_owned(), entropy.0.to_vec()));
    }
    let Ok(restored) = Ledger::restore(&records, StoreRev::new(entropy.number() as i64)) else {
        assert_ne!(damages, 0, "what was written cannot be read");
        return;
    };
    if damages == 0 {
        assert_eq!(restored.ledger.head(), ledger.head());
        for (slot, _) in ledger.stores() {
            assert_eq!(restored.ledger.frontier(slot), ledger.frontier(slot));
            for u in ledger.head().get().saturating_sub(40)..=ledger.head().get() + 1 {
                let u = UnifiedRev::new(u);
                assert_eq!(restored.ledger.store_at(slot, u), ledger.store_at(slot, u));
            }
        }
    }
    translates(&restored.ledger, &mut entropy);
    recovers(restored, &mut entropy);
}

/// The two records beside the ledger's: read as they were written, or refused, and never a panic.
fn beside(damages: u8, entropy: &mut Entropy<'_>) {
    let stamp = Stamp {
        nonce: entropy.number(),
        write: entropy.number(),
        clean: entropy.byte() % 2 == 1,
        lasts_ms: entropy.number(),
        unserved: (0..entropy.below(4))
            .map(|_| entropy.number() as i64)
            .collect(),
    };
    let name = |entropy: &mut Entropy<'_>| format!("n{}", entropy.byte());
    let change = AcceptedChange {
        at: entropy.number() as i64,
        bases: vec![name(entropy).into()],
        namespaces: vec![name(entropy)],
        ranges: vec![AcceptedRange {
            start: name(entropy).into(),
            range_end: name(entropy).into(),
        }],
    };
    let accepted = AcceptedRecord {
        text: name(entropy),
        floor_of_all: entropy.number() as i64,
        changes: vec![change; entropy.below(3)],
    };
    let (mut stamped, mut kept) = (stamp.to_record(), accepted.to_record());
    if damages == 0 {
        assert_eq!(Stamp::from_record(&stamped), Ok(stamp));
        assert_eq!(AcceptedRecord::from_record(&kept), Ok(accepted));
        return;
    }
    for record in [&mut stamped, &mut kept] {
        generate::damage(record, entropy);
        if damages == 3 {
            // As a store would hold it that somebody wrote into.
            record.clear();
            record.extend_from_slice(entropy.0);
        }
        Stamp::from_record(record).ok();
        AcceptedRecord::from_record(record).ok();
    }
}

/// A ledger with some history, and its records.
fn written(entropy: &mut Entropy<'_>) -> (Ledger, Vec<(String, Vec<u8>)>) {
    let stores: Vec<_> = (0..=entropy.below(3))
        .map(|index| StoreStart {
            name: format!("s{index}"),
            cluster_id: entropy.number(),
            at: StoreRev::new(1 + i64::from(entropy.byte())),
        })
        .collect();
    let mut ledger = Ledger::start(&stores);
    let mut records: std::collections::BTreeMap<String, Vec<u8>> = Default::default();
    let mut mark = Mark::new();
    for _ in 0..entropy.below(24) {
        let slot = StoreSlot::new(entropy.byte().into());
        let slot = StoreSlot::new(slot.get() % stores.len() as u16);
        let next = StoreRev::new(ledger.frontier(slot).get() + 1 + entropy.below(300) as i64);
        match entropy.below(8) {
            0..4 => drop(ledger.observe(slot, next)),
            4 => ledger.compact(ledger.head()),
            5 => ledger.skip_to(UnifiedRev::new(
                ledger.head().get() + i64::from(entropy.byte()),
            )),
            6 => ledger.raise_floor(slot, ledger.head()),
            _ => {
                flush(&mut ledger, &mut mark, &mut records);
            }
        }
    }
    flush(&mut ledger, &mut mark, &mut records);
    (ledger, records.into_iter().collect())
}

fn flush(
    ledger: &mut Ledger,
    mark: &mut Mark,
    records: &mut std::collections::BTreeMap<String, Vec<u8>>,
) {
    let seal = Seal {
        reserved: UnifiedRev::new(ledger.head().get() + 1000),
        ..Seal::default()
    };
    loop {
        let flush = ledger.flush(mark, &seal);
        records.extend(flush.puts);
        for name in flush.deletes {
            records.remove(&name);
        }
        *mark = flush.mark;
        if flush.complete {
            return;
        }
    }
}

fn damage(records: &mut Vec<(String, Vec<u8>)>, entropy: &mut Entropy<'_>) {
    let at = entropy.below(records.len());
    match entropy.below(6) {
        0 => drop((!records.is_empty()).then(|| records.remove(at))),
        1 => {
            let copy = records.get(at).cloned();
            records.extend(copy.map(|(_, body)| ("tail/0000000007".to_owned(), body)));
        }
        2 => {
            let other = entropy.below(records.len());
            if let Some((_, body)) = records.get(other).cloned() {
                records[at].1 = body;
            }
        }
        3 => {
            if let Some((_, body)) = records.get_mut(at) {
                body.truncate(entropy.below(body.len() + 1));
            }
        }
        _ => {
            if let Some((_, body)) = records.get_mut(at) {
                generate::damage(body, entropy);
            }
        }
    }
}

/// Every question has an answer, and never 0.
fn translates(ledger: &Ledger, entropy: &mut Entropy<'_>) {
    let slots: Vec<_> = ledger.stores().map(|(slot, _)| slot).collect();
    for slot in slots {
        for _ in 0..6 {
            let near = entropy.below(5) as i64 - 2;
            let any = entropy.number() as i64;
            for number in [any, ledger.head().get().saturating_add(near)] {
                let u = UnifiedRev::new(number);
                assert!(ledger.store_at(slot, u).get() > 0);
                assert!(ledger.store_exact(slot, u).is_none_or(|r| r.get() > 0));
                let r = StoreRev::new(number.min(i64::MAX - 1));
                assert!(ledger.below_next(slot, r).get() > 0);
                assert!(ledger.unified(slot, r).is_none_or(|u| u.get() > 0));
            }
        }
    }
}

fn recovers(restored: Restored, entropy: &mut Entropy<'_>) {
    let slots: Vec<_> = restored.ledger.stores().map(|(slot, _)| slot).collect();
    let mut observed = Vec::new();
    for slot in slots {
        let known = restored.ledger.frontier(slot).get();
        let change = entropy.below(40) as i64 - 3;
        if !entropy.byte().is_multiple_of(8) {
            observed.push((slot, StoreRev::new(known.saturating_add(change))));
        }
    }
    let head = restored.ledger.head();
    // What a store says was reserved is bounded by what it has written: see `LARGEST_STEP`.
    let mut restored = restored;
    let most = UnifiedRev::new(head.get().saturating_add(1 << 36));
    restored.reserved = restored.reserved.min(most);
    if let Ok(recovery) = recover(restored, &observed) {
        assert!(recovery.ledger.head() >= head);
        translates(&recovery.ledger, entropy);
    }
}
