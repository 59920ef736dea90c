//! What a run showed: a table for people, JSON for programs.

use serde_json::{Value, json};

use crate::{
    run::Outcome,
    stats::{Figures, median_of, ratio},
};

/// A table, its first row the head.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self(vec![head.map(str::to_owned).to_vec()])
    }

    /// How many there are below the head.
    pub(crate) fn rows(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }

    /// As Markdown, its columns aligned so that it can be read as it stands.
    pub(crate) fn text(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell: &String| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (number, row) in self.0.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
            if number == 0 {
                let rules = widths
                    .iter()
                    .enumerate()
                    .map(|(column, &width)| match column {
                        0 => "-".repeat(width + 2),
                        _ => format!("{}:", "-".repeat(width + 1)),
                    });
                text += &format!("|{}|\n", rules.collect::<Vec<_>>().join("|"));
            }
        }
        text
    }
}

/// A figure with three digits that mean something.
pub(crate) fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// The tables of a run: medians over the rounds, and ratios to the first target.
pub(crate) fn tables(outcomes: &[Outcome]) -> String {
    let text = outcomes.iter().map(|outcome| {
        let (name, clients) = (&outcome.workload, outcome.clients);
        let rounds = outcome
            .targets
            .first()
            .map_or(0, |(_, rounds)| rounds.len());
        let title = format!("{name}: {clients} clients, medians of {rounds} rounds");
        format!("{title}\n\n{}\n", table(outcome).text())
    });
    text.collect()
}

fn table(outcome: &Outcome) -> Table {
    let mut table = Table::new([
        "target",
        "per s",
        "p50 us",
        "x",
        "p90 us",
        "p99 us",
        "p99.9 us",
        "max us",
        "cpu us/req",
        "x",
        "rss MiB",
        "unsent",
        "errors",
    ]);
    let Some((first_name, first)) = outcome.targets.first() else {
        return table;
    };
    for (name, rounds) in &outcome.targets {
        let of = |name: &str| figure(median_of(rounds, name));
        let cpu = format!("cpu_us/{name}");
        table.row(vec![
            name.clone(),
            of("rate"),
            of("p50_us"),
            figure(ratio((rounds, "p50_us"), (first, "p50_us"))),
            of("p90_us"),
            of("p99_us"),
            of("p999_us"),
            of("max_us"),
            of(&cpu),
            figure(ratio(
                (rounds, &cpu),
                (first, &format!("cpu_us/{first_name}")),
            )),
            of(&format!("rss_mib/{name}")),
            of("unsent"),
            of("errors"),
        ]);
    }
    table
}

/// Everything, every round of it.
pub(crate) fn json(outcomes: &[Outcome]) -> Value {
    let outcome = |outcome: &Outcome| {
        let first = outcome
            .targets
            .first()
            .map_or(&[][..], |(_, rounds)| rounds);
        let target = |(name, rounds): &(String, Vec<Figures>)| {
            json!({
                "name": name,
                "median": medians(rounds),
                "ratio_to_first": ratios(rounds, first),
                "rounds": rounds,
            })
        };
        let targets: Vec<_> = outcome.targets.iter().map(target).collect();
        json!({
            "workload": outcome.workload,
            "clients": outcome.clients,
            "targets": targets,
        })
    };
    json!({ "version": 1, "workloads": outcomes.iter().map(outcome).collect::<Vec<_>>() })
}

fn medians(rounds: &[Figures]) -> Figures {
    let names = rounds.first().into_iter().flat_map(Figures::keys);
    names
        .filter_map(|name| Some((name.clone(), median_of(rounds, name)?)))
        .collect()
}

fn ratios(rounds: &[Figures], first: &[Figures]) -> Figures {
    let names = rounds.first().into_iter().flat_map(Figures::keys);
    names
        .filter_map(|name| Some((name.clone(), ratio((rounds, name), (first, name))?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: [f64; 3], name: &str) -> Vec<Figures> {
        let round = |value: f64| {
            Figures::from([
                ("p50_us".to_owned(), value),
                (format!("cpu_us/{name}"), value),
            ])
        };
        values.map(round).to_vec()
    }

    fn outcome() -> Outcome {
        Outcome {
            workload: "get".to_owned(),
            clients: 4,
            targets: vec![
                ("etcd".to_owned(), rounds([10.0, 30.0, 20.0], "etcd")),
                ("proxy".to_owned(), rounds([20.0, 60.0, 40.0], "proxy")),
            ],
        }
    }

    #[test]
    fn tables_align_and_show_medians_and_ratios() {
        let text = tables(&[outcome()]);
        assert!(
            text.starts_with("get: 4 clients, medians of 3 rounds\n\n| target |"),
            "{text}"
        );
        let proxy = text.lines().last().map(str::to_owned);
        let proxy = proxy.filter(|line| !line.is_empty());
        let proxy = proxy
            .or_else(|| text.lines().rev().nth(1).map(str::to_owned))
            .unwrap();
        assert!(
            proxy.starts_with("| proxy  |") && proxy.contains("40.0 | 2.00"),
            "{proxy}"
        );
        let lengths: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(str::len)
            .collect();
        assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }

    #[test]
    fn figures_are_short() {
        let shown = [None, Some(0.125), Some(12.345), Some(1234.5)].map(figure);
        assert_eq!(shown, ["-", "0.12", "12.3", "1234"]);
    }

    #[test]
    fn json_holds_every_round() {
        let json = json(&[outcome()]);
        let proxy = &json["workloads"][0]["targets"][1];
        assert_eq!(proxy["rounds"].as_array().unwrap().len(), 3);
        assert_eq!(proxy["median"]["p50_us"], 40.0);
        assert_eq!(proxy["ratio_to_first"]["p50_us"], 2.0);
    }
}
