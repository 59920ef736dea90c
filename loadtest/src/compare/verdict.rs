//! The figures of a comparison beside what is aimed at.

use super::{BEFORE_FOUR, BEFORE_ONE, ETCD, FOUR, GRPC_PROXY, ONE, RAW, TONIC};
use crate::{
    report::{Table, figure},
    run::Outcome,
    stats::{Figures, median, median_of, paired, ratio},
};

/// At most so much CPU, in parts of the raw forwarder's and of grpc-proxy's.
fn aims(workload: &str) -> Option<(f64, f64)> {
    match workload {
        "put" => Some((1.1, 0.55)),
        "get" | "update" => Some((1.1, 0.45)),
        "list" => Some((1.15, 0.5)),
        _ => None,
    }
}

/// At most so much latency, in parts of what grpc-proxy adds.
const ADDED: f64 = 0.7;

/// At most so much CPU, in parts of what an earlier Keyloom took.
const SINCE: f64 = 1.02;

/// Everything in Markdown.
pub(super) fn text(outcomes: &[Outcome]) -> String {
    let (alone, loaded): (Vec<_>, Vec<_>) = outcomes.iter().partition(|each| each.clients == 1);
    format!(
        "CPU of the proxy per request, us; ratios are medians of the rounds' ratios:\n\n{}\n\
         Median latency added with one client, us, and in parts of what grpc-proxy adds:\n\n{}\n\
         Resident memory under load, MiB:\n\n{}",
        cpu(&loaded).text() + &since(&loaded),
        latency(&alone).text(),
        memory(&loaded).text()
    )
}

fn cpu_of(target: &str) -> String {
    format!("cpu_us/{target}")
}

fn cpu(outcomes: &[&Outcome]) -> Table {
    let mut table = Table::new([
        "workload", RAW, TONIC, GRPC_PROXY, ONE, FOUR, "1 / raw", "4 / raw", "aim", "1 / grpc",
        "4 / grpc", "aim",
    ]);
    for outcome in outcomes {
        let cell = |target: &str| figure(median_of(outcome.rounds(target), &cpu_of(target)));
        let to = |target: &str, other: &str| {
            let (cpu, others) = (cpu_of(target), cpu_of(other));
            figure(ratio(
                (outcome.rounds(target), &cpu),
                (outcome.rounds(other), &others),
            ))
        };
        let aims = aims(&outcome.workload);
        table.row(vec![
            outcome.workload.clone(),
            cell(RAW),
            cell(TONIC),
            cell(GRPC_PROXY),
            cell(ONE),
            cell(FOUR),
            to(ONE, RAW),
            to(FOUR, RAW),
            figure(aims.map(|aims| aims.0)),
            to(ONE, GRPC_PROXY),
            to(FOUR, GRPC_PROXY),
            figure(aims.map(|aims| aims.1)),
        ]);
    }
    table
}

/// The CPU of this Keyloom in parts of the earlier one's; nothing where there is none.
fn since(outcomes: &[&Outcome]) -> String {
    let mut table = Table::new(["workload", "1 / before", "aim", "4 / before", "aim"]);
    for outcome in outcomes {
        let to = |target: &str, before: &str| {
            let (cpu, others) = (cpu_of(target), cpu_of(before));
            ratio(
                (outcome.rounds(target), &cpu),
                (outcome.rounds(before), &others),
            )
        };
        let (one, four) = (to(ONE, BEFORE_ONE), to(FOUR, BEFORE_FOUR));
        if one.or(four).is_some() {
            let aim = figure(Some(SINCE));
            table.row(vec![
                outcome.workload.clone(),
                figure(one),
                aim.clone(),
                figure(four),
                aim,
            ]);
        }
    }
    match table.rows() {
        0 => String::new(),
        _ => format!(
            "\nIn parts of what the earlier one took:\n\n{}",
            table.text()
        ),
    }
}

