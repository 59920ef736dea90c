//! A page that says where something is names files and folders that exist.
//!
//! Looked at are ARCHITECTURE and the ordering rules. A path stands
//! between backquotes, whole, from the root of the project: `proxy/src/order.rs`.

use std::collections::BTreeSet;

use super::Fault;

const PAGES: [&str; 2] = ["ARCHITECTURE.md", super::rules::PAGE];

/// What such a page names and what is not there. `paths` are the project's files.
pub(super) fn check(path: &str, text: &str, paths: &BTreeSet<&str>) -> Vec<Fault> {
    if !PAGES.contains(&path) {
        return Vec::new();
    }
    let lines = text.lines().enumerate();
    let spans =
        lines.flat_map(|(at, line)| line.split('`').skip(1).step_by(2).map(move |s| (at, s)));
    spans
        .filter(|(_, span)| is_path(span) && !exists(span, paths))
        .map(|(at, span)| Fault {
            place: format!("{path}:{}", at + 1),
            what: format!("there is no `{span}`"),
        })
        .collect()
}

/// Whether a span is meant for a path: `/metrics`, `Order::Native` and `cargo xtask` are not.
fn is_path(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let looks_so = span.contains('/') || [".rs", ".md"].iter().any(|end| span.ends_with(end));
    looks_so && !span.starts_with('/') && span.chars().all(plain)
}

fn exists(path: &str, paths: &BTreeSet<&str>) -> bool {
    let path = path.trim_end_matches('/');
    let folder = format!("{path}/");
    let mut from_there = paths.range(path..);
    from_there
        .next()
        .is_some_and(|first| *first == path || first.starts_with(&folder))
        || paths
            .range(folder.as_str()..)
            .next()
            .is_some_and(|first| first.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(page: &str, text: &str, expected: &[&str]) {
        let paths = BTreeSet::from(["a/src.md", "a/src/b.rs", "a/src/c/d.rs"]);
        let faults = super::check(page, text, &paths);
        let faults: Vec<_> = faults.iter().map(Fault::to_string).collect();
        assert_eq!(faults, expected);
    }

    #[test]
    fn paths_exist() {
        for good in [
            "`a/src/b.rs`, `a/src` and `a/src/c/`",
            "`a/src.md`",
            "`/metrics`, `Order::Native`, `cargo a/b`, `a/<call>.rs`, b.rs",
        ] {
            check("ARCHITECTURE.md", good, &[]);
        }
        for bad in ["a/src/e.rs", "b.rs", "a/sr", "a/src/c/d"] {
            let says = format!("ARCHITECTURE.md:2: there is no `{bad}`");
            check(
                "ARCHITECTURE.md",
                &format!("# Title\n| x | `{bad}` |"),
                &[&says],
            );
        }
        check("README.md", "`b.rs`", &[]);
    }
}
