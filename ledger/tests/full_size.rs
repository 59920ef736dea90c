//! Half a million revisions through the public API with chunks of their real size: every place is
//! compared with plain lists, before and after a restart.

use std::collections::BTreeMap;

use keyloom_ledger::{HEAD, Ledger, Mark, Seal, StoreRev, StoreSlot, StoreStart, UnifiedRev};

const STORES: u16 = 5;

/// What the ledger should say: per store its revisions with their `u`, hidden ones with none.
struct Expected {
    ledger: Ledger,
    lists: Vec<Vec<Option<i64>>>,
}

impl Expected {
    fn new() -> Self {
        let start = |i| StoreStart {
            name: format!("store {i}"),
            cluster_id: 0,
            at: StoreRev::FIRST,
        };
        let stores: Vec<_> = (0..STORES).map(start).collect();
        Self {
            ledger: Ledger::start(&stores),
            lists: vec![vec![Some(1)]; usize::from(STORES)],
        }
    }

    fn observe(&mut self, slot: u16, n: i64) {
        let Some(list) = self.lists.get_mut(usize::from(slot)) else {
            return;
        };
        let head = self.ledger.head().get();
        list.extend((1..=n).map(|i| Some(head + i)));
        self.ledger
            .observe(StoreSlot::new(slot), StoreRev::new(list.len() as i64));
    }

    fn hide(&mut self) {
        let Some(list) = self.lists.first_mut() else {
            return;
        };
        list.push(None);
        assert!(self.ledger.hide(StoreRev::new(list.len() as i64)));
    }

    fn scatter(&mut self, n: usize, seed: u64, longest: u64) {
        let mut x = seed;
        for _ in 0..n {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            match (x >> 20) % 20 {
                0 => self.hide(),
                _ => {
                    self.observe((x >> 33) as u16 % STORES, 1 + ((x >> 11) % longest) as i64);
                }
            }
        }
    }

    fn compare(&self, ledger: &Ledger) {
        for (slot, list) in (0..).map(StoreSlot::new).zip(&self.lists) {
            assert_eq!(ledger.frontier(slot).get(), list.len() as i64);
            let mut next = ledger.head().get() + 1;
            for (r, u) in (1..)
                .map(StoreRev::new)
                .zip(list)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
            {
                assert_eq!(ledger.below_next(slot, r).get(), next - 1, "{slot} {r}");
                assert_eq!(
                    ledger.unified(slot, r).map(UnifiedRev::get),
                    *u,
                    "{slot} {r}"
                );
                if let Some(u) = u {
                    assert_eq!(ledger.store_exact(slot, UnifiedRev::new(*u)), Some(r));
                    assert!(ledger.store_at(slot, UnifiedRev::new(*u)) >= r);
                    assert!(ledger.store_at(slot, UnifiedRev::new(*u - 1)) < r || *u == 1);
                    next = *u;
                }
            }
        }
    }

    fn flush(&self) -> BTreeMap<String, Vec<u8>> {
        let (mut mark, mut records) = (Mark::new(), BTreeMap::new());
        loop {
            let flush = self.ledger.flush(&mark, &Seal::default());
            let bytes: usize = flush.puts.iter().map(|(_, record)| record.len()).sum();
            assert!(flush.puts.len() + flush.deletes.len() <= 100 && bytes <= 1 << 20);
            records.extend(flush.puts);
            mark = flush.mark;
            if flush.complete {
                return records;
            }
        }
    }
}

#[test]
fn half_a_million_revisions_are_exact_before_and_after_a_restart() {
    let mut expected = Expected::new();
    expected.scatter(200_000, 0x9e37_79b9, 1);
    expected.observe(3, 200_000);
    expected.scatter(2_000, 0x1234_5677, 200);
    expected.scatter(30_000, 0x0dd_ba11, 3);
    assert!(expected.ledger.head().get() > 500_000);
    expected.compare(&expected.ledger);

    let records = expected.flush();
    assert!(records.contains_key(HEAD));
    let records: Vec<_> = records.into_iter().collect();
    let restored = Ledger::restore(&records, StoreRev::FIRST);
    let restored = restored.map_err(|error| error.to_string());
    assert!(
        restored
            .as_ref()
            .is_ok_and(|r| !r.ledger.needs_flush(&r.mark)),
        "{restored:?}"
    );
    if let Ok(restored) = restored {
        expected.compare(&restored.ledger);
    }
}
