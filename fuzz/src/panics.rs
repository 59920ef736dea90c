//! A panic in a task of its own ends that task alone: it is counted, so that no target misses it.
//!
//! Targets may run beside each other. What panics on a thread that runs a target is that target's;
//! what panics on any other thread is everybody's.

use std::{
    cell::Cell,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
};

static ELSEWHERE: AtomicUsize = AtomicUsize::new(0);
static COUNTING: Once = Once::new();

thread_local! {
    /// The panics of a thread that runs a target.
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// How many panics there have been that this target can be to blame for.
pub(crate) fn count() -> usize {
    COUNTING.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            match HERE.get() {
                Some(count) => HERE.set(Some(count + 1)),
                None => drop(ELSEWHERE.fetch_add(1, Ordering::SeqCst)),
            }
            before(panic);
        }));
    });
    let here = HERE.get().unwrap_or(0);
    HERE.set(Some(here));
    here + ELSEWHERE.load(Ordering::SeqCst)
}
