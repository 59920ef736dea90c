//! Sources of chance: the system's, and one that a seed determines.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use super::Random;

/// Chance from the operating system, by way of the keys that the standard library draws for its
/// hash maps.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn next(&self) -> u64 {
        RandomState::new().build_hasher().finish()
    }
}

/// The same numbers for the same seed (`SplitMix64`).
#[derive(Debug)]
pub struct SeededRandom {
    state: AtomicU64,
}

/// `SplitMix64`'s step, 2^64 divided by the golden ratio: it visits every state once.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl SeededRandom {
    /// A source that starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(seed),
        }
    }
}

impl Random for SeededRandom {
    fn next(&self) -> u64 {
        let state = self.state.fetch_add(STEP, Ordering::Relaxed);
        let mut bits = state.wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_numbers() {
        // The published first outputs of SplitMix64 for seed 0.
        let random = SeededRandom::new(0);
        let numbers: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            numbers,
            [
                0xE220_A839_7B1D_CDAF,
                0x6E78_9E6A_A1B9_65F4,
                0x06C4_5D18_8009_454F
            ]
        );
    }

    #[test]
    fn the_systems_numbers_differ() {
        let numbers: std::collections::HashSet<u64> = (0..100).map(|_| OsRandom.next()).collect();
        assert_eq!(numbers.len(), 100);
    }
}
