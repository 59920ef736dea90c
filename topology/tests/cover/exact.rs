//! The exact answer to "which stores can hold a key of this range", by another way than the one
//! under test: every route becomes regular expressions over whole keys, and all of their automata
//! walk together through every key that the range can hold.

use std::collections::{BTreeSet, HashSet};

use keyloom_etcd_api::KeyRange;
use keyloom_topology::StoreIndex;
use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton, StartKind, dense},
    nfa::thompson,
    util::{primitives::StateID, start, syntax},
};

use crate::scene::{Rule, Scene};

/// Which stores can hold a key.
#[derive(Debug, Default)]
pub(crate) struct Possible {
    /// By the first route that matches.
    pub(crate) first: BTreeSet<StoreIndex>,
    /// By any route that matches; the default store always.
    pub(crate) any: BTreeSet<StoreIndex>,
}

pub(crate) struct Reference {
    automata: Vec<dense::DFA<Vec<u32>>>,
    rules: Vec<Condition>,
    reserved: Option<KeyRange>,
    alphabet: Vec<u8>,
}

/// Which automata decide a rule; 0 knows the registry prefixes, 1 the services below them.
enum Condition {
    Is(usize),
    /// The first below a registry prefix, the second elsewhere.
    Below(usize, usize),
    /// The first for services, the second for all others.
    Services(usize, usize),
}

/// Where every automaton is; `None` where it has seen a match.
type State = Vec<Option<StateID>>;

impl Reference {
    pub(crate) fn new(scene: &Scene) -> Self {
        let base = format!("(?:{})/", scene.bases.join("|"));
        let mut patterns = vec![format!("^{base}"), format!("^{base}services/")];
        let mut rules = Vec::new();
        for rule in &scene.rules {
            rules.push(condition(rule, &base, &mut patterns));
        }
        Self {
            alphabet: alphabet(&patterns),
            automata: patterns.iter().map(|pattern| automaton(pattern)).collect(),
            rules,
            reserved: scene.reserved.clone(),
        }
    }

    /// Every key of the range that is not reserved.
    pub(crate) fn stores(&self, range: &KeyRange) -> Possible {
        let mut possible = Possible::default();
        for piece in self.without_reserved(range) {
            self.walk(&piece, &mut possible);
        }
        possible.any.insert(StoreIndex(0));
        possible
    }

    fn without_reserved(&self, range: &KeyRange) -> Vec<KeyRange> {
        let Some(reserved) = &self.reserved else {
            return vec![range.clone()];
        };
        let before = KeyRange {
            start: range.start.clone(),
            end: Some(reserved.start.clone()),
        };
        let behind = reserved
            .end
            .clone()
            .map(|start| KeyRange { start, end: None });
        let sides = [Some(before), behind].into_iter().flatten();
        sides.filter_map(|side| side.intersection(range)).collect()
    }

    /// Goes down along both bounds; what lies between them is searched state by state.
    fn walk(&self, range: &KeyRange, possible: &mut Possible) {
        if range.is_empty() {
            return;
        }
        let mut seen = HashSet::new();
        let mut open = vec![(self.start(), Some(&range.start[..]), range.end.as_deref())];
        while let Some((state, low, high)) = open.pop() {
            let low = low.filter(|low| !low.is_empty());
            if high.is_some_and(<[u8]>::is_empty)
                || (low.is_none() && high.is_none() && !seen.insert(state.clone()))
            {
                continue;
            }
            if low.is_none() {
                self.add(&state, possible);
            }
            let bounds = [low, high]
                .into_iter()
                .flatten()
                .filter_map(|bound| bound.first());
            let bytes: BTreeSet<u8> = self.alphabet.iter().chain(bounds).copied().collect();
            for byte in bytes {
                let next_low = match low {
                    Some(low) if byte < low[0] => continue,
                    Some(low) if byte == low[0] => Some(&low[1..]),
                    _ => None,
                };
                let next_high = match high {
                    Some(high) if byte > high[0] => continue,
                    Some(high) if byte == high[0] => Some(&high[1..]),
                    _ => None,
                };
                open.push((self.step(&state, byte), next_low, next_high));
            }
        }
    }

