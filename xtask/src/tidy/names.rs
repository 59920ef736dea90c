//! One word has one meaning: no two modules of a crate declare a type of one name.
//!
//! Counted are structs, enums, traits and type aliases. Tests, generated code and the associated types
//! of traits are not. A program below `src/bin` is a crate of its own.

use std::collections::BTreeMap;

use super::{
    Fault,
    blank::{blank, without_tests},
};

/// Every type of the project: by crate and name, where it is declared.
#[derive(Debug, Default)]
pub(super) struct Types {
    types: BTreeMap<(String, String), Vec<String>>,
}

// === impl Types ===

impl Types {
    /// Takes the types that a file declares.
    pub(super) fn read(&mut self, path: &str, text: &str) {
        let Some(room) = room(path) else {
            return;
        };
        let code = without_tests(&blank(text));
        for name in code.lines().filter_map(declares) {
            let places = self.types.entry((room.clone(), name)).or_default();
            if places.iter().all(|place| place != path) {
                places.push(path.to_owned());
            }
        }
    }

    /// The names that mean several things.
    pub(super) fn check(&self) -> Vec<Fault> {
        let several = self.types.iter().filter(|(_, places)| places.len() > 1);
        let several = several.map(|((room, name), places)| Fault {
            place: room.clone(),
            what: format!("several types are called {name}: {}", places.join(", ")),
        });
        several.collect()
    }
}

/// The crate that a file of code, not of tests, belongs to.
fn room(path: &str) -> Option<String> {
    let (room, below) = path.strip_suffix(".rs")?.split_once("/src/")?;
    let parts: Vec<_> = below.split('/').collect();
    if parts
        .iter()
        .any(|part| ["tests", "generated"].contains(part))
        || room == "tests"
    {
        return None;
    }
    Some(match parts.as_slice() {
        ["bin", program, ..] => format!("{room}/{program}"),
        _ => room.to_owned(),
    })
}

/// The type that a line declares. An alias counts at the left margin: elsewhere it is a trait's.
fn declares(line: &str) -> Option<String> {
    let at_margin = !line.starts_with(' ');
    let mut words = line.split_whitespace();
    let mut word = words.next()?;
    if word.starts_with("pub") {
        // `pub(in crate::order)` is two words.
        word = match word.starts_with("pub(") && !word.ends_with(')') {
            true => words.find(|word| word.ends_with(')')).and(words.next())?,
            false => words.next()?,
        };
    }
    let counts = match word {
        "struct" | "enum" | "trait" | "union" => true,
        "type" => at_margin,
        _ => false,
    };
    if !counts {
        return None;
    }
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
    Some(name.get(..end.unwrap_or(name.len()))?.to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let mut types = Types::default();
        for (path, text) in files {
            types.read(path, text);
        }
        let faults: Vec<_> = types.check().iter().map(Fault::to_string).collect();
        assert_eq!(faults, expected);
    }

    #[test]
    fn two_modules_declare_one_name() {
        let says = "a: several types are called Plan: a/src/b.rs, a/src/c/d.rs";
        for second in [
            "pub struct Plan<T>(T);",
            "    enum Plan {",
            "pub(in crate::c) trait Plan: Sized {",
            "pub(crate) type Plan = u8;",
        ] {
            let files = [("a/src/b.rs", "struct Plan;"), ("a/src/c/d.rs", second)];
            check(&files, &[says]);
        }
    }

    #[test]
    fn these_do_not_count() {
        for (path, text) in [
            ("b/src/c.rs", "struct Plan;"),
            ("a/src/tests/c.rs", "struct Plan;"),
            ("a/src/c/tests.rs", "struct Plan;"),
            ("a/tests/c.rs", "struct Plan;"),
            ("a/src/generated/c.rs", "struct Plan;"),
            ("a/src/bin/c.rs", "struct Plan;"),
            ("a/src/b.rs", "struct Plan;"),
            ("a/src/c.rs", "    type Plan = u8;"),
            ("a/src/c.rs", "// struct Plan;"),
            (
                "a/src/c.rs",
                "#[cfg(test)]\nmod tests {\n    struct Plan;\n}",
            ),
            ("a/src/c.rs", "struct Planned;"),
        ] {
            check(&[("a/src/b.rs", "struct Plan;"), (path, text)], &[]);
        }
        let behind = "#[cfg(test)]\nmod tests;\nstruct Plan;";
        let says = "a: several types are called Plan: a/src/b.rs, a/src/c.rs";
        let files = [("a/src/b.rs", "struct Plan;"), ("a/src/c.rs", behind)];
        check(&files, &[says]);
    }
}
