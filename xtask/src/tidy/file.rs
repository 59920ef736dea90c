//! The rules that one file keeps or breaks by itself.

use super::{Fault, blank::blank};

/// Without a trailing `#[cfg(test)]` module.
const LONGEST: usize = 600;

/// What is never committed, in code.
const UNFINISHED: [&str; 4] = ["todo!", "unimplemented!", "#[ignore", "thread::sleep"];

/// The folders of one machine, which mean nothing on another. Written apart, because this rule
/// looks into strings, these ones too.
const MACHINE: [&str; 3] = [
    concat!("/", "work/"),
    concat!("/", "root/"),
    concat!("/", "farm"),
];

pub(super) fn check(path: &str, text: &str) -> Vec<Fault> {
    let mut faults = machine_paths(path, text);
    if path.ends_with(".rs") && !path.contains("/generated/") {
        let code = blank(text);
        faults.extend(purpose(path, text));
        faults.extend(length(path, text));
        faults.extend(unfinished(path, &code));
        faults.extend(silenced(path, &code));
        faults.extend(seam(path, &code));
    }
    faults
}

/// The core of the SQL store knows no dialect: another one is to be a folder beside the first.
/// `lib.rs` names what it hands out; tests need some database.
fn seam(path: &str, code: &str) -> Vec<Fault> {
    let Some(inside) = path.strip_prefix("sqlstore/src/") else {
        return Vec::new();
    };
    let may = ["lib.rs", "dialect.rs"].contains(&inside)
        || inside.starts_with("dialect/")
        || inside.ends_with("tests.rs");
    let words = ["dialect::", "rusqlite", "Sqlite"];
    let found = words.iter().filter(|_| !may).flat_map(|word| {
        code.match_indices(word).map(move |(at, _)| {
            let what = format!("`{word}` in the core, which is for any dialect");
            at_line(path, code, at, what)
        })
    });
    found.collect()
}

fn purpose(path: &str, text: &str) -> Option<Fault> {
    let what = "begins without a `//!` line that says what the file is for";
    (!text.starts_with("//!")).then(|| Fault {
        place: path.to_owned(),
        what: what.to_owned(),
    })
}

fn length(path: &str, text: &str) -> Option<Fault> {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines
        .iter()
        .position(|line| *line == "#[cfg(test)]")
        .filter(|at| lines.get(at + 1..).is_some_and(is_trailing_module));
    let length = tests.unwrap_or(lines.len());
    (length > LONGEST).then(|| Fault {
        place: path.to_owned(),
        what: format!("has {length} lines, more than {LONGEST}"),
    })
}

/// Whether the lines are one module and nothing after it.
fn is_trailing_module(lines: &[&str]) -> bool {
    let mut lines = lines.iter().skip_while(|line| line.starts_with("#["));
    let opens = lines
        .next()
        .is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'));
    opens && lines.find(|line| **line == "}").is_some() && lines.all(|line| line.is_empty())
}

fn unfinished(path: &str, code: &str) -> Vec<Fault> {
    let found = UNFINISHED.iter().flat_map(|word| {
        code.match_indices(word)
            .map(move |(at, _)| at_line(path, code, at, format!("`{word}`")))
    });
    found.collect()
}

fn silenced(path: &str, code: &str) -> Vec<Fault> {
    let attributes = code
        .match_indices('#')
        .filter_map(|(at, _)| Some((at, attribute(code, at)?)));
    attributes
        .filter(|(_, text)| {
            ["allow(", "expect("]
                .iter()
                .any(|level| text.contains(level))
        })
        .filter(|(_, text)| !text.contains("reason ="))
        .map(|(at, text)| at_line(path, code, at, format!("`{text}` without a reason")))
        .collect()
}

/// The attribute that begins at a `#`, up to the bracket that closes it.
fn attribute(code: &str, at: usize) -> Option<&str> {
    let text = code.get(at..)?;
    let inside = text
        .strip_prefix("#[")
        .or_else(|| text.strip_prefix("#!["))?;
    let mut depth = 1_u32;
    let end = inside.find(|character| {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    text.get(..text.len() - inside.len() + end + 1)
}

fn machine_paths(path: &str, text: &str) -> Vec<Fault> {
    // `a/work/b` and `$HOME/work/` begin elsewhere.
    let begins = |at: usize| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.~})*".contains(c))
    };
    let found = MACHINE.iter().flat_map(|folder| {
        text.match_indices(folder)
            .filter(|(at, _)| begins(*at))
            .map(move |(at, _)| {
                at_line(path, text, at, format!("`{folder}`: a path of one machine"))
            })
    });
    found.collect()
}

