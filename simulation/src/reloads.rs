//! Topology files that come and go: legal ones, and some that are refused.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Result;
use keyloom_testkit::program::Chance;

use crate::{plan::Plan, trace};

/// Writes topology files.
#[derive(Debug)]
pub(crate) struct Reloads {
    chance: Chance,
    plan: Plan,
    file: PathBuf,
    next: Duration,
}

impl Reloads {
    pub(crate) fn new(plan: &Plan, file: PathBuf) -> Self {
        Self {
            chance: Chance::new(plan.seed ^ 0x2e10),
            plan: plan.clone(),
            file,
            next: Duration::from_secs(1),
        }
    }

    /// Where it is time, writes another file.
    pub(crate) fn step(&mut self, now: Duration) -> Result<()> {
        if !self.plan.reloads || now < self.next {
            return Ok(());
        }
        let pause = self.chance.between(1_000, 6_000).unsigned_abs();
        self.next = now + Duration::from_millis(pause);
        let text = self.text();
        self.write(&text)
    }

    /// One that any instance takes, in the end.
    pub(crate) fn heal(&self) -> Result<()> {
        self.write(&self.plan.topology(None))
    }

    fn text(&mut self) -> String {
        match self.chance.below(8) {
            0 => "default: {endpoint: 'http://default:2379'\n".to_owned(),
            1..4 => self.plan.topology(None),
            _ => self
                .plan
                .topology(self.chance.pick(&self.plan.backends).copied()),
        }
    }

    fn write(&self, text: &str) -> Result<()> {
        trace::say(format_args!("the file is {text:?}"));
        let whole = self.file.with_extension("new");
        fs::write(&whole, text)?;
        fs::rename(&whole, &self.file)?;
        Ok(())
    }
}
