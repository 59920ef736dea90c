//! The ordering rules are cited by their numbers, and a number that is cited exists.
//!
//! The rules are the headings of `ledger/RULES.md`. A citation is the word "rule" or "rules" and what
//! numbers follow it ("rule 3", "rules 2 to 8", "rules 1, 2 and 5"), in code, models and pages.

use std::collections::BTreeSet;

use super::Fault;

/// The page of the rules.
pub(super) const PAGE: &str = "ledger/RULES.md";

const HEADING: &str = "## Rule ";

/// The numbers that the page has; a fault for one that comes twice or leaves a gap.
pub(super) fn read(page: &str) -> (BTreeSet<u32>, Vec<Fault>) {
    let mut numbers = BTreeSet::new();
    let mut faults = Vec::new();
    for (at, line) in page.lines().enumerate() {
        let Some(heading) = line.strip_prefix(HEADING) else {
            continue;
        };
        let number = heading
            .split(':')
            .next()
            .and_then(|number| number.parse().ok());
        let expected = numbers.last().map_or(1, |last| last + 1);
        if number == Some(expected) {
            numbers.insert(expected);
        } else {
            faults.push(Fault {
                place: format!("{PAGE}:{}", at + 1),
                what: format!("this heading is not `{HEADING}{expected}: …`"),
            });
        }
    }
    (numbers, faults)
}

/// What a file cites that does not exist.
pub(super) fn check(path: &str, text: &str, rules: &BTreeSet<u32>) -> Vec<Fault> {
    // Its own tests cite what does not exist.
    let looked_at = [".rs", ".md"].iter().any(|end| path.ends_with(end));
    if !looked_at || path == "xtask/src/tidy/rules.rs" {
        return Vec::new();
    }
    let lines = text.lines().enumerate();
    let cited = lines.flat_map(|(at, line)| cited(line).into_iter().map(move |n| (at, n)));
    cited
        .filter(|(_, number)| !rules.contains(number))
        .map(|(at, number)| Fault {
            place: format!("{path}:{}", at + 1),
            what: format!("cites rule {number}, which {PAGE} does not have"),
        })
        .collect()
}

/// The numbers behind each word "rule" of a line.
fn cited(line: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut follows = false;
    for word in line.split_whitespace() {
        // `rule(2)` is a call.
        let word = word.trim_start_matches(|c: char| c.is_ascii_punctuation());
        let number = word.trim_end_matches(|c: char| c.is_ascii_punctuation());
        match number.parse() {
            Ok(number) if follows => numbers.push(number),
            _ => {
                let rule = ["rule", "rules", "Rule", "Rules"].contains(&word);
                follows = rule || follows && ["to", "and", "or"].contains(&word);
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_OF_TWO: &str = "# Rules\n## Rule 1: a\ntext\n## Rule 2: b\n";

    #[test]
    fn the_page_counts_without_a_gap() {
        assert_eq!(read(PAGE_OF_TWO), (BTreeSet::from([1, 2]), Vec::new()));
        for bad in ["## Rule 2: a", "## Rule 1: a\n## Rule 1: b", "## Rule one"] {
            assert_eq!(read(bad).1.len(), 1, "{bad}");
        }
    }

    #[test]
    fn what_is_cited_exists() {
        let rules = BTreeSet::from([1, 2]);
        for good in [
            "/// Rule 2: why.",
            "rules 1 and 2 hold; 3 of 4 stores",
            "(rule 1).",
            "one rule for 7 things",
            "rule(7, HEADER)",
        ] {
            assert_eq!(check("a.rs", good, &rules), [], "{good}");
        }
        for bad in [
            "rule 3",
            "(rules 1, 3)",
            "Rule 3: x",
            "rules 1 to 3.",
            "`rule 9`",
        ] {
            assert_eq!(check("a.md", bad, &rules).len(), 1, "{bad}");
        }
        assert_eq!(check("a.sh", "rule 3", &rules), []);
    }
}