fn latency(outcomes: &[&Outcome]) -> Table {
    let mut table = Table::new([
        "workload",
        "etcd p50",
        RAW,
        TONIC,
        GRPC_PROXY,
        ONE,
        FOUR,
        "raw / grpc",
        "1 / grpc",
        "4 / grpc",
        "aim",
    ]);
    for outcome in outcomes {
        let direct = outcome.rounds(ETCD);
        let added = |target: &str| {
            let rounds = (outcome.rounds(target), "p50_us");
            paired(rounds, (direct, "p50_us"), |through, direct| {
                through - direct
            })
        };
        let to_grpc = |target| Some(added(target)? / added(GRPC_PROXY)?);
        table.row(vec![
            outcome.workload.clone(),
            figure(median_of(direct, "p50_us")),
            figure(added(RAW)),
            figure(added(TONIC)),
            figure(added(GRPC_PROXY)),
            figure(added(ONE)),
            figure(added(FOUR)),
            figure(to_grpc(RAW)),
            figure(to_grpc(ONE)),
            figure(to_grpc(FOUR)),
            figure(Some(ADDED)),
        ]);
    }
    table
}

fn memory(outcomes: &[&Outcome]) -> Table {
    let mut table = Table::new(["", RAW, TONIC, GRPC_PROXY, ONE, FOUR]);
    let most = |target: &str| {
        let name = format!("rss_mib/{target}");
        let of = |round: &Figures| round.get(&name).copied();
        let rounds = outcomes.iter().map(|outcome| outcome.rounds(target));
        let each = rounds.filter_map(|rounds| median(rounds.iter().filter_map(of)));
        figure(each.reduce(f64::max))
    };
    table.row(vec![
        "the most of any workload".to_owned(),
        most(RAW),
        most(TONIC),
        most(GRPC_PROXY),
        most(ONE),
        most(FOUR),
    ]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, cpu: f64, p50: f64) -> (String, Vec<Figures>) {
        let round = Figures::from([
            (cpu_of(name), cpu),
            (format!("rss_mib/{name}"), cpu),
            ("p50_us".to_owned(), p50),
        ]);
        (name.to_owned(), vec![round])
    }

    #[test]
    fn an_earlier_keyloom_is_compared_with() {
        let outcome = Outcome {
            workload: "get".to_owned(),
            clients: 64,
            targets: vec![target(BEFORE_ONE, 40.0, 1.0), target(ONE, 30.0, 1.0)],
        };
        let text = text(&[outcome]);
        let row = text.lines().rfind(|line| line.contains("1.02"));
        let cells: Vec<_> = row.unwrap().split('|').map(str::trim).collect();
        assert_eq!(cells[1..6], ["get", "0.75", "1.02", "-", "1.02"]);
    }

    #[test]
    fn ratios_stand_beside_their_aims() {
        let outcome = |clients| Outcome {
            workload: "get".to_owned(),
            clients,
            targets: vec![
                target(ETCD, 100.0, 100.0),
                target(RAW, 20.0, 180.0),
                target(GRPC_PROXY, 80.0, 200.0),
                target(ONE, 30.0, 150.0),
            ],
        };
        let text = text(&[outcome(64), outcome(1)]);
        let rows: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("| get"))
            .collect();
        let cells = |row: &str| {
            row.split('|')
                .map(|cell| cell.trim().to_owned())
                .collect::<Vec<_>>()
        };
        assert!(!text.contains("the earlier one"), "there is none");
        let cpu = cells(rows[0]);
        assert_eq!(cpu[5], "30.0");
        assert_eq!((cpu[7].as_str(), cpu[9].as_str()), ("1.50", "1.10"));
        assert_eq!((cpu[10].as_str(), cpu[12].as_str()), ("0.38", "0.45"));
        let latency = cells(rows[1]);
        assert_eq!((latency[5].as_str(), latency[6].as_str()), ("100", "50.0"));
        assert_eq!((latency[8].as_str(), latency[9].as_str()), ("0.80", "0.50"));
        assert_eq!(latency[10], "-", "no rounds, no ratio");
    }
}
