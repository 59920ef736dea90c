//! The keys that changes of a topology move, asked by key and by range.

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

use crate::{
    matcher::{Matcher, Namespaces, Rule},
    meaning::{Meaning, nowhere},
    problem::Position,
    spec::StoreIndex,
    topology::{Moved, Topology},
};

/// In the topology of moved namespaces, the store that has them.
const MOVED: StoreIndex = StoreIndex(1);

/// A set of keys: at least those of the moves it was made of.
#[derive(Clone, Debug, Default)]
pub struct Affected {
    keys: Vec<KeyRange>,
    /// Namespaces in all resources, as a topology that routes them elsewhere.
    namespaces: Option<Topology>,
}

impl Affected {
    /// The keys of these moves, below these registry prefixes.
    #[must_use]
    pub fn of<'m>(moves: impl IntoIterator<Item = &'m Moved>, bases: &[Bytes]) -> Self {
        let mut keys = Vec::new();
        let mut namespaces = Namespaces {
            names: Vec::new(),
            wildcards: Vec::new(),
            directories: None,
        };
        for moved in moves {
            match moved {
                Moved::Keys(range) => keys.push(range.clone()),
                Moved::Namespace(name) => match name.strip_suffix('*') {
                    Some(beginning) => namespaces.wildcards.push(beginning.to_owned()),
                    None => namespaces.names.push(name.clone()),
                },
            }
        }
        let none = namespaces.names.is_empty() && namespaces.wildcards.is_empty();
        let mut affected = Self {
            keys,
            namespaces: None,
        };
        if !none {
            affected.route(namespaces, bases);
        }
        affected
    }

    fn route(&mut self, namespaces: Namespaces, bases: &[Bytes]) {
        let rule = Rule {
            store: MOVED,
            matcher: Matcher::Namespace(namespaces),
            at: Position::default(),
        };
        let meaning = Meaning {
            stores: vec![nowhere(), nowhere()],
            rules: vec![rule],
            bases: bases.to_vec(),
            ..Meaning::default()
        };
        match Topology::compile(meaning) {
            Ok(topology) => self.namespaces = Some(topology),
            // Without expressions nothing fails; if it did, everything would be concerned.
            Err(_) => self.keys.push(KeyRange::all()),
        }
    }

    /// Whether there is no such key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.namespaces.is_none()
    }

    /// Whether a key of the range can be among them.
    #[must_use]
    pub fn touches(&self, range: &KeyRange) -> bool {
        if range.is_single_key() {
            return self.holds(&range.start);
        }
        let moved = |topology: &Topology| {
            let parts = topology.cover(range);
            parts.iter().any(|part| part.store == MOVED)
        };
        self.keys
            .iter()
            .any(|keys| keys.intersection(range).is_some())
            || self.namespaces.as_ref().is_some_and(moved)
    }

    /// Whether a key is among them.
    #[must_use]
    pub fn holds(&self, key: &[u8]) -> bool {
        let moved = |topology: &Topology| topology.route(key) == Some(MOVED);
        self.keys.iter().any(|keys| keys.contains(key))
            || self.namespaces.as_ref().is_some_and(moved)
    }
}
