//! Free ports of the loopback interface, for programs that cannot choose one themselves.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports that Linux gives to outgoing connections, so that a stopped program finds its
/// port free when it returns.
const FIRST: u32 = 16_000;
const COUNT: u32 = 16_000;

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
