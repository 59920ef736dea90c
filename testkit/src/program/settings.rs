//! What a program works on.

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

/// Keys that belong together: with [`Settings::spanning_writes`] off, no write leaves its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What all of the keys begin with.
    pub prefix: Bytes,
    pub keys: Vec<Bytes>,
}

impl Group {
    /// Keys that begin with `prefix`.
    #[must_use]
    pub fn new(prefix: &str, names: &[&str]) -> Self {
        let key = |name: &&str| Bytes::from(format!("{prefix}{name}"));
        Self {
            prefix: Bytes::copy_from_slice(prefix.as_bytes()),
            keys: names.iter().map(key).collect(),
        }
    }

    /// So many keys in two folders below `prefix`.
    #[must_use]
    pub fn numbered(prefix: &str, keys: usize) -> Self {
        let names: Vec<_> = (0..keys)
            .map(|n| {
                format!(
                    "{}/{n}",
                    ["default", "kube-system"].get(n % 2).unwrap_or(&"")
                )
            })
            .collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Self::new(prefix, &names)
    }
}

/// What a program may do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The keys. Groups must not overlap.
    pub groups: Vec<Group>,
    /// Whether deletes of ranges and transactions that write may touch several groups. Reads may
    /// in any case.
    pub spanning_writes: bool,
    /// Whether it compacts.
    pub compactions: bool,
    /// Whether it makes requests that every etcd refuses.
    pub bad_requests: bool,
    /// Whether bad requests include orders that do not exist: etcd 3.4 takes them.
    pub invalid_sorts: bool,
    /// Leases that were granted before, to put keys on.
    pub leases: Vec<i64>,
    /// Whether watches may begin below revision 0: etcd 3.4 has no words for it.
    pub watches_below_zero: bool,
}

impl Settings {
    /// Everything allowed, no leases.
    #[must_use]
    pub fn new(groups: Vec<Group>) -> Self {
        Self {
            groups,
            spanning_writes: true,
            compactions: true,
            bad_requests: true,
            invalid_sorts: true,
            leases: Vec::new(),
            watches_below_zero: true,
        }
    }

    /// How many of the program's keys can be in a range.
    pub(super) fn keys_in(&self, range: &KeyRange) -> usize {
        self.groups
            .iter()
            .flat_map(|group| &group.keys)
            .filter(|key| range.contains(key))
            .count()
    }
}
