//! A machine with one process on it: a runtime of its own, with a clock of its own.
//!
//! A turn lets everything on the host run for one tick of its clock. A process that is paused gets
//! no turns, as after a SIGSTOP, and finds its clock moved when it goes on. A process that is
//! killed is dropped as it stands.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    runtime::{Builder, Runtime},
    time::{advance, sleep},
};

/// What one turn is long: no message is under way for less, so that hosts cannot notice that they
/// take their turns one after the other.
pub(crate) const TICK: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    process: Option<Runtime>,
    /// How many turns it does not get.
    paused: u32,
    /// How far its clock is behind.
    behind: Duration,
    /// By how much its clock gains in a hundred turns, in microseconds.
    gains: u64,
    turns: u64,
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            process: None,
            paused: 0,
            behind: Duration::ZERO,
            gains: 0,
            turns: 0,
        }
    }

    /// Starts a process.
    pub(crate) fn start(&mut self, main: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .context("a runtime")?;
        runtime.spawn(main);
        self.process = Some(runtime);
        (self.paused, self.behind) = (0, Duration::ZERO);
        Ok(())
    }

    /// Does something where its tasks are to run.
    pub(crate) fn enter(&self, start: impl FnOnce()) {
        if let Some(process) = &self.process {
            let _inside = process.enter();
            start();
        }
    }

    /// Takes the process away, to be dropped where its connections can be.
    pub(crate) fn kill(&mut self) -> Option<Runtime> {
        self.process.take()
    }

    pub(crate) fn pause(&mut self, turns: u32) {
        self.paused = self.paused.max(turns);
    }

    pub(crate) fn go_on(&mut self) {
        self.paused = 0;
    }

    /// Its clock is so much faster than the others', in millionths.
    pub(crate) fn drift(&mut self, millionths: u64) {
        self.gains = millionths;
    }

    /// One tick.
    pub(crate) fn turn(&mut self) {
        let Some(process) = &self.process else {
            return;
        };
        if self.paused > 0 {
            self.paused -= 1;
            self.behind += TICK;
            return;
        }
        self.turns += 1;
        // A whole tick more, as often as the drift says.
        let every = 1_000_000_u64.checked_div(self.gains);
        if every.is_some_and(|every| self.turns.is_multiple_of(every)) {
            self.behind += TICK;
        }
        let behind = std::mem::take(&mut self.behind);
        process.block_on(async {
            if !behind.is_zero() {
                advance(behind).await;
            }
            sleep(TICK).await;
        });
    }
}
