//! The one grammar of durations, in the topology file and in the program's flags: numbers with
//! units, such as `30s`, `5m`, `1h30m`, `1.5s`, `1day` or `1h 30min`.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What is said of a text that is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration such as `500ms`, `30s`, `5m`, `1h30m` or `1day`")]
pub struct DurationError;

/// Reads a duration. A number without a unit is none, except `0`: seconds and milliseconds are both
/// plausible, and a wrong guess is a thousand times off.
///
/// # Errors
/// Where the text is not a duration, or is longer than 2^64 seconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    humantime::parse_duration(&with_digits(text)).map_err(|_| DurationError)
}

/// Go also writes `.5s` and `1.s`.
fn with_digits(text: &str) -> Cow<'_, str> {
    if !text.contains('.') {
        return Cow::Borrowed(text);
    }
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let mut out = String::with_capacity(text.len() + 2);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let is_point = c == '.';
        let (before, behind) = (digit(out.chars().last()), digit(rest.clone().next()));
        match (is_point, before, behind) {
            (true, false, true) => out.push_str("0."),
            (true, true, false) => out.push_str(".0"),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A duration as a topology file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DurationText(pub(crate) Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for DurationText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "duration".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*(0|([0-9.]+\s*[a-zA-Zµ]+\s*)+)\s*$",
            "examples": ["30s", "5m", "1h30m"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them_and_in_words() {
        for (text, millis) in [
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h 30min", 5_400_000),
            ("1.5s", 1_500),
            (".5s", 500),
            ("2.s", 2_000),
            ("1.h.5m", 3_630_000),
            ("100ms", 100),
            ("1day", 86_400_000),
            ("2 weeks", 1_209_600_000),
            ("0", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "m",
            "-5m",
            "5x",
            "1..5s",
            ".",
            ".s",
            "1.",
            "99999999999999999999h",
        ] {
            assert_eq!(parse_duration(text), Err(DurationError), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(nanos in 0..u64::MAX) {
            let duration = Duration::from_nanos(nanos);
            let text = humantime::format_duration(duration).to_string();
            proptest::prop_assert_eq!(parse_duration(&text), Ok(duration));
        }
    }
}
