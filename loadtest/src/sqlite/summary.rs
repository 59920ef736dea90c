//! The figures beside what is aimed at.

use super::database::Kind;
use crate::{
    report::{Table, figure},
    run::Outcome,
    stats::{median_of, ratio},
};

/// A figure of every target, and how it is shown.
struct Shown {
    title: &'static str,
    /// The outcomes whose names begin so.
    of: &'static [&'static str],
    figure: &'static str,
    unit: f64,
    /// Whether more is better.
    more: bool,
}

const SHOWN: [Shown; 8] = [
    shown("Writes a second", &["update"], "rate", 1.0, true),
    shown("Writes, p99 in ms", &["update"], "p99_us", 1e-3, false),
    shown("CPU of a write in us", &["update"], CPU, 1.0, false),
    shown("Writes that failed", &["update"], "errors", 1.0, false),
    shown(
        "Delay of watches, p50 in ms",
        &["watch"],
        "p50_us/delivery",
        1e-3,
        false,
    ),
    shown(
        "Delay of watches, p99 in ms",
        &["watch"],
        "p99_us/delivery",
        1e-3,
        false,
    ),
    shown(
        "Lists and counts, p50 in ms",
        &["list", "count"],
        "p50_us",
        1e-3,
        false,
    ),
    shown(
        "CPU of lists and counts in ms",
        &["list", "count"],
        CPU,
        1e-3,
        false,
    ),
];

/// The target's own process: its figure has the target's name.
const CPU: &str = "cpu_us/";

const fn shown(
    title: &'static str,
    of: &'static [&'static str],
    figure: &'static str,
    unit: f64,
    more: bool,
) -> Shown {
    Shown {
        title,
        of,
        figure,
        unit,
        more,
    }
}

/// Everything in Markdown: medians over the rounds, and medians of the rounds' ratios.
pub(super) fn text(outcomes: &[Outcome]) -> String {
    let those = |prefixes: &[&str]| -> Vec<&Outcome> {
        let named = |outcome: &&Outcome| {
            let mut prefixes = prefixes.iter();
            prefixes.any(|prefix| outcome.workload.starts_with(prefix))
        };
        outcomes.iter().filter(named).collect()
    };
    let tables = SHOWN
        .iter()
        .map(|shown| (shown.title, across(&those(shown.of), shown)));
    let last = (
        "Compaction, latencies in ms",
        compaction(&those(&["writes while"])),
    );
    let filled = tables.chain([last]).filter(|(_, table)| table.rows() > 0);
    filled
        .map(|(title, table)| format!("{title}:\n\n{}\n", table.text()))
        .collect()
}

/// One row for each outcome: the targets' medians, and how many times better Keyloom is.
fn across(outcomes: &[&Outcome], shown: &Shown) -> Table {
    let [keyloom, full, kine, etcd] = Kind::ALL.map(Kind::name);
    let mut table = Table::new([
        "",
        keyloom,
        full,
        kine,
        etcd,
        "x kine-full",
        "x kine",
        "x etcd",
    ]);
    for outcome in outcomes {
        let name = |target: &str| match shown.figure {
            CPU => format!("{CPU}{target}"),
            figure => figure.to_owned(),
        };
        let median = |target| {
            let value = median_of(outcome.rounds(target), &name(target));
            figure(value.map(|value| value * shown.unit))
        };
        let times = |target: &str| {
            let (own, other) = (name(keyloom), name(target));
            let own = (outcome.rounds(keyloom), own.as_str());
            let other = (outcome.rounds(target), other.as_str());
            figure(if shown.more {
                ratio(own, other)
            } else {
                ratio(other, own)
            })
        };
        table.row(vec![
            format!("{}, {} clients", outcome.workload, outcome.clients),
            median(keyloom),
            median(full),
            median(kine),
            median(etcd),
            times(full),
            times(kine),
            times(etcd),
        ]);
    }
    table
}

fn compaction(outcomes: &[&Outcome]) -> Table {
    let mut table = Table::new([
        "target",
        "p50 before",
        "p99 before",
        "max before",
        "p50",
        "p99",
        "max",
        "errors",
        "took s",
        "MiB before",
        "MiB after",
    ]);
    let targets = outcomes.iter().flat_map(|outcome| &outcome.targets);
    for (name, rounds) in targets {
        let of = |name: &str, unit: f64| {
            let value = median_of(rounds, name);
            figure(value.map(|value| value * unit))
        };
        table.row(vec![
            name.clone(),
            of("p50_us/before", 1e-3),
            of("p99_us/before", 1e-3),
            of("max_us/before", 1e-3),
            of("p50_us", 1e-3),
            of("p99_us", 1e-3),
            of("max_us", 1e-3),
            of("errors", 1.0),
            of("compaction_s", 1.0),
            of("mib_before", 1.0),
            of("mib_after", 1.0),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Figures;

    #[test]
    fn ratios_are_keylooms_to_each_peer() {
        let of = |rate| {
            let figures = [("rate".to_owned(), rate), ("p99_us".to_owned(), 1e6 / rate)];
            vec![Figures::from(figures)]
        };
        let outcome = Outcome {
            workload: "update".to_owned(),
            clients: 64,
            targets: vec![
                ("keyloom".to_owned(), of(6000.0)),
                ("kine-full".to_owned(), of(500.0)),
                ("etcd".to_owned(), of(4000.0)),
            ],
        };
        let text = text(&[outcome]);
        let rows: Vec<Vec<_>> = text
            .lines()
            .filter(|line| line.contains("64 clients"))
            .map(|row| row.split('|').map(str::trim).collect())
            .collect();
        let rates = ["6000", "500", "-", "4000", "12.0", "-", "1.50"];
        assert_eq!(rows[0][2..9], rates);
        // Less is better here: twelve times as short.
        assert_eq!(rows[1][6..9], ["12.0", "-", "1.50"]);
        assert!(!text.contains("Compaction"), "nothing was compacted");
    }
}