    fn start(&self) -> State {
        let config = start::Config::new().anchored(Anchored::No);
        self.automata
            .iter()
            .map(|dfa| dfa.start_state(&config).ok())
            .collect()
    }

    fn step(&self, state: &State, byte: u8) -> State {
        let both = self.automata.iter().zip(state);
        both.map(|(dfa, at)| {
            let next = dfa.next_state((*at)?, byte);
            (!dfa.is_match_state(next)).then_some(next)
        })
        .collect()
    }

    fn add(&self, state: &State, possible: &mut Possible) {
        let is = |at: usize| match state[at] {
            None => true,
            Some(id) => {
                let dfa = &self.automata[at];
                dfa.is_match_state(dfa.next_eoi_state(id))
            }
        };
        let mut found = false;
        for (store, rule) in (1..).zip(&self.rules) {
            let matches = match *rule {
                Condition::Is(at) => is(at),
                Condition::Below(below, elsewhere) => is(if is(0) { below } else { elsewhere }),
                Condition::Services(services, others) => is(if is(1) { services } else { others }),
            };
            if matches {
                possible.any.insert(StoreIndex(store));
                if !found {
                    possible.first.insert(StoreIndex(store));
                }
                found = true;
            }
        }
        if !found {
            possible.first.insert(StoreIndex(0));
        }
    }
}

fn condition(rule: &Rule, base: &str, patterns: &mut Vec<String>) -> Condition {
    let mut add = |pattern: String| {
        patterns.push(pattern);
        patterns.len() - 1
    };
    let path = |path: &str| format!("^{base}{}(?:/|$)", path.replace('.', "[.]"));
    match rule {
        Rule::Prefix(_, stored) => Condition::Is(add(path(stored))),
        Rule::Custom(group, None) => Condition::Is(add(path(group))),
        Rule::Custom(group, Some(kind)) => Condition::Is(add(path(&format!("{group}/{kind}")))),
        Rule::KeyPrefix(prefix) => Condition::Is(add(format!("^{prefix}"))),
        Rule::Regexp(pattern) => {
            let gap = if pattern.anchored { "" } else { "(?s:.)*" };
            let below = add(format!("^{base}{gap}{}", pattern.body));
            Condition::Below(below, add(format!("^{gap}{}", pattern.body)))
        }
        Rule::Namespace(names, kinds) => {
            let names: Vec<_> = names
                .iter()
                .map(|name| name.replace('*', "[^/]*"))
                .collect();
            let names = names.join("|");
            match kinds {
                Some(kinds) => {
                    let stored: Vec<_> = kinds.iter().map(|(_, s)| s.replace('.', "[.]")).collect();
                    Condition::Is(add(format!("^{base}(?:{})/(?:{names})/", stored.join("|"))))
                }
                None => {
                    let services = add(format!("^{base}services/[^/]*/(?:{names})/"));
                    let other = r"(?:[^/.]*|[^/]*[.][^/]*/[^/]*)";
                    Condition::Services(services, add(format!("^{base}{other}/(?:{names})/")))
                }
            }
        }
    }
}
fn automaton(pattern: &str) -> dense::DFA<Vec<u32>> {
    let nfa = thompson::NFA::compiler()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .configure(thompson::Config::new().utf8(false))
        .build(pattern)
        .unwrap();
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Unanchored);
    dense::Builder::new()
        .configure(config)
        .build_from_nfa(&nfa)
        .unwrap()
}

/// One byte of each class that the patterns can tell apart: what they name, and what is beside it.
fn alphabet(patterns: &[String]) -> Vec<u8> {
    let named = patterns
        .iter()
        .flat_map(|pattern| pattern.bytes())
        .chain(*b"\n\0\xff");
    let beside = named.flat_map(|byte| [byte.saturating_sub(1), byte, byte.saturating_add(1)]);
    beside.collect::<BTreeSet<_>>().into_iter().collect()
}
