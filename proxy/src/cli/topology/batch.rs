//! Many routes at once, for scripts and tests.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufWriter, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use keyloom_etcd_api::KeyRange;
use keyloom_topology::{StoreIndex, Topology};

/// Answers each line of standard input with one line.
pub(super) fn run(topology: &Topology) -> Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let line = line.context("reading standard input")?;
        let (key, range_end) = line.split_once('\t').unwrap_or((&line, ""));
        let asked = |text| unescape(text).with_context(|| format!("{line:?} has a wrong escape"));
        let range = KeyRange::from_request(&asked(key)?, &asked(range_end)?);
        writeln!(out, "{}", stores(topology, &range).join("\t"))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The names of the stores that a range touches, in their order.
fn stores<'t>(topology: &'t Topology, range: &KeyRange) -> Vec<&'t str> {
    let touched: BTreeSet<_> = if range.is_single_key() {
        topology.route(&range.start).into_iter().collect()
    } else {
        topology
            .cover(range)
            .iter()
            .map(|part| part.store)
            .collect()
    };
    let name = |index: StoreIndex| topology.stores().get(usize::from(index.0));
    touched
        .into_iter()
        .filter_map(name)
        .map(|spec| spec.name.as_str())
        .collect()
}

/// Reads what `escape_ascii` wrote.
fn unescape(text: &str) -> Option<Bytes> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'x' => 16 * hex(bytes.next()?)? + hex(bytes.next()?)?,
                same @ (b'\\' | b'\'' | b'"') => same,
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(plain.into())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_escaped_comes_back() {
        let every: Vec<u8> = (0..=255).collect();
        let escaped = every.escape_ascii().to_string();
        assert_eq!(unescape(&escaped).unwrap(), every);
        assert_eq!(unescape("\\q"), None);
        assert_eq!(unescape("\\x4"), None);
    }
}
