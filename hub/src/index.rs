//! Which ranges hold a key.
//!
//! Single keys are found by hash. Ranges stand in an implicit interval tree: sorted by start, each
//! element the root of the part of the list around it, with the largest end of that part. Ranges
//! that came since the tree was built are looked through one by one; when they are many, the tree is
//! built anew. So a key costs O(log n + hits), not O(watchers).

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

/// With so many ranges beside the tree it is built anew.
const LOOSE: usize = 32;

#[derive(Debug)]
pub(crate) struct Index<T> {
    keys: HashMap<Bytes, T>,
    tree: Vec<Node<T>>,
    loose: Vec<(KeyRange, T)>,
    /// Those in the tree that are no more.
    gone: HashSet<T>,
}

#[derive(Debug)]
struct Node<T> {
    range: KeyRange,
    /// The largest end in the part of the list that this node is the middle of; `None` is no end.
    reach: Option<Bytes>,
    what: T,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            keys: HashMap::new(),
            tree: Vec::new(),
            loose: Vec::new(),
            gone: HashSet::new(),
        }
    }
}

impl<T: Copy + Eq + Hash> Index<T> {
    /// Adds a range. A range and a `what` may come once.
    pub(crate) fn insert(&mut self, range: &KeyRange, what: T) {
        if range.is_single_key() {
            self.keys.insert(range.start.clone(), what);
            return;
        }
        self.loose.push((range.clone(), what));
        if self.loose.len() > LOOSE.max(self.tree.len() / 16) {
            self.rebuild();
        }
    }

    pub(crate) fn remove(&mut self, range: &KeyRange, what: T) {
        if range.is_single_key() {
            self.keys.remove(&range.start);
            return;
        }
        match self.loose.iter().position(|(_, loose)| *loose == what) {
            Some(at) => drop(self.loose.swap_remove(at)),
            None => drop(self.gone.insert(what)),
        }
        if self.gone.len() > LOOSE.max(self.tree.len() / 2) {
            self.rebuild();
        }
    }

    /// Everything that holds the key.
    pub(crate) fn find(&self, key: &[u8], found: &mut Vec<T>) {
        found.extend(self.keys.get(key));
        stab(&self.tree, key, &mut |what| {
            if !self.gone.contains(&what) {
                found.push(what);
            }
        });
        let loose = self.loose.iter().filter(|(range, _)| range.contains(key));
        found.extend(loose.map(|(_, what)| *what));
    }

    fn rebuild(&mut self) {
        let gone = std::mem::take(&mut self.gone);
        let old = std::mem::take(&mut self.tree).into_iter();
        let mut all: Vec<_> = old
            .map(|node| (node.range, node.what))
            .chain(self.loose.drain(..))
            .filter(|(_, what)| !gone.contains(what))
            .collect();
        all.sort_by(|(a, _), (b, _)| a.start.cmp(&b.start));
        let node = |(range, what): (KeyRange, T)| Node {
            reach: range.end.clone(),
            range,
            what,
        };
        self.tree = all.into_iter().map(node).collect();
        spread(&mut self.tree);
    }
}

/// Sets the reach of every node of a list, and gives the list's own.
fn spread<T>(nodes: &mut [Node<T>]) -> Option<Option<Bytes>> {
    let middle = nodes.len() / 2;
    let (left, rest) = nodes.split_at_mut_checked(middle)?;
    let (node, right) = rest.split_first_mut()?;
    for reach in [spread(left), spread(right)].into_iter().flatten() {
        node.reach = match (node.reach.take(), reach) {
            (Some(mine), Some(theirs)) => Some(mine.max(theirs)),
            _ => None,
        };
    }
    Some(node.reach.clone())
}

fn stab<T: Copy>(nodes: &[Node<T>], key: &[u8], found: &mut impl FnMut(T)) {
    let Some((left, rest)) = nodes.split_at_checked(nodes.len() / 2) else {
        return;
    };
    let Some((node, right)) = rest.split_first() else {
        return;
    };
    if node.reach.as_deref().is_some_and(|reach| reach <= key) {
        return;
    }
    stab(left, key, found);
    if node.range.start[..] <= *key {
        if node.range.contains(key) {
            found(node.what);
        }
        stab(right, key, found);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = KeyRange> {
        let key = || proptest::collection::vec(0..4u8, 1..4).prop_map(Bytes::from);
        let end = prop_oneof![
            key().prop_map(Some),
            Just(Some(Bytes::new())),
            Just(Some(Bytes::from_static(b"\0"))),
        ];
        (key(), end).prop_map(|(key, end)| KeyRange::from_request(&key, &end.unwrap_or_default()))
    }

    proptest! {
        #[test]
        fn finds_what_looking_through_all_finds(
            ranges in proptest::collection::vec((range(), any::<bool>()), 0..200),
            keys in proptest::collection::vec(proptest::collection::vec(0..4u8, 1..5), 1..20),
        ) {
            let mut index = Index::default();
            let mut all: Vec<(KeyRange, usize)> = Vec::new();
            for (number, (range, remove)) in ranges.into_iter().enumerate() {
                if remove && !all.is_empty() {
                    let (range, what) = all.swap_remove(number % all.len());
                    index.remove(&range, what);
                } else if all.iter().all(|(other, _)| *other != range) {
                    index.insert(&range, number);
                    all.push((range, number));
                }
            }
            for key in keys {
                let mut expected: Vec<_> =
                    all.iter().filter(|(r, _)| r.contains(&key)).map(|(_, what)| *what).collect();
                let mut found = Vec::new();
                index.find(&key, &mut found);
                expected.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
