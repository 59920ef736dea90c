//! Drives a target: its corpus first, then mutations of it, each from a chance that is told by a
//! number. Without a look at what is reached: that is libFuzzer's part.

#![expect(
    clippy::disallowed_methods,
    reason = "how long to go on is a matter of real time"
)]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::Target;

/// What was tried.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    pub corpus: usize,
    pub mutations: u64,
}

/// The corpus of a target.
pub fn corpus_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name)
}

/// The inputs of a target's corpus, by file name.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let Ok(folder) = fs::read_dir(corpus_of(name)) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| fs::read(file).unwrap())
        .collect()
}

/// # Errors
/// The input at which the target panics.
pub fn drive((name, target): Target, seed: u64, most: Duration) -> Result<Tried, Vec<u8>> {
    let began = Instant::now();
    let corpus = corpus(name);
    for input in &corpus {
        attempt(target, input)?;
    }
    let mut chance = Chance(seed ^ 0x9e37_79b9_7f4a_7c15);
    let mut mutations = 0;
    while began.elapsed() < most {
        let input = chance.input(&corpus);
        attempt(target, &input)?;
        mutations += 1;
    }
    Ok(Tried {
        corpus: corpus.len(),
        mutations,
    })
}

fn attempt(target: fn(&[u8]), input: &[u8]) -> Result<(), Vec<u8>> {
    crate::panics::count();
    catch_unwind(AssertUnwindSafe(|| target(input))).map_err(|_| input.to_vec())
}

/// Xorshift: the same number makes the same inputs everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 24) as u8
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        if corpus.is_empty() || self.below(4) == 0 {
            let length = [20, 80, 300, 1000][self.below(4)];
            let length = self.below(length);
            return self.bytes(length);
        }
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(6) {
            self.mutate(&mut input, corpus);
        }
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        match self.below(6) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.byte(),
            2 => drop(input.drain(at..input.len().min(at + 1 + self.below(8)))),
            3 => {
                let length = 1 + self.below(8);
                let more = self.bytes(length);
                drop(input.splice(at..at, more));
            }
            4 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                let to = other.len().min(from + 1 + self.below(60));
                drop(input.splice(at..at, other[from..to].to_vec()));
            }
            _ => input.truncate(at.max(1)),
        }
    }
}
