//! Free ports of the loopback interface, for programs that cannot choose one themselves.

use std::{
    future::Future,
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

/// Below the ports that Linux gives to outgoing connections, so that a stopped program finds its
/// port free when it returns.
const FIRST: u32 = 16_000;
const COUNT: u32 = 16_000;

/// How often a port may be lost to somebody else.
const ATTEMPTS: usize = 10;

/// A program that was started at ports that were free, in a folder of its own.
pub(crate) trait Started: Sized {
    /// Waits until it answers; `false` where it ended instead.
    fn serves(&mut self) -> impl Future<Output = bool>;

    /// What it complained of.
    fn log(&self) -> String;

    fn into_home(self) -> TempDir;
}

/// Starts a program at ports that are free, and at others where it lost one to somebody else.
pub(crate) async fn started<S: Started>(mut home: TempDir, launch: impl Fn(TempDir) -> S) -> S {
    for _ in 0..ATTEMPTS {
        let mut program = launch(home);
        if program.serves().await {
            return program;
        }
        let log = program.log();
        assert!(log.contains("in use"), "it ended: {log}");
        home = program.into_home();
    }
    panic!("every port was lost to somebody else")
}

/// A port that nobody listens on. Somebody may take it before the caller does: then ask again.
#[must_use]
pub fn free() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Processes begin at different places and walk in large steps, so that they rarely meet.
        let step = TAKEN.fetch_add(1, Ordering::Relaxed);
        let place = process::id()
            .wrapping_mul(7_919)
            .wrapping_add(step.wrapping_mul(4_973));
        let port = u16::try_from(FIRST + place % COUNT).expect("below 65,536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT)
}
