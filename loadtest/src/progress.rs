//! One line that says how far a run is, where somebody looks at it.

use std::io::{IsTerminal as _, Write as _, stderr};

/// The width of the bar.
const WIDTH: usize = 24;

/// The line.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    done: usize,
    all: usize,
}

impl Progress {
    pub(crate) fn new(all: usize) -> Self {
        Self {
            shown: stderr().is_terminal(),
            done: 0,
            all,
        }
    }

    /// Says what comes next; what came before is done.
    pub(crate) fn next(&mut self, what: &str) {
        if self.shown {
            let line = bar(self.done, self.all);
            // Nothing depends on it.
            drop(write!(stderr(), "\r\x1b[K{line} {what}"));
        }
        self.done += 1;
    }

    /// Takes the line away.
    pub(crate) fn finish(&self) {
        if self.shown {
            drop(write!(stderr(), "\r\x1b[K"));
        }
    }
}

fn bar(done: usize, all: usize) -> String {
    let filled = (done * WIDTH).checked_div(all).unwrap_or(WIDTH);
    let rest = WIDTH.saturating_sub(filled);
    format!("[{}{}] {done}/{all}", "#".repeat(filled), "-".repeat(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        assert_eq!(bar(0, 2), "[------------------------] 0/2");
        assert_eq!(bar(1, 2), "[############------------] 1/2");
        assert_eq!(bar(2, 2), "[########################] 2/2");
    }
}
