//! Finds routes that can never match, because earlier ones claim all that they claim.
//!
//! Only what is certain is reported: of expressions before expressions, only equal ones.

use std::collections::HashSet;

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;

use super::{Expression, Index, Rank};
use crate::{
    matcher::{Matcher, Rule},
    regexp::RegexpSet,
};

/// With more steps than this the search would cost more than the warning is worth.
const MOST_STEPS: usize = 200_000;

impl Index {
    /// The routes that can never match, each with the one that takes its keys, by number.
    pub(crate) fn shadowed(&self, rules: &[Rule], set: &RegexpSet) -> Vec<(usize, Option<usize>)> {
        let alive = self.alive();
        let dead = rules.iter().enumerate().filter(|(number, rule)| {
            !alive.contains(&Rank::of_rule(*number)) && !is_void(&rule.matcher)
        });
        dead.map(|(number, rule)| {
            let witness = self.witness(&rule.matcher);
            let taker = witness.and_then(|key| self.rank_of(&key, set).rule());
            (number, taker)
        })
        .collect()
    }

    /// The ranks that some key can have.
    fn alive(&self) -> HashSet<Rank> {
        let mut alive = HashSet::new();
        let steps = self.fixed.len().saturating_mul(self.expressions.len());
        for number in 0..self.fixed.len() {
            let Some((range, rank)) = self.fixed.get(number) else {
                continue;
            };
            if steps > MOST_STEPS || !self.is_taken_by_expression(&range, rank) {
                alive.insert(rank);
            }
        }
        let last = self.last_below_bases();
        let names = self.namespaces.ranks().filter(|rank| *rank < last);
        alive.extend(names);
        for (number, each) in self.expressions.iter().enumerate() {
            if steps > MOST_STEPS || self.is_expression_alive(number, each) {
                alive.insert(each.rank);
            }
        }
        alive
    }

    fn is_taken_by_expression(&self, range: &KeyRange, rank: Rank) -> bool {
        let (_, subjects) = self.subjects(range);
        let mut earlier = self.expressions.iter().take_while(|each| each.rank < rank);
        earlier.any(|each| each.regexp.automaton().claim(&subjects).is_whole(&subjects))
    }

    fn is_expression_alive(&self, number: usize, each: &Expression) -> bool {
        let mut earlier = self.expressions.iter().take(number);
        let pattern = each.regexp.pattern();
        if earlier.any(|other| other.regexp.pattern() == pattern) {
            return false;
        }
        let regions = (0..self.fixed.len()).filter_map(|number| self.fixed.get(number));
        let mut open = regions.filter(|(_, rank)| *rank > each.rank);
        open.any(|(range, _)| {
            let (_, subjects) = self.subjects(&range);
            !each.regexp.automaton().claim(&subjects).is_empty()
        })
    }

    /// The largest rank of a fixed claim below a registry prefix: a namespace route behind it has
    /// no key left.
    fn last_below_bases(&self) -> Rank {
        let ranges = self.bases.iter().map(|base| KeyRange::prefix(base.clone()));
        let pieces = ranges.flat_map(|range| self.fixed.pieces(&range).collect::<Vec<_>>());
        let last = pieces.map(|(_, rank)| rank).max();
        last.unwrap_or(Rank::DEFAULT)
    }

    /// A key that a matcher claims.
    fn witness(&self, matcher: &Matcher) -> Option<Vec<u8>> {
        let base = self.bases.first()?;
        let below = match matcher {
            Matcher::Path(path) | Matcher::CustomResource(path) => Bytes::from(path.clone()),
            Matcher::KeyPrefix(prefix) => return Some(prefix.clone().into_bytes()),
            Matcher::Regexp(regexp) => Bytes::from(regexp.automaton().shortest()?),
            Matcher::Namespace(namespaces) => {
                let directories = namespaces.directories.as_ref();
                let directory = match directories {
                    Some(directories) => directories.first()?,
                    None => "any",
                };
                let name = namespaces.names.first().or(namespaces.wildcards.first())?;
                Bytes::from(format!("{directory}/{name}/any"))
            }
        };
        Some([&base[..], &below].concat())
    }
}

/// Whether a matcher claims nothing at all: that is reported where it is read.
fn is_void(matcher: &Matcher) -> bool {
    matches!(matcher, Matcher::Regexp(regexp) if regexp.matches_nothing())
}
