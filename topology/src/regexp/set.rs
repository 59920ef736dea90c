//! All expressions of a topology in one automaton: a key is read once, however many there are.

use regex_automata::{
    Input, MatchKind, PatternSet,
    meta::{self, Regex},
};

use super::syntax;

/// Bounds the memory of all expressions together.
const MOST_BYTES: usize = 256 << 20;

/// The expressions in the order of their routes.
#[derive(Debug, Default)]
pub(crate) struct RegexpSet {
    /// `None` where there are none.
    all: Option<Regex>,
    count: usize,
}

impl RegexpSet {
    pub(crate) fn new(patterns: &[&str]) -> Result<Self, Box<meta::BuildError>> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let config = meta::Config::new()
            .match_kind(MatchKind::All)
            .utf8_empty(false)
            .nfa_size_limit(Some(MOST_BYTES));
        let all = meta::Builder::new()
            .configure(config)
            .syntax(syntax())
            .build_many(patterns)?;
        Ok(Self {
            all: Some(all),
            count: patterns.len(),
        })
    }

    /// The first expression that matches.
    pub(crate) fn first(&self, subject: &[u8]) -> Option<usize> {
        let all = self.all.as_ref()?;
        let mut matched = PatternSet::new(self.count);
        all.which_overlapping_matches(&Input::new(subject), &mut matched);
        matched.iter().next().map(|pattern| pattern.as_usize())
    }
}
