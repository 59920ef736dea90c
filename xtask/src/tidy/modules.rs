//! The modules of `proxy/` stand on each other: no arrow runs up, so none runs in a circle.
//!
//! An arrow is a path that begins at the crate's root, `crate::order::Cut` or `super::order::Cut` in a
//! file at the top, in a `use` or anywhere else. `crate::Instance`, which the root hands out, counts as
//! its module. Tests may use everything.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Fault,
    blank::{blank, without_tests},
};

/// From the ground up: a module may use those before it.
const ORDER: [&str; 24] = [
    // Who calls, and what is seen of it.
    "caller",
    "telemetry",
    // What everything says: ids and counts.
    "identity",
    "metrics",
    "gauges",
    // What a request works with, and where it comes from.
    "topology_file",
    "watched_files",
    "workers",
    "listen",
    "order",
    "environment",
    "stores",
    "snapshot",
    // The one door of errors.
    "failure",
    // What answers.
    "feeds",
    "runtime",
    "services",
    // The first change and all that follow.
    "bringup",
    "instance",
    // The edge.
    "stack",
    "admin",
    // The program.
    "transfer",
    "app",
    "cli",
];

const SOURCE: &str = "proxy/src/";
const ROOT: &str = "lib.rs";

/// The arrows between the modules: from, to, and a file that draws it.
type Arrows = BTreeMap<(String, String), String>;

/// What is wrong with the arrows in these files, which are paths and texts of the whole project.
pub(super) fn check(texts: &[(String, String)]) -> Vec<Fault> {
    faults(texts, &ORDER)
}

fn faults(texts: &[(String, String)], order: &[&str]) -> Vec<Fault> {
    let files = texts.iter().filter_map(|(path, text)| {
        let below = path.strip_prefix(SOURCE)?;
        (below.ends_with(".rs") && !is_test(below)).then_some((below, text))
    });
    let files: Vec<_> = files
        .map(|(below, text)| (below, without_tests(&blank(text))))
        .collect();
    let root = files.iter().find(|(below, _)| *below == ROOT);
    let handed_out = root.map(|(_, code)| handed_out(code)).unwrap_or_default();
    let mut arrows = Arrows::new();
    for (below, code) in &files {
        let module = below.split(['/', '.']).next().unwrap_or_default();
        if [ROOT, "main.rs"].contains(below) {
            continue;
        }
        for used in used(code, depth(below)) {
            let used = handed_out.get(&used).cloned().unwrap_or(used);
            if used != module {
                let arrow = (module.to_owned(), used);
                arrows.entry(arrow).or_insert(format!("{SOURCE}{below}"));
            }
        }
    }
    let place = |module: &str| order.iter().position(|one| *one == module);
    let judge = |((from, to), file): (&(String, String), &String)| {
        let what = match (place(from), place(to)) {
            (Some(above), Some(below)) if below < above => return None,
            (Some(_), Some(_)) => format!("`{from}` may not use `{to}`, which stands above it"),
            (None, _) => format!("`{from}` has no place in the order of tidy/modules.rs"),
            (_, None) => format!("`{to}` has no place in the order of tidy/modules.rs"),
        };
        let place = file.clone();
        Some(Fault { place, what })
    };
    arrows.iter().filter_map(judge).collect()
}

fn is_test(below: &str) -> bool {
    below.split('/').any(|part| part.starts_with("tests"))
}

/// How many modules a file is below the root.
fn depth(below: &str) -> usize {
    below.split('/').count()
}

/// What the root hands out, by its name: whose it is.
fn handed_out(root: &str) -> BTreeMap<String, String> {
    let items = root.split("pub use ").skip(1);
    let items = items.filter_map(|rest| rest.split(';').next()?.split_once("::"));
    let of = |(module, names): (&str, &str)| {
        let names = words(names).map(str::to_owned);
        let module = module.trim().to_owned();
        names
            .map(move |name| (name, module.clone()))
            .collect::<Vec<_>>()
    };
    items.flat_map(of).collect()
}

/// The names at the root that blanked code uses.
fn used(code: &str, depth: usize) -> BTreeSet<String> {
    let up = "super::".repeat(depth);
    let mut found = BTreeSet::new();
    for prefix in ["crate::", &up] {
        for (at, _) in code.match_indices(prefix) {
            let before = code.get(..at).unwrap_or_default();
            let is_longer = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if is_longer || before.ends_with("::") {
                continue;
            }
            found.extend(heads(code.get(at + prefix.len()..).unwrap_or_default()));
        }
    }
    found
}

/// The first name of each path: of `order::Cut`, or of all that stand in `{order::Cut, stores}`.
fn heads(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return words(path).take(1).map(str::to_owned).collect();
    };
    let mut depth = 1;
    let end = group.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    });
    let group = group.get(..end.unwrap_or(group.len())).unwrap_or_default();
    let mut depth = 0;
    let mut paths = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let mut heads = Vec::new();
    for path in &mut paths {
        heads.extend(words(path).next().map(str::to_owned));
    }
    heads
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: [&str; 3] = ["ground", "middle", "top"];

    #[track_caller]
    fn check(file: &str, text: &str, expected: &[&str]) {
        let root = "mod ground;\npub use top::{Top, Hat as Cap};\npub use ground::Floor;";
        let files = [("proxy/src/lib.rs", root), (file, text)];
        let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let faults = faults(&files, &ORDER);
        let faults: Vec<_> = faults.iter().map(Fault::to_string).collect();
        assert_eq!(faults, expected);
    }

    #[test]
    fn arrows_run_down() {
        for good in [
            "use crate::{ground::{a, b}, middle};",
            "use crate::ground;\nuse other_crate::top;",
            "use crate::Floor;",
            "fn f() { super::ground::g() }",
            "use crate::top::c;",
        ] {
            check("proxy/src/top.rs", good, &[]);
        }
        check("proxy/src/main.rs", "use crate::top;", &[]);
        check("other/src/ground.rs", "use crate::top;", &[]);
    }

    #[test]
    fn an_arrow_that_runs_up_is_a_fault() {
        let says = "proxy/src/middle.rs: `middle` may not use `top`, which stands above it";
        for bad in [
            "use crate::top;",
            "use crate::{ground::{a, b}, top::{c, d}};",
            "use crate::{\n    ground,\n    top,\n};",
            "use crate::Top;",
            "fn f() { crate::top::g() }",
            "use super::top;",
        ] {
            check("proxy/src/middle.rs", bad, &[says]);
        }
        let says = "proxy/src/middle/a.rs: `middle` may not use `top`, which stands above it";
        check("proxy/src/middle/a.rs", "use super::super::top;", &[says]);
    }

    #[test]
    fn these_are_no_arrows() {
        check("proxy/src/middle/a.rs", "use super::top;", &[]);
        check("proxy/src/middle.rs", "// crate::top", &[]);
        check("proxy/src/middle.rs", "use other_crate::top;", &[]);
        check("proxy/src/middle/tests.rs", "use crate::top;", &[]);
        let tests = "#[cfg(test)]\nmod tests {\n    use crate::top;\n}\n";
        check("proxy/src/middle.rs", tests, &[]);
        check(
            "proxy/src/middle.rs",
            "#[cfg(test)]\nuse crate::top;\n",
            &[],
        );
    }

    #[test]
    fn every_module_has_a_place() {
        let says = "`attic` has no place in the order of tidy/modules.rs";
        let path = "proxy/src/attic.rs";
        check(path, "use crate::ground;", &[&format!("{path}: {says}")]);
        let path = "proxy/src/top.rs";
        check(path, "use crate::attic;", &[&format!("{path}: {says}")]);
    }
}
