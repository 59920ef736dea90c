//! Ends a run in which simulated time stands still: something runs on and on and never waits, and no
//! clock of the run's own can see that.
//!
//! It goes by the machine's clock, so that it decides nothing but the end of a run that has none.

use std::{
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

/// How long one turn may take. Most take some microseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module's page. The run is watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// In milliseconds of simulated time.
    now: Arc<AtomicU64>,
    _end: Sender<()>,
}

impl Watchdog {
    /// Watches the run of a seed from now on.
    pub(crate) fn new(seed: u64) -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let (end, ended) = mpsc::channel();
        let seen = Arc::clone(&now);
        thread::spawn(move || {
            let mut last = 0;
            while ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let now = seen.load(Ordering::Relaxed);
                if now == last {
                    stands_still(seed, now);
                }
                last = now;
            }
        });
        Self { now, _end: end }
    }

    pub(crate) fn at(&self, now: Duration) {
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.now.store(millis, Ordering::Relaxed);
    }
}

#[expect(clippy::print_stdout, reason = "the verdict of a run")]
fn stands_still(seed: u64, now: u64) {
    println!(
        "seed {seed} simulated {now} ms\nhangs: a turn at {now} ms does not end: something runs on without ever waiting"
    );
    exit(1);
}
