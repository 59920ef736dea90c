//! What came of a cell, for the table.

use std::{collections::BTreeMap, env, fs, path::PathBuf, time::Duration};

use keyloom_etcd_api::Status;

use super::{Call, Fault, Victim};
use crate::robustness::Counts;

/// One row. It is printed, and written to a file of its own in the folder `KEYLOOM_MATRIX`, if there
/// is one.
#[derive(Debug)]
pub struct Row {
    fault: String,
    call: String,
    answered: usize,
    errors: BTreeMap<String, usize>,
    recovery: Duration,
}

impl Row {
    #[must_use]
    pub fn new(fault: Fault, victim: Victim, call: Call) -> Self {
        Self::of(&format!("{victim} {fault}"), &call.to_string())
    }

    /// A row of a cell that is not made of a [`Fault`] and a [`Call`].
    #[must_use]
    pub fn of(fault: &str, call: &str) -> Self {
        Self {
            fault: fault.to_owned(),
            call: call.to_owned(),
            answered: 0,
            errors: BTreeMap::new(),
            recovery: Duration::ZERO,
        }
    }

    /// What a call during the fault was answered.
    pub fn during<T>(&mut self, answer: &Result<T, Status>) {
        match answer {
            Ok(_) => self.answered += 1,
            Err(status) => {
                let code = format!("{:?}", status.code());
                *self.errors.entry(code).or_default() += 1;
            }
        }
    }

    /// How many calls were made during the fault.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.answered + self.errors.values().sum::<usize>()
    }

    /// From the end of the fault to the first answer.
    pub fn recovered(&mut self, after: Duration) {
        self.recovery = after;
    }

    /// Everything was checked, and all was well.
    pub fn finish(self, counts: &Counts) {
        let checked = format!(
            "{} calls, {} events",
            counts.answered + counts.refused + counts.unknown,
            counts.events
        );
        self.write(&checked);
    }

    /// [`Self::finish`] where it was checked in other ways.
    pub fn write(self, checked: &str) {
        let errors: Vec<_> = self
            .errors
            .iter()
            .map(|(code, count)| format!("{count} {code}"))
            .collect();
        let errors = if errors.is_empty() {
            "none".to_owned()
        } else {
            errors.join(", ")
        };
        let line = format!(
            "| {} | {} | {} | {errors} | {:.1} | {checked} | none |\n",
            self.fault,
            self.call,
            self.answered,
            self.recovery.as_secs_f64()
        );
        eprint!("{line}");
        if let Some(folder) = env::var_os("KEYLOOM_MATRIX") {
            let name: String = format!("{} {}", self.fault, self.call)
                .chars()
                .map(|letter| {
                    if letter.is_alphanumeric() {
                        letter
                    } else {
                        '-'
                    }
                })
                .collect();
            let file = PathBuf::from(folder).join(name);
            fs::write(file, line).expect("the table's folder can be written to");
        }
    }
}
