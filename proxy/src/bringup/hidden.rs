//! Which keys would be hidden: they lie on a store to which a topology no longer leads them.

use keyloom_etcd_api::KeyRange;
use keyloom_store::Store;
use keyloom_topology::{Move, Moved, StoreIndex, Topology};

use super::scan::{ScannedKeys, scan};

/// The name of the store that stands for a store of a topology.
pub(super) fn route<'t>(topology: &'t Topology, key: &[u8]) -> Option<&'t str> {
    let StoreIndex(index) = topology.route(key)?;
    let spec = topology.stores().get(usize::from(index))?;
    Some(spec.name.as_str())
}

/// Where the moved keys of a store lie, or the keys that move to it.
pub(super) fn ranges<'p>(
    moves: &'p [Move],
    topology: &Topology,
    store: &str,
    side: impl Fn(&'p Move) -> &'p [String],
) -> Vec<KeyRange> {
    let mut ranges: Vec<KeyRange> = Vec::new();
    for each in moves
        .iter()
        .filter(|each| side(each).iter().any(|name| name == store))
    {
        match &each.what {
            Moved::Keys(range) => ranges.push(range.clone()),
            Moved::Namespace(_) => {
                let bases = topology.registry_prefixes().iter();
                ranges.extend(bases.map(|base| KeyRange::prefix(base.clone())));
            }
        }
    }
    one_by_one(ranges)
}

/// The same keys, none in two ranges.
fn one_by_one(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.sort_by(|a, b| a.start.cmp(&b.start));
    let mut apart: Vec<KeyRange> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| *end >= range.start) => {
                let end = last.end.take();
                last.end = end.and_then(|end| range.end.map(|other| end.max(other)));
            }
            _ => apart.push(range),
        }
    }
    apart
}

/// The keys of a store that one topology leads there and another one elsewhere.
pub(crate) async fn hidden_keys(
    (old, new): (&Topology, &Topology),
    moves: &[Move],
    name: &str,
    store: &dyn Store,
) -> Result<ScannedKeys, String> {
    let ranges = ranges(moves, old, name, |each| &each.from);
    let hides = |key: &[u8]| route(old, key) == Some(name) && route(new, key) != Some(name);
    scan(store, &ranges, hides).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_looked_at_twice() {
        let range = |start: &'static str, end: Option<&'static str>| KeyRange {
            start: start.into(),
            end: end.map(Into::into),
        };
        let given = vec![
            range("c", Some("e")),
            range("a", Some("b")),
            range("d", Some("f")),
            range("f", Some("g")),
            range("x", None),
            range("y", Some("z")),
        ];
        let expected = [
            range("a", Some("b")),
            range("c", Some("g")),
            range("x", None),
        ];
        assert_eq!(one_by_one(given), expected);
    }
}
