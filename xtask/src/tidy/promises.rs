//! A page that says which test shows something names tests that exist.
//!
//! Looked at are, in `docs/concepts/guarantees.md` and `docs/contributing/track-record.md`: every command `cargo test …`,
//! `cargo xtask e2e …` and `cargo xtask kubernetes …`, and in the former every name in a column
//! "shown by", which is a test's or a test program's.

use std::collections::BTreeSet;

use super::Fault;

const GUARANTEES: &str = "docs/concepts/guarantees.md";
const PAGES: [&str; 2] = [GUARANTEES, "docs/contributing/track-record.md"];
const COLUMN: &str = "shown by";

/// Every test of the project.
#[derive(Debug, Default)]
pub(super) struct Tests {
    /// By room: the path below it without `.rs`, and the test's name.
    tests: BTreeSet<(String, String, String)>,
}

// === impl Tests ===

impl Tests {
    /// Takes the tests of a file.
    pub(super) fn read(&mut self, path: &str, text: &str) {
        let Some((room, below)) = path
            .strip_suffix(".rs")
            .and_then(|path| path.split_once('/'))
        else {
            return;
        };
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[") {
                is_test |= line.contains("test]") || line.contains("test(");
                continue;
            }
            let name = line.split_once("fn ").map(|(_, rest)| rest);
            let name = name.and_then(|rest| rest.split(['(', '<']).next());
            if let Some(name) = name.filter(|_| is_test) {
                let test = (room.to_owned(), below.to_owned(), name.to_owned());
                self.tests.insert(test);
            }
            is_test &= line.is_empty() || line.starts_with("//");
        }
    }

    fn any(&self, is: impl Fn(&str, &str, &str) -> bool) -> bool {
        self.tests
            .iter()
            .any(|(room, path, name)| is(room, path, name))
    }

    /// Whether a name is a test's or a test program's.
    fn has(&self, name: &str) -> bool {
        self.any(|_, path, test| test == name || program(path) == Some(name))
    }
}

/// The test program of a file: the first name below `tests/`.
fn program(path: &str) -> Option<&str> {
    path.strip_prefix("tests/")?.split('/').next()
}

/// What a page says of tests that do not exist.
pub(super) fn check(path: &str, text: &str, tests: &Tests) -> Vec<Fault> {
    if !PAGES.contains(&path) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let mut shown_by = false;
    for (at, line) in text.lines().enumerate() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let last = cells.len().checked_sub(2).and_then(|last| cells.get(last));
        if cells.len() < 3 {
            shown_by = false;
        } else if path == GUARANTEES && cells.contains(&COLUMN) {
            shown_by = true;
        }
        let commands = spans(line).filter_map(|span| missing(span, tests));
        let names = last
            .into_iter()
            .filter(|_| shown_by)
            .flat_map(|cell| spans(cell));
        let names = names.filter(|span| is_name(span) && !tests.has(span));
        let names = names.map(|name| format!("there is no test {name}"));
        faults.extend(commands.chain(names).map(|what| Fault {
            place: format!("{path}:{}", at + 1),
            what,
        }));
    }
    faults
}

/// What stands between backquotes.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_name(span: &str) -> bool {
    span.chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Which test a command asks for in vain.
fn missing(span: &str, tests: &Tests) -> Option<String> {
    let mut words = span
        .split_whitespace()
        .skip_while(|word| *word != "cargo")
        .skip(1);
    let asked: Vec<_> = match (words.next()?, words.clone().next()) {
        ("test", _) => words.collect(),
        ("xtask", Some("e2e" | "kubernetes")) => {
            words.next();
            let mut asked = vec!["-p", "keyloom-tests"];
            asked.extend(words.take_while(|word| *word != "--"));
            asked
        }
        _ => return None,
    };
    let mut rooms = Vec::new();
    let mut only = None;
    let mut filter = "";
    let mut asked = asked.into_iter();
    while let Some(word) = asked.next() {
        match word {
            "-p" | "--package" => rooms.extend(asked.next()?.strip_prefix("keyloom-")),
            "--test" => only = asked.next(),
            "--" => break,
            option if option.starts_with('-') => {}
            // Of several, one test program each, as `cargo xtask e2e` lists them.
            word => filter = word,
        }
    }
    if rooms.is_empty() && filter.is_empty() {
        // All of them.
        return None;
    }
    // As libtest has it: the modules' names and the test's.
    let fits = |path: &str, name: &str| {
        let full = format!("{}::{name}", path.replace('/', "::"));
        only.is_none_or(|only| program(path) == Some(only)) && full.contains(filter)
    };
    let found = tests.any(|room, path, name| rooms.contains(&room) && fits(path, name));
    (!found).then(|| format!("no test answers to `{span}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests() -> Tests {
        let mut tests = Tests::default();
        let text = "#[tokio::test(start_paused = true)]\n// why\nasync fn it_holds() {}\nfn other() {}\n\
                    proptest! {\n    #[test]\n    fn always(x: u8) {}\n}\n";
        tests.read("proxy/tests/faults.rs", text);
        tests.read("tests/tests/kills.rs", "#[test]\nfn killed_often() {}\n");
        tests
    }

    #[track_caller]
    fn faults(page: &str, text: &str, expected: &[&str]) {
        let faults: Vec<_> = check(page, text, &tests())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(faults, expected);
    }

    #[test]
    fn a_command_asks_for_a_test_that_exists() {
        for good in [
            "`cargo test -p keyloom-proxy --test faults it_h`",
            "`cargo test -p keyloom-proxy`",
            "`cargo test -p keyloom-proxy faults::always`",
            "`KEYLOOM_KILLS=300 cargo xtask e2e kills -- --nocapture`",
            "`cargo xtask demo` and `cargo run -p nothing`",
        ] {
            faults("docs/contributing/track-record.md", good, &[]);
        }
        for bad in [
            "cargo test -p keyloom-proxy --test fault",
            "cargo test -p keyloom-proxy other",
            "cargo test -p keyloom-hub",
            "cargo xtask e2e it_holds",
        ] {
            let expected =
                format!("docs/contributing/track-record.md:1: no test answers to `{bad}`");
            faults(
                "docs/contributing/track-record.md",
                &format!("| `{bad}` |"),
                &[&expected],
            );
        }
        faults(
            "docs/operations/sqlite.md",
            "`cargo test -p keyloom-nobody`",
            &[],
        );
    }

    #[test]
    fn a_name_in_the_column_is_a_test_s() {
        let table = "| what | shown by |\n|---|---|\n| `prev_kv` | `it_holds`, `faults`, `killed_often` |\n";
        faults(GUARANTEES, table, &[]);
        let table = "| what | shown by |\n|---|---|\n| x | `it_held` |\n\n| `no_name` | `here` |\n";
        faults(
            GUARANTEES,
            table,
            &["docs/concepts/guarantees.md:3: there is no test it_held"],
        );
    }
}
