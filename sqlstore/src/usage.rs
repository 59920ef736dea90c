//! How many objects there are of each class of keys, and how many bytes they take.
//!
//! A class is what Kubernetes calls a resource: `/registry/pods/` or, where the first part below
//! the root is an API group, `/registry/stable.example.com/widgets/`. Counted while writing, and
//! kept in the database together with the changes that are counted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicI64, Ordering},
};

use bytes::Bytes;
use parking_lot::RwLock;

/// More classes than this are one: a client that writes without slashes must not fill memory.
const MOST_CLASSES: usize = 2000;

/// The class of what is beyond [`MOST_CLASSES`]. While it has keys no class is added: all keys of
/// a class are counted in the same place.
const OTHERS: &[u8] = b"";

/// What the living keys of one class take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many keys.
    pub objects: i64,
    /// Keys and values.
    pub bytes: i64,
}

/// A difference that one change makes.
#[derive(Clone, Debug)]
pub(crate) struct Delta {
    pub(crate) key: Bytes,
    pub(crate) objects: i64,
    pub(crate) bytes: i64,
}

/// The usage of every class.
#[derive(Debug, Default)]
pub(crate) struct Usages {
    classes: RwLock<HashMap<Bytes, Usage>>,
    /// Of all classes.
    bytes: AtomicI64,
}

impl Usages {
    pub(crate) fn clear(&self) {
        self.classes.write().clear();
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Takes over what is kept.
    pub(crate) fn restore(&self, kept: Vec<(Bytes, Usage)>) {
        let bytes = kept.iter().map(|(_, usage)| usage.bytes).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
        *self.classes.write() = kept.into_iter().collect();
    }

    /// What changes will make of the classes.
    pub(crate) fn plan<'d>(&self, deltas: impl Iterator<Item = &'d Delta>) -> Vec<ClassChange> {
        let classes = self.classes.read();
        let mut planned = Planned {
            classes: &classes,
            changed: BTreeMap::new(),
        };
        for delta in deltas {
            planned.count(&delta.key, delta.objects, delta.bytes);
        }
        planned.changes()
    }

    /// Follows a commit.
    pub(crate) fn follow(&self, planned: Vec<ClassChange>) {
        let mut classes = self.classes.write();
        for (class, usage) in planned {
            let bytes = |usage: Option<Usage>| usage.map_or(0, |usage| usage.bytes);
            let before = match usage {
                Some(usage) => classes.insert(class, usage),
                None => classes.remove(&class),
            };
            let more = bytes(usage) - bytes(before);
            self.bytes.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Counts one more key.
    pub(crate) fn add(&self, key: &[u8], bytes: i64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut classes = self.classes.write();
        let class = place_of(key, classes.len(), |class| classes.contains_key(class));
        let usage = match classes.get_mut(class) {
            Some(usage) => usage,
            None => classes.entry(Bytes::copy_from_slice(class)).or_default(),
        };
        usage.objects += 1;
        usage.bytes += bytes;
    }

    /// Keys and values of all classes.
    pub(crate) fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Every class, as it would be kept.
    pub(crate) fn all(&self) -> Vec<ClassChange> {
        let classes = self.classes.read();
        let class = |(class, usage): (&Bytes, &Usage)| (class.clone(), Some(*usage));
        classes.iter().map(class).collect()
    }

    /// By class, in order.
    pub(crate) fn list(&self) -> Vec<(Bytes, Usage)> {
        let classes = self.classes.read();
        let mut list: Vec<_> = classes
            .iter()
            .map(|(class, usage)| (class.clone(), *usage))
            .collect();
        list.sort_by(|(a, _), (b, _)| a.cmp(b));
        list
    }
}

/// A class as it will be; `None` where it will not be.
pub(crate) type ClassChange = (Bytes, Option<Usage>);

/// Classes under way.
struct Planned<'u> {
    classes: &'u HashMap<Bytes, Usage>,
    changed: BTreeMap<Bytes, Usage>,
}

impl Planned<'_> {
    fn now(&self, class: &[u8]) -> Option<Usage> {
        let changed = self.changed.get(class).or_else(|| self.classes.get(class));
        changed.copied().filter(|usage| *usage != Usage::default())
    }