fn at_line(path: &str, text: &str, at: usize, what: String) -> Fault {
    let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    Fault {
        place: format!("{path}:{line}"),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a file of that content below its first, right line.
    fn faults(rest: &str) -> Vec<String> {
        let found = check("a/src/b.rs", &format!("//! What it is for.\n{rest}"));
        found.iter().map(ToString::to_string).collect()
    }

    const CLEAN: [&str; 0] = [];

    #[test]
    fn a_clean_file() {
        assert_eq!(faults("fn main() {}\n"), CLEAN);
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        let found = check("a.rs", "fn main() {}\n");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].to_string().starts_with("a.rs: begins without"),
            "{found:?}"
        );
        assert_eq!(check("a/src/generated/b.rs", "fn main() {}\n"), []);
        assert_eq!(check("a.md", "text\n"), []);
    }

    #[test]
    fn a_file_is_not_long() {
        let lines = "// A line.\n".repeat(LONGEST);
        assert_eq!(faults(&lines), ["a/src/b.rs: has 601 lines, more than 600"]);
        assert_eq!(faults(lines.split_once('\n').unwrap().1), CLEAN);
        assert_eq!(check("a/src/generated/b.rs", &lines), []);
    }

    #[test]
    fn only_a_trailing_test_module_does_not_count() {
        let lines = "    // A line.\n".repeat(LONGEST);
        assert_eq!(
            faults(&format!("#[cfg(test)]\nmod tests {{\n{lines}}}\n")),
            CLEAN
        );
        assert_eq!(
            faults(&format!(
                "#[cfg(test)]\n#[rustfmt::skip]\nmod tests {{\n{lines}}}\n"
            )),
            CLEAN
        );
        let more = format!("#[cfg(test)]\nmod tests {{\n{lines}}}\nfn more() {{}}\n");
        assert_eq!(faults(&more), ["a/src/b.rs: has 605 lines, more than 600"]);
        let elsewhere = format!("#[cfg(test)]\nmod tests;\nfn more() {{\n{lines}}}\n");
        assert_eq!(
            faults(&elsewhere),
            ["a/src/b.rs: has 605 lines, more than 600"]
        );
    }

    #[test]
    fn nothing_is_unfinished() {
        assert_eq!(faults("fn f() { todo!() }"), ["a/src/b.rs:2: `todo!`"]);
        assert_eq!(
            faults("fn f() { unimplemented!() }"),
            ["a/src/b.rs:2: `unimplemented!`"]
        );
        assert_eq!(
            faults("\n#[ignore = \"slow\"]"),
            ["a/src/b.rs:3: `#[ignore`"]
        );
        assert_eq!(
            faults("use std::thread::sleep;"),
            ["a/src/b.rs:2: `thread::sleep`"]
        );
        assert_eq!(
            faults("// No todo! here.\nconst WORD: &str = \"todo!\";"),
            CLEAN
        );
    }

    #[test]
    fn silence_has_a_reason() {
        assert_eq!(
            faults("#[allow(dead_code)]"),
            ["a/src/b.rs:2: `#[allow(dead_code)]` without a reason"]
        );
        assert_eq!(
            faults("#![expect(dead_code)]"),
            ["a/src/b.rs:2: `#![expect(dead_code)]` without a reason"]
        );
        assert_eq!(faults("#[cfg_attr(test, allow(dead_code))]").len(), 1);
        assert_eq!(
            faults("#[allow(dead_code)]\n#[expect(x, reason = \"why\")]").len(),
            1
        );
        assert_eq!(
            faults("#[allow(\n    dead_code,\n    reason = \"a ] b\"\n)]"),
            CLEAN
        );
        assert_eq!(
            faults("#[derive(Debug)]\nstruct A([u8; 2]);\nfn f() { a.expect(\"b\"); }"),
            CLEAN
        );
    }

    #[test]
    fn the_core_of_the_sql_store_knows_no_dialect() {
        let text = "//! A.\nuse crate::dialect::sqlite::Connect; // Sqlite\n";
        let found = check("sqlstore/src/shared.rs", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].place, "sqlstore/src/shared.rs:2");
        for path in [
            "sqlstore/src/dialect/sqlite.rs",
            "sqlstore/src/lib.rs",
            "a.rs",
        ] {
            assert_eq!(check(path, text), []);
        }
    }

    #[test]
    fn no_path_belongs_to_one_machine() {
        for folder in MACHINE {
            let found = check("a.toml", &format!("\npath = \"{folder}x\"\n"));
            assert_eq!(found.len(), 1, "{folder}");
            assert_eq!(found[0].place, "a.toml:2");
            assert_eq!(
                check("a/src/generated/b.rs", &format!("// {folder}x")).len(),
                1
            );
            assert_eq!(check("a.toml", &format!("path = \"here{folder}x\"\n")), []);
        }
    }
}
