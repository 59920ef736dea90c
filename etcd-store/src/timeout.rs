//! The `grpc-timeout` header: at most eight digits and a unit.

use std::{io::Write as _, time::Duration};

use http::HeaderValue;

/// What eight digits hold.
const MOST: u128 = 99_999_999;

/// In nanoseconds.
const SECOND: u128 = 1_000_000_000;

/// The header for what is left of a call's time. Rounded up, so that the store does not give up
/// before the caller does, and to few values: one that was sent before goes as an index into the
/// connection's table of headers, every other one takes a place in it.
pub(super) fn header(left: Duration) -> Option<HeaderValue> {
    let nanos = left.as_nanos();
    let (number, unit) = if nanos > 10 * SECOND {
        (nanos.div_ceil(SECOND), 'S')
    } else if nanos > SECOND {
        (nanos.div_ceil(SECOND / 10) * 100, 'm')
    } else {
        (nanos.div_ceil(1_000), 'u')
    };
    if number > MOST {
        // Three years: no limit.
        return None;
    }
    let mut room = [0; 9];
    let mut rest = &mut room[..];
    write!(rest, "{number}{unit}").ok()?;
    let left = rest.len();
    HeaderValue::from_bytes(room.get(..room.len() - left)?).ok()
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
            (Duration::from_secs(1), Some("1000000u")),
            (Duration::from_nanos(1_000_000_001), Some("1100m")),
            (Duration::from_millis(5_900), Some("5900m")),
            (Duration::from_secs(10), Some("10000m")),
            (Duration::from_nanos(10_000_000_001), Some("11S")),
            (Duration::from_micros(59_999_990), Some("60S")),
            (Duration::from_secs(60), Some("60S")),
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
