//! What happened in a run: a hash of all of it, and the lines for whoever wants to read them.

use std::{cell::RefCell, fmt, time::Duration};

/// A run's account of itself. One run is on one thread.
#[derive(Debug, Default)]
struct Trace {
    now: Duration,
    hash: u64,
    lines: u64,
    shown: bool,
}

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
}

/// Whether lines are printed.
pub(crate) fn show(shown: bool) {
    TRACE.with_borrow_mut(|trace| trace.shown = shown);
}

pub(crate) fn at(now: Duration) {
    TRACE.with_borrow_mut(|trace| trace.now = now);
}

/// Something happened.
pub(crate) fn say(what: fmt::Arguments<'_>) {
    TRACE.with_borrow_mut(|trace| {
        let line = format!("{:>9.3} {what}", trace.now.as_secs_f64());
        // FNV-1a.
        for byte in line.bytes() {
            trace.hash = (trace.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        trace.lines += 1;
        if trace.shown {
            print_line(&line);
        }
    });
}

/// The hash of every line so far.
pub(crate) fn hash() -> u64 {
    TRACE.with_borrow(|trace| trace.hash)
}

#[expect(
    clippy::print_stderr,
    reason = "whoever replays a seed wants to see it"
)]
fn print_line(line: &str) {
    eprintln!("{line}");
}
