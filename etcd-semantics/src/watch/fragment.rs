//! How a large answer is cut, as `sendFragments` in etcd's `v3rpc/watch.go` cuts it.

use std::ops::Range;

/// What etcd allows a message beyond `--max-request-bytes`, in bytes.
pub const FRAGMENT_OVERHEAD: usize = 512 * 1024;

/// What the mark of a fragment takes in the answer.
const MARK: usize = 2;

/// Which events go into which fragment; all but the last are marked. `around` is the size of the
/// answer without events and mark, `events` the sizes that its events add, and from `limit` on an
/// answer is cut. No fragment is without an event.
#[must_use]
pub fn fragments(around: usize, events: &[usize], limit: usize) -> Vec<Range<usize>> {
    let whole = events.iter().fold(around, |sum, size| sum + size);
    if whole < limit || events.len() < 2 {
        return std::iter::once(0..events.len()).collect();
    }
    let mut fragments = Vec::new();
    let (mut from, mut size) = (0, around + MARK);
    for (at, event) in events.iter().enumerate() {
        size += event;
        if at > from && size >= limit {
            fragments.push(from..at);
            (from, size) = (at, around + MARK + event);
        }
    }
    fragments.push(from..events.len());
    fragments
}
