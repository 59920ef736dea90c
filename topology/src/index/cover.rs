//! `cover`: which stores can hold a key of a range.
//!
//! The range is cut at the borders of the fixed claims. In each piece, claims of namespaces and
//! expressions are exact where they can be enumerated, and vague (a range in which some keys are
//! claimed) where they cannot. Exact claims are resolved by rank; a vague claim makes what it
//! overlaps a matter of asking `route`.

use keyloom_etcd_api::KeyRange;

use super::{
    Index, Rank, below,
    claims::{Dynamic, Vague, Why},
    parts::Parts,
    regions::Regions,
};
use crate::{regexp::RegexpSet, topology::Part};

/// A range that touches more fixed claims than this is not looked at claim by claim.
const MOST_REGIONS: usize = 1024;

impl Index {
    /// The stores that can hold a key of the range, in order.
    pub(crate) fn cover(&self, range: &KeyRange, set: &RegexpSet) -> Vec<Part> {
        let mut parts = Parts::default();
        if range.is_empty() {
            return Vec::new();
        }
        if self.fixed.overlapping(range).len() > MOST_REGIONS {
            self.coarse(range, &mut parts);
        } else {
            for (piece, rank) in self.fixed.pieces(range) {
                self.piece(&piece, rank, set, &mut parts);
            }
        }
        parts.finish()
    }

    /// Adds one piece of a range, which the fixed claim of `rank` has unless something earlier takes
    /// it.
    fn piece(&self, piece: &KeyRange, rank: Rank, set: &RegexpSet, parts: &mut Parts) {
        if rank == Rank::RESERVED {
            return;
        }
        if piece.is_single_key() {
            let rank = self.rank_of(&piece.start, set);
            parts.exact(self.owners.of_route(rank), piece.clone());
            return;
        }
        let mut dynamic = Dynamic::default();
        let mut limit = self.expressions_in(piece, rank, &mut dynamic);
        limit = self.namespaces_in(piece, limit, &mut dynamic);
        self.resolve(piece, limit, &dynamic, parts);
    }

    /// Resolves all claims of a piece among each other.
    fn resolve(&self, piece: &KeyRange, limit: Rank, dynamic: &Dynamic<'_>, parts: &mut Parts) {
        if dynamic.exact.is_empty() && dynamic.vague.is_empty() {
            parts.exact(self.owners.of_route(limit), piece.clone());
            return;
        }
        let mut claims: Vec<_> = dynamic
            .exact
            .iter()
            .map(|c| (c.range.clone(), c.rank))
            .collect();
        claims.push((piece.clone(), limit));
        for (range, rank) in Regions::flatten(&claims, &[]).pieces(piece) {
            let is_name = rank != limit && !self.is_expression(rank);
            let vague = dynamic
                .vague
                .iter()
                .filter(|claim| claim.rank < rank && !(is_name && matches!(claim.why, Why::Names)));
            self.share(&range, rank, vague, parts);
        }
    }

    /// Adds a range that `rank` has but for what vague claims take.
    fn share<'v, 'i: 'v>(
        &self,
        range: &KeyRange,
        mut rank: Rank,
        vague: impl Iterator<Item = &'v Vague<'i>>,
        parts: &mut Parts,
    ) {
        let mut portions = Vec::new();
        for claim in vague {
            match self.portion(claim, range) {
                Portion::None => {}
                Portion::Some(portion) => portions.push((claim, portion)),
                Portion::Whole => rank = rank.min(claim.rank),
            }
        }
        let store = self.owners.of_route(rank);
        portions.retain(|(claim, _)| claim.rank < rank && claim.store != store);
        if portions.is_empty() {
            parts.exact(store, range.clone());
        } else {
            parts.vague(store, range.clone());
        }
        for (claim, portion) in portions {
            parts.vague(claim.store, portion);
        }
    }

    /// What of a range a vague claim can take.
    fn portion(&self, claim: &Vague<'_>, range: &KeyRange) -> Portion {
        let Some(portion) = claim.hull.intersection(range) else {
            return Portion::None;
        };
        if let Why::Expression(regexp) = claim.why
            && portion != claim.hull
        {
            let (_, subjects) = self.subjects(&portion);
            let claim = regexp.automaton().claim(&subjects);
            if claim.is_empty() {
                return Portion::None;
            }
            if claim.is_whole(&subjects) && portion == *range {
                return Portion::Whole;
            }
        }
        Portion::Some(portion)
    }

    fn is_expression(&self, rank: Rank) -> bool {
        self.expressions
            .binary_search_by_key(&rank, |e| e.rank)
            .is_ok()
    }

    /// What expressions read of the keys of a piece, and what stands before it.
    pub(super) fn subjects(&self, piece: &KeyRange) -> (bytes::Bytes, KeyRange) {
        below(&self.bases, piece).unwrap_or_else(|| (bytes::Bytes::new(), piece.clone()))
    }
}

/// What of a range a vague claim can take.
enum Portion {
    None,
    Some(KeyRange),
    Whole,
}
