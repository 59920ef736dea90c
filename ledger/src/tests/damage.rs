//! Records that are damaged, missing, out of order or from a newer program.

use super::random::{Step, World};
use crate::persist::test_access::reseal;
use crate::{Damage, Ledger, RestoreError, StoreRev};

type Records = Vec<(String, Vec<u8>)>;

/// All kinds of records.
fn records() -> Records {
    let mut world = World::new(&[5, 3, 9]);
    let steps = [
        Step::Scatter(399),
        Step::Observe(1, 700),
        Step::Scatter(777),
        Step::Observe(0, 300),
        Step::Skip(300),
        Step::Flush(99),
        Step::Observe(2, 3),
        Step::Flush(99),
    ];
    steps.iter().for_each(|step| world.run(step));
    world.records.into_iter().collect()
}

fn restore(records: &Records) -> Result<(), RestoreError> {
    Ledger::restore(records, StoreRev::new(1)).map(|_| ())
}

#[test]
fn the_records_are_of_all_kinds_and_whole() {
    let records = records();
    for kind in ["chunk/", "head", "hidden/", "tail/"] {
        assert!(
            records.iter().any(|(key, _)| key.starts_with(kind)),
            "{kind}"
        );
    }
    assert_eq!(restore(&records), Ok(()));
}

#[test]
fn each_changed_byte_is_seen_as_damage() {
    let whole = records();
    for i in 0..whole.len() {
        for byte in 0..whole[i].1.len() {
            let mut records = whole.clone();
            records[i].1[byte] ^= 0x10;
            let record = records[i].0.clone();
            let damaged = RestoreError::Damaged {
                record,
                damage: Damage::Checksum,
            };
            assert_eq!(restore(&records), Err(damaged));
        }
    }
}

#[test]
fn a_cut_record_is_damage() {
    let whole = records();
    for i in 0..whole.len() {
        for len in 0..whole[i].1.len() {
            let mut records = whole.clone();
            records[i].1.truncate(len);
            assert!(matches!(
                restore(&records),
                Err(RestoreError::Damaged { .. })
            ));
        }
    }
}

#[test]
fn nonsense_with_a_good_checksum_does_not_panic() {
    let whole = records();
    for i in 0..whole.len() {
        for byte in 2..whole[i].1.len() - 4 {
            for flip in [0x01, 0x80, 0xff] {
                let mut records = whole.clone();
                records[i].1[byte] ^= flip;
                reseal(&mut records[i].1);
                restore(&records).ok();
            }
        }
    }
}

#[test]
fn a_missing_record_is_named() {
    let whole = records();
    for i in 0..whole.len() {
        let mut records = whole.clone();
        let (key, _) = records.remove(i);
        match restore(&records) {
            Err(RestoreError::NoHead) => assert_eq!(key, "head"),
            Err(RestoreError::Missing { record }) => assert_eq!(record, key),
            other => panic!("without {key}: {other:?}"),
        }
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    for i in 0..records().len() {
        let mut records = records();
        records[i].1[1] = 9;
        reseal(&mut records[i].1);
        let newer = RestoreError::Newer {
            record: records[i].0.clone(),
            found: 9,
            known: 2,
        };
        assert_eq!(restore(&records), Err(newer));
    }
}

/// The bodies of both formats are the same.
#[test]
fn records_of_format_1_are_read_also_among_newer_ones() {
    for old in [1, 2, usize::MAX] {
        let mut records = records();
        for (_, record) in records.iter_mut().take(old) {
            record[1] = 1;
            reseal(record);
        }
        assert_eq!(restore(&records), Ok(()));
    }
}

#[test]
fn a_record_under_another_key_is_refused() {
    let mut records = records();
    let chunks: Vec<usize> = (0..records.len())
        .filter(|i| records[*i].0.starts_with("chunk/"))
        .collect();
    let other = records[chunks[1]].1.clone();
    records[chunks[0]].1 = other;
    assert!(matches!(
        restore(&records),
        Err(RestoreError::Damaged { .. })
    ));
    records[chunks[0]].0 = "nonsense".to_owned();
    assert!(matches!(
        restore(&records),
        Err(RestoreError::Unknown { .. })
    ));
}