    fn count(&mut self, key: &[u8], objects: i64, bytes: i64) {
        if (objects, bytes) == (0, 0) {
            return;
        }
        // How many there are is a bound: those that were emptied just now count too.
        let most = self.classes.len() + self.changed.len();
        let class = place_of(key, most, |class| self.now(class).is_some());
        let mut usage = self.now(class).unwrap_or_default();
        usage.objects += objects;
        usage.bytes += bytes;
        self.changed.insert(Bytes::copy_from_slice(class), usage);
    }

    fn changes(self) -> Vec<ClassChange> {
        let kept = |usage: Usage| (usage != Usage::default()).then_some(usage);
        let changed = self.changed.into_iter();
        changed.map(|(class, usage)| (class, kept(usage))).collect()
    }
}

/// Where a key is counted: in its class, or with the others.
fn place_of(key: &[u8], classes: usize, is_there: impl Fn(&[u8]) -> bool) -> &[u8] {
    let class = class(key);
    if is_there(class) || (classes < MOST_CLASSES && !is_there(OTHERS)) {
        class
    } else {
        OTHERS
    }
}

/// The part of a key that says what sort of object it is.
fn class(key: &[u8]) -> &[u8] {
    let mut slashes = key
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| at);
    // `/registry/pods/default/web`: the third slash ends the class.
    let (Some(_root), Some(group), Some(resource)) =
        (slashes.next(), slashes.next(), slashes.next())
    else {
        return key
            .get(..=key.iter().position(|byte| *byte == b'/').unwrap_or(0))
            .unwrap_or(OTHERS);
    };
    let is_group = key
        .get(group..resource)
        .is_some_and(|part| part.contains(&b'.'));
    let end = if is_group {
        slashes.next().unwrap_or(resource)
    } else {
        resource
    };
    key.get(..=end).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_class_of_their_resource() {
        for (key, expected) in [
            ("/registry/pods/default/web", "/registry/pods/"),
            ("/registry/pods/default", "/registry/pods/"),
            (
                "/registry/stable.example.com/widgets/a/b",
                "/registry/stable.example.com/widgets/",
            ),
            ("/registry/health", "/"),
            ("compact_rev_key", "c"),
        ] {
            assert_eq!(class(key.as_bytes()), expected.as_bytes(), "{key}");
        }
        assert_eq!(class(b""), b"");
    }

    fn change(usages: &Usages, key: &str, objects: i64, bytes: i64) {
        let delta = Delta {
            key: Bytes::copy_from_slice(key.as_bytes()),
            objects,
            bytes,
        };
        usages.follow(usages.plan([delta].iter()));
    }

    #[test]
    fn what_is_empty_is_forgotten() {
        let usages = Usages::default();
        usages.add(b"/r/a/x", 10);
        change(&usages, "/r/a/y", 1, 5);
        let (objects, bytes) = (2, 15);
        assert_eq!(usages.list(), [("/r/a/".into(), Usage { objects, bytes })]);
        assert_eq!(usages.bytes(), 15);
        change(&usages, "/r/a/x", -1, -10);
        change(&usages, "/r/a/y", -1, -5);
        assert!(usages.list().is_empty());
        assert_eq!(usages.bytes(), 0);
    }

    #[test]
    fn what_is_too_much_is_one_and_stays_exact() {
        let usages = Usages::default();
        for number in 0..=MOST_CLASSES {
            change(&usages, &format!("/r/{number}/x"), 1, 1);
        }
        assert_eq!(usages.list().len(), MOST_CLASSES + 1);
        let others = usages.list().remove(0);
        assert_eq!((&others.0[..], others.1.objects), (OTHERS, 1));
        // Room is made, and the class that had none is still counted where it was.
        change(&usages, "/r/0/x", -1, -1);
        let last = format!("/r/{MOST_CLASSES}/");
        change(&usages, &format!("{last}y"), 1, 1);
        assert_eq!(usages.list().remove(0).1.objects, 2);
        change(&usages, &format!("{last}x"), -1, -1);
        change(&usages, &format!("{last}y"), -1, -1);
        let list = usages.list();
        assert_eq!(list.len(), MOST_CLASSES - 1);
        assert!(list.iter().all(|(_, usage)| usage.objects == 1), "{list:?}");
        change(&usages, &format!("{last}x"), 1, 1);
        assert_eq!(usages.list().len(), MOST_CLASSES);
    }
}
