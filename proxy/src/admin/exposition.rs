//! The metrics as JSON, read from the text that OpenMetrics defines (version 1.0.0, "Text format").
//! The text is Keyloom's own, so a line of another shape is left out rather than refused.

use std::collections::BTreeMap;

use serde::Serialize;

/// `{"metrics": […]}`.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Exposition {
    metrics: Vec<Family>,
}

/// The samples of one metric.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Family {
    name: String,
    /// `counter`, `gauge`, `histogram`, `info`.
    r#type: String,
    help: String,
    samples: Vec<Sample>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Sample {
    /// The family's with `_total`, `_bucket`, `_sum` or `_count`, where it has them.
    name: String,
    labels: BTreeMap<String, String>,
    /// `null` where it is no number.
    value: f64,
}

pub(super) fn read(text: &str) -> Exposition {
    let mut metrics: Vec<Family> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(comment) => describe(&mut metrics, comment),
            None => {
                if let (Some(family), Some(sample)) = (metrics.last_mut(), sample(line)) {
                    family.samples.push(sample);
                }
            }
        }
    }
    Exposition { metrics }
}

/// `HELP NAME TEXT` or `TYPE NAME TYPE`; the first of them begins a metric.
fn describe(metrics: &mut Vec<Family>, comment: &str) {
    let mut words = comment.splitn(3, ' ');
    let (Some(what @ ("HELP" | "TYPE")), Some(name)) = (words.next(), words.next()) else {
        return;
    };
    let text = words.next().unwrap_or_default().to_owned();
    if metrics.last().is_none_or(|family| family.name != name) {
        metrics.push(Family {
            name: name.to_owned(),
            ..Family::default()
        });
    }
    if let Some(family) = metrics.last_mut() {
        match what {
            "HELP" => family.help = text,
            _ => family.r#type = text,
        }
    }
}

/// `NAME VALUE` or `NAME{LABEL="TEXT",…} VALUE`; an exemplar behind it is left out.
fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        while !inside.starts_with('}') {
            let (label, text) = inside.split_once("=\"")?;
            let (text, next) = quoted(text)?;
            labels.insert(label.to_owned(), text);
            inside = next.strip_prefix(',').unwrap_or(next);
        }
        rest = inside.strip_prefix('}')?;
    }
    let value = rest.split_whitespace().next()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// The text up to the closing quote, without its escapes, and what is behind the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                escaped => out.push(escaped),
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::text::encode,
        metrics::{counter::Counter, family::Family as Metric, gauge::Gauge, histogram::Histogram},
        registry::Registry,
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_registry_writes_is_read() {
        let mut registry = Registry::default();
        let calls = Metric::<Vec<(String, String)>, Counter>::default();
        registry.register("calls", "Calls by \"store\"", calls.clone());
        let label = ("store".to_owned(), "a \"b\"\\\nc{},=".to_owned());
        calls
            .get_or_create(&vec![label, ("rpc".into(), "Put".into())])
            .inc();
        let level = Gauge::<i64>::default();
        level.set(-3);
        registry.register("level", "A level", level);
        let time = Histogram::new([0.5]);
        time.observe(0.25);
        registry.register("seconds", "How long", time);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let sample = |name: &str, labels: serde_json::Value, value: f64| json!({"name": name, "labels": labels, "value": value});
        assert_eq!(
            serde_json::to_value(read(&text)).unwrap(),
            json!({"metrics": [
                {"name": "calls", "type": "counter", "help": "Calls by \"store\".", "samples": [
                    sample("calls_total", json!({"store": "a \"b\"\\\nc{},=", "rpc": "Put"}), 1.0),
                ]},
                {"name": "level", "type": "gauge", "help": "A level.", "samples": [
                    sample("level", json!({}), -3.0),
                ]},
                {"name": "seconds", "type": "histogram", "help": "How long.", "samples": [
                    sample("seconds_sum", json!({}), 0.25),
                    sample("seconds_count", json!({}), 1.0),
                    sample("seconds_bucket", json!({"le": "0.5"}), 1.0),
                    sample("seconds_bucket", json!({"le": "+Inf"}), 1.0),
                ]},
            ]}),
        );
    }
}
