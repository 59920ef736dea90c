//! How many objects there are of each class of keys, and how many bytes they take.
//!
//! A class is what Kubernetes calls a resource: `/registry/pods/` or, where the first part below
//! the root is an API group, `/registry/stable.example.com/widgets/`. Counted in memory while
//! writing; counted once when the store is opened.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicI64, Ordering},
};

use bytes::Bytes;
use parking_lot::RwLock;

/// More classes than this are one: a client that writes without slashes must not fill memory.
const MOST_CLASSES: usize = 2000;

/// The class of what is beyond [`MOST_CLASSES`].
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

    pub(crate) fn follow<'d>(&self, deltas: impl Iterator<Item = &'d Delta>) {
        let mut classes = self.classes.write();
        for delta in deltas {
            self.bytes.fetch_add(delta.bytes, Ordering::Relaxed);
            count(&mut classes, &delta.key, delta.objects, delta.bytes);
        }
    }

    pub(crate) fn add(&self, key: &[u8], objects: i64, bytes: i64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        count(&mut self.classes.write(), key, objects, bytes);
    }

    /// Keys and values of all classes.
    pub(crate) fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
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

fn count(classes: &mut HashMap<Bytes, Usage>, key: &[u8], objects: i64, bytes: i64) {
    let mut class = class(key);
    if !classes.contains_key(class) && classes.len() >= MOST_CLASSES {
        class = OTHERS;
    }
    let usage = match classes.get_mut(class) {
        Some(usage) => usage,
        None => classes.entry(Bytes::copy_from_slice(class)).or_default(),
    };
    usage.objects += objects;
    usage.bytes += bytes;
    if usage.objects == 0 && usage.bytes == 0 {
        classes.remove(class);
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

    #[test]
    fn what_is_empty_is_forgotten_and_what_is_too_much_is_one() {
        let usages = Usages::default();
        usages.add(b"/r/a/x", 1, 10);
        usages.add(b"/r/a/y", 1, 5);
        assert_eq!(
            usages.list(),
            [(
                "/r/a/".into(),
                Usage {
                    objects: 2,
                    bytes: 15
                }
            )]
        );
        usages.add(b"/r/a/x", -1, -10);
        usages.add(b"/r/a/y", -1, -5);
        assert!(usages.list().is_empty());
        for number in 0..=MOST_CLASSES {
            usages.add(format!("/r/{number}/x").as_bytes(), 1, 1);
        }
        assert_eq!(usages.list().len(), MOST_CLASSES + 1);
    }
}
