//! The stamp: what every own write says of itself, and the record of the leadership (rule 8).

use prost::Message;

use super::record::{Damage, FORMAT, Kind, open, seal};
use super::restore::{RestoreError, refuse};

/// The key of the stamp as errors name it.
const STAMP: &str = "stamp";

/// Whose the last own write is, and until when its owner may answer.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Stamp {
    /// Which instance.
    #[prost(fixed64, tag = "1")]
    pub nonce: u64,
    /// Which of its writes, from 1; 0 is the one that takes the leadership.
    #[prost(uint64, tag = "2")]
    pub write: u64,
    /// Whether it is the instance's last, so that a successor need not wait.
    #[prost(bool, tag = "3")]
    pub clean: bool,
    /// How long the instance's leadership lasts without a renewal, in milliseconds: it may be longer
    /// than its successor's.
    #[prost(uint64, tag = "4")]
    pub lasts_ms: u64,
    /// Where the leadership was taken since the ledger was written the last time: own writes that no
    /// record knows of, by instances that never served.
    #[prost(int64, repeated, tag = "5")]
    pub unserved: Vec<i64>,
}

impl Stamp {
    pub fn to_record(&self) -> Vec<u8> {
        seal(Kind::Stamp, &self.encode_to_vec())
    }

    /// A stamp that is damaged is somebody's who has not ended.
    ///
    /// # Errors
    /// [`RestoreError::Newer`]: how long its owner may answer is not known then, so the leadership
    /// must not be taken.
    pub fn from_record(record: &[u8]) -> Result<Self, RestoreError> {
        // The text of format 1 begins with a digit, which is no kind.
        if record.first().is_some_and(u8::is_ascii_hexdigit) {
            return Ok(Self::from_text(record));
        }
        match open(Kind::Stamp, record) {
            Ok(body) => Ok(Self::decode(body).unwrap_or_default()),
            Err(newer @ Damage::Newer { .. }) => Err(refuse(STAMP, newer)),
            Err(Damage::Checksum | Damage::Kind | Damage::Content) => Ok(Self::default()),
        }
    }

    /// Format 1: `nonce write clean|open milliseconds unserved,unserved,…`.
    fn from_text(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut words = text.split(' ');
        let nonce = words.next().map(|word| u64::from_str_radix(word, 16));
        let write = words.next().and_then(|word| word.parse().ok());
        let clean = words.next() == Some("clean");
        let lasts_ms = words.next().and_then(|word| word.parse().ok());
        let unserved = words.next().unwrap_or_default().split(',');
        Self {
            nonce: nonce.and_then(Result::ok).unwrap_or_default(),
            write: write.unwrap_or_default(),
            clean,
            lasts_ms: lasts_ms.unwrap_or_default(),
            unserved: unserved.filter_map(|word| word.parse().ok()).collect(),
        }
    }
}

// The text is format 1, and the first record of this kind has the next one.
const _: () = assert!(FORMAT > 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::test_access::reseal;

    fn stamp(clean: bool) -> Stamp {
        Stamp {
            nonce: 0xfeed,
            write: 7,
            clean,
            lasts_ms: 5_000,
            unserved: vec![7; if clean { 0 } else { 3 }],
        }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        for stamp in [stamp(false), stamp(true), Stamp::default()] {
            assert_eq!(Stamp::from_record(&stamp.to_record()), Ok(stamp));
        }
    }

    #[test]
    fn the_text_of_format_1_is_read() {
        let read = |text: &[u8]| Stamp::from_record(text).unwrap();
        assert_eq!(read(b"000000000000feed 7 open 5000 7,7,7"), stamp(false));
        assert_eq!(read(b"000000000000feed 7 clean 5000 "), stamp(true));
        let without_time = read(b"000000000000feed 7 clean");
        assert!(without_time.clean && without_time.lasts_ms == 0);
    }

    #[test]
    fn a_newer_one_is_refused_and_a_damaged_one_has_not_ended() {
        let mut newer = stamp(true).to_record();
        newer[1] = FORMAT + 1;
        reseal(&mut newer);
        let refused = Stamp::from_record(&newer).unwrap_err();
        assert!(matches!(refused, RestoreError::Newer { .. }), "{refused}");
        for damaged in [&b"\xff nonsense"[..], b"", &stamp(true).to_record()[..9]] {
            assert_eq!(Stamp::from_record(damaged), Ok(Stamp::default()));
        }
    }
}
