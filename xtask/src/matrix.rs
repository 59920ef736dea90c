//! Runs the fault matrix and writes down what came of each cell.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    e2e::{self, ALL},
    steps::Steps,
};

/// What stands before the table and is written by hand.
const BEGIN: &str = "<!-- the table of `cargo xtask matrix` begins -->\n";
const END: &str = "<!-- the table of `cargo xtask matrix` ends -->\n";

const HEAD: &str = "\
| what happens | call during it | answered during it | errors during it | s to the first answer after it | checked in all | events lost |
|---|---|---|---|---|---|---|
";

#[expect(clippy::disallowed_methods, reason = "a chore has no simulated clock")]
pub(crate) fn run(root: &Path, steps: &mut Steps) {
    let begun = Instant::now();
    if let Some(rows) = e2e::matrix(root, steps, ALL) {
        steps.run("matrix: its page", || write(root, &rows, begun.elapsed()));
    }
}

fn write(root: &Path, rows: &Path, took: Duration) -> Result<()> {
    let page = root.join("docs/contributing/fault-matrix.md");
    let old = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let mut table = Vec::new();
    for row in fs::read_dir(rows)? {
        table.push(fs::read_to_string(row?.path())?);
    }
    table.sort_unstable();
    let cells = table.len();
    let took = format!(
        "{cells} cells, {} s with their building.\n\n",
        took.as_secs()
    );
    let new = replaced(&old, &format!("{took}{HEAD}{}", table.concat()))?;
    fs::write(&page, new).with_context(|| page.display().to_string())
}

/// The page with another table.
fn replaced(page: &str, table: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("where the table begins")?;
    let (_, after) = rest.split_once(END).context("where the table ends")?;
    ensure!(!after.contains(BEGIN), "two tables");
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_is_replaced() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let new = replaced(&page, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}new\n{END}after\n"));
        replaced("no table", "new").unwrap_err();
    }
}
