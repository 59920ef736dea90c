//! Bars in SVG: one picture a workload, for documents that show pictures.

use std::fmt::Write as _;

use crate::{report::figure, run::Outcome, stats::median_of};

/// What is drawn of every target: a figure (its own process's where it ends with a slash), and
/// what it is called.
const PANELS: [(&str, &str); 4] = [
    ("rate", "per second"),
    ("p50_us", "p50, us"),
    ("p99_us", "p99, us"),
    ("cpu_us/", "CPU, us each"),
];

const WIDTH: usize = 720;
const NAME: usize = 110;
const VALUE: usize = 70;
const BAR: usize = 16;
const GAP: usize = 6;
const TITLE: usize = 28;

/// Each workload's bars below each other, as one picture.
pub(crate) fn svg(outcomes: &[Outcome]) -> String {
    let mut body = String::new();
    let mut top = 8;
    for outcome in outcomes {
        top = draw(outcome, top, &mut body);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Draws one workload below `top`, and says where the next one begins.
fn draw(outcome: &Outcome, mut top: usize, body: &mut String) -> usize {
    let title = format!("{}, {} clients", outcome.workload, outcome.clients);
    text(body, 8, top + 14, "font-weight=\"bold\"", &title);
    top += TITLE;
    for (name, title) in PANELS {
        let medians: Vec<_> = outcome
            .targets
            .iter()
            .filter_map(|(target, rounds)| {
                let name = match name.strip_suffix('/') {
                    Some(name) => format!("{name}/{target}"),
                    None => name.to_owned(),
                };
                Some((target.as_str(), median_of(rounds, &name)?))
            })
            .collect();
        top = panel(title, &medians, top, body);
    }
    top + GAP
}

/// One figure of every target: bars as long as it is large.
fn panel(title: &str, medians: &[(&str, f64)], mut top: usize, body: &mut String) -> usize {
    let largest = medians.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if largest <= 0.0 {
        return top;
    }
    text(body, 8, top + 12, "fill=\"#555\"", title);
    top += BAR;
    for (target, value) in medians {
        let room = WIDTH - NAME - VALUE;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a number of pixels"
        )]
        let length = (value / largest * room as f64) as usize;
        // Keyloom is what one looks for.
        let colour = if target.starts_with("keyloom") {
            "#2b6cb0"
        } else {
            "#a0aec0"
        };
        text(body, 16, top + 12, "", target);
        // A string takes whatever is written to it.
        let _: Result<(), _> = writeln!(
            body,
            "<rect x=\"{NAME}\" y=\"{top}\" width=\"{}\" height=\"{}\" fill=\"{colour}\"/>",
            length.max(1),
            BAR - 3,
        );
        text(body, NAME + length + 6, top + 12, "", &figure(Some(*value)));
        top += BAR;
    }
    top + GAP
}

fn text(body: &mut String, x: usize, y: usize, style: &str, text: &str) {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _: Result<(), _> = writeln!(body, "<text x=\"{x}\" y=\"{y}\" {style}>{escaped}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Figures;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let of = |rate: f64, name: &str| {
            let figures = [("rate".to_owned(), rate), (format!("cpu_us/{name}"), 30.0)];
            vec![Figures::from(figures)]
        };
        let outcome = Outcome {
            workload: "a<b".to_owned(),
            clients: 4,
            targets: vec![
                ("etcd".to_owned(), of(50.0, "etcd")),
                ("keyloom".to_owned(), of(100.0, "keyloom")),
            ],
        };
        let svg = svg(&[outcome]);
        let widths: Vec<&str> = svg
            .lines()
            .filter(|line| line.starts_with("<rect x="))
            .filter_map(|line| line.split('"').nth(5))
            .collect();
        assert_eq!(widths, ["270", "540", "540", "540"]);
        assert!(
            svg.contains("a&lt;b, 4 clients") && !svg.contains("p50"),
            "{svg}"
        );
    }
}
