//! The house rules that no compiler checks: `cargo xtask tidy`.
//!
//! | rule | file |
//! |---|---|
//! | what one file keeps or breaks by itself | `tidy/file.rs` |
//! | which room may use which | `tidy/rooms.rs` |
//! | what the pure rooms link | `tidy/pure.rs` |
//! | the proxy's modules stand on each other | `tidy/modules.rs` |
//! | the name of a type means one thing | `tidy/names.rs` |
//! | a page names tests that exist | `tidy/promises.rs` |
//! | ARCHITECTURE names files that exist | `tidy/paths.rs` |
//! | a link of a page leads somewhere | `tidy/links.rs` |
//! | an ordering rule that is cited exists | `tidy/rules.rs` |
//!
//! Each is a pure function from text to faults, and its tests plant each fault once.

use std::{fmt, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::process::output;

mod blank;
mod file;
mod links;
mod modules;
mod names;
mod paths;
mod promises;
mod pure;
mod rooms;
mod rules;

/// One place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// A file, with the line where one is to blame, or a room.
    place: String,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.what)
    }
}

/// Checks every file that git tracks or would track.
///
/// # Errors
/// When a rule is broken.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut faults = rooms::check(root)?;
    faults.extend(pure::check(root)?);
    let mut tests = promises::Tests::default();
    let mut types = names::Types::default();
    let mut texts = Vec::new();
    for path in listed(root)? {
        // A tracked file may have been removed and not yet committed so; a binary one is not ours.
        if let Ok(text) = fs::read_to_string(root.join(&path)) {
            faults.extend(file::check(&path, &text));
            tests.read(&path, &text);
            types.read(&path, &text);
            texts.push((path, text));
        }
    }
    faults.extend(types.check());
    faults.extend(modules::check(&texts));
    faults.extend(links::check(&texts));
    let page = fs::read_to_string(root.join(rules::PAGE)).context("reading the ordering rules")?;
    let (rules, miscounted) = rules::read(&page);
    faults.extend(miscounted);
    let paths = texts.iter().map(|(path, _)| path.as_str()).collect();
    for (path, text) in &texts {
        faults.extend(paths::check(path, text, &paths));
        faults.extend(promises::check(path, text, &tests));
        faults.extend(rules::check(path, text, &rules));
    }
    for fault in &faults {
        println!("{fault}");
    }
    ensure!(faults.is_empty(), "house rules broken: {}", faults.len());
    Ok(())
}

fn listed(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root);
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let list = output(&mut git).context("listing the files")?;
    Ok(list.split_terminator('\0').map(str::to_owned).collect())
}
