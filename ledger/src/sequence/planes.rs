//! A chunk as packed symbols: each takes as many bits as the local alphabet needs.
//!
//! 64 places are a *group*: one word per bit of the symbol, side by side, so that the places of one
//! symbol are the AND of the group's words (inverted where the symbol's bit is 0). `counts` says for
//! each symbol how often it occurs before each *block* of groups. Blocks are so long that the counts
//! take about 3%: with more symbols they are longer, and a lookup counts in at most half a block.
//!
//! Against a wavelet matrix of the same size: one stretch of memory per lookup in place of one per
//! bit, and nothing to sort when it is built or loaded.
//!
//! Invariants: the number of places is a multiple of 64, at most 65,536; no symbol fills them all
//! (a count before a block fits 16 bits).

use super::Run;

const GROUP: i64 = 64;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Planes {
    symbols: u16,
    bits: u16,
    /// A block has `1 << shift` groups.
    shift: u16,
    groups: u16,
    words: Box<[u64]>,
    /// By symbol, then block; one more per symbol, for the total.
    counts: Box<[u16]>,
}

/// Bits for that many symbols.
pub(crate) fn bits_for(symbols: usize) -> usize {
    symbols.max(2).next_power_of_two().trailing_zeros() as usize
}

/// The shift at which the counts (16 bits per symbol and block) take at most 1/32 of the symbols.
fn shift_for(symbols: usize) -> usize {
    let groups = (8 * symbols).div_ceil(bits_for(symbols));
    (groups.next_power_of_two().trailing_zeros() as usize).min(10)
}

impl Planes {
    /// Memory in bytes.
    pub(super) fn size(symbols: usize, len: i64) -> usize {
        let groups = (len / GROUP) as usize;
        let blocks = groups.div_ceil(1 << shift_for(symbols));
        groups * bits_for(symbols) * 8 + symbols * (blocks + 1) * 2
    }

    /// Of runs with local symbols.
    pub(super) fn new(symbols: usize, len: i64, runs: &[Run]) -> Self {
        let bits = bits_for(symbols);
        let mut words = vec![0_u64; Self::words_for(symbols, len)];
        let mut at = 0;
        for run in runs {
            set(&mut words, bits, at, run);
            at += run.len;
        }
        Self::counted(symbols, words.into())
    }

    /// Of the words that [`Self::words`] gave; none if they have a symbol beyond the alphabet, or not
    /// each of it.
    pub(crate) fn from_words(symbols: usize, words: Box<[u64]>) -> Option<Self> {
        let bits = bits_for(symbols);
        if symbols > usize::from(u16::MAX)
            || !words.len().is_multiple_of(bits)
            || words.len() / bits > 1024
        {
            return None;
        }
        let planes = Self::counted(symbols, words);
        let counts = (0..planes.symbols).map(|local| planes.count(local));
        let all = counts.clone().sum::<i64>() == i64::from(planes.groups) * GROUP;
        (all && counts.clone().all(|n| n > 0)).then_some(planes)
    }

