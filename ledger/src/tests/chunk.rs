//! Closed chunks at their full size, in each form, against the plain list of symbols.

use proptest::prelude::*;

use crate::sequence::{Body, Chunk, Run, Symbol};

const FULL: usize = 65_536;

fn runs_of(symbols: &[Symbol]) -> Vec<Run> {
    let groups = symbols.chunk_by(|a, b| a == b);
    groups
        .map(|g| Run {
            symbol: g[0],
            len: g.len() as i64,
        })
        .collect()
}

fn check(symbols: &[Symbol], chunk: &Chunk) {
    let total = |symbol| symbols.iter().filter(|s| **s == symbol).count() as i64;
    for (local, count) in chunk.counts() {
        let symbol = chunk.symbol(local);
        assert_eq!(count, total(symbol));
        let mut rank = 0;
        for (pos, at) in symbols.iter().enumerate() {
            if pos % 61 == 0 || *at == symbol && rank % 17 == 0 {
                let found = chunk.look(local, pos as i64);
                assert_eq!(found, (rank, *at == symbol), "{symbol} at {pos}");
            }
            if *at == symbol {
                if rank % 17 == 0 {
                    assert_eq!(
                        chunk.select(local, rank),
                        pos as i64,
                        "{symbol} number {rank}"
                    );
                }
                rank += 1;
            }
        }
    }
    let mut back = Vec::new();
    chunk.for_each_run(|run| back.extend(std::iter::repeat_n(run.symbol, run.len as usize)));
    assert!(back == symbols);
}

fn scattered(alphabet: u16, mean_run: u64, mut x: u64) -> Vec<Symbol> {
    let mut last = 0;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if (x >> 40).is_multiple_of(mean_run) {
            last = 3 * ((x >> 8) % u64::from(alphabet)) as u16 + 1;
        }
        last
    };
    (0..FULL).map(|_| next()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_full_chunk_is_the_list(alphabet in 2..40_u16, mean in 1..200_u64, seed in 1..u64::MAX) {
        let symbols = scattered(alphabet, mean, seed);
        check(&symbols, &Chunk::pack(0, &runs_of(&symbols)));
    }
}

#[test]
fn scattered_symbols_are_packed_and_bursts_are_runs() {
    let form = |alphabet, mean| Chunk::pack(0, &runs_of(&scattered(alphabet, mean, 77))).body;
    assert!(matches!(form(4, 1), Body::Planes(_)));
    assert!(matches!(form(4, 100), Body::Runs(_)));
}

#[test]
fn one_symbol_among_65535_others_keeps_its_counts() {
    for at in [0, 1, 63, 64, 40_000, FULL - 1] {
        let mut symbols = vec![5; FULL];
        symbols[at] = 9;
        check(&symbols, &Chunk::pack(0, &runs_of(&symbols)));
    }
}

#[test]
fn two_symbols_in_turn_and_very_many_symbols() {
    let turns: Vec<Symbol> = (0..FULL).map(|i| (i % 2) as u16).collect();
    check(&turns, &Chunk::pack(0, &runs_of(&turns)));
    let many: Vec<Symbol> = (0..FULL).map(|i| (i * 7 % 300) as u16).collect();
    check(&many, &Chunk::pack(0, &runs_of(&many)));
}
