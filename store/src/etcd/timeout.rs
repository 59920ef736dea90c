//! The `grpc-timeout` header: at most eight digits and a unit.

use std::{fmt::Write as _, time::Duration};

use http::HeaderValue;

/// What eight digits hold.
const MOST: u128 = 99_999_999;

/// The header for what is left of a call's time. Rounded up, so that the store does not give up
/// before the caller does.
pub(super) fn header(left: Duration) -> Option<HeaderValue> {
    let micros = left.as_nanos().div_ceil(1_000);
    let (number, unit) = match micros {
        0..=MOST => (micros, 'u'),
        _ if micros.div_ceil(1_000) <= MOST => (micros.div_ceil(1_000), 'm'),
        _ if micros.div_ceil(1_000_000) <= MOST => (micros.div_ceil(1_000_000), 'S'),
        // Three years: no limit.
        _ => return None,
    };
    let mut text = String::with_capacity(9);
    write!(text, "{number}{unit}").ok()?;
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_eight_digits_rounded_up() {
        for (left, expected) in [
            (Duration::ZERO, Some("0u")),
            (Duration::from_nanos(1), Some("1u")),
            (Duration::from_micros(1_500), Some("1500u")),
            (Duration::from_secs(60), Some("60000000u")),
            (Duration::from_micros(99_999_999), Some("99999999u")),
            (Duration::from_nanos(99_999_999_001), Some("100000m")),
            (Duration::from_secs(100_000), Some("100000S")),
            (Duration::from_secs(99_999_999), Some("99999999S")),
            (Duration::from_secs(100_000_000), None),
            (Duration::MAX, None),
        ] {
            let header = header(left);
            let text = header.as_ref().map(|header| header.to_str().unwrap());
            assert_eq!(text, expected, "{left:?}");
        }
    }
}