    /// How many words that many symbols and places take.
    pub(crate) fn words_for(symbols: usize, len: i64) -> usize {
        (len / GROUP) as usize * bits_for(symbols)
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    fn counted(symbols: usize, words: Box<[u64]>) -> Self {
        let (bits, shift) = (bits_for(symbols), shift_for(symbols));
        let mut counts = Vec::with_capacity(symbols * (words.len() / bits / (1 << shift) + 2));
        for local in 0..symbols as u16 {
            let mut n = 0;
            counts.push(0);
            for block in words.chunks(bits << shift) {
                n += tally(block, bits, local);
                counts.push(n as u16);
            }
        }
        Self {
            symbols: symbols as u16,
            bits: bits as u16,
            shift: shift as u16,
            groups: (words.len() / bits) as u16,
            words,
            counts: counts.into(),
        }
    }

    /// How often the symbol occurs before each block, and in all.
    fn counts_of(&self, local: u16) -> &[u16] {
        let row = (usize::from(self.groups).div_ceil(1 << self.shift)) + 1;
        let from = usize::from(local) * row;
        self.counts.get(from..from + row).unwrap_or_default()
    }

    fn groups_between(&self, from: usize, to: usize) -> &[u64] {
        let bits = usize::from(self.bits);
        self.words.get(from * bits..to * bits).unwrap_or_default()
    }

    pub(crate) fn count(&self, local: u16) -> i64 {
        self.counts_of(local).last().map_or(0, |n| i64::from(*n))
    }

    pub(super) fn look(&self, local: u16, pos: i64) -> (i64, bool) {
        let (group, bit) = ((pos / GROUP) as usize, pos % GROUP);
        let block = group >> self.shift;
        let from = block << self.shift;
        let to = (from + (1 << self.shift)).min(usize::from(self.groups));
        let bits = usize::from(self.bits);
        let counts = self.counts_of(local);
        let count = |i: usize| counts.get(i).map_or(0, |n| i64::from(*n));
        let here = places(self.groups_between(group, group + 1), local);
        let rank = if group - from < to - group {
            let before = tally(self.groups_between(from, group), bits, local);
            let part = here & ((1 << bit) - 1);
            count(block) + i64::from(before) + i64::from(part.count_ones())
        } else {
            let after = tally(self.groups_between(group + 1, to), bits, local);
            count(block + 1) - i64::from(after) - i64::from((here >> bit).count_ones())
        };
        (rank, here >> bit & 1 == 1)
    }

    pub(super) fn select(&self, local: u16, k: i64) -> i64 {
        let counts = self.counts_of(local);
        let block = counts
            .partition_point(|n| i64::from(*n) <= k)
            .saturating_sub(1);
        let left = k - counts.get(block).map_or(0, |n| i64::from(*n));
        let from = block << self.shift;
        let words = self.groups_between(from, usize::from(self.groups));
        from as i64 * GROUP + find(words, usize::from(self.bits), local, left as u32)
    }

    /// Each place's local symbol in order.
    pub(super) fn for_each(&self, mut f: impl FnMut(u16)) {
        for words in self.words.chunks_exact(usize::from(self.bits)) {
            for bit in 0..GROUP {
                let bits = words.iter().enumerate();
                f(bits.fold(0, |symbol, (i, word)| {
                    symbol | ((word >> bit & 1) as u16) << i
                }));
            }
        }
    }
}

/// Writes a run at `at`.
fn set(words: &mut [u64], bits: usize, at: i64, run: &Run) {
    let (mut at, end) = (at, at + run.len);
    while at < end {
        let (group, bit) = ((at / GROUP) as usize, at % GROUP);
        let n = (GROUP - bit).min(end - at);
        let mask = (u64::MAX >> (GROUP - n)) << bit;
        for (i, word) in words.iter_mut().skip(group * bits).take(bits).enumerate() {
            if run.symbol >> i & 1 == 1 {
                *word |= mask;
            }
        }
        at += n;
    }
}

/// Which places of a group have the symbol.
fn places(words: &[u64], local: u16) -> u64 {
    words
        .iter()
        .enumerate()
        .fold(u64::MAX, |places, (i, word)| {
            places & (word ^ inverse(local, i))
        })
}

/// All ones where the symbol's bit is 0.
fn inverse(local: u16, bit: usize) -> u64 {
    u64::from(local >> bit & 1).wrapping_sub(1)
}

/// How often the symbol occurs in whole groups.
fn tally(words: &[u64], bits: usize, local: u16) -> u32 {
    match bits {
        1 => tally_of::<1>(words, local),
        2 => tally_of::<2>(words, local),
        3 => tally_of::<3>(words, local),
        4 => tally_of::<4>(words, local),
        5 => tally_of::<5>(words, local),
        _ => words
            .chunks_exact(bits)
            .map(|group| places(group, local).count_ones())
            .sum(),
    }
}

/// As [`tally`], for a width that the compiler can unroll.
fn tally_of<const BITS: usize>(words: &[u64], local: u16) -> u32 {
    let inverses: [u64; BITS] = std::array::from_fn(|i| inverse(local, i));
    let (groups, _) = words.as_chunks::<BITS>();
    let places = |group: &[u64; BITS]| {
        group
            .iter()
            .zip(inverses)
            .fold(u64::MAX, |places, (word, inverse)| {
                places & (word ^ inverse)
            })
    };
    groups.iter().map(|group| places(group).count_ones()).sum()
}

/// Where the symbol stands for the time `k` in whole groups.
fn find(words: &[u64], bits: usize, local: u16, k: u32) -> i64 {
    match bits {
        1 => find_of::<1>(words, local, k),
        2 => find_of::<2>(words, local, k),
        3 => find_of::<3>(words, local, k),
        4 => find_of::<4>(words, local, k),
        5 => find_of::<5>(words, local, k),
        _ => find_in(
            words.chunks_exact(bits).map(|group| places(group, local)),
            k,
        ),
    }
}

/// As [`find`], for a width that the compiler can unroll; first in strides, then in one of them.
fn find_of<const BITS: usize>(words: &[u64], local: u16, mut k: u32) -> i64 {
    const STRIDE: usize = 4;
    let (groups, _) = words.as_chunks::<BITS>();
    let mut at = 0;
    for stride in groups.chunks(STRIDE) {
        let n = tally_of::<BITS>(stride.as_flattened(), local);
        if k < n {
            return at + find_in(stride.iter().map(|group| places(group, local)), k);
        }
        k -= n;
        at += STRIDE as i64 * GROUP;
    }
    at
}

fn find_in(groups: impl Iterator<Item = u64>, mut k: u32) -> i64 {
    let mut at = 0;
    for here in groups {
        let n = here.count_ones();
        if k < n {
            return at + bit_of(here, k);
        }
        k -= n;
        at += GROUP;
    }
    at
}

/// Where the one number `k` of the word, which it has, stands. (Vigna, "Broadword implementation of
/// rank/select queries", 2008: the byte by comparing eight running sums at once.)
fn bit_of(word: u64, k: u32) -> i64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let pairs = word - (word >> 1 & 0x5555_5555_5555_5555);
    let nibbles = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let bytes = (nibbles + (nibbles >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    let sums = bytes.wrapping_mul(ONES);
    let passed = ((((u64::from(k) * ONES) | TOPS) - sums) & TOPS) >> 7;
    let shift = (passed.wrapping_mul(ONES) >> 56) * 8;
    let before = (sums << 8) >> shift & 0xff;
    let mut byte = word >> shift & 0xff;
    for _ in before..u64::from(k) {
        byte &= byte.wrapping_sub(1);
    }
    (shift + u64::from(byte.trailing_zeros())) as i64
}
