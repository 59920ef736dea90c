//! Statements that fail when a test says so.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::ffi;

use crate::statement::Statement;

/// When a statement fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Instead of being carried out.
    Instead,
    /// After it was carried out: nobody knows.
    After,
}

#[derive(Clone, Debug)]
struct PlannedFailure {
    statement: Statement,
    when: When,
    code: i32,
    /// So many times it still succeeds.
    skip: usize,
}

/// What is to fail. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Injected(Arc<Mutex<Vec<PlannedFailure>>>);

impl Injected {
    pub(crate) fn fail(&self, statement: Statement, when: When, code: i32, skip: usize) {
        self.0.lock().push(PlannedFailure {
            statement,
            when,
            code,
            skip,
        });
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    pub(super) fn around<T>(
        &self,
        statement: Statement,
        work: impl FnOnce() -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let plan = self.due(statement);
        let error = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        match plan {
            None => work(),
            Some(PlannedFailure {
                when: When::Instead,
                code,
                ..
            }) => Err(error(code)),
            Some(PlannedFailure { code, .. }) => work().and(Err(error(code))),
        }
    }

    fn due(&self, statement: Statement) -> Option<PlannedFailure> {
        let mut plans = self.0.lock();
        let at = plans.iter().position(|plan| plan.statement == statement)?;
        let plan = plans.get_mut(at)?;
        if plan.skip > 0 {
            plan.skip -= 1;
            return None;
        }
        Some(plans.remove(at))
    }
}
