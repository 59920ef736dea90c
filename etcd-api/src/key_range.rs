//! Ranges of keys as etcd means them.

use bytes::{BufMut, Bytes, BytesMut};

/// The keys from `start` up to, not including, `end`.
///
/// A key is never empty in etcd, so a range from `"\0"` without an end holds every key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key that can be in the range.
    pub start: Bytes,
    /// The first key behind the range; `None` where the range has no end.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// The range that holds one key.
    #[must_use]
    pub fn key(key: Bytes) -> Self {
        let mut end = BytesMut::with_capacity(key.len() + 1);
        end.put_slice(&key);
        end.put_u8(0);
        Self {
            start: key,
            end: Some(end.freeze()),
        }
    }

    /// Every key that begins with `prefix`.
    #[must_use]
    pub fn prefix(prefix: Bytes) -> Self {
        let end = prefix_end(&prefix);
        let start = if prefix.is_empty() {
            Bytes::from_static(b"\0")
        } else {
            prefix
        };
        Self { start, end }
    }

    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self {
            start: Bytes::from_static(b"\0"),
            end: None,
        }
    }

    /// The range that a request means with its `key` and `range_end`: none given is the one key,
    /// `"\0"` is no end (`mkGteRange` in etcd's `server/etcdserver/txn/range.go`).
    #[must_use]
    pub fn from_request(key: &Bytes, range_end: &Bytes) -> Self {
        match &range_end[..] {
            [] => Self::key(key.clone()),
            [0] => Self {
                start: key.clone(),
                end: None,
            },
            _ => Self {
                start: key.clone(),
                end: Some(range_end.clone()),
            },
        }
    }

    /// The `range_end` of a request for exactly this range, empty for a single key.
    #[must_use]
    pub fn range_end(&self) -> Bytes {
        match &self.end {
            None => Bytes::from_static(b"\0"),
            Some(_) if self.is_single_key() => Bytes::new(),
            Some(end) => end.clone(),
        }
    }

    /// Whether the range can hold only its `start`.
    #[must_use]
    pub fn is_single_key(&self) -> bool {
        self.end
            .as_deref()
            .is_some_and(|end| end.strip_prefix(&self.start[..]) == Some(b"\0"))
    }

    /// Whether no key can be in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start[..] <= *key && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// The keys that are in both ranges; `None` where there can be none.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let start = self.start.clone().max(other.start.clone());
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.min(b).clone()),
            (Some(end), None) | (None, Some(end)) => Some(end.clone()),
            (None, None) => None,
        };
        let both = Self { start, end };
        (!both.is_empty()).then_some(both)
    }

    /// Whether every key of `other` is in this range.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.is_empty()
            || (self.start <= other.start
                && match (&self.end, &other.end) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(mine), Some(theirs)) => theirs <= mine,
                })
    }
}

/// The first key behind all keys with this prefix; `None` where there is none.
fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = BytesMut::from(prefix.get(..=last)?);
    let byte = end.get_mut(last)?;
    *byte += 1;
    Some(end.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::from_request(&Bytes::from(start), &Bytes::from(end))
    }

    #[test]
    fn a_request_without_an_end_means_one_key() {
        let one = range("a", "");
        assert!(one.contains(b"a") && !one.contains(b"a\0") && !one.contains(b""));
        assert!(one.is_single_key());
        assert_eq!(one.range_end(), "");
    }

    #[test]
    fn a_zero_byte_as_end_means_no_end() {
        let rest = range("b", "\0");
        assert!(rest.contains(b"\xff\xff") && !rest.contains(b"a"));
        assert_eq!(rest.range_end(), "\0");
    }

    #[test]
    fn a_prefix_ends_behind_its_last_key() {
        let pods = KeyRange::prefix(Bytes::from("pods/"));
        assert_eq!(pods, range("pods/", "pods0"));
        let high = KeyRange::prefix(Bytes::from_static(b"a\xff"));
        assert!(high.contains(b"a\xff\xff") && !high.contains(b"b"));
        assert_eq!(KeyRange::prefix(Bytes::from_static(b"\xff")).end, None);
        assert_eq!(KeyRange::prefix(Bytes::new()), KeyRange::all());
    }

    #[test]
    fn intersections_are_exact() {
        assert_eq!(
            range("a", "c").intersection(&range("b", "d")),
            Some(range("b", "c"))
        );
        assert_eq!(range("a", "b").intersection(&range("b", "c")), None);
        assert_eq!(
            range("a", "\0").intersection(&range("b", "c")),
            Some(range("b", "c"))
        );
        assert_eq!(
            range("a", "\0").intersection(&range("b", "\0")),
            Some(range("b", "\0"))
        );
    }

    #[test]
    fn covering_is_about_keys_not_about_bounds() {
        assert!(range("a", "\0").covers(&range("b", "c")));
        assert!(!range("a", "c").covers(&range("b", "\0")));
        assert!(
            range("b", "c").covers(&range("z", "y")),
            "an empty range is in any other"
        );
    }

    #[test]
    fn a_backward_range_is_empty() {
        assert!(range("b", "a").is_empty());
        assert!(range("b", "b").is_empty());
        assert!(!range("b", "").is_empty());
    }
}
