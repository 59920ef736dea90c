//! Collects what each store holds of a range, piece by piece in key order.

use std::collections::BTreeMap;

use keyloom_etcd_api::KeyRange;

use crate::{
    spec::StoreIndex,
    topology::{Cuts, MAX_INTERVALS, Part},
};

#[derive(Debug, Default)]
pub(super) struct Parts {
    stores: BTreeMap<StoreIndex, StoreRanges>,
}

#[derive(Debug, Default)]
struct StoreRanges {
    ranges: Vec<KeyRange>,
    /// Whether some piece holds keys of other stores.
    filter: bool,
}

impl Parts {
    /// Every key of `range` is the store's.
    pub(super) fn exact(&mut self, store: StoreIndex, range: KeyRange) {
        self.stores.entry(store).or_default().add(range);
    }

    /// Some keys of `range` can be the store's.
    pub(super) fn vague(&mut self, store: StoreIndex, range: KeyRange) {
        let pieces = self.stores.entry(store).or_default();
        pieces.add(range);
        pieces.filter = true;
    }

    pub(super) fn finish(self) -> Vec<Part> {
        let parts = self.stores.into_iter();
        parts
            .filter_map(|(store, pieces)| pieces.finish(store))
            .collect()
    }
}

impl StoreRanges {
    fn add(&mut self, range: KeyRange) {
        match self.ranges.last_mut() {
            Some(last) if last.end.as_ref() == Some(&range.start) => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }

    fn finish(self, store: StoreIndex) -> Option<Part> {
        let Self { ranges, filter } = self;
        let hull = hull(&ranges)?;
        let cuts = if filter || ranges.len() > MAX_INTERVALS {
            Cuts::Filter
        } else if ranges.len() == 1 {
            Cuts::Whole
        } else {
            Cuts::Intervals(ranges)
        };
        Some(Part { store, hull, cuts })
    }
}

/// The smallest range that holds all of these.
fn hull(ranges: &[KeyRange]) -> Option<KeyRange> {
    let start = ranges.iter().map(|range| &range.start).min()?.clone();
    let ends = ranges.iter().map(|range| range.end.clone());
    let end = ends.reduce(|a, b| Some(a?.max(b?))).flatten();
    Some(KeyRange { start, end })
}
