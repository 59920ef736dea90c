//! Claims against every subject of up to four letters.

use regex_automata::meta::Regex;

use super::*;

const LETTERS: &[u8] = b"\0/ab\xff";
const PATTERNS: [&str; 16] = [
    "^a",
    "^a$",
    "^(a|b/)",
    "a",
    "a$",
    "^a*b",
    "^[ab]*/$",
    "^[ab]+/a",
    "",
    "$",
    "^$",
    "^a.b",
    "^(aa|ab|bb)$",
    "b/|^a/",
    "^a[^/]*$",
    "[^a]$",
];

fn subjects(longest: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..longest {
        let longer = last
            .iter()
            .flat_map(|s| LETTERS.iter().map(move |l| [s, &[*l][..]].concat()));
        last = longer.collect();
        all.extend(last.clone());
    }
    all
}

fn check(pattern: &str, automaton: &Automaton, subjects: &[(Vec<u8>, bool)], range: &KeyRange) {
    let claim = automaton.claim(range);
    let ordered = claim.pieces.windows(2).all(|two| {
        two[0]
            .range
            .end
            .as_ref()
            .is_some_and(|end| *end <= two[1].range.start)
    });
    assert!(ordered, "{pattern} {range:?}: {claim:?}");
    for piece in &claim.pieces {
        assert!(
            !piece.range.is_empty() && range.covers(&piece.range),
            "{pattern} {range:?}: {claim:?}"
        );
    }
    for (subject, matches) in subjects
        .iter()
        .filter(|(subject, _)| range.contains(subject))
    {
        let piece = claim
            .pieces
            .iter()
            .find(|piece| piece.range.contains(subject));
        let agrees = match piece {
            Some(piece) => *matches || !piece.exact,
            None => !*matches,
        };
        assert!(agrees, "{pattern} {range:?} {subject:?}: {claim:?}");
    }
}

#[test]
fn a_claim_holds_what_matches_and_exact_pieces_nothing_else() {
    let subjects = subjects(4);
    let bounds: Vec<_> = subjects.iter().filter(|s| s.len() < 3).collect();
    for pattern in PATTERNS {
        let automaton = Automaton::new(pattern).unwrap();
        let regex = Regex::builder()
            .syntax(super::super::syntax())
            .build(pattern)
            .unwrap();
        let routed = subjects.iter().map(|s| (s.clone(), regex.is_match(s)));
        let routed: Vec<_> = routed.collect();
        for start in &bounds {
            for end in bounds.iter().map(Some).chain([None]) {
                let range = KeyRange {
                    start: Bytes::copy_from_slice(start),
                    end: end.map(|end| Bytes::copy_from_slice(end)),
                };
                if !range.is_empty() {
                    check(pattern, &automaton, &routed, &range);
                }
            }
        }
    }
}

fn claim(pattern: &str, start: &'static str, end: &'static str) -> Vec<(String, String, bool)> {
    let range = KeyRange {
        start: Bytes::from(start),
        end: Some(Bytes::from(end)),
    };
    let pieces = Automaton::new(pattern).unwrap().claim(&range).pieces;
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    pieces
        .iter()
        .map(|p| {
            (
                text(&p.range.start),
                p.range.end.as_ref().map(text).unwrap_or_default(),
                p.exact,
            )
        })
        .collect()
}

#[test]
fn ranges_that_an_expression_cannot_touch_are_known() {
    assert_eq!(claim("^(roles|clusterroles)/", "pods/", "pods0"), []);
    assert_eq!(claim("^[a-z]+/team-a/", "pods/", "pods/team-a/"), []);
    let some = ("pods/team-a/".to_owned(), "pods/team-a0".to_owned(), true);
    assert_eq!(claim("^[a-z]+/team-a/", "pods/", "pods0"), [some]);
    let hull = ("pods/a-".to_owned(), "pods/a.".to_owned(), false);
    assert_eq!(
        claim("^pods/a-[a-z]*/x", "pods/", "pods0")
            .first()
            .map(|p| p.2),
        Some(false)
    );
    assert!(claim("^pods/a-[a-z]*/x", "pods/", "pods0")[0].0 >= hull.0);
    assert!(claim("^pods/a-[a-z]*/x", "pods/", "pods0")[0].1 <= hull.1);
}

#[test]
fn long_bounds_are_cut_and_the_answer_is_wider() {
    let long = [&b"a"[..], &[b'a'; 3 * LONGEST_BOUND]].concat();
    let range = KeyRange {
        start: Bytes::from(long.clone()),
        end: Some(Bytes::from([&long[..], b"b"].concat())),
    };
    let claim = Automaton::new("^a+$").unwrap().claim(&range);
    assert!(claim.pieces.iter().any(|piece| piece.range.contains(&long)));
    assert!(claim.pieces.iter().all(|piece| !piece.exact));
}
