//! A link of a page leads to a file of the repository, and to a heading that this file has.

use std::{collections::BTreeMap, path::Path};

use super::Fault;

/// The links of every page that lead nowhere. `texts` has each file of the repository by its path.
pub(super) fn check(texts: &[(String, String)]) -> Vec<Fault> {
    let paths: Vec<_> = texts.iter().map(|(path, _)| path.as_str()).collect();
    let pages: BTreeMap<&str, &str> = texts
        .iter()
        .filter(|(path, _)| is_page(path))
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let mut faults = Vec::new();
    for (path, text) in &pages {
        for (at, line) in text.lines().enumerate() {
            let dead =
                targets(line).filter(|target| !leads_somewhere(path, target, &pages, &paths));
            faults.extend(dead.map(|target| Fault {
                place: format!("{path}:{}", at + 1),
                what: format!("the link {target} leads nowhere"),
            }));
        }
    }
    faults
}

fn is_page(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|it| it == "md")
}

/// What stands between `](` and `)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

fn leads_somewhere(page: &str, target: &str, pages: &BTreeMap<&str, &str>, paths: &[&str]) -> bool {
    if target.contains("://") {
        return true;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let file = match file {
        "" => page.to_owned(),
        _ => joined(page, file),
    };
    let folder = format!("{file}/");
    let exists = |path: &&str| **path == file || path.starts_with(&folder);
    let has_heading = || {
        let text = pages.get(file.as_str()).copied().unwrap_or_default();
        headings(text).any(|slug| slug == heading)
    };
    paths.iter().any(exists) && (heading.is_empty() || has_heading())
}

/// A path relative to the folder of a page, from the root of the repository.
fn joined(page: &str, relative: &str) -> String {
    let mut parts: Vec<_> = page.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors that GitHub makes of a page's headings.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    lines.map(|line| {
        let kept = line.trim_start_matches('#').trim().chars();
        let kept = kept.filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_a_file_and_a_heading() {
        let page = "[a](b.md) [b](../c/d.md#with-one-store-s) [c](#here)\n[d](e.md)\n\
                    [e](../c/d.md#gone) [f](https://x/y) [g](../c)\n# Here\n";
        let texts = [
            ("docs/a.md", page),
            ("docs/b.md", ""),
            ("c/d.md", "## With \"one\" `store`-s\n"),
        ];
        let texts = texts.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let faults: Vec<_> = check(&texts).iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "docs/a.md:2: the link e.md leads nowhere",
                "docs/a.md:3: the link ../c/d.md#gone leads nowhere",
            ]
        );
    }
}
