//! `cover` of a range with very many fixed claims: by store, not by claim.

use std::collections::BTreeMap;

use keyloom_etcd_api::KeyRange;

use super::{Index, Owners, Rank, claims::Dynamic, cut, parts::Parts, regions::Regions};
use crate::{spec::StoreIndex, topology::MAX_INTERVALS};

/// The fixed regions of each store, in order.
#[derive(Clone, Debug)]
pub(super) struct StoreRegions {
    by_store: BTreeMap<StoreIndex, Vec<usize>>,
}

impl Index {
    /// A range with very many fixed claims: by store, not by claim.
    pub(super) fn coarse(&self, range: &KeyRange, parts: &mut Parts) {
        let mut shared = false;
        for (store, hull) in self.coarse_claims(range) {
            parts.vague(store, hull);
            shared = true;
        }
        let touched = self.fixed.overlapping(range);
        for (store, regions) in &self.store_regions.by_store {
            let low = regions.partition_point(|number| *number < touched.start);
            let high = regions.partition_point(|number| *number < touched.end);
            let slice = regions.get(low..high).unwrap_or_default();
            let found = slice.iter().filter_map(|number| self.fixed.get(*number));
            let mut found = found.filter_map(|(region, _)| region.intersection(range));
            if slice.len() <= MAX_INTERVALS && !shared {
                found.for_each(|region| parts.exact(*store, region));
            } else if let Some(first) = found.next() {
                let last = found.next_back().unwrap_or_else(|| first.clone());
                let hull = KeyRange {
                    start: first.start,
                    end: last.end,
                };
                parts.vague(*store, hull);
            }
        }
    }

    fn coarse_claims(&self, range: &KeyRange) -> Vec<(StoreIndex, KeyRange)> {
        let mut claims = Vec::new();
        for piece in cut(range, &self.bases) {
            let mut dynamic = Dynamic::default();
            let limit = self.expressions_in(&piece, Rank::DEFAULT, &mut dynamic);
            if limit != Rank::DEFAULT {
                claims.push((self.owners.of_route(limit), piece.clone()));
            }
            self.namespaces_in(&piece, limit, &mut dynamic);
            let vague = dynamic
                .vague
                .into_iter()
                .map(|claim| (claim.store, claim.hull));
            claims.extend(vague);
            let exact = dynamic.exact.into_iter();
            claims.extend(exact.map(|claim| (self.owners.of_route(claim.rank), claim.range)));
        }
        claims
    }
}

impl StoreRegions {
    pub(super) fn new(fixed: &Regions, owners: &Owners) -> Self {
        let mut by_store: BTreeMap<StoreIndex, Vec<usize>> = BTreeMap::new();
        for number in 0..fixed.len() {
            let owner = fixed.get(number).and_then(|(_, rank)| owners.of(rank));
            if let Some(store) = owner {
                by_store.entry(store).or_default().push(number);
            }
        }
        Self { by_store }
    }
}
