//! The keys that a run writes: shaped as Kubernetes' custom resources, in namespaces, so that the
//! routes of a topology can spread them over stores.
//!
//! Values follow from their keys, so that an answer can be checked without remembering anything.

use bytes::Bytes;

/// What every run writes lies below this; nothing else does.
pub(crate) const GROUP: &str = "/registry/load.keyloom.test/";

/// Where and how large the objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keyspace {
    pub(crate) namespaces: usize,
    /// Keys of each client's own.
    pub(crate) keys: usize,
    pub(crate) value_size: usize,
    /// Objects of each namespace in lists.
    pub(crate) objects: usize,
    pub(crate) object_size: usize,
}

/// A resource of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Keys that belong to one client each.
    Singles,
    /// What is listed and counted.
    Lists,
    /// What is watched.
    Watched,
    /// What is written once and expires.
    Events,
}

impl Resource {
    fn plural(self) -> &'static str {
        match self {
            Self::Singles => "singles",
            Self::Lists => "lists",
            Self::Watched => "watched",
            Self::Events => "events",
        }
    }

    /// The prefix of everything of the resource.
    pub(crate) fn prefix(self) -> String {
        format!("{GROUP}{}/", self.plural())
    }

    /// The prefix of one namespace.
    pub(crate) fn namespace(self, number: usize) -> String {
        format!("{}{}/", self.prefix(), namespace(number))
    }
}

/// A namespace's name. As long for each, so that their order is that of their numbers.
pub(crate) fn namespace(number: usize) -> String {
    format!("load-{number:03}")
}

impl Keyspace {
    /// A key of a client's own. A client's keys go round the namespaces.
    pub(crate) fn single(&self, client: usize, key: usize) -> Bytes {
        let namespace = Resource::Singles.namespace((client + key) % self.namespaces);
        format!("{namespace}client-{client:05}-{key:05}").into()
    }

    /// The object at a place in the list of a namespace.
    pub(crate) fn object(&self, namespace: usize, place: usize) -> Bytes {
        let namespace = Resource::Lists.namespace(namespace);
        format!("{namespace}object-{place:06}").into()
    }

    /// The object at a place in the list of all namespaces.
    pub(crate) fn object_of_all(&self, place: usize) -> Bytes {
        self.object(place / self.objects, place % self.objects)
    }
}

/// The value of a key: the key itself, over and over.
pub(crate) fn value(key: &[u8], size: usize) -> Bytes {
    key.iter().copied().cycle().take(size).collect()
}

/// The end of the range of a prefix.
pub(crate) fn end_of(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    // Every prefix here ends with a slash.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// The key just after another one.
pub(crate) fn after(key: &[u8]) -> Bytes {
    key.iter().copied().chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: Keyspace = Keyspace {
        namespaces: 3,
        keys: 2,
        value_size: 8,
        objects: 5,
        object_size: 8,
    };

    #[test]
    fn objects_of_all_namespaces_are_in_order() {
        let all: Vec<_> = (0..15).map(|place| SPACE.object_of_all(place)).collect();
        assert!(all.is_sorted());
        assert_eq!(all[5], SPACE.object(1, 0));
        let prefix = Resource::Lists.prefix();
        assert!(all.iter().all(|key| key.starts_with(prefix.as_bytes())));
        assert!(all.iter().all(|key| *key < end_of(&prefix)));
    }

    #[test]
    fn clients_share_no_key() {
        let mut keys: Vec<_> = (0..7)
            .flat_map(|client| (0..2).map(move |key| SPACE.single(client, key)))
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 14);
    }

    #[test]
    fn values_have_their_size() {
        assert_eq!(value(b"ab", 5), "ababa");
        assert_eq!(after(b"a"), &b"a\0"[..]);
    }
}
