//! Tables for the multi-version map.

use super::*;

fn put(keyspace: &mut Keyspace, key: &'static str, value: &'static str) {
    keyspace.put(&Bytes::from(key), Bytes::from(value), 0);
    keyspace.commit();
}

fn values(keyspace: &Keyspace, at: i64) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    keyspace
        .range(&KeyRange::all(), at)
        .map(|kv| (text(&kv.key), text(&kv.value)))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    expected.iter().map(own).collect()
}

#[test]
fn every_revision_can_be_read() {
    let mut keyspace = Keyspace::default();
    put(&mut keyspace, "a", "1");
    put(&mut keyspace, "b", "1");
    put(&mut keyspace, "a", "2");
    keyspace.delete(&KeyRange::all());
    keyspace.commit();
    assert_eq!(keyspace.revision(), 5);
    assert_eq!(values(&keyspace, 1), pairs(&[]));
    assert_eq!(values(&keyspace, 3), pairs(&[("a", "1"), ("b", "1")]));
    assert_eq!(values(&keyspace, 4), pairs(&[("a", "2"), ("b", "1")]));
    assert_eq!(values(&keyspace, 5), pairs(&[]));
    assert_eq!(keyspace.changes(5).len(), 2);
    assert!(keyspace.changes(6).is_empty());
}

#[test]
fn a_deleted_key_begins_anew() {
    let mut keyspace = Keyspace::default();
    put(&mut keyspace, "a", "1");
    put(&mut keyspace, "a", "2");
    let kv = keyspace.get(b"a", 3).unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    keyspace.delete(&KeyRange::all());
    keyspace.commit();
    put(&mut keyspace, "a", "3");
    let kv = keyspace.get(b"a", 5).unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
}

#[test]
fn a_write_that_changes_nothing_takes_no_revision() {
    let mut keyspace = Keyspace::default();
    keyspace.delete(&KeyRange::all());
    keyspace.commit();
    assert_eq!(keyspace.revision(), 1);
}

#[test]
fn rolling_back_leaves_what_was_before() {
    let mut keyspace = Keyspace::default();
    put(&mut keyspace, "a", "1");
    let before = values(&keyspace, 2);
    put(&mut keyspace, "b", "1");
    keyspace.skip();
    keyspace.delete(&KeyRange::all());
    keyspace.roll_back(2);
    assert_eq!(keyspace.revision(), 2);
    assert_eq!(values(&keyspace, 9), before);
    put(&mut keyspace, "c", "1");
    assert_eq!(keyspace.changes(3).len(), 1);
}

#[test]
fn compaction_keeps_what_can_still_be_read() {
    let mut keyspace = Keyspace::default();
    for value in ["1", "2", "3"] {
        put(&mut keyspace, "a", value);
    }
    put(&mut keyspace, "gone", "1");
    keyspace.delete(&KeyRange::key(Bytes::from("gone")));
    keyspace.commit();
    put(&mut keyspace, "b", "1");
    let (at_five, at_seven) = (values(&keyspace, 5), values(&keyspace, 7));
    keyspace.compact(5);
    assert_eq!(values(&keyspace, 5), at_five);
    assert_eq!(values(&keyspace, 7), at_seven);
    assert!(keyspace.changes(4).is_empty());
    assert_eq!(keyspace.changes(5).len(), 1);
    assert_eq!(keyspace.changes(6).len(), 1);
}
