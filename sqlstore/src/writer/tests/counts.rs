//! Counts that are known by arithmetic beside counts that are read.

use super::*;

/// Counts from blocks are those of a look at every key, now and at any revision.
#[test]
fn the_key_counts_are_what_a_scan_counts() {
    let mut bench = bench();
    let chance = SeededRandom::new(3);
    let next = |below: u64| keyloom_environment::Random::next(&chance) % below;
    for _ in 0..40 {
        let requests = (0..200).map(|_| {
            let key = format!("/{}/{:04}", next(3), next(4000));
            if next(4) == 0 {
                let key = Bytes::from(key);
                return Request::DeleteRange(DeleteRangeRequest {
                    key,
                    ..Default::default()
                });
            }
            put(&key)
        });
        if next(5) == 0 {
            let (failing, when) = if next(2) == 0 {
                (Statement::SetCounts, When::Instead)
            } else {
                (
                    Statement::Commit,
                    [When::Instead, When::After][next(2) as usize],
                )
            };
            bench.injected.fail(failing, when, ffi::SQLITE_IOERR, 0);
        }
        bench.ask(requests.collect());
        bench.check();
    }
    let marks = bench.writer.marks;
    assert!(bench.shared.key_counts.total() > 3000);
    for round in 0..400 {
        if round == 200 {
            // Nothing is remembered after this: differences come from the history.
            bench.writer.load(true).unwrap();
        }
        let key = |number: u64| Bytes::from(format!("/{}/{:04}", number / 4000, number % 4000));
        let (a, b) = (next(12_000), next(12_000));
        let keys = KeyRange {
            start: key(a.min(b)),
            end: (next(5) > 0).then(|| key(a.max(b))),
        };
        let glance = bench.shared.key_counts.glance(&keys);
        let place = ChangeSeq(next(marks.next_place.0.cast_unsigned()).cast_signed());
        for at in [At::Now, At::After(place)] {
            let counted = bench.reader.count(&keys, at).unwrap();
            assert_eq!(
                glance
                    .count(
                        &bench.shared.key_counts,
                        &mut bench.reader,
                        &keys,
                        at,
                        &marks
                    )
                    .unwrap(),
                counted
            );
        }
    }
    bench.check();
}
