//! What every unified revision was told to mean, over all clients and all Keylooms.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// How many faults are kept: the first ones matter.
const KEPT: usize = 20;

/// Written by every client of a trial.
#[derive(Debug, Default)]
pub struct Book {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Revision -> the one write that has it.
    meanings: BTreeMap<i64, String>,
    /// Write -> the revisions that it was told to have.
    places: BTreeMap<String, Vec<i64>>,
    /// The highest revision that any answer has shown so far.
    shown: i64,
    wrong: Vec<String>,
}

impl Book {
    /// Somebody was told that this write has this revision.
    pub fn tell(&self, revision: i64, write: &str, by: &str) {
        let mut state = self.state.lock();
        let known = state
            .meanings
            .entry(revision)
            .or_insert_with(|| write.to_owned());
        if known != write {
            let fault = format!("{by}: revision {revision} is {known:?} and also {write:?}");
            state.fault(fault);
            return;
        }
        let places = state.places.entry(write.to_owned()).or_default();
        if !places.contains(&revision) {
            places.push(revision);
        }
    }

    /// The highest revision that was shown to anybody. Whoever asks before a call begins can hold
    /// the answer against it.
    #[must_use]
    pub fn shown(&self) -> i64 {
        self.state.lock().shown
    }

    /// A write that began when `before` had been shown was answered at this revision.
    pub fn wrote(&self, before: i64, revision: i64, what: &str) {
        let mut state = self.state.lock();
        if revision <= before {
            state.fault(format!(
                "{what}: revision {revision}, though {before} was shown before it began"
            ));
        }
        state.shown = state.shown.max(revision);
    }

    /// A read that began when `before` had been shown was answered at this revision.
    pub fn read(&self, before: i64, revision: i64, what: &str) {
        let mut state = self.state.lock();
        if revision < before {
            state.fault(format!(
                "{what}: read at {revision}, though {before} was shown before it began"
            ));
        }
        state.shown = state.shown.max(revision);
    }

    /// Something is wrong.
    pub fn fault(&self, what: String) {
        self.state.lock().fault(what);
    }

    /// Fails where something is wrong.
    pub fn must_be_right(&self) {
        let state = self.state.lock();
        assert!(
            state.wrong.is_empty(),
            "what clients saw cannot be true:\n{}",
            state.wrong.join("\n")
        );
    }

    /// How many writes had more than one revision over time.
    #[must_use]
    pub fn moved(&self) -> usize {
        let state = self.state.lock();
        state
            .places
            .values()
            .filter(|places| places.len() > 1)
            .count()
    }
}

impl State {
    fn fault(&mut self, what: String) {
        if self.wrong.len() < KEPT {
            self.wrong.push(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(book: &Book) -> Vec<String> {
        book.state.lock().wrong.clone()
    }

    #[test]
    fn a_revision_that_means_two_writes_is_a_fault() {
        let book = Book::default();
        book.tell(5, "a", "one");
        book.tell(5, "a", "two");
        book.tell(9, "a", "two");
        assert!(wrong(&book).is_empty());
        assert_eq!(book.moved(), 1);
        book.tell(5, "b", "three");
        assert_eq!(wrong(&book), ["three: revision 5 is \"a\" and also \"b\""]);
    }

    #[test]
    fn an_answer_below_what_was_shown_before_is_a_fault() {
        let book = Book::default();
        book.wrote(book.shown(), 5, "a write");
        book.read(book.shown(), 5, "a read");
        assert!(wrong(&book).is_empty());
        book.read(5, 4, "a read");
        book.wrote(5, 5, "a write");
        assert_eq!(wrong(&book).len(), 2);
    }
}
