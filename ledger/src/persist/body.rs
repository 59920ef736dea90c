//! The bodies of chunk and tail records.
//!
//! ```text
//! chunk  number, start, len, form, alphabet (count, then steps up), then by form
//!        uniform: nothing | runs: runs with local symbols | planes: the words
//! tail   number, start in the order, runs, start in the hidden, runs
//! runs   symbols, count, then per run one number: (len - 1) * symbols + symbol
//! ```
//!
//! Invariant: what decodes has the invariants of the types that it becomes; no input panics.

use super::record::{Damage, Kind, Reader, open, put, seal};
use crate::sequence::{Body, CHUNK, Chunk, Planes, Run, Runs, Sequence, Symbol};

const UNIFORM: u64 = 0;
const RUNS: u64 = 1;
const PLANES: u64 = 2;

/// A part of both sequences.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tail {
    pub(crate) order: TailPart,
    pub(crate) own: TailPart,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TailPart {
    pub(crate) start: i64,
    pub(crate) runs: Vec<Run>,
}

impl TailPart {
    /// From `start` to the end of the sequence.
    pub(crate) fn of(sequence: &Sequence, start: i64) -> Self {
        Self {
            start,
            runs: sequence.runs(start, sequence.len()),
        }
    }
}

pub(crate) fn encode_chunk(kind: Kind, number: usize, chunk: &Chunk) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, number as u64);
    put(&mut out, chunk.start as u64);
    put(&mut out, chunk.len as u64);
    let form = match chunk.body {
        Body::Uniform => UNIFORM,
        Body::Runs(_) => RUNS,
        Body::Planes(_) => PLANES,
    };
    put(&mut out, form);
    put(&mut out, chunk.alphabet.len() as u64);
    let mut last = 0;
    for symbol in &chunk.alphabet {
        put(&mut out, u64::from(symbol - last));
        last = *symbol;
    }
    match &chunk.body {
        Body::Uniform => {}
        Body::Runs(_) => {
            let mut runs = Vec::new();
            chunk.for_each_local_run(|run| runs.push(run));
            put_runs(&mut out, &runs);
        }
        Body::Planes(planes) => out.extend(planes.words().iter().flat_map(|w| w.to_le_bytes())),
    }
    seal(kind, &out)
}

pub(crate) fn decode_chunk(kind: Kind, number: usize, record: &[u8]) -> Result<Chunk, Damage> {
    let mut body = Reader(open(kind, record)?);
    let (found, start, len) = (body.number()?, body.position()?, body.position()?);
    let form = body.number()?;
    let alphabet = read_alphabet(&mut body)?;
    if found != number as u64 || len == 0 || (form != UNIFORM && len != CHUNK) {
        return Err(Damage::Content);
    }
    let decoded = match (form, alphabet.len()) {
        (UNIFORM, 1) => Body::Uniform,
        (RUNS, 2..) => Body::Runs(Runs::new(
            alphabet.len(),
            &chunk_runs(&mut body, &alphabet, len)?,
        )),
        (PLANES, 2..) => {
            let words = read_words(&mut body, len, alphabet.len())?;
            Body::Planes(Planes::from_words(alphabet.len(), words).ok_or(Damage::Content)?)
        }
        _ => return Err(Damage::Content),
    };
    body.end()?;
    Ok(Chunk {
        start,
        len,
        alphabet: alphabet.into(),
        body: decoded,
    })
}

fn read_alphabet(body: &mut Reader<'_>) -> Result<Vec<Symbol>, Damage> {
    let count = body.count()?;
    let mut alphabet: Vec<Symbol> = Vec::with_capacity(count);
    for _ in 0..count {
        let step = body.number()?;
        let symbol = match alphabet.last() {
            Some(_) if step == 0 => return Err(Damage::Content),
            Some(last) => u64::from(*last).checked_add(step),
            None => Some(step),
        };
        let symbol = symbol
            .and_then(|n| Symbol::try_from(n).ok())
            .ok_or(Damage::Content)?;
        alphabet.push(symbol);
    }
    Ok(alphabet)
}

/// Runs that fill a chunk, with each symbol of its alphabet.
fn chunk_runs(body: &mut Reader<'_>, alphabet: &[Symbol], len: i64) -> Result<Vec<Run>, Damage> {
    let runs = read_runs(body)?;
    let mut seen = vec![false; alphabet.len()];
    for run in &runs {
        *seen
            .get_mut(usize::from(run.symbol))
            .ok_or(Damage::Content)? = true;
    }
    let filled = runs
        .iter()
        .try_fold(0_i64, |sum, run| sum.checked_add(run.len));
    let good = filled == Some(len) && seen.iter().all(|seen| *seen);
    if good { Ok(runs) } else { Err(Damage::Content) }
}

fn read_words(body: &mut Reader<'_>, len: i64, symbols: usize) -> Result<Box<[u64]>, Damage> {
    let (words, []) = body.rest().as_chunks::<8>() else {
        return Err(Damage::Content);
    };
    let expected = Planes::words_for(symbols, len);
    let words: Box<[u64]> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    if words.len() == expected {
        Ok(words)
    } else {
        Err(Damage::Content)
    }
}

pub(crate) fn encode_tail(number: u64, tail: &Tail) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, number);
    for piece in [&tail.order, &tail.own] {
        put(&mut out, piece.start as u64);
        put_runs(&mut out, &piece.runs);
    }
    seal(Kind::Tail, &out)
}

pub(crate) fn decode_tail(number: u64, record: &[u8]) -> Result<Tail, Damage> {
    let mut body = Reader(open(Kind::Tail, record)?);
    if body.number()? != number {
        return Err(Damage::Content);
    }
    let order = TailPart {
        start: body.position()?,
        runs: read_runs(&mut body)?,
    };
    let own = TailPart {
        start: body.position()?,
        runs: read_runs(&mut body)?,
    };
    body.end()?;
    Ok(Tail { order, own })
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    let symbols = runs
        .iter()
        .map(|run| u64::from(run.symbol) + 1)
        .max()
        .unwrap_or(1);
    put(out, symbols);
    put(out, runs.len() as u64);
    for run in runs {
        put(out, (run.len as u64 - 1) * symbols + u64::from(run.symbol));
    }
}

fn read_runs(body: &mut Reader<'_>) -> Result<Vec<Run>, Damage> {
    let symbols = body.number()?;
    if symbols == 0 || symbols > u64::from(Symbol::MAX) + 1 {
        return Err(Damage::Content);
    }
    let run = |n: u64| {
        let len = i64::try_from(n / symbols).ok()?.checked_add(1)?;
        Some(Run {
            symbol: Symbol::try_from(n % symbols).ok()?,
            len,
        })
    };
    let count = body.count()?;
    (0..count)
        .map(|_| run(body.number()?).ok_or(Damage::Content))
        .collect()
}
